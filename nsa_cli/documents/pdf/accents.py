"""Accents that a file draws over their letters become parts of them."""

from __future__ import annotations

from nsa_cli.documents.pdf.marks import COMBINING, OVER, joined
from nsa_cli.documents.pdf.runs import Run


def compose_accents(run: Run) -> None:
    """Join each accent of a run to the letter that is drawn under it, before or after it."""
    if COMBINING.keys().isdisjoint(run.text):
        return
    at = 0
    while at < len(run.text):
        mark = COMBINING.get(run.text[at])
        if mark is not None:
            beside = [place for place in (at + 1, at - 1) if 0 <= place < len(run.text)]
            letter = next((place for place in beside if _is_under(run, place, at)), None)
            if letter is not None and (one := joined(run.text[letter], mark)):
                run.text[letter] = one
                del run.text[at], run.lefts[at], run.rights[at]
                continue
        at += 1


def _is_under(run: Run, letter: int, accent: int) -> bool:
    if not run.text[letter].isalpha():
        return False
    left = max(run.lefts[letter], run.lefts[accent])
    right = min(run.rights[letter], run.rights[accent])
    return right - left > OVER * (run.rights[accent] - run.lefts[accent]) > 0
