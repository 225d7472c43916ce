"""Scores of a document's blocks for a question: attention and BM25 together.

Letters: N selection blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.documents import Document
from nsa_cli.kv_store.windows import MOST_ATTENDED, ContextWindow, over_windows
from nsa_cli.retrieval.attention import block_scores, without_attention_sinks
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.instruction import InstructionMemory
from nsa_cli.retrieval.likelihood import (
    page_fit,
    question_likelihoods,
    question_states,
    with_likelihoods,
)
from nsa_cli.retrieval.pages import PageTokens, page_scores, page_text, pages_of
from nsa_cli.retrieval.ranking import BlockScores, block_spans
from nsa_cli.retrieval.sentences import contents_share
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.mapped import release_mapped
from nsa_models.generation.excerpts import Excerpt, join_excerpts
from nsa_models.heap import trim_heap
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.weights.resident import release_weights

_WINDOWS_TOGETHER = 4
"""Context windows that a question is scored over at once: as many are in memory."""

_BEST_OF_WINDOW = torch.tensor([1.0, 0.6, 0.36, 0.216])
"""Weights of a window's best blocks where words choose windows."""

_CONTENTS_SHARE = 0.6
"""Share of lines that makes a page a table of contents, which names what other pages say. None of
the 26 pages above it in the documents of the suite answers a question."""

_CONTENTS_COST = 3.0
"""What a table of contents loses, in deviations of a score."""

_PAGES_TOGETHER = 8
"""Pages that a question's likelihood is computed for at once."""


