"""Topic shifts: sentences at which the vocabulary of a text changes.

Letters: U units of some sentences, D hash buckets.

Source: Hearst 1997, "TextTiling: Segmenting Text into Multi-paragraph Subtopic Passages".
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nsa_cli.retrieval.sentences import content_words

_UNIT_WORDS = 20
_MOST_UNITS = 2000
_BLOCK_UNITS = 6
"""Units that are compared on either side of a gap."""

_BUCKETS = 512
_LEAST_UNITS = 3
_LEAST_SHARE = 3
"""Minimum units between two topic shifts, and the divisor of the mean distance for many units."""

_STEM = 6
"""First letters by which forms of a word count as one word."""


def topic_shifts(text: str, spans: Sequence[tuple[int, int]], most: int) -> list[int]:
    """Return the sentences that begin a new topic, in order.

    A gap between sentences is a shift if the words before and after it differ clearly more than
    they do around it. Of more shifts than asked for, the deepest are returned.

    Args:
        text: The text.
        spans: First character of each sentence, and one past its last, in order.
        most: Maximum shifts.
    """
    starts, counts = _units(text, spans)
    if most < 1 or len(starts) < 2 * _LEAST_UNITS:
        return []
    depths = _depths(_cohesion(counts))
    cutoff = depths.mean() - depths.std() / 2
    apart = max(_LEAST_UNITS, len(starts) // (most + 1) // _LEAST_SHARE)
    chosen: list[int] = []
    for gap in np.argsort(-depths, kind="stable").tolist():
        unit = gap + 1
        edges = [0, len(starts), *chosen]
        if depths[gap] <= max(cutoff, 0.0) or len(chosen) == most:
            break
        if all(abs(unit - edge) >= apart for edge in edges):
            chosen.append(unit)
    return [starts[unit] for unit in sorted(chosen)]


def _units(text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], NDArray[np.float32]]:
    """Group sentences into units of like size.

    Returns:
        The first sentence of each unit, and its word counts: (U, D).
    """
    words = [[_bucket(word) for word in content_words(text[a:b])] for a, b in spans]
    size = max(_UNIT_WORDS, -(-sum(map(len, words)) // _MOST_UNITS))
    starts: list[int] = []
    rows: list[NDArray[np.float32]] = []
    filled = size
    for number, own in enumerate(words):
        if filled >= size:
            starts.append(number)
            rows.append(np.zeros(_BUCKETS, np.float32))
            filled = 0
        np.add.at(rows[-1], own, 1.0)
        filled += len(own)
    return starts, np.stack(rows) if rows else np.zeros((0, _BUCKETS), np.float32)


def _bucket(word: str) -> int:
    return zlib.crc32(word[:_STEM].encode()) % _BUCKETS


def _cohesion(counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of the word counts before and after each gap: (U - 1,).

    Words of most units tell topics apart least, so counts are weighted by inverse frequency.
    """
    units = len(counts)
    frequency = np.log(units / np.maximum(1, (counts > 0).sum(axis=0)))
    sums = np.concatenate([np.zeros((1, _BUCKETS)), (counts * frequency).cumsum(axis=0)])
    gaps = np.arange(1, units)
    before = sums[gaps] - sums[np.maximum(0, gaps - _BLOCK_UNITS)]
    after = sums[np.minimum(units, gaps + _BLOCK_UNITS)] - sums[gaps]
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine: NDArray[np.float64] = (before * after).sum(axis=1) / np.maximum(norms, 1e-9)
    return cosine


def _depths(cohesion: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far cohesion falls at each gap below the peaks on either side: (U - 1,)."""
    depths = np.zeros_like(cohesion)
    for gap, here in enumerate(cohesion):
        left = right = here
        for value in cohesion[:gap][::-1]:
            if value < left:
                break
            left = value
        for value in cohesion[gap + 1 :]:
            if value < right:
                break
            right = value
        depths[gap] = (left - here) + (right - here)
    return depths
