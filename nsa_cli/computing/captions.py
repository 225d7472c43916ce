"""Captions of tables that give their figures a scale and a currency: in thousands of dollars."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from nsa_cli.retrieval.number_words import CURRENCIES, SCALES

_SCALE = (
    r"(?:hundreds|thousands?|millions?|billions?|tausend|mio\.?|millionen|mrd\.?|milliarden|mn|bn|m|k|"
    r"['’]?000s?|milliers|millones|miles)"
)
_CURRENCY = (
    r"(?:[$€£¥]|US ?\$|USD|EUR|GBP|CHF|JPY|(?:U\.?S\.? )?dollars?|euros?|pounds?|yen|franken)"
)
_CAPTION = re.compile(
    rf"(?:\b(?:expressed |stated |amounts |figures |angaben )?in (?:{_CURRENCY} )?{_SCALE}\b\.?"
    rf"(?: (?:of )?{_CURRENCY})?|\(\s*{_CURRENCY} ?{_SCALE}\.?\s*\)|\(\s*{_SCALE} {_CURRENCY}\s*\)|"
    r"\b(?:in )?(?:TEUR|T€)(?!\w))",
    re.IGNORECASE,
)
_WORD = re.compile(r"[$€£¥]|[^\W_]+")
_REACH = 4000
"""Characters before a figure in which its caption is looked for."""

_UNSCALED = re.compile(
    r"per share|per unit|je aktie|number of|anzahl|shares|employees|members|mitarbeiter|%|"
    r"per ?cent",
    re.IGNORECASE,
)
"""Words of a row whose figures a caption does not mean."""


class Caption(NamedTuple):
    """What a caption says.

    Attributes:
        text: Its words.
        scale: The factor.
        currency: The currency as in `Quantity`, or an empty string.
    """

    text: str
    scale: Decimal
    currency: str


def caption_of(text: str, start: int, figure: int) -> Caption | None:
    """Return the nearest caption before a figure, on its page; None without one.

    Args:
        text: The text.
        start: First character of the page.
        figure: First character of the figure.
    """
    line = text.rfind("\n", 0, figure) + 1
    end = text.find("\n", figure)
    if _UNSCALED.search(text[line : end if end >= 0 else len(text)]):
        return None
    found = list(_CAPTION.finditer(text, max(start, figure - _REACH), figure))
    if not found:
        return None
    words = found[-1].group().strip("() ")
    scale, currency = Decimal(1), ""
    for word in _WORD.findall(words.casefold()):
        if word in ("teur", "t"):
            scale, currency = Decimal(1000), "eur"
        elif word in ("000", "000s"):
            scale = Decimal(1000)
        elif word in SCALES or word.rstrip("s") in SCALES:
            scale = SCALES.get(word) or SCALES[word.rstrip("s")]
        currency = CURRENCIES.get(word, currency)
    return Caption(" ".join(words.split()), scale, currency) if scale != 1 else None
