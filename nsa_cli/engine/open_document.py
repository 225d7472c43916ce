"""A prefilled document, open for questions and searches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor

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
from nsa_cli.results import MatchInContext, Passage
from nsa_cli.retrieval.citations import best_quote
from nsa_cli.retrieval.pages import PageTokens, within
from nsa_cli.retrieval.passages import DIRECT_TOKENS, best_runs, passages_of
from nsa_cli.retrieval.retriever import Retriever
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer

_CONTEXT = 160
"""Characters shown before and after a match."""


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

    @cached_property
    def retriever(self) -> Retriever:
        """Scores the blocks of the document."""
        return Retriever(self.model, self.windows, self.document, self.text)

    def scores(self, question: TokenizedQuestion) -> Tensor:
        """Score each block for a question: (N,); see `Retriever.scores`."""
        return self.retriever.scores(question, self.options.attention(self.model.config))

    def find(self, query: TokenizedQuestion, top: int) -> list[MatchInContext]:
        """Find the passages for a query, best first.

        Args:
            query: Words or a question.
            top: Maximum passages.
        """
        self.emit(SEARCHING)
        runs = best_runs(self.scores(query), top, 0)
        found = passages_of(runs, self.text, self.document, self.block_tokens)
        matches = []
        for passage in sorted(found, key=lambda each: each.score, reverse=True):
            start, end = best_quote(self.document, passage, "", query.text)
            if start < end:
                before, after = _context(self.document, start, end)
                matches.append(
                    MatchInContext(
                        **asdict(self.document.locate(start, end)),
                        quote=self.document.text[start:end],
                        score=round(passage.score, 4),
                        before=before,
                        after=after,
                    )
                )
        return matches

    def whole(self) -> AnswerContext:
        """Return the first context window: its beginning says what the document is about."""
        first = self.windows[0]
        return AnswerContext(first.text, first.cache)

    def excerpts(self, passages: Sequence[Passage]) -> AnswerContext:
        """Prefill passages, in the order of the document, as one text.

        Raises:
            DoesNotFitError: If the context of the model that answers is too short.
        """
        if self.answerer is not None:
            return self.answerer.excerpts(self.document, passages, self.room, self.emit)
        return passage_context(
            self.model, self.prompts, self.document, passages, self.room, self.emit
        )

    def notes(self, text: str, room: int) -> AnswerContext:
        """Prefill a text that is not in the document, such as statements about it.

        Args:
            text: The text.
            room: Tokens of room after it.

        Raises:
            DoesNotFitError: If the context of the model that answers is too short.
        """
        if self.answerer is not None:
            return self.answerer.notes(text, room, self.emit)
        return text_context(self.model, self.prompts.plain(text), room, self.emit, READING_NOTES)

    def context(
        self,
        passages: Sequence[Passage],
        question: TokenizedQuestion,
        options: GenerationOptions,
        scores: Tensor,
    ) -> AnswerContext:
        """Return what a question is answered from: passages, pages, or the first context window.

        Args:
            passages: The best passages; with none, the first window serves.
            question: The question.
            options: From what to answer.
            scores: Block scores of the question.
        """
        if self.is_short and self.answerer is None:
            return self.whole()
        if options.source == "pages-again" and not self.is_short:
            passages = self._pages_again(question, options, scores)
        if self.answerer is not None:
            return self.excerpts(self._for_another(passages))
        if not passages:
            self.windows[0].prefill_again()  # any block may be attended to, so verify all
            return self.whole()
        if options.source in ("passages", "pages-again"):
            return self.excerpts(passages)
        settings, retriever = options.attention(self.model.config), self.retriever
        pages, texts = self._best_pages(question, options, scores), self._texts
        if options.source == "pages":
            return page_context(retriever, texts, pages, self.room, move=options.move)
        repeated = self.prompts.excerpts(self.document, passages)
        room = self.room + len(repeated.ids)
        context = page_context(retriever, texts, pages, room, move=options.move)
        return append_passages(self.model, context, repeated, retriever.head, settings)

    @property
    def _texts(self) -> list[TokenizedText]:
        return [window.text for window in self.windows]

    def _best_pages(
        self, question: TokenizedQuestion, options: GenerationOptions, scores: Tensor
    ) -> list[PageTokens]:
        """Return the best pages for a question that fit the options, in document order."""
        settings, most = options.attention(self.model.config), options.part_tokens
        ranked = self.retriever.rank_pages(question, scores, options.candidates, settings, most)
        return within(self.retriever.pages(most), ranked, options.page_tokens)

    def _pages_again(
        self, question: TokenizedQuestion, options: GenerationOptions, scores: Tensor
    ) -> list[Passage]:
        """Return the best pages as passages, with equal scores."""
        pages = self._best_pages(question, options, scores)
        spans = [self._texts[page.window].span(page.start, page.stop) for page in pages]
        share = 1 / max(1, len(spans))
        return [Passage(start=s[0], end=s[1], score=share) for s in spans if s is not None]

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
    """Return the whole words around a range, within its page or file."""
    piece, text = document.piece_at(start), document.text
    first, last = max(piece.start, start - _CONTEXT), min(piece.end, end + _CONTEXT)
    before, after = text[first:start], text[end:last]
    if first > piece.start:
        before = before.partition(" ")[2] or before
    if last < piece.end:
        after = after.rpartition(" ")[0] or after
    return before, after
