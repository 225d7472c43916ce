"""The sentences of a summary: one for each part, then those with the most new facts and words."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from nsa_cli.summaries.candidates import Candidate, Said, word_count

_SLACK = 1.2
"""Factor by which the chosen sentences may exceed the words asked for."""

_LONG_WORDS = 35
"""Words from which on a sentence is worth less: it takes the room of others."""


def choose(
    offered: Sequence[Sequence[Candidate]], words: float, said: Said
) -> list[list[Candidate]]:
    """Choose sentences of each part: first the best of each, then the best of all.

    A part with many figures, dates and obligations gets more sentences than others. A sentence that
    repeats a chosen one, or has no fact that the chosen ones lack, is no further sentence.

    Args:
        offered: The candidates of each part.
        words: Words of all chosen sentences together, about.
        said: What the summary says already; the chosen sentences are added.

    Returns:
        The chosen candidates of each part, in the order of the document.
    """
    share = words / max(1, len(offered))
    used = [0.0] * len(offered)
    chosen: list[list[Candidate]] = [[] for _ in offered]

    def worth(part: int, each: Candidate) -> float:
        size = word_count(each.text)
        crowded = math.sqrt(1 + used[part] / share)
        return each.gain(said) / crowded / max(1.0, size / _LONG_WORDS)

    def take(part: int, each: Candidate) -> None:
        chosen[part].append(each)
        used[part] += word_count(each.text)
        said.add(each.text, each.facts)

    for part, own in enumerate(offered):
        ranked = sorted(own, key=lambda each: -worth(part, each))
        first = next((each for each in ranked if not each.repeats(said)), None)
        if first is not None:
            take(part, first)
    heap = [
        (-worth(part, each), part, at)
        for part, own in enumerate(offered)
        for at, each in enumerate(own)
        if each not in chosen[part]
    ]
    heapq.heapify(heap)
    while heap:
        _, part, at = heapq.heappop(heap)
        each = offered[part][at]
        is_long = sum(used) + word_count(each.text) > _SLACK * words
        if is_long or each.repeats(said) or not each.is_new(said):
            continue
        now = -worth(part, each)  # what it is worth only falls as more is chosen
        if heap and now > heap[0][0]:
            heapq.heappush(heap, (now, part, at))
        else:
            take(part, each)
    return [sorted(own, key=lambda each: each.start) for own in chosen]
