"""Hybrid retrieval: block scores from attention and from BM25.

Attention finds what a document says in other words; BM25 finds names and numbers that a small
model misses. Together they find more than either (docs/benchmarks.md).

Letters: N selection blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from nsa_cli.context.tokens import TokenizedText


_NEIGHBOR = 0.3
"""Share of a block's score that its neighbors get: an answer's passage is longer than a block."""

_BESIDE_FEW = 3.0
"""Weight of BM25 beside attention to selected blocks: with it the best four blocks hold 94 to 96 of
100 answers at 8k and 30k tokens, and with equal weights 86 to 91 (docs/benchmarks.md)."""


class BlockScores(NamedTuple):
    """How well each block fits a question.

    Attributes:
        attention: (N,) squared attention that the question gives each block, without sinks.
        words: (N,) scores from `Bm25`.
        few: Whether the question attended to selected blocks only, which is less informative.
    """

    attention: Tensor
    words: Tensor
    few: bool

    @property
    def hybrid(self) -> Tensor:
        """Both together: (N,); see `hybrid_scores`."""
        return hybrid_scores(self.attention, self.words, few=self.few)

    @property
    def words_weight(self) -> float:
        """Weight of BM25 beside attention."""
        return _BESIDE_FEW if self.few else 1.0


def block_spans(text: TokenizedText, size: int) -> list[tuple[int, int]]:
    """Return the characters of each block; an empty range if it has none of the document.

    Args:
        text: The text.
        size: Tokens of a block.
    """
    count = -(-len(text.ids) // size)
    spans = [text.span(n * size, min((n + 1) * size, len(text.ids))) for n in range(count)]
    return [span or (0, 0) for span in spans]


def hybrid_scores(attention: Tensor, words: Tensor, *, few: bool = False) -> Tensor:
    """Score each block for a question: (N,), 0 or more.

    Args:
        attention: (N,) squared attention that the question gives each block.
        words: (N,) scores from `Bm25`.
        few: Whether the question attended to selected blocks only, which is less informative.
    """
    return _spread(attention.sqrt()) + _spread(words) * (_BESIDE_FEW if few else 1.0)


def _spread(scores: Tensor) -> Tensor:
    """Add to each positive score a share of its neighbors'; scale the best to 1."""
    spread = scores.clone()
    spread[1:] += _NEIGHBOR * scores[:-1]
    spread[:-1] += _NEIGHBOR * scores[1:]
    spread[scores <= 0] = 0
    return spread / spread.max().clamp(min=1e-12)
