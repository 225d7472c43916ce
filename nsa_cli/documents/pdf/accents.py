"""Accents that a file draws over their letters become parts of them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsa_cli.documents.pdf.runs import Run

_COMBINING = {
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
ACCENTS = frozenset(_COMBINING)
"""Accents that are characters by themselves."""

_DOTLESS = {"ı": "i", "ȷ": "j"}

_OVER = 0.5
"""Share of an accent's width that lies over its letter."""

_LOWER, _HIGHER = 0.1, 0.45
"""How far the baseline of an accent is from that of its letter, as a share of the font size."""

_FARTHEST = 100
"""Glyphs before an accent that are looked at."""


def compose_accents(run: Run) -> None:
    """Join each accent of a run to the letter that is drawn under it, before or after it."""
    if ACCENTS.isdisjoint(run.text):
        return
    at = 0
    while at < len(run.text):
        mark = _COMBINING.get(run.text[at])
        if mark is not None:
            beside = [place for place in (at + 1, at - 1) if 0 <= place < len(run.text)]
            letter = next((place for place in beside if _is_under(run, place, at)), None)
            if letter is not None and (joined := _joined(run.text[letter], mark)):
                run.text[letter] = joined
                del run.text[at], run.lefts[at], run.rights[at]
                continue
        at += 1


def put_accent(run: Run, char: str, left: float, right: float, base: float) -> bool:
    """Join an accent that a file draws after its word to the letter of a run that is under it.

    Args:
        run: The glyphs before; changed in place.
        char: One of `ACCENTS`.
        left: Where its glyph begins.
        right: Where it ends.
        base: The height of its baseline, higher over a capital letter.

    Returns:
        Whether it is over a letter of the run.
    """
    if not -_LOWER < (base - run.base) / run.style.size < _HIGHER:
        return False
    for at in range(len(run.text) - 1, max(-1, len(run.text) - _FARTHEST), -1):
        over = min(run.rights[at], right) - max(run.lefts[at], left)
        if over > _OVER * (right - left) > 0 and (
            joined := _joined(run.text[at], _COMBINING[char])
        ):
            run.text[at] = joined
            return True
    return False


def _joined(letter: str, mark: str) -> str:
    """A letter with an accent as one character, or an empty string if no language has it."""
    joined = unicodedata.normalize("NFC", _DOTLESS.get(letter, letter) + mark)
    return joined if len(joined) == 1 else ""


def _is_under(run: Run, letter: int, accent: int) -> bool:
    if not run.text[letter].isalpha():
        return False
    left = max(run.lefts[letter], run.lefts[accent])
    right = min(run.rights[letter], run.rights[accent])
    return right - left > _OVER * (run.rights[accent] - run.lefts[accent]) > 0
