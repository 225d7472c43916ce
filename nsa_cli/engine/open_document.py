"""A prefilled document, open for questions and searches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.documents import Document
from nsa_cli.engine.answer_context import (
    READING_NOTES,
    AnswerContext,
    append_passages,
    page_context,
    passage_context,
    text_context,
)
from nsa_cli.engine.answering_model import AnsweringModel
from nsa_cli.engine.generate import GeneratedAnswer, GenerationOptions, generate
from nsa_cli.events import SEARCHING, AnswerText, Emit
from nsa_cli.kv_store.windows import ContextWindow
from nsa_cli.output.logging import log
from nsa_cli.results import MatchInContext, Passage
from nsa_cli.retrieval.citations import best_quote
from nsa_cli.retrieval.pages import PageTokens, page_blocks, within
from nsa_cli.retrieval.passages import (
    DIRECT_TOKENS,
    shares,
    text_end,
    top_passages,
    widened,
)
from nsa_cli.retrieval.ranking import BlockScores
from nsa_cli.retrieval.retriever import Retriever
from nsa_cli.retrieval.table_rows import rows_about
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.weights.resident import release_weights

_ROW_TOKENS = 192
"""Maximum tokens of table rows that are read beside the best parts, for arithmetic."""

_CONTEXT = 160
"""Characters shown before and after a match."""


class PartsOf(NamedTuple):
    """The parts of one source.

    Attributes:
        source: The source.
        values: Returns the scores of the parts of all sources; see `OpenDocument.part_scores`.
    """

    source: str
    values: Callable[[], Tensor]


@dataclass(kw_only=True)
class OpenDocument:
    """A prefilled document.

    Attributes:
        model: The model, with the context that the document needs.
        model_name: Its name.
        tokenizer: Its tokenizer.
        prompts: Tokenizes questions and passages.
        document: The document.
        windows: Its context windows: one, unless it is longer than the model's context.
        text: Its tokens, those of all windows joined.
        room: Tokens of room after each window.
        options: How to answer where a question does not say.
        emit: Receives notes and progress.
        load_seconds: Loading the model.
        prefill_seconds: Prefilling the document.
        answerer: Another model that answers; None if the same one does.
    """

    model: NSALanguageModel
    model_name: str
    tokenizer: Tokenizer
    prompts: PromptBuilder
    document: Document
    windows: Sequence[ContextWindow]
    text: TokenizedText
    room: int
    options: GenerationOptions
    emit: Emit
    load_seconds: float
    prefill_seconds: float
    answerer: AnsweringModel | None = None

    @property
    def answers(self) -> NSALanguageModel:
        """The model that answers."""
        return self.model if self.answerer is None else self.answerer.model

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(len(window.text.ids) for window in self.windows)

    @property
    def reused_tokens(self) -> int:
        """Tokens whose keys and values were stored."""
        return sum(window.reused_tokens for window in self.windows)

    @property
    def block_tokens(self) -> int:
        """Tokens of a selection block."""
        return self.model.config.select_block

    @property
    def is_short(self) -> bool:
        """Whether questions are answered from the whole document directly."""
        return self.text.document_tokens <= DIRECT_TOKENS

    def log_figures(self) -> None:
        """Log tokens and times of the prefill, for `--verbose`."""
        log.info(
            "%s tokens, %s of them stored before; model loaded in %.1f s, read in %.1f s",
            f"{self.tokens:,}",
            f"{self.reused_tokens:,}",
            self.load_seconds,
            self.prefill_seconds,
        )

    @cached_property
    def retriever(self) -> Retriever:
        """Scores the blocks of the document."""
        return Retriever(self.model, self.windows, self.document, self.text)

    def scores(self, question: TokenizedQuestion) -> BlockScores:
        """Score each block for a question; see `Retriever.scores`."""
        return self.retriever.scores(question, self.options.attention(self.model.config))

    def find(self, query: TokenizedQuestion, top: int) -> list[MatchInContext]:
        """Find the passages for a query, best first.

        Args:
            query: Words or a question.
            top: Maximum passages.
        """
        self.emit(SEARCHING)
        found = self._found(query, top)
        matches: dict[tuple[int, int], MatchInContext] = {}
        for passage in found:
            start, end = best_quote(self.document, passage, "", query.text)
            if start < end and (start, end) not in matches:
                before, after = _context(self.document, start, end)
                matches[start, end] = MatchInContext(
                    **asdict(self.document.locate(start, end)),
                    quote=self.document.text[start:end],
                    score=round(passage.score, 4),
                    before=before,
                    after=after,
                )
        return list(matches.values())

    def whole(self) -> AnswerContext:
        """Return the first context window: its beginning says what the document is about."""
        first = self.windows[0]
        return AnswerContext(first.text, first.cache)

    def excerpts(
        self, passages: Sequence[Passage], ahead: TokenizedQuestion | None = None
    ) -> AnswerContext:
        """Prefill passages, in the order of the document, as one text.

        Args:
            passages: The passages.
            ahead: The question that is asked next, if known.

        Raises:
            DoesNotFitError: If the context of the model that answers is too short.
        """
        if self.answerer is not None:
            return self.answerer.excerpts(self.document, passages, self.room, self.emit, ahead)
        return passage_context(
            *(self.model, self.prompts, self.document, passages, self.room, self.emit),
            ahead=None if ahead is None else ahead.ids[:-1],
        )

    def notes(self, text: str, room: int) -> AnswerContext:
        """Prefill a text that a request follows: statements, or passages in plain words.

        Args:
            text: The text.
            room: Tokens of room after it.

        Raises:
            DoesNotFitError: If the context of the model that answers is too short.
        """
        if self.answerer is not None:
            return self.answerer.notes(text, room, self.emit)
        return text_context(self.model, self.prompts.notes(text), room, self.emit, READING_NOTES)

    def context(
        self,
        passages: Sequence[Passage],
        question: TokenizedQuestion,
        options: GenerationOptions,
        scores: BlockScores,
    ) -> AnswerContext:
        """Return what a question is answered from: passages, pages, or the first context window.

        Args:
            passages: The best passages; with none, the first window serves.
            question: The question.
            options: From what to answer.
            scores: From `scores`.
        """
        if self.answerer is not None:
            release_weights(self.model)
            return self.excerpts(self._for_another(passages), question)
        if self.is_short:
            return self.whole()
        if not passages:
            self.windows[0].prefill_again()  # any block may be attended to, so verify all
            return self.whole()
        if options.source in ("parts", "passages"):
            return self.excerpts(passages, question)
        settings, retriever = options.attention(self.model.config), self.retriever
        pages = [page for page, _ in self._best_parts(question, options, scores)]
        texts = retriever.texts
        if options.source == "pages":
            return page_context(retriever, texts, pages, self.room, move=options.move)
        repeated = self.prompts.excerpts(self.document, passages)
        room = self.room + len(repeated.ids)
        context = page_context(retriever, texts, pages, room, move=options.move)
        return append_passages(self.model, context, repeated, retriever.head, settings)

    def _best_parts(
        self,
        question: TokenizedQuestion,
        options: GenerationOptions,
        scores: BlockScores,
        among: PartsOf | None = None,
    ) -> list[tuple[PageTokens, float]]:
        """Return the best parts that fit the options with their shares, in document order."""
        pages = self.retriever.pages(options.part_tokens)
        if among is None:
            values = self.part_scores(question, options, scores)
        else:
            values = among.values().masked_fill(~self._is_of(among.source, pages), -torch.inf)
        ranked = values.argsort(descending=True, stable=True).tolist()
        taken = within(pages, ranked, options.page_tokens)
        weights = values[taken].softmax(dim=0).tolist()
        return [(pages[index], weight) for index, weight in zip(taken, weights, strict=True)]

    def _is_of(self, source: str, pages: Sequence[PageTokens]) -> Tensor:
        """Which parts are of one source."""
        spans = [self.windows[each.window].text.span(each.start, each.stop) for each in pages]
        own = (span is not None and self.document.piece_at(span[0]).source for span in spans)
        return torch.tensor([each == source for each in own])

    def part_scores(
        self, question: TokenizedQuestion, options: GenerationOptions, scores: BlockScores
    ) -> Tensor:
        """Score each part for a question; see `Retriever.page_scores`."""
        settings = options.attention(self.model.config)
        return self.retriever.page_scores(
            question, scores, options.candidates, settings, options.part_tokens
        )

    def passages(
        self,
        question: TokenizedQuestion,
        options: GenerationOptions,
        scores: BlockScores,
        among: PartsOf | None = None,
    ) -> list[Passage]:
        """Return what a question is answered from, in the order of the document.

        Args:
            question: The question.
            options: From what to answer.
            scores: From `scores`.
            among: The only parts to take; None for all.
        """
        text, size = self.text, self.block_tokens
        is_empty = not bool((scores.hybrid > 0).any())
        if options.source != "parts" or self.is_short or is_empty:
            return top_passages(scores.hybrid, text, self.document, size)
        spans = [
            (*span, weight)
            for part, weight in self._best_parts(question, options, scores, among)
            if (span := self.windows[part.window].text.span(part.start, part.stop)) is not None
        ]
        if (end := text_end(text, self.document, size)) is not None:
            spans.append((*end, 0.0))
        if options.compute and asked_form(question.text) is not None:
            spans += self._rows_about(question, [(start, end) for start, end, _ in spans])
        return widened(sorted(spans), self.document.text)

    def _rows_about(
        self, question: TokenizedQuestion, spans: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int, float]]:
        """Return rows of tables that some spans cut, and the headers of these tables."""

        def tokens(text: str) -> int:
            return len(self.tokenizer.encode(text))

        rows = rows_about(self.document, spans, question.text, _ROW_TOKENS, tokens)
        return [(start, end - 1, 0.0) for start, end in rows]

    def _found(self, query: TokenizedQuestion, top: int) -> list[Passage]:
        """Return a passage for each of the best blocks, best first.

        Of a text with parts it is the best block of each of the best parts.
        """
        scores, size, options = self.scores(query), self.block_tokens, self.options
        hybrid = scores.hybrid
        if self.is_short:
            best = [int(at) for at in hybrid.argsort(descending=True, stable=True)[:top]]
            blocks = {block: float(hybrid[block]) for block in best if hybrid[block] > 0}
        elif not bool((hybrid > 0).any()):
            return []
        else:
            parts, blocks = self.retriever.pages(options.part_tokens), dict[int, float]()
            values = self.part_scores(query, options, scores)
            for index in values.argsort(descending=True, stable=True)[:top].tolist():
                own = page_blocks(parts[index], self.text, size)
                block = own.start + int(hybrid[own].argmax())
                blocks.setdefault(block, float(values[index].exp()))
        spans = [self.text.span(n * size, min((n + 1) * size, len(self.text.ids))) for n in blocks]
        weights = shares(list(blocks.values()))
        return [
            passage
            for span, weight in zip(spans, weights, strict=True)
            if span is not None
            for passage in widened([(*span, weight)], self.document.text)
        ]

    def _for_another(self, passages: Sequence[Passage]) -> Sequence[Passage]:
        """The passages that another model reads: all of a short text, or else the best.

        Without passages, it is the beginning of the text, which says what it is about.
        """
        whole = [Passage(start=0, end=len(self.document.text), score=1.0)]
        if self.is_short:
            return whole
        begin = self.text.span(0, self.retriever.head + DIRECT_TOKENS)
        first = whole if begin is None else [Passage(start=begin[0], end=begin[1], score=1.0)]
        return passages or first

    def generate(
        self,
        context: AnswerContext,
        question: TokenizedQuestion,
        options: GenerationOptions,
        started: float,
    ) -> Generator[AnswerText, None, GeneratedAnswer]:
        """Decode an answer; the context is left as it was.

        Args:
            context: What to answer from.
            question: The question.
            options: How to generate.
            started: Time of the question on the monotonic clock, in seconds.

        Yields:
            The answer, piece by piece.

        Returns:
            The whole answer.
        """
        text, cache = context
        length = cache.length
        tokenizer = self.tokenizer
        if self.answerer is not None:
            question = self.answerer.question(question, context, options.max_tokens)
            tokenizer = self.answerer.tokenizer
        try:
            return (
                yield from generate(
                    self.answers, tokenizer, cache, text, question, options, started
                )
            )
        finally:  # also when the answer is canceled
            cache.truncate(length)


def _context(document: Document, start: int, end: int) -> tuple[str, str]:
    """Return the whole words around a range, within its page or file; … marks a cut."""
    piece, text = document.piece_at(start), document.text
    first, last = max(piece.start, start - _CONTEXT), min(piece.end, end + _CONTEXT)
    before, after = text[first:start], text[end:last]
    if first > piece.start:
        before = f"… {before.partition(' ')[2] or before}"
    if last < piece.end:
        after = f"{after.rpartition(' ')[0] or after} …"
    return before, after
