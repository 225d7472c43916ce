"""Dates as people write them: `2025-03-14`, `14.03.2025`, `3/14/2025`, `14 March 2025`."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

_NAMES = (
    *("january jan januar", "february feb februar", "march mar marz mrz maerz"),
    *("april apr", "may mai", "june jun juni", "july jul juli", "august aug"),
    *("september sep sept", "october oct oktober okt", "november nov"),
    *("december dec dezember dez",),
)
MONTHS = {name: number for number, names in enumerate(_NAMES, 1) for name in names.split()}
"""Names of months in English and German, folded, with their numbers."""

MONTH_NAMES = tuple(names.split()[0].capitalize() for names in _NAMES)
_TIME = r"(?:[T ,]+\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?\s*(?:[AaPp][Mm])?\s*(?:Z|[-+]\d\d:?\d\d)?)?"
_ISO = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}")
_DOTS = re.compile(rf"(\d{{1,2}})\.\s?(\d{{1,2}})\.\s?(\d{{4}}|\d\d){_TIME}")
_SLASHES = re.compile(rf"(\d{{1,2}})([-/])(\d{{1,2}})\2(\d{{4}}|\d\d){_TIME}")
_DAY_NAME = re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)?\.?[- ]([^\W\d_]+)\.?,?[- ](\d{{4}}){_TIME}")
_NAME_DAY = re.compile(rf"([^\W\d_]+)\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}}){_TIME}")
_UMLAUTS = str.maketrans("äÄ", "aA")


def parse_date(text: str, *, day_first: bool | None = None) -> datetime.date | None:
    """Read a date; None if the text is not one.

    Args:
        text: The text; a time after the date is ignored.
        day_first: Whether the day comes first in `3/4/2025`; None to read such a date only if
            one of its two numbers is more than 12.
    """
    if found := _ISO.fullmatch(text):
        return _date(int(found[1]), int(found[3]), int(found[4]))
    if found := _DOTS.fullmatch(text):
        return _date(_year(found[3]), int(found[2]), int(found[1]))
    if found := _SLASHES.fullmatch(text):
        first, second, year = int(found[1]), int(found[3]), _year(found[4])
        if day_first is None:
            shown = _order(first, second)
            if shown is None and first != second:
                return None
            day_first = shown is not False
        return _date(year, second, first) if day_first else _date(year, first, second)
    if found := _DAY_NAME.fullmatch(text):
        return _date(int(found[3]), _month(found[2]), int(found[1]))
    if found := _NAME_DAY.fullmatch(text):
        return _date(int(found[3]), _month(found[1]), int(found[2]))
    return None


def is_ambiguous(text: str) -> bool:
    """Whether a date does not say which of its numbers is the day."""
    found = _SLASHES.fullmatch(text)
    return bool(found) and _order(int(found[1]), int(found[3])) is None  # type: ignore[index]


def day_first(texts: Iterable[str]) -> bool | None:
    """Whether the day comes first in the dates of a column; None if they do not say it.

    Dates of both orders in one column say nothing either.
    """
    orders = set()
    for text in texts:
        if found := _SLASHES.fullmatch(text):
            orders.add(_order(int(found[1]), int(found[3])))
    orders.discard(None)
    return orders.pop() if len(orders) == 1 else None


def _order(first: int, second: int) -> bool | None:
    if first > 12:
        return True
    return False if second > 12 else None


def _year(text: str) -> int:
    year = int(text)
    return year if len(text) == 4 else year + (2000 if year < 70 else 1900)


def _month(name: str) -> int:
    return MONTHS.get(name.casefold().translate(_UMLAUTS), 0)


def _date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None
