"""Accents that a file draws over their letters become parts of them."""

from __future__ import annotations

import unicodedata

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
_DOTLESS = {"ı": "i", "ȷ": "j"}

_OVER = 0.5
"""Share of an accent's width that lies over its letter."""


def compose_accents(run: Run) -> None:
    """Join each accent of a run to the letter that is drawn under it, before or after it."""
    if _COMBINING.keys().isdisjoint(run.text):
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
