"""Figures of a text: numbers with their scales and units, and where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from nsa_cli.retrieval.number_words import MONTHS
from nsa_cli.retrieval.quantities import Quantity, tokens_of

_NUMBER = re.compile(
    r"(?<![\w.,'’])(?:\d{1,3}(?: \d{3}(?![\d.,]))+|\d+(?:[.,'’]\d+)*(?!\d))(?! [.,]\d)"
)
"""Digits with separators; spaces part thousands after at most three digits, and cells otherwise.

The first part of a number that is torn, such as `478 ,611.84`, is none.
"""
_SPACED = re.compile(r"(?<![\w.,'’])(?<!\d )\d{1,3}(?: \d{3})+,\d{1,2}(?![\d.,])")
_HUNDREDS = re.compile(r"(?<![\d.,])\d{3},\d{1,2}(?![\d.,])")
_MONEY = re.compile(r"\s?(?:[€£$¥]|EUR|CHF|Euro|euros?|kr|Fr)\b|\s?[€£$¥]")
_GAP = r"[^\S\n]?"
"""At most one space: what ends the line before belongs to another number."""
_BEFORE = re.compile(
    rf"(?:[-−(]{_GAP})?(?:(?:[A-Z]{{3}}|[A-Z]{{0,2}}[$€£¥]){_GAP})?(?:[-−]{_GAP})?\Z"
)
_CURRENCY_BEFORE = re.compile(rf"(?:[A-Z]{{3}}|[A-Z]{{0,2}}[$€£¥]){_GAP}\Z")
_AFTER = re.compile(r"\)|[\s-]?(?:(?P<word>[^\W\d_]+)\.?|[%$€£¥])")
_OF_THE_NEXT = re.compile(r"\s?[$£¥]\s?\d")
"""A sign between two numbers belongs to the second one: 46,421,857 $ 5,000."""

_REACH = 6
_WORDS_AFTER = 3
YEAR = re.compile(r"(?:19|20)\d\d")
_AMBIGUOUS = re.compile(r"\d{1,3}\.\d{3}")
_UNIT_OR_SCALE = re.compile(r"\d\s[kmb]\b", re.IGNORECASE)
_SCALED = re.compile(r"\d[\s-]?(?:thousand|million|billion|trillion|mn|bn|[kmb])\b", re.IGNORECASE)


_END = r"(?![.,]?\d)"
_POINTS = (
    re.compile(rf"(?<![\d.,])\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?{_END}"),
    re.compile(rf"(?<![\d.,])\d+\.(?:\d{{1,2}}|\d{{4,}}){_END}"),
)
"""Numbers whose decimal sign is a point beyond doubt, and those of which it probably is."""

_COMMAS = (
    re.compile(rf"(?<![\d.,])\d{{1,3}}(?:(?:\.\d{{3}}){{2,}}|(?:\.\d{{3}})+,\d+){_END}"),
    re.compile(rf"(?<![\d.,])\d+,(?:\d{{1,2}}|\d{{4,}}){_END}"),
)
"""The same for a comma; 1.964 tells nothing."""

_MONTH = re.compile(rf"(?:{'|'.join(MONTHS)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a text.

    Attributes:
        text: The number as the text has it, with sign, currency, scale and unit.
        start: Its first character.
        end: One past its last character.
        quantity: Its value and unit.
        decimal: The decimal sign of the text around it, `.` or `,`; None if unknown.
    """

    text: str
    start: int
    end: int
    quantity: Quantity
    decimal: str | None = None

    @property
    def value(self) -> Decimal:
        """Its value: of several readings the greatest; negative in parentheses, as in accounts."""
        if self.text.startswith("("):
            return min(self._values)
        return max(self._values, key=abs)

    @property
    def _values(self) -> frozenset[Decimal]:
        """Its values by the decimal sign: 1.964 is less than 2 where a point is one.

        So it is before a scale: nobody writes 1.964 billion for 1,964 billion. Without a currency,
        a letter that is apart is a unit: a wall of 14 m.
        """
        values = self.quantity.values
        if self.quantity.unit is None and _UNIT_OR_SCALE.search(self.text):
            values = frozenset({min(values, key=abs)})
        if not self.has_point:
            return values
        return frozenset(each for each in values if each * 1000 in values) or values

    @property
    def has_point(self) -> bool:
        """Whether three digits after a point are decimals, and not thousands."""
        point = self.decimal == "." or (self.decimal is None and _SCALED.search(self.text))
        return bool(point) and _AMBIGUOUS.fullmatch(self.digits) is not None

    @property
    def scale(self) -> Decimal:
        """The factor of its scale, such as a million."""
        [bare] = tokens_of(self.digits)
        least = min(bare.values, key=abs) if isinstance(bare, Quantity) else Decimal(0)
        whole = min(self.quantity.values, key=abs)
        return abs(whole / least) if least else Decimal(1)

    @property
    def written(self) -> str:
        """The figure in an expression: a negative one with a minus, in parentheses."""
        bare = " ".join(self.text.strip("()").lstrip("-−").split())
        return f"(-{bare})" if self.value < 0 else bare

    @property
    def digits(self) -> str:
        """Its digits with their separators."""
        found = _SPACED.search(self.text) or _NUMBER.search(self.text)
        assert found is not None
        return found.group()


