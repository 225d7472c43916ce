"""Where the evidence ranks among all passages of a text: by the model's look, and by BM25.

A passage is a selection block, so that both rank the very same.
"""

from __future__ import annotations

from collections.abc import Sequence


def gold_blocks(spans: Sequence[tuple[int, int]], evidence: Sequence[tuple[int, int]]) -> set[int]:
    """The blocks that hold half of an evidence at least, or of which half is evidence.

    Args:
        spans: Characters of each block.
        evidence: Characters.
    """
    gold = set()
    for number, (start, end) in enumerate(spans):
        for first, last in evidence:
            shared = min(end, last) - max(start, first)
            if shared > 0 and 2 * shared >= min(end - start, last - first):
                gold.add(number)
    return gold


def best_rank(scores: Sequence[float], gold: set[int]) -> int | None:
    """The rank, from 1, of the best of some blocks; None where none scores above zero.

    Blocks of the same score share the worst rank among them, so that ties are no help.

    Args:
        scores: Of all blocks.
        gold: Which are right.
    """
    best = max((scores[number] for number in gold), default=0.0)
    if best <= 0:
        return None
    better = sum(score >= best for number, score in enumerate(scores) if number not in gold)
    return better + 1
