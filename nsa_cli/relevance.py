"""Which blocks of a text go with a question: by the attention they draw, and the words they share.

Attention finds what is said in other words, and words find names and numbers that a small model
passes over. Together they find more than either (README, Measured).

Letters: N selection blocks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nsa_cli.prompt import Text

_NEIGHBOUR = 0.3
"""What a block counts for those beside it: what bears an answer out is longer than a block."""

_BESIDE_FEW = 3.0
"""What words count beside attention to a few blocks: then the best four blocks bear out 94 to 96 of
100 answers at 8k and 30k tokens, and 86 to 91 where both count alike (README, Measured)."""


# Thai to Burmese, Khmer, kana, and the ideographs of Chinese and Japanese.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]{2,}"
)


def _bm25s() -> Any:
    """The library, without JAX: where that is installed, it takes most of a GPU's memory."""
    hidden = "jax" not in sys.modules
    if hidden:
        sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        import bm25s
    finally:
        if hidden:
            del sys.modules["jax"]
    return bm25s


def block_spans(text: Text, size: int) -> list[tuple[int, int]]:
    """Characters of each selection block; an empty range where there is none of the document.

    Args:
        text: What was read.
        size: Tokens of a block.
    """
    count = -(-len(text.ids) // size)
    spans = [text.span(n * size, min((n + 1) * size, len(text.ids))) for n in range(count)]
    return [span or (0, 0) for span in spans]


def relevance(attention: Tensor, words: Tensor, *, few: bool = False) -> Tensor:
    """How well each block goes with a question: (N,), 0 or more.

    Args:
        attention: (N,) squared attention that the question gives each block.
        words: (N,) from `Bm25`.
        few: Whether the question attended to a few blocks only, which tells less.
    """
    return _spread(attention.sqrt()) + _spread(words) * (_BESIDE_FEW if few else 1.0)


def _spread(scores: Tensor) -> Tensor:
    """Scores with a share of their neighbours', where there are any; the best is 1."""
    spread = scores.clone()
    spread[1:] += _NEIGHBOUR * scores[:-1]
    spread[:-1] += _NEIGHBOUR * scores[1:]
    spread[scores <= 0] = 0
    return spread / spread.max().clamp(min=1e-12)


class Bm25:
    """BM25 over the blocks of one text.

    Args:
        texts: Of the blocks.

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
        """How well each block goes with a question: (N,), fp32."""
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
    """What is written without spaces as its pairs of characters, which take the place of words."""
    text = run.group()
    return " " + " ".join(text[at : at + 2] for at in range(len(text) - 1)) + " "