def figures(
    text: str, start: int = 0, end: int | None = None, *, decimal: str | None = None
) -> Iterator[Figure]:
    """Yield the figures of text[start:end]: its numbers without years and days of a month.

    Args:
        text: The text.
        start: First character.
        end: One past the last character; the end of the text when None.
        decimal: Its decimal sign; see `decimal_sign`.
    """
    for figure in numbers(text, start, end, decimal=decimal):
        if not _is_date(text, figure):
            yield figure


def decimal_sign(text: str) -> str | None:
    """Return the sign before the decimals of a text's numbers, `.` or `,`; None if none tells."""
    for comma, point in zip(_COMMAS, _POINTS, strict=True):
        counts = len(comma.findall(text)), len(point.findall(text))
        if any(counts):
            return "," if counts[0] >= counts[1] else "."
    return None


def numbers(
    text: str,
    start: int = 0,
    end: int | None = None,
    *,
    signed: bool = True,
    decimal: str | None = None,
) -> Iterator[Figure]:
    """Yield all numbers of text[start:end], in order; arguments as for `figures`.

    Args:
        text: The text.
        start: First character.
        end: One past the last character; the end of the text when None.
        signed: Whether a minus, or parentheses around it, belong to a number.
        decimal: The decimal sign; see `decimal_sign`.
    """
    end = len(text) if end is None else end
    spaced = _spaced(text, start, end, always=not signed)
    for number in sorted([*spaced, *_NUMBER.finditer(text, start, end)], key=_first_and_longest):
        if number not in spaced and any(_is_inside(number, each) for each in spaced):
            continue
        before = (_BEFORE if signed else _CURRENCY_BEFORE).search(
            text, max(start, number.start() - _REACH), number.start()
        )
        begin = number.start() if before is None else before.start()
        found = _widest(text, begin, number.start(), number.end(), end)
        if found is not None:
            yield replace(found, decimal=decimal)


def _spaced(text: str, start: int, end: int, *, always: bool) -> list[re.Match[str]]:
    """The numbers with spaces between thousands and a decimal comma, such as 12 400,50.

    Two cells of a table look alike, so that a line has to have several of them or a currency after
    one, and no number such as 400,50 alone.

    Args:
        text: The text.
        start: First character.
        end: One past the last character.
        always: Whether nothing else can be meant, as in an expression.
    """
    found = list[re.Match[str]]()
    for each in _SPACED.finditer(text, start, end):
        first = max(start, text.rfind("\n", 0, each.start()) + 1)
        last = text.find("\n", each.end(), end)
        line = text[first : last if last >= 0 else end]
        several = len(_SPACED.findall(line)) > 1 or _MONEY.match(text, each.end())
        if always or (several and not _HUNDREDS.search(_SPACED.sub("", line))):
            found.append(each)
    return found


def _first_and_longest(number: re.Match[str]) -> tuple[int, int]:
    return number.start(), -number.end()


def _is_inside(number: re.Match[str], other: re.Match[str]) -> bool:
    return other.start() <= number.start() and number.end() <= other.end()


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
        if _OF_THE_NEXT.match(text, more.start(), end):
            break
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
    if YEAR.fullmatch(figure.text.strip("()")):
        return True
    near = text[figure.end : figure.end + 12].lstrip(". ")
    return figure.text.isdigit() and len(figure.text) <= 2 and _MONTH.match(near) is not None
