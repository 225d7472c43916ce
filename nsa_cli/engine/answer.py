"""An answer to a question about an open document: retrieve, generate, cite."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import NamedTuple

from nsa_cli.computing.calculated import expression_in
from nsa_cli.computing.stated import states_result
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.documents.location import place
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.arithmetic import (
    by_expression,
    by_expression_in_answer,
    by_free_expression,
    by_rate,
)
from nsa_cli.engine.date_arithmetic import by_dates
from nsa_cli.engine.decline import declined, yes_or_no
from nsa_cli.engine.generate import GeneratedAnswer, GenerationOptions
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.engine.second_value import addition
from nsa_cli.engine.two_parts import (
    Part,
    PartAnswer,
    has_both,
    joined,
    parts_of,
    passages_of_two,
)
from nsa_cli.engine.verifier import (
    OF_PASSAGES,
    OF_SHORT_TEXT,
    Bounds,
    Verifier,
    verifier_of,
)
from nsa_cli.events import (
    ANSWERING,
    CHECKING,
    SEARCHING,
    AnswerFinished,
    AnswerText,
    Stage,
    collected,
)
from nsa_cli.output.logging import log
from nsa_cli.results import Computation, Passage, Stats, Turn
from nsa_cli.retrieval.citations import Cited, cite
from nsa_cli.retrieval.claims import counts_nothing, is_translated
from nsa_cli.retrieval.declining import declines
from nsa_cli.retrieval.passages import attended_passages, merge_passages
from nsa_cli.retrieval.polarity import is_refuted, without_contradiction
from nsa_cli.retrieval.ranking import BlockScores
from nsa_cli.system import peak_memory_bytes
from nsa_models.configuration.config import attention_fields

_FOLLOW_UP_WORDS, _FOLLOW_UP_CHARACTERS = 3, 24
"""A question up to this long, such as "And when?", is a follow-up; the characters are for scripts
without spaces."""


def answer_steps(
    opened: OpenDocument,
    question: TokenizedQuestion,
    options: GenerationOptions,
    turns: Sequence[Turn] = (),
    scores: BlockScores | None = None,
) -> Generator[AnswerText | Stage, None, tuple[AnswerFinished, Turn]]:
    """Answer a question that may refer to earlier turns.

    Args:
        opened: The document.
        question: The question, with the earlier turns in it.
        options: How to generate.
        turns: The earlier turns, in order; the passage of the last is read again.
        scores: Block scores of the question, if known; see `OpenDocument.scores`.

    Yields:
        What begins, and the answer, piece by piece.

    Returns:
        The finished answer, and the turn that it makes.
    """
    started = time.monotonic()
    if scores is None:
        yield SEARCHING
        scores = opened.scores(_standalone(opened.prompts, question, turns))
    parts = parts_of(opened, question, options)
    passages = passages_of_two(opened, question, options, scores, parts)
    if passages is None:
        passages = opened.passages(question, options, scores)
    passages = _with(passages, turns[-1].passage if turns else None)
    context = opened.context(passages, question, options, scores)
    yield ANSWERING
    asking = _Asking(opened, context, passages, question, options, started, parts)
    made = yield from asking.steps()
    _log(opened, made.cited, made.generated)
    finished = AnswerFinished(
        answer=made.generated.text,
        citations=made.cited.citations,
        model=opened.model_name if opened.answerer is None else opened.answerer.name,
        attention={
            "reading": attention_fields(opened.model.config.prefill_settings()),
            "answering": attention_fields(options.attention(opened.answers.config)),
        },
        finish_reason=made.generated.finish_reason,
        stats=_stats(opened, question, made.generated),
        warnings=opened.document.warnings,
        computation=made.computation,
        support=None if made.support is None else round(made.support, 4),
    )
    best = max(made.cited.passages, key=lambda passage: passage.score, default=None)
    return finished, Turn(question=question.text, answer=made.generated.text, passage=best)


class _Made(NamedTuple):
    """An answer, however it was made; see `AnswerFinished` for the last two."""

    generated: GeneratedAnswer
    cited: Cited
    computation: Computation | None = None
    support: float | None = None


class _Draft(NamedTuple):
    """An answer in words, checked.

    Attributes:
        shown: The answer, piece by piece.
        generated: The answer.
        cited: Its citations; verified ones only where the check allows it.
        support: Its support.
        is_sure: Whether its support is high.
        is_declined: Whether it is too weak to be shown.
    """

    shown: list[AnswerText]
    generated: GeneratedAnswer
    cited: Cited
    support: float | None
    is_sure: bool
    is_declined: bool

    @property
    def shown_text(self) -> str | None:
        """The answer; None if it is too weak to be shown."""
        return None if self.is_declined else self.generated.text


class _Asking(NamedTuple):
    """A question with what it is answered from; see `answer_steps`."""

    opened: OpenDocument
    context: AnswerContext
    passages: list[Passage]
    question: TokenizedQuestion
    options: GenerationOptions
    started: float
    parts: tuple[Part, ...] = ()

    def steps(self) -> Generator[AnswerText | Stage, None, _Made]:
        """Answer by an expression if the question asks for one, in words otherwise."""
        opened, options = self.opened, self.options
        verifier = None
        is_plain = not self.question.instructions and options.schema is None
        if options.verify and is_plain:  # a check knows no form that a client asks for
            settings = options.attention(opened.answers.config)
            verifier = verifier_of(opened, self.context, settings)
        about = (opened, self.context, self.passages, self.question, options)
        computed = by_dates(*about, verified=verifier is None)
        if computed is None:
            computed = (
                by_expression(*about)
                if verifier is None or self.question.earlier  # the verifier knows no dialog
                else by_free_expression(*about, verifier)
            )
        if computed is not None:
            yield AnswerText(text=computed.generated.text)
            return _Made(*computed)
        if verifier is None:
            generated = yield from opened.generate(
                self.context, self.question, options, self.started
            )
            return _Made(generated, self._cited(generated))
        return (yield from self._checked(verifier))

    def _checked(self, verifier: Verifier) -> Generator[AnswerText | Stage, None, _Made]:
        """Answer in words; an answer that the verifier does not support is never shown."""
        draft = self._draft(verifier)
        yield CHECKING
        text, generated, cited = draft.generated.text, draft.generated, draft.cited
        if self.parts and (draft.is_declined or not has_both(text, self.question.text)):
            found = self._by_parts(verifier)
            if found is not None:
                yield AnswerText(text=found.generated.text)
                return found
        about = (self.opened, self.context, self.passages, self.question, self.options)
        computed = by_rate(*about, text)
        if computed is not None:
            yield AnswerText(text=computed.generated.text)
            return _Made(*computed)
        about_it = (self.opened.document, self.passages, self.question.text)
        told = None if draft.is_sure else yes_or_no(*about_it, draft.shown_text)
        if told is not None or draft.is_declined:
            text, near = told or declined(*about_it)
            yield AnswerText(text=text)
            made = replace(generated, text=text, finish_reason="stop")
            return _Made(made, near, None, draft.support)
        computed = by_expression_in_answer(*about, text)
        if computed is not None:
            yield AnswerText(text=computed.generated.text)
            return _Made(*computed)
        yield from draft.shown
        asked = self.question.text
        more = addition(self.opened.document, self.passages, asked, text, cited)
        if more is not None and generated.finish_reason == "stop":
            yield AnswerText(text=more.text)
            generated, cited = replace(generated, text=text + more.text), more.cited
        return _Made(generated, cited, None, draft.support)

    @property
    def _bounds(self) -> Bounds:
        """Bounds of the support of this answer."""
        return OF_SHORT_TEXT if self.opened.is_short else OF_PASSAGES

    def _draft(self, verifier: Verifier) -> _Draft:
        """Answer in words, and check the answer."""
        steps = self.opened.generate(self.context, self.question, self.options, self.started)
        shown, generated = collected(steps)
        text = without_contradiction(generated.text, self.question.text)
        if text != generated.text:
            shown, generated = [AnswerText(text=text)], replace(generated, text=text)
        support, may_verify = self._support(verifier, text)
        cited = self._cited(generated)
        is_weak = self._is_declined(text, support, cited)
        is_weak = is_weak or (not may_verify and self._is_refuted(text))
        quotes = [each.quote for each in cited.citations if each.verified]
        if not may_verify or not any(
            states_result(self.question.text, text, each) for each in quotes
        ):
            cited = cited.unverified()
        return _Draft(shown, generated, cited, support, may_verify, is_weak)

    def _by_parts(self, verifier: Verifier) -> _Made | None:
        """Answer each part of a question by itself; None if one declines, or both say the same."""
        drafts = [
            self._replace(question=part.question, parts=())._draft(verifier) for part in self.parts
        ]
        if any(each.is_declined or declines(each.generated.text) for each in drafts):
            return None
        found = joined(
            [
                PartAnswer(part.name, each.generated, each.cited)
                for part, each in zip(self.parts, drafts, strict=True)
            ]
        )
        if found is None:
            return None
        supports = [each.support for each in drafts if each.support is not None]
        return _Made(*found, None, min(supports, default=None))

    def _is_declined(self, answer: str, support: float | None, cited: Cited) -> bool:
        """Whether an answer is too weak to be shown: by its support, with or without a passage.

        An expression is not in the passages, and words of another language are not.
        """
        if support is None:
            return False
        question, text = self.question.text, self.opened.document.text
        if support < self._bounds.declined or counts_nothing(answer, question):
            return True
        if support >= self._bounds.unsupported or any(each.verified for each in cited.citations):
            return False
        return expression_in(answer) is None and not any(
            is_translated(answer, question, text[passage.start : passage.end])
            for passage in self.passages
        )

    def _support(self, verifier: Verifier, answer: str) -> tuple[float | None, bool]:
        """Return the support of an answer, and whether a citation may be verified.

        A follow-up is checked twice, joined with the questions before it and after its earlier
        turns: the mean decides whether to decline, the first whether to verify.
        """
        question, earlier = self.question.text, self.question.earlier
        before = [asked for asked, _ in earlier]
        support = verifier.support(_joined(question, before), answer)
        may_verify = support is not None and support > self._bounds.verified
        if support is None or not earlier:
            return support, may_verify
        after = verifier.support(question, answer, earlier)
        return (support if after is None else (support + after) / 2), may_verify

    def _is_refuted(self, answer: str) -> bool:
        """Whether a passage says the contrary of a yes or no."""
        text = self.opened.document.text
        return any(
            is_refuted(answer, self.question.text, text[passage.start : passage.end])
            for passage in self.passages
        )

    def _cited(self, generated: GeneratedAnswer) -> Cited:
        """Cite the passages, and what the answer attended to on pages or in a short text."""
        opened, passages = self.opened, self.passages
        document, attention = opened.document, generated.attention
        pages = self.options.source.startswith("pages") and opened.answerer is None
        if pages or opened.is_short:  # more than the passages was read
            passages = merge_passages(passages, attended_passages(attention, document))
        return cite(document, passages, generated.text, self.question.text, attention=attention)


def _standalone(
    prompts: PromptBuilder, question: TokenizedQuestion, turns: Sequence[Turn]
) -> TokenizedQuestion:
    """The question as it is retrieved: a short follow-up is prefixed with the question before."""
    if turns and _is_short(question.text):
        return prompts.question(_joined(question.text, [turn.question for turn in turns]))
    return question if question.bare else prompts.question(question.text)


def _is_short(question: str) -> bool:
    """Whether a question is as short as a follow-up."""
    return len(question.split()) <= _FOLLOW_UP_WORDS and len(question) <= _FOLLOW_UP_CHARACTERS


def _joined(question: str, earlier: Sequence[str]) -> str:
    """A question after the one before it, and those before that as long as they are short."""
    first = len(earlier) - 1
    while first > 0 and _is_short(earlier[first]):
        first -= 1
    return " ".join([*earlier[max(0, first) :], question])


def _with(passages: list[Passage], one: Passage | None) -> list[Passage]:
    """Add a passage, in the order of the document, unless it overlaps another."""
    if one is None or any(one.start < other.end and other.start < one.end for other in passages):
        return passages
    return sorted([*passages, replace(one, score=0.0)], key=lambda passage: passage.start)


def _log(opened: OpenDocument, cited: Cited, generated: GeneratedAnswer) -> None:
    """Log passages and speed, for `--verbose`."""
    for passage in cited.passages:
        at = place(opened.document.locate(passage.start, passage.end))
        log.info("passage at %s, %.2f of the attention", at, passage.score)
    log.info(
        "%d tokens of answer, the first after %.1f s, then %.1f a second",
        generated.tokens,
        generated.first_token_seconds,
        generated.tokens_per_second,
    )


def _stats(opened: OpenDocument, question: TokenizedQuestion, generated: GeneratedAnswer) -> Stats:
    """Counts and times of an answer."""
    return Stats(
        document_tokens=opened.tokens,
        reused_tokens=opened.reused_tokens,
        question_tokens=len(question.ids),
        answer_tokens=generated.tokens,
        load_seconds=round(opened.load_seconds, 3),
        prefill_seconds=round(opened.prefill_seconds, 3),
        time_to_first_token_seconds=round(generated.first_token_seconds, 3),
        decode_tokens_per_second=round(generated.tokens_per_second, 2),
        peak_memory_bytes=peak_memory_bytes(),
        cache_bytes=sum(window.bytes_held for window in opened.windows),
        cache_bytes_touched=sum(window.bytes_touched for window in opened.windows),
        left_out_lines=opened.document.left_out_lines,
    )
