"""Rank of the gold evidence among all selection blocks of a text."""

from __future__ import annotations

from collections.abc import Sequence


def gold_blocks(spans: Sequence[tuple[int, int]], evidence: Sequence[tuple[int, int]]) -> set[int]:
    """Blocks that share at least half of a piece of evidence, or half of themselves, with it.

    Args:
        spans: Character range of each block.
        evidence: Character ranges of the gold evidence.
    """
    gold = set()
    for number, (start, end) in enumerate(spans):
        for first, last in evidence:
            shared = min(end, last) - max(start, first)
            if shared > 0 and 2 * shared >= min(end - start, last - first):
                gold.add(number)
    return gold


def best_rank(scores: Sequence[float], gold: set[int]) -> int | None:
    """Rank, from 1, of the best gold block; None if no gold block scores above zero.

    Tied blocks share their worst rank, so that ties give no advantage.

    Args:
        scores: Scores of all blocks.
        gold: Numbers of the gold blocks.
    """
    best = max((scores[number] for number in gold), default=0.0)
    if best <= 0:
        return None
    better = sum(score >= best for number, score in enumerate(scores) if number not in gold)
    return better + 1
