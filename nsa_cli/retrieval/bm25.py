"""BM25 over the blocks of one text."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nsa_cli.retrieval.sentences import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}]{{2,}}")


def _bm25s() -> Any:
    """Import the library without JAX, which would take most of a GPU's memory."""
    hidden = "jax" not in sys.modules
    if hidden:
        sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        import bm25s
    finally:
        if hidden:
            del sys.modules["jax"]
    return bm25s


class Bm25:
    """BM25 over the blocks of one text.

    Args:
        texts: The text of each block.

    Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond";
    Lù 2024, "BM25S", arXiv 2407.03618.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._library = bm25s = _bm25s()
        self._count = len(texts)
        words = self._words(texts)
        self._index = bm25s.BM25() if any(words) else None
        if self._index is not None:
            self._index.index(words, show_progress=False)

    def scores(self, question: str) -> Tensor:
        """Score each block for a question: (N,), fp32."""
        [words] = self._words([question])
        if not words or self._index is None:
            return torch.zeros(self._count)
        return torch.from_numpy(self._index.get_scores(words)).float()

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = self._library.tokenize(
            [_UNSPACED.sub(_pairs, text) for text in texts],
            stopwords="en",
            return_ids=False,
            show_progress=False,
        )
        return found


def _pairs(run: re.Match[str]) -> str:
    """Split a run without spaces into pairs of characters, which serve as words."""
    text = run.group()
    return " " + " ".join(text[at : at + 2] for at in range(len(text) - 1)) + " "
