"""How the glyphs of a word follow one another."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

LEAST_GAP = 0.03
"""A space that PDFium finds is one where the gap is wider than this share of the font size."""

_EVEN, _MORE_EVEN = 0.005, 1.1
"""How much the gaps in a word that is set wide may differ, as a share of the font size and as a
factor."""

_LONGEST_LOOK = 12
"""Glyphs before one that show how a word is set."""

_FEWEST_EVEN = 5
"""Glyphs that show that all glyphs of a run begin at equal distances."""


class Glyphs(Protocol):
    """Characters with the places where the glyph of each begins and ends."""

    text: list[str]
    lefts: list[float]
    rights: list[float]


def as_before(glyphs: Glyphs, left: float, gap: float, size: float) -> bool:
    """Whether a glyph follows as the glyphs before it in the same word follow one another.

    The letters of a word that is set wide are as far apart from one another, or begin at equal
    distances.

    Args:
        glyphs: The glyphs before.
        left: Where the glyph begins.
        gap: Between the last glyph and this one.
        size: The font size.
    """
    near = _EVEN * size
    word = next(
        (at for at, char in enumerate(reversed(glyphs.text)) if char == " "), len(glyphs.text)
    )
    if word < 2:
        return False
    if gap <= _MORE_EVEN * (glyphs.lefts[-1] - glyphs.rights[-2]) + near:
        return True
    first = len(glyphs.text) - min(word, _LONGEST_LOOK)
    steps = [after - before for before, after in pairwise([*glyphs.lefts[first:], left])]
    widths = [glyphs.rights[at] - glyphs.lefts[at] for at in range(first, len(glyphs.text) - 1)]
    # Letters that begin at equal distances have equal widths, unless they are set so on purpose.
    return max(steps) - min(steps) <= 2 * near and max(widths) - min(widths) > LEAST_GAP * size


def jumps(glyphs: Glyphs, left: float, size: float) -> bool:
    """Whether a glyph leaves out a place of a run whose glyphs begin at equal distances.

    Where the glyphs of the font are wider than these distances, no gap shows a space.

    Args:
        glyphs: The glyphs before.
        left: Where the glyph begins.
        size: The font size.
    """
    if len(glyphs.text) < _FEWEST_EVEN or glyphs.rights[-2] <= glyphs.lefts[-1]:
        return False  # As in most runs.
    first = max(0, len(glyphs.text) - 2 * _LONGEST_LOOK)
    places = [at for at in range(first, len(glyphs.text)) if glyphs.text[at] != " "]
    starts = [glyphs.lefts[at] for at in places]
    steps = [after - before for before, after in pairwise(starts)]
    pitch, near = min(steps, default=0.0), 2 * _EVEN * size
    even = [at for at, step in zip(places, steps, strict=False) if step - pitch <= near]
    return (
        pitch > 0
        and len(even) >= _FEWEST_EVEN - 1
        and all(glyphs.rights[at] - glyphs.lefts[at] > 1.2 * pitch for at in even)
        and all(abs(step - round(step / pitch) * pitch) <= near for step in steps)
        and left - starts[-1] > 1.5 * pitch
    )


def is_under_ligature(glyphs: Glyphs, left: float, size: float) -> bool:
    """Whether no gap is between a ligature, whose letters are one glyph, and the glyph after it.

    InDesign writes a space after a ligature and draws it under it.
    """
    return (
        len(glyphs.text) > 1
        and glyphs.lefts[-1] == glyphs.lefts[-2]
        and glyphs.rights[-1] == glyphs.rights[-2]
        and left - glyphs.rights[-1] < LEAST_GAP * size
    )
