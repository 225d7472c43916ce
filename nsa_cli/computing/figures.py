"""Figures of a text: numbers with their scales and units, and where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from nsa_cli.retrieval.number_words import MONTHS
from nsa_cli.retrieval.quantities import Quantity, tokens_of

_NUMBER = re.compile(r"(?<![\w.,'’])(?:\d{1,3}(?: \d{3}(?![\d.,]))+|\d+(?:[.,'’]\d+)*(?!\d))")
"""Digits with separators; spaces part thousands after at most three digits, and cells otherwise."""
_BEFORE = re.compile(r"(?:[-−(]\s?)?(?:(?:[A-Z]{3}|[A-Z]{0,2}[$€£¥])\s?)?(?:[-−]\s?)?\Z")
_CURRENCY_BEFORE = re.compile(r"(?:[A-Z]{3}|[A-Z]{0,2}[$€£¥])\s?\Z")
_AFTER = re.compile(r"\)|[\s-]?(?:(?P<word>[^\W\d_]+)\.?|[%$€£¥])")
_REACH = 6
_WORDS_AFTER = 3
_YEAR = re.compile(r"(?:19|20)\d\d")
_MONTH = re.compile(rf"(?:{'|'.join(MONTHS)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a text.

    Attributes:
        text: The number as the text has it, with sign, currency, scale and unit.
        start: Its first character.
        end: One past its last character.
        quantity: Its value and unit.
    """

    text: str
    start: int
    end: int
    quantity: Quantity

    @property
    def value(self) -> Decimal:
        """Its value: of several readings the greatest; negative in parentheses, as in accounts."""
        if self.text.startswith("("):
            return min(self.quantity.values)
        return max(self.quantity.values, key=abs)

    @property
    def written(self) -> str:
        """The figure in an expression: a negative one with a minus, in parentheses."""
        bare = self.text.strip("()").lstrip("-−").strip()
        return f"(-{bare})" if self.value < 0 else bare

    @property
    def digits(self) -> str:
        """Its digits with their separators."""
        found = _NUMBER.search(self.text)
        assert found is not None
        return found.group()


def figures(text: str, start: int = 0, end: int | None = None) -> Iterator[Figure]:
    """Yield the figures of text[start:end]: its numbers without years and days of a month.

    Args:
        text: The text.
        start: First character.
        end: One past the last character; the end of the text when None.
    """
    for figure in numbers(text, start, end):
        if not _is_date(text, figure):
            yield figure


def numbers(
    text: str, start: int = 0, end: int | None = None, *, signed: bool = True
) -> Iterator[Figure]:
    """Yield all numbers of text[start:end], in order; arguments as for `figures`.

    Args:
        text: The text.
        start: First character.
        end: One past the last character; the end of the text when None.
        signed: Whether a minus, or parentheses around it, belong to a number.
    """
    end = len(text) if end is None else end
    for number in _NUMBER.finditer(text, start, end):
        before = (_BEFORE if signed else _CURRENCY_BEFORE).search(
            text, max(start, number.start() - _REACH), number.start()
        )
        begin = number.start() if before is None else before.start()
        found = _widest(text, begin, number.start(), number.end(), end)
        if found is not None:
            yield found


def _widest(text: str, begin: int, first: int, stop: int, end: int) -> Figure | None:
    """The number with all that belongs to its quantity, and no more; None if it is no quantity.

    Args:
        text: The text.
        begin: First character that may belong to it.
        first: First digit.
        stop: One past the last digit.
        end: One past the last character that may belong to it.
    """
    begins, ends = dict.fromkeys([first, begin]), [stop]
    while len(ends) <= _WORDS_AFTER and (more := _AFTER.match(text, ends[-1], end)):
        ends += [more.end("word"), more.end()] if more.end("word") > 0 else [more.end()]
    best: Figure | None = None
    for last in ends:
        for begin in begins:
            found = tokens_of(text[begin:last])
            if len(found) != 1 or not isinstance(found[0], Quantity):
                continue
            if best is None or _says_more(found[0], best.quantity):
                best = Figure(text[begin:last], begin, last, found[0])
    return best


def _says_more(one: Quantity, other: Quantity) -> bool:
    """Whether a quantity has a unit, a scale or a sign that another lacks."""
    return one.values != other.values or (one.unit is not None and other.unit is None)


def _is_date(text: str, figure: Figure) -> bool:
    """Whether a figure is a year, or the day of a month that is named."""
    if figure.quantity.unit is not None:
        return False
    if _YEAR.fullmatch(figure.text.strip("()")):
        return True
    near = text[figure.end : figure.end + 12].lstrip(". ")
    return figure.text.isdigit() and len(figure.text) <= 2 and _MONTH.match(near) is not None
