"""Answers by an expression: the model chooses figures of the passages, the program computes.

A rule tells whether a question asks for arithmetic, and its form; then the model writes the
expression by a second short decoding in which every figure is one of those that it has read. The
program evaluates the expression exactly and cites each figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.asks import asks_for_expression
from nsa_cli.computing.calculated import (
    Calculated,
    calculated,
    calculated_from_row,
    caption_around,
    expression_in,
)
from nsa_cli.computing.calculation import Calculation, calculate
from nsa_cli.computing.choice import FigureChoice, Span
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.figures import Figure
from nsa_cli.computing.forms import form_of
from nsa_cli.computing.rates import at_rate
from nsa_cli.computing.turns import Turns
from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.documents import Document
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.decline import declined, without_decoding
from nsa_cli.engine.generate import GeneratedAnswer, GenerationOptions
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.engine.verifier import Verifier
from nsa_cli.output.logging import log
from nsa_cli.results import EXPRESSION, Citation, Computation, Passage
from nsa_cli.retrieval.citations import Cited
from nsa_cli.retrieval.claims import is_about
from nsa_models.generation.choice_grammar import ChoiceGrammar
from nsa_models.generation.generate import DecodeOptions, decode

_TOKENS_OF_FIGURE = 32
"""Maximum tokens of a figure, with what follows it in an expression."""

_PROMPT_TOKENS = 256
"""Tokens of the request for an expression without its question, at most."""

_MOST_SLOTS = 8
_FAR = 64
"""Characters between two tokens that are not next to each other in the document."""


class ByExpression(NamedTuple):
    """An answer by an expression.

    Attributes:
        generated: The answer, with the counts of its decoding.
        cited: The sentences of its figures, or what the document says that is near.
        computation: The expression, or the reason for none.
    """

    generated: GeneratedAnswer
    cited: Cited
    computation: Computation


class Decoded(NamedTuple):
    """Texts that were chosen, or None; and the counts of the decoding."""

    texts: list[str] | None
    tokens: int
    first_token_seconds: float
    tokens_per_second: float


_NOTHING = Decoded(None, 0, 0.0, 0.0)
"""Of an expression that no model was asked for."""


def expression_room(questions: Iterable[TokenizedQuestion]) -> int:
    """Tokens that expressions for some questions need after the text; 0 if none asks for one."""
    asked = [len(each) for each in questions if asks_for_expression(each.text)]
    return max(asked) + _PROMPT_TOKENS + _MOST_SLOTS * _TOKENS_OF_FIGURE if asked else 0


def by_expression(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
) -> ByExpression | None:
    """Answer a question that asks for arithmetic; None if the model is to answer it in words.

    It is None, too, where a passage states the result, or the expression has no value.

    Args:
        opened: The document.
        context: What the model answers from.
        passages: The passages in it.
        question: The question.
        options: Whether to compute, and with which attention.
    """
    form = form_of(question.text) if options.compute else None
    if form is None:
        return None
    spans = spans_of(opened, context, passages, options)
    choice = FigureChoice(form, question.text, opened.document, spans)
    if choice.is_stated():
        return None
    problem, decoded = choice.problem, _NOTHING
    if problem is None:
        own = opened if opened.answerer is None else opened.answerer
        asked = own.prompts.expression(question.text, choice.lead)
        found = decode_choice(opened, context, choice, asked, options)
        if found is None:
            return None
        decoded = found
        problem = None if decoded.texts is not None else "the passages have no figures for it"
    if problem is not None:
        return _declined(opened, context, passages, question, decoded, problem)
    assert decoded.texts is not None
    figures = choice.chosen(decoded.texts)
    try:
        calculation = calculate(form, figures, caption_around(opened.document, figures))
    except ExpressionError as error:
        log.info("no expression: %s", error)
        return None
    return _answered(opened, context, choice, figures, calculation, decoded, question.text)


def by_free_expression(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
    verifier: Verifier,
) -> ByExpression | None:
    """Answer a question that asks for arithmetic by an expression that the verifier writes.

    Where the expression has a figure that the passages lack, is of another form, or has an
    implausible value, one row of a table may tell a change over time. Otherwise it is None, as for
    other questions, and the model is to answer in words. Its citations are not verified: the
    figures stand there, and nothing tells whether they are the right ones.

    Args:
        opened: The document.
        context: What the model answers from.
        passages: The passages in it.
        question: The question.
        options: With which attention.
        verifier: Writes the expression.
    """
    started = time.monotonic()
    if not options.compute or asked_form(question.text) is None:
        return None
    about = (opened, context, passages, question, options)
    written = verifier.expression(question.text)
    if written is None:
        return _from_row(*about)
    text, tokens = written
    spent = time.monotonic() - started
    decoded = Decoded(None, tokens, spent, tokens / spent if spent else 0.0)
    return _written(*about, text, decoded) or _from_row(*about)


def by_expression_in_answer(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
    answer: str,
) -> ByExpression | None:
    """Compute the expression in an answer in words to a question that asks for arithmetic.

    It is None without one, or where it is refused. Its citations are not verified. (To let the
    verifier choose figures of the passages instead was measured: no answer became right by it.)

    Args:
        opened: The document.
        context: What the model answers from.
        passages: The passages in it.
        question: The question; its first expression was refused.
        options: Whether to compute.
        answer: The answer in words.
    """
    text = expression_in(answer)
    if text is None or not options.compute or asked_form(question.text) is None:
        return None
    return _written(opened, context, passages, question, options, text, _NOTHING)


def by_rate(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
    answer: str,
) -> ByExpression | None:
    """Multiply the rate that an answer in words gives, if a question asks about several units.

    Its citation is not verified.

    Args:
        opened: The document.
        context: What the model answers from.
        passages: The passages in it.
        question: The question, such as `What do 12 pages cost?`.
        options: Whether to compute.
        answer: The answer in words, such as `10 cents a page`.
    """
    if not options.compute:
        return None
    document, spans = opened.document, spans_of(opened, context, passages, options)
    return _evaluated(
        opened, context, question, lambda: at_rate(answer, question.text, document, spans)
    )


def _written(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
    text: str,
    decoded: Decoded,
) -> ByExpression | None:
    """The answer by an expression of the model; None where it is refused."""
    asked = asked_form(question.text)
    assert asked is not None
    document, spans = opened.document, spans_of(opened, context, passages, options)
    return _evaluated(
        *(opened, context, question),
        lambda: calculated(text, asked, question.text, document, spans),
        decoded,
    )


def _from_row(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
) -> ByExpression | None:
    """The change over time that one row of a table tells; None without one."""
    asked = asked_form(question.text)
    assert asked is not None
    document, spans = opened.document, spans_of(opened, context, passages, options)
    return _evaluated(
        *(opened, context, question),
        lambda: calculated_from_row(asked, question.text, document, spans),
    )


def _evaluated(
    opened: OpenDocument,
    context: AnswerContext,
    question: TokenizedQuestion,
    calculation: Callable[[], Calculated | None],
    decoded: Decoded = _NOTHING,
) -> ByExpression | None:
    """The answer by a calculation, not verified; None without one, or where it is refused."""
    try:
        found = calculation()
    except ExpressionError as error:
        log.info("no expression: %s", error)
        return None
    if found is None:
        return None
    made = _answered(opened, context, *found, decoded, question.text)
    return made._replace(cited=made.cited.unverified())


def spans_of(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    options: GenerationOptions,
) -> list[Span]:
    """Return the characters of the document that the model answers from."""
    text = opened.document.text
    if opened.is_short:
        return [Span(0, len(text))]
    if passages and (not options.source.startswith("pages") or opened.answerer is not None):
        return [Span(passage.start, passage.end) for passage in passages]
    own = context.text.characters[context.text.characters >= 0]
    steps = np.diff(own)
    runs = np.split(own, np.flatnonzero((steps > _FAR) | (steps < 0)) + 1)
    ends = [text.find("\n", int(run[-1])) for run in runs if len(run)]
    starts = [int(run[0]) for run in runs if len(run)]
    return [
        Span(start, len(text) if end < 0 else end) for start, end in zip(starts, ends, strict=True)
    ]


def decode_choice(
    opened: OpenDocument,
    context: AnswerContext,
    choice: Turns,
    asked: TokenizedQuestion,
    options: GenerationOptions,
) -> Decoded | None:
    """Let the model choose; None if the context has no room for that.

    Args:
        opened: The document.
        context: What the model answers from.
        choice: What it may choose.
        asked: The request for an expression.
        options: With which attention.
    """
    own = opened if opened.answerer is None else opened.answerer
    tokenizer, cache = own.tokenizer, context.cache
    most = choice.slots * _TOKENS_OF_FIGURE
    if cache.capacity - cache.length < len(asked) + most:
        log.info("no room for an expression: %d tokens", len(asked) + most)
        return None
    grammar = ChoiceGrammar(
        lambda path: [tokenizer.encode(text) for text in choice.follow(path)], tokenizer.stop_ids
    )
    started, length, tokens, first = time.monotonic(), cache.length, 0, 0.0
    try:
        for step in decode(
            own.model,
            asked.ids,
            cache,
            DecodeOptions(max_tokens=most, stop_ids=tokenizer.stop_ids, grammar=grammar),
            settings=options.attention(own.model.config),
        ):
            first = first or time.monotonic() - started
            tokens += 1
            if step.id in tokenizer.stop_ids or grammar.is_complete:
                break
    finally:  # also when the answer is canceled
        cache.truncate(length)
    spent = time.monotonic() - started - first
    speed = (tokens - 1) / spent if tokens > 1 and spent > 0 else 0.0
    texts = choice.texts(grammar.path) if grammar.is_complete else None
    return Decoded(texts, tokens, first, speed)


def _answered(
    opened: OpenDocument,
    context: AnswerContext,
    choice: FigureChoice,
    figures: Sequence[Figure],
    calculation: Calculation,
    decoded: Decoded,
    question: str,
) -> ByExpression:
    """The expression with its value, and the sentence of each figure."""
    document = opened.document
    spans = list(dict.fromkeys(choice.sentence_of(figure) for figure in figures))
    cited = cited_sentences(document, spans, question)
    computation = Computation(
        table="",
        operation=EXPRESSION,
        description=calculation.expression,
        value=float(calculation.value),
        rows=0,
        refused=None,
        unit=calculation.unit,
    )
    text = calculation.sentence(len(cited.citations))
    return ByExpression(composed(opened, context, text, decoded), cited, computation)


def cited_sentences(document: Document, spans: Sequence[tuple[int, int]], question: str) -> Cited:
    """Cite the sentences of figures; they are verified if one has a word of the question.

    Args:
        document: The document.
        spans: First character of each sentence, and one past its last.
        question: The question.
    """
    about = is_about(question, "\n".join(document.text[start:end] for start, end in spans))
    citations = tuple(
        Citation(
            **asdict(document.locate(start, end)),
            quote=document.text[start:end],
            score=round(1 / len(spans), 4),
            verified=about,
        )
        for start, end in spans
    )
    passages = [Passage(start=start, end=end, score=1 / len(spans)) for start, end in spans]
    return Cited(citations, passages)


def _declined(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    decoded: Decoded,
    why: str,
) -> ByExpression:
    """Decline, and quote the nearest sentence of the document."""
    text, cited = declined(opened.document, passages, question.text)
    computation = Computation(
        table="", operation=EXPRESSION, description="", value=None, rows=0, refused=why
    )
    return ByExpression(composed(opened, context, text, decoded), cited, computation)


def composed(
    opened: OpenDocument, context: AnswerContext, text: str, decoded: Decoded
) -> GeneratedAnswer:
    """Return a composed answer with the counts of the decoding of its figures."""
    return replace(
        without_decoding(opened, context, text),
        tokens=decoded.tokens,
        first_token_seconds=decoded.first_token_seconds,
        tokens_per_second=decoded.tokens_per_second,
    )