class _PageIndex(NamedTuple):
    """The pages of a document, cut at one size.

    Attributes:
        pages: The pages.
        bm25: BM25 over them.
        contents: Indices of those that are tables of contents.
    """

    pages: list[PageTokens]
    bm25: Bm25
    contents: list[int]


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
        self._indices: dict[int, _PageIndex] = {}
        self._memories: dict[int, InstructionMemory] = {}

    @property
    def texts(self) -> list[TokenizedText]:
        """The text of each context window."""
        return [window.text for window in self._windows]

    @cached_property
    def bm25(self) -> Bm25:
        """BM25 over the blocks."""
        spans = block_spans(self._text, self._model.config.select_block)
        return Bm25([self._document.text[start:end] for start, end in spans])

    def scores(
        self, question: TokenizedQuestion, settings: AttentionSettings | None = None
    ) -> BlockScores:
        """Score each block for a question by attention and by BM25.

        Args:
            question: The question.
            settings: Attention of the question; the model's answer settings when None.
        """
        settings = settings or self._model.config.answer_settings()
        words = self.bm25.scores(question.text)
        attention = self.attention(question, settings, self._likely_windows(words))
        attention = without_attention_sinks(attention, self._text, self._model.config.select_block)
        return BlockScores(attention, words, few=settings.select_count is not None)

    def attention(
        self,
        question: TokenizedQuestion,
        settings: AttentionSettings | None = None,
        windows: Sequence[int] | None = None,
    ) -> Tensor:
        """Score each block by the attention that a question gives it: (N,); see `block_scores`.

        Args:
            question: The question.
            settings: Attention of the question; the model's answer settings when None.
            windows: Indices of the windows that the question attends to, all when None; blocks of
                other windows score 0.
        """
        settings = settings or self._model.config.answer_settings()

        def step(some: Sequence[ContextWindow]) -> list[Tensor]:
            caches, texts = [each.cache for each in some], [each.text for each in some]
            memories = [self._memory(each) for each in some]
            return block_scores(self._model, caches, texts, question, settings, memories)

        release_weights(self._model.lm_head)  # of the last answer; the search does not read it
        size = self._model.config.select_block
        found = [torch.zeros(-(-len(window.text.ids) // size)) for window in self._windows]
        chosen = range(len(self._windows)) if windows is None else windows
        for first in range(0, len(chosen), _WINDOWS_TOGETHER):
            some = chosen[first : first + _WINDOWS_TOGETHER]
            together = [self._windows[index] for index in some]
            for index, scores in zip(some, over_windows(together, step), strict=True):
                found[index] = scores
            if len(self._windows) > 1:
                for window in together:
                    window.cache.release_pages()
        trim_heap()  # of keys in fp32, before the weights are read for the pages
        return torch.cat(found)

    def _likely_windows(self, words: Tensor) -> list[int] | None:
        """Return the windows that a question attends to, in order; None for all.

        Args:
            words: (N,) scores of the blocks from `bm25`.
        """
        if len(self._windows) <= MOST_ATTENDED or not bool((words > 0).any()):
            return None
        firsts = [start // self._model.config.select_block for start in self._text.starts]
        best = []
        for first, stop in zip(firsts, [*firsts[1:], len(words)], strict=True):
            top = words[first:stop].topk(min(len(_BEST_OF_WINDOW), stop - first)).values
            best.append(float(top @ _BEST_OF_WINDOW[: len(top)]))
        order = torch.tensor(best).argsort(descending=True, stable=True)
        return sorted(order[:MOST_ATTENDED].tolist())

    def _memory(self, window: ContextWindow) -> InstructionMemory:
        """What is kept of the instruction after a window."""
        key = id(window)
        if key not in self._memories:
            store = window.prefiller.store
            folder = None if store is None else store.folder(window.text.ids)
            self._memories[key] = InstructionMemory(folder)
        return self._memories[key]

    def pages(self, most: int) -> list[PageTokens]:
        """Return the pages of the document.

        Args:
            most: Maximum tokens of a page; a longer one counts as several.
        """
        return self._index(most).pages

    def _index(self, most: int) -> _PageIndex:
        if most not in self._indices:
            pages = pages_of(self.texts, self._document, most)
            texts = [page_text(page, self.texts, self._document) for page in pages]
            shares = map(contents_share, texts)
            contents = [index for index, share in enumerate(shares) if share > _CONTENTS_SHARE]
            self._indices[most] = _PageIndex(pages, Bm25(texts), contents)
        return self._indices[most]

    def page_scores(
        self,
        question: TokenizedQuestion,
        scores: BlockScores,
        candidates: int,
        settings: AttentionSettings,
        most: int,
    ) -> Tensor:
        """Score all pages for a question: (P,).

        Args:
            question: The question.
            scores: From `scores`.
            candidates: How many of the best pages are scored by the question's likelihood, too;
                none where the branches of a model have separate keys and values.
            settings: Attention of the question.
            most: Maximum tokens of a page.
        """
        (pages, bm25, contents), size = self._index(most), self._model.config.select_block
        attention, block_words = (
            page_scores(x, pages, self._text, size) for x in (scores.attention, scores.words)
        )
        words = bm25.scores(question.text)
        fit = page_fit(attention, words, block_words, scores.words_weight)
        fit[contents] -= _CONTENTS_COST
        if self._model.config.branch_inputs:
            candidates = 0  # parts of its caches cannot be joined; see `join_excerpts`
        best = fit.argsort(descending=True, stable=True)[:candidates]
        found, room = [torch.empty(0)], len(question.ids)
        for first in range(0, len(best), _PAGES_TOGETHER):
            some = best[first : first + _PAGES_TOGETHER].tolist()
            states = question_states(
                self._model, [self.join([pages[page]], room) for page in some], question, settings
            )  # the joined pages are not needed any more
            found.append(question_likelihoods(self._model, states, question))
        return with_likelihoods(fit, best, torch.cat(found))

    def join(self, pages: Sequence[PageTokens], room: int, *, move: bool = True) -> KVCache:
        """Join the beginning of the prompt and some pages into one cache; see `join_excerpts`.

        A window with a corrupt block in these pages is prefilled again first.
        """
        parts = [(0, 0, self.head), *((page.window, page.start, page.stop) for page in pages)]
        for window, start, stop in parts:

            def step(
                windows: Sequence[ContextWindow], start: int = start, stop: int = stop
            ) -> list[None]:
                for each in windows:
                    each.access.read(start, stop)
                return [None] * len(windows)

            over_windows([self._windows[window]], step)
        # Only now: a window that was prefilled again has another cache.
        excerpts = [Excerpt(self._windows[w].cache, start, stop) for w, start, stop in parts]
        joined = join_excerpts(self._model, excerpts, room, move=move)
        for window in {window for window, _, _ in parts}:
            release_mapped(self._windows[window].cache)
        return joined

    @property
    def head(self) -> int:
        """Tokens of the prompt before the document."""
        return int((self._windows[0].text.characters >= 0).argmax())
