"""Where in the text a question draws the model's attention.

Heads that fetch what a question asks for give a few blocks far more attention than the words
around the question do. The measure is the square of that surplus, summed over layers, heads and
the question's tokens, so that few strong looks count for more than many faint ones.

Letters: L layers, H query heads, T question tokens, N selection blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

BACKGROUND = 2.0
"""How many times the attention of the instruction's tokens counts as ordinary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A stretch of the text, as characters, with its share of the attention."""

    start: int
    end: int
    score: float


def question_evidence(
    mass: Tensor, instruction: int, question: int, weights: Tensor | None = None
) -> Tensor:
    """Surplus attention that a question gives each block: (N,).

    Args:
        mass: (L, H, T, N) of the tokens after the text: instruction, question, template.
        instruction: Tokens before the question, the same for any question; the background.
        question: Tokens of the question itself.
        weights: (L, H) how much each head counts; all alike when None.
    """
    ordinary = mass[:, :, :instruction].mean(dim=2, keepdim=True)
    asked = mass[:, :, instruction : instruction + question]
    surplus = (asked - BACKGROUND * ordinary).clamp(min=0).square().sum(dim=2)
    if weights is not None:
        surplus = surplus * weights[:, :, None]
    return surplus.sum(dim=(0, 1))


def answer_evidence(mass: Tensor) -> Tensor:
    """Attention that a token of the answer gives each block, squared: (N,) of (L, H, N)."""
    return mass.square().sum(dim=(0, 1))


def best_runs(
    scores: Tensor, count: int, margin: int, always: Iterable[int] = ()
) -> list[tuple[int, int, float]]:
    """The best blocks with their neighbours, merged into runs.

    Args:
        scores: (N,), zero where a block is not to be chosen.
        count: Blocks to choose at most.
        margin: Neighbours to take in on either side.
        always: Blocks to take in whatever their scores.

    Returns:
        First block, one past the last, and the sum of the scores, in the order of the text.
    """
    best = scores.topk(min(count, len(scores)))
    taken = set(always)
    for block, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        if score > 0:
            taken.update(range(max(0, block - margin), min(len(scores), block + margin + 1)))
    runs: list[tuple[int, int, float]] = []
    for block in sorted(taken):
        first, total = block, 0.0
        if runs and runs[-1][1] == block:
            first, _, total = runs.pop()
        runs.append((first, block + 1, total + float(scores[block])))
    return runs


def shares(values: list[float]) -> list[float]:
    """Values as shares of their sum."""
    total = torch.tensor(values).sum().clamp(min=1e-12)
    return [float(value / total) for value in values]
