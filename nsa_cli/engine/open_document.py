"""A prefilled document, open for questions and searches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.documents import Document
from nsa_cli.engine.generate import GeneratedAnswer, GenerationOptions, generate
from nsa_cli.events import AnswerText, Emit
from nsa_cli.kv_store.windows import ContextWindow
from nsa_cli.results import MatchInContext, Passage
from nsa_cli.retrieval.citations import best_quote
from nsa_cli.retrieval.passages import DIRECT_TOKENS, best_runs, passages_of
from nsa_cli.retrieval.retriever import Retriever
from nsa_models.cache.kv_cache import KVCache
from nsa_models.generation.generate import prefill
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
        emit: Receives notes.
        load_seconds: Loading the model.
        prefill_seconds: Prefilling the document.
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

    def generate(
        self,
        passages: Sequence[Passage],
        question: TokenizedQuestion,
        options: GenerationOptions,
        started: float,
        *,
        whole: bool = False,
    ) -> Generator[AnswerText, None, GeneratedAnswer]:
        """Decode an answer from passages, or from the first context window.

        Args:
            passages: What to answer from; with none, the answer is decoded from the first window.
            question: The question.
            options: How to generate.
            started: Time of the question on the monotonic clock, in seconds.
            whole: Whether to answer from the first window although there are passages.

        Yields:
            The answer, piece by piece.

        Returns:
            The whole answer.
        """
        first = self.windows[0]  # its beginning says what the document is about
        if not passages and not whole:  # any block may be attended to, so verify all
            first.prefill_again()
        length = first.cache.length
        text, cache = first.text, first.cache
        if passages and not whole:
            text, cache = self._excerpts(passages)
        try:
            return (
                yield from generate(
                    self.model, self.tokenizer, cache, text, question, options, started
                )
            )
        finally:  # also when the answer is cancelled
            first.cache.truncate(length)

    def _excerpts(self, passages: Sequence[Passage]) -> tuple[TokenizedText, KVCache]:
        """Prefill some passages as one text."""
        text, model = self.prompts.excerpts(self.document, passages), self.model
        cache = KVCache(
            model.config,
            len(text.ids) + self.room,
            dtype=model.dtype,
            device=model.layer_devices,
        )
        for _ in prefill(model, text.ids, cache):
            pass
        return text, cache


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
