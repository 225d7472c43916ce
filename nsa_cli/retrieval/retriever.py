"""Scores of a document's blocks for a question: attention and BM25 together.

Letters: N selection blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.documents import Document
from nsa_cli.kv_store.windows import ContextWindow, over_windows
from nsa_cli.retrieval.attention import block_scores, without_attention_sinks
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.ranking import block_spans, hybrid_scores
from nsa_kernels.settings import AttentionSettings
from nsa_models.modeling.model import NSALanguageModel

_WINDOWS_TOGETHER = 4
"""Context windows that a question is scored over at once: as many are in memory."""


class Retriever:
    """Scores the blocks of one prefilled document.

    Args:
        model: The model that prefilled it.
        windows: Its context windows.
        document: The document.
        text: Its tokens, those of all windows joined.
    """

    def __init__(
        self,
        model: NSALanguageModel,
        windows: Sequence[ContextWindow],
        document: Document,
        text: TokenizedText,
    ) -> None:
        self._model = model
        self._windows = windows
        self._document = document
        self._text = text

    @cached_property
    def bm25(self) -> Bm25:
        """BM25 over the blocks."""
        spans = block_spans(self._text, self._model.config.select_block)
        return Bm25([self._document.text[start:end] for start, end in spans])

    def scores(
        self, question: TokenizedQuestion, settings: AttentionSettings | None = None
    ) -> Tensor:
        """Score each block for a question by attention and BM25: (N,); see `hybrid_scores`.

        Args:
            question: The question.
            settings: Attention of the question; the model's answer settings when None.
        """
        settings = settings or self._model.config.answer_settings()
        attention = self.attention(question, settings)
        attention = without_attention_sinks(attention, self._text, self._model.config.select_block)
        words = self.bm25.scores(question.text)
        return hybrid_scores(attention, words, few=settings.select_count is not None)

    def attention(
        self, question: TokenizedQuestion, settings: AttentionSettings | None = None
    ) -> Tensor:
        """Score each block by the attention that a question gives it: (N,); see `block_scores`."""
        settings = settings or self._model.config.answer_settings()

        def step(windows: Sequence[ContextWindow]) -> list[Tensor]:
            caches, texts = [each.cache for each in windows], [each.text for each in windows]
            return block_scores(self._model, caches, texts, question, settings)

        found: list[Tensor] = []
        for first in range(0, len(self._windows), _WINDOWS_TOGETHER):
            some = self._windows[first : first + _WINDOWS_TOGETHER]
            found += over_windows(some, step)
            if len(self._windows) > 1:
                for window in some:
                    window.cache.release_pages()
        return torch.cat(found)
