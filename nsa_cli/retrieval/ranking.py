"""Which blocks of a text go with a question: by the attention they draw, and the words they share.

Attention finds what is said in other words, and words find names and numbers that a small model
passes over. Together they find more than either (README, Measured).

Letters: N selection blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from nsa_cli.context.tokens import Text


_NEIGHBOUR = 0.3
"""What a block counts for those beside it: what bears an answer out is longer than a block."""


_BESIDE_FEW = 3.0
"""What words count beside attention to a few blocks: then the best four blocks bear out 94 to 96 of
100 answers at 8k and 30k tokens, and 86 to 91 where both count alike (README, Measured)."""


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
