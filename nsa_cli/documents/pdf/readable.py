"""How much of a page cannot be read, because its fonts do not say which characters they hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from nsa_cli.documents.pdf.language import is_language, odd_share, stretched_share
from nsa_cli.documents.pdf.runs import Run

MOST_ODD = 0.15
"""Share of characters that no text has, from which a page is not readable."""

_FEWEST_UNREADABLE = 3
"""Words without Unicode values that a page may have: marks and bullets."""

_FEWEST_PATCHY = 5
"""Glyphs without a meaning among others, from which they are told."""

_STRANGE = frozenset({"Co", "Cs", "Cn"})


def unreadable_share(runs: Sequence[Run], text: str) -> float:
    """The share of a page's characters that are not text, 0 for a page that can be read."""
    suspects = [run for run in runs if 2 * run.unmapped > len(run.text)]
    spelled = " ".join(run.string() for run in suspects)
    words = [word for word in spelled.split() if len(word) > 1]
    characters = sum(not char.isspace() for run in runs for char in run.text)
    unmapped = sum(run.unmapped for run in suspects) / max(1, characters)
    many = len(words) >= _FEWEST_UNREADABLE or (words and unmapped > MOST_ODD)
    if many and not is_language(spelled):
        return min(1.0, unmapped)
    odd = odd_share(text)
    if odd > MOST_ODD:
        return odd
    patchy = sum(run.unmapped for run in runs if _is_patchy(run))
    if patchy >= _FEWEST_PATCHY:
        return patchy / characters
    return stretched_share(text)


def _is_patchy(run: Run) -> bool:
    """Whether some of the glyphs of a run have no meaning, and the others have one.

    Of Chinese, Japanese and Korean: the glyphs come out as private characters or as characters that
    no language has. Marks and bullets come out as U+FFFD and are left out.
    """
    strange = sum(unicodedata.category(char) in _STRANGE for char in run.text if char > "\u2e7f")
    return 0 < 2 * run.unmapped <= len(run.text) and strange > 0
