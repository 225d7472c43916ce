"""Difference between two ways on the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SAMPLES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """A difference of shares on the same questions.

    Attributes:
        questions: Number of questions.
        difference: Share of the first minus share of the second.
        low: Lower end of the 95 % interval by bootstrap over questions.
        high: Upper end of it.
        better: Questions that the first alone has right.
        worse: Questions that the second alone has right.
        p: Two-sided probability of so uneven a split by chance, by the exact sign test.
    """

    questions: int
    difference: float
    low: float
    high: float
    better: int
    worse: int
    p: float


def paired_difference(
    first: Sequence[bool], second: Sequence[bool], *, seed: int = 0
) -> PairedDifference:
    """Compare two ways on the same questions.

    Args:
        first: Whether each question is right by the first way.
        second: The same by the second way, in the same order.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If there are no questions, or the numbers differ.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; McNemar 1947, "Note on
    the sampling error of the difference between correlated proportions".
    """
    if not first or len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} questions are not pairs")
    deltas = np.array(first, np.int8).astype(int) - np.array(second, np.int8)
    counts = [int((deltas == value).sum()) for value in (1, -1)]
    # The mean of a resample depends on its counts of each value alone.
    chances = [*(each / len(deltas) for each in counts), 1 - sum(counts) / len(deltas)]
    chances[-1] = max(0.0, chances[-1])
    drawn = np.random.default_rng(seed).multinomial(len(deltas), chances, size=_SAMPLES)
    means = (drawn[:, 0] - drawn[:, 1]) / len(deltas)
    low, high = np.quantile(means, [0.025, 0.975])
    return PairedDifference(
        questions=len(deltas),
        difference=float(deltas.mean()),
        low=float(low),
        high=float(high),
        better=counts[0],
        worse=counts[1],
        p=sign_test(*counts),
    )


def sign_test(better: int, worse: int) -> float:
    """Two-sided p value of the exact sign test; ties are left out by the caller."""
    total = better + worse
    tail = sum(math.comb(total, k) for k in range(min(better, worse) + 1))
    return float(min(1.0, 2 * tail / 2**total))
