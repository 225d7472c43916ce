"""Accents and the letters under them."""

from __future__ import annotations

import unicodedata

COMBINING = {
    "`": "\u0300",
    "´": "\u0301",
    "ˆ": "\u0302",
    "˜": "\u0303",
    "¯": "\u0304",
    "˘": "\u0306",
    "˙": "\u0307",
    "¨": "\u0308",
    "˚": "\u030a",
    "˝": "\u030b",
    "ˇ": "\u030c",
    "¸": "\u0327",
    "˛": "\u0328",
}
"""The combining mark of each accent that is a character by itself."""

_DOTLESS = {"ı": "i", "ȷ": "j"}

OVER = 0.5
"""Share of an accent's width that lies over its letter."""

_FARTHEST = 100
"""Glyphs before an accent that are looked at."""


def joined(letter: str, mark: str) -> str:
    """A letter with an accent as one character, or an empty string if no language has it."""
    one = unicodedata.normalize("NFC", _DOTLESS.get(letter, letter) + mark)
    return one if len(one) == 1 else ""


def letter_under(
    text: list[str], lefts: list[float], rights: list[float], left: float, right: float
) -> int | None:
    """The last letter over which most of an accent is drawn; None if none is near.

    Args:
        text: The characters before the accent.
        lefts: Where the glyph of each begins.
        rights: Where it ends.
        left: Where the accent begins.
        right: Where it ends.
    """
    for at in range(len(text) - 1, max(-1, len(text) - _FARTHEST), -1):
        over = min(rights[at], right) - max(lefts[at], left)
        if over > OVER * (right - left) > 0 and text[at].isalpha():
            return at
    return None
