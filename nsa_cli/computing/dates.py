"""Dates and periods of a text, and exact arithmetic with them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from nsa_cli.retrieval.number_words import MONTHS, NUMBERS, UNITS

BUSINESS_DAY = "business day"
_MONTHS = 12
_WEEK = 7
_WORKDAYS = 5
_VERBS = ("may", "march")
"""Months that are something else in small letters: clause 5 may be changed."""

_LONGEST = 100_000
"""Maximum units of a period."""

_COMMON_YEAR, _LEAP_YEAR = 2023, 2024
"""Years in which a date without a year is computed: both have to give the same day."""

_NAME = "|".join(sorted((name for name in MONTHS if len(name) > 2), key=len, reverse=True))
_DATE = re.compile(
    rf"""(?<![\w.,/-])(?:
        (?P<d1>\d{{1,2}})(?:st|nd|rd|th|er|\.)?[ ]+(?:of[ ]+|de[ ]+)?(?P<m1>{_NAME})\b\.?
            (?:,?[ ]+(?:de[ ]+)?(?P<y1>(?:19|20)\d\d)\b)?
        | (?P<m2>{_NAME})\b\.?[ ]+(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\b(?![\d:])
            (?:,?[ ]+(?P<y2>(?:19|20)\d\d)\b)?
        | (?P<y3>(?:19|20)\d\d)-(?P<m3>\d\d)-(?P<d3>\d\d)(?!\d)
        | (?P<d4>\d{{1,2}})\.[ ]?(?P<m4>\d{{1,2}})\.[ ]?(?P<y4>(?:19|20)\d\d)(?!\.?\d)
        | (?P<a5>\d{{1,2}})/(?P<b5>\d{{1,2}})/(?P<y5>(?:19|20)\d\d)(?!\d)
        | (?P<m6>{_NAME})\b\.?,?[ ]+(?P<y6>(?:19|20)\d\d)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_YEAR = re.compile(r"(?<![\w.,/$€£-])(?:19|20)\d\d(?![\w/%-]|[.,]\d)")
_PERIOD_UNITS = {
    word: unit for word, unit in UNITS.items() if unit in ("day", "week", "month", "year")
}
_UNIT = "|".join(sorted((word for word in _PERIOD_UNITS if len(word) > 1), key=len, reverse=True))
_COUNT = "|".join([*sorted((each for each in NUMBERS if len(each) > 2), key=len, reverse=True)])
_PERIOD = re.compile(
    rf"""(?<![\w.,/-])(?P<count>(?:{_COUNT})(?:-(?:{_COUNT}))?|\d{{1,4}})
        (?:\s*\(\s*(?P<digits>\d{{1,4}})\s*\))?[\s-]+
        (?P<adjective>(?:business|working|work|calendar|consecutive)[\s-]+)?
        (?P<unit>{_UNIT}|Werktagen?|Arbeitstagen?|Kalendertagen?)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_WORK_WORDS = ("business", "working", "work")
_CASES = str.maketrans("äöüÄÖÜéèàñ", "aouaoueean")


class DateError(ValueError):
    """Dates that cannot be added up."""


@dataclass(frozen=True, slots=True)
class Day:
    """A date of a text.

    Attributes:
        text: As the text has it.
        start: Its first character.
        end: One past its last character.
        year: The year; None if it is not told.
        month: The month; 0 if the text names the year alone.
        day: The day of the month; None if the text names the month alone.
    """

    text: str
    start: int
    end: int
    year: int | None
    month: int
    day: int | None


@dataclass(frozen=True, slots=True)
class Period:
    """A period of a text.

    Attributes:
        text: Its number and unit.
        start: Its first character.
        end: One past its last character.
        count: How many units.
        unit: `day`, `business day`, `week`, `month` or `year`.
    """

    text: str
    start: int
    end: int
    count: int
    unit: str

    @property
    def written(self) -> str:
        """The period in an expression."""
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"


def days(text: str, start: int = 0, end: int | None = None) -> list[Day]:
    """Return the dates of text[start:end], in order.

    A date such as 08/01/2018 counts only if another one of the text tells which part is the month.

    Args:
        text: The text.
        start: First character.
        end: One past the last character; the end of the text when None.
    """
    end = len(text) if end is None else end
    return list(_days(text, start, end))


def _days(text: str, start: int, end: int) -> Iterator[Day]:
    day_first: bool | None = None
    for found in _DATE.finditer(text, start, end):
        groups = {name[0]: value for name, value in found.groupdict().items() if value}
        if "a" in groups:
            if day_first is None:
                day_first = _is_day_first(text)
            if day_first is None:
                continue
            first, second = groups["a"], groups["b"]
            groups |= {"d": first, "m": second} if day_first else {"d": second, "m": first}
        month = MONTHS.get(groups["m"].casefold()) or (
            int(groups["m"]) if groups["m"].isdigit() else 0
        )
        if groups["m"] in _VERBS and "y" not in groups:
            continue
        year = int(groups["y"]) if "y" in groups else None
        day = int(groups["d"]) if "d" in groups else None
        if 1 <= month <= _MONTHS and 1 <= (day or 1) <= _length(year or _LEAP_YEAR, month):
            yield Day(found.group(), found.start(), found.end(), year, month, day)


def years(text: str, start: int, end: int) -> list[Day]:
    """Return the years of text[start:end] that are not part of a date, in order."""
    dates = days(text, start, end)
    return [
        Day(found.group(), found.start(), found.end(), int(found.group()), 0, None)
        for found in _YEAR.finditer(text, start, end)
        if not any(each.start <= found.start() < each.end for each in dates)
    ]


def _is_day_first(text: str) -> bool | None:
    """Whether dates with slashes begin with the day; None if no date tells it."""
    parts = [(int(m["a5"]), int(m["b5"])) for m in _DATE.finditer(text) if m["a5"]]
    first, second = (any(part > _MONTHS for part in column) for column in zip(*parts, strict=True))
    return None if first == second else first


def periods(text: str, start: int = 0, end: int | None = None) -> list[Period]:
    """Return the periods of text[start:end], in order; arguments as for `days`."""
    end = len(text) if end is None else end
    found = []
    for match in _PERIOD.finditer(text, start, end):
        count = int(match["digits"] or 0) or _count(match["count"])
        word = match["unit"].casefold().translate(_CASES)
        adjective = (match["adjective"] or "").casefold().strip(" \n-")
        if word.startswith(("werktag", "arbeitstag")) or adjective in _WORK_WORDS:
            unit = BUSINESS_DAY
        else:
            unit = _PERIOD_UNITS.get(word, "day")
        if count:
            text_of = " ".join(match.group().split())
            found.append(Period(text_of, match.start(), match.end(), count, unit))
    return found


def _count(words: str) -> int:
    if words.isdigit():
        return int(words)
    parts = words.casefold().translate(_CASES).split("-")
    return sum(NUMBERS.get(part, 0) for part in parts)


def shifted(day: Day, period: Period, sign: int) -> tuple[date, bool]:
    """Return the date that lies a period after or before another, and whether its year is known.

    Business days are Monday to Friday; public holidays are not known.

    Args:
        day: The date; with its day of the month.
        period: The period.
        sign: 1 for later, -1 for earlier.

    Raises:
        DateError: If the date has no day, or the result depends on a year that is not told.
    """
    if day.day is None or period.count > _LONGEST:
        raise DateError(f"{day.text} has no day")
    if day.year is not None:
        return _shifted(date(day.year, day.month, day.day), period, sign), True
    if period.unit in (BUSINESS_DAY, "year"):
        raise DateError(f"the year of {day.text} is not told")
    ends = [
        _shifted(date(year, day.month, day.day), period, sign)
        for year in (_COMMON_YEAR, _LEAP_YEAR)
        if day.day <= _length(year, day.month)
    ]
    if len({(each.month, each.day) for each in ends}) > 1:
        raise DateError(f"the year of {day.text} is not told")
    return ends[0], False


def _shifted(start: date, period: Period, sign: int) -> date:
    steps = sign * period.count
    try:
        if period.unit == BUSINESS_DAY:
            return _workday(start, steps)
        if period.unit in ("day", "week"):
            return start + timedelta(days=steps * (_WEEK if period.unit == "week" else 1))
        months = start.year * _MONTHS + start.month - 1
        months += steps * (_MONTHS if period.unit == "year" else 1)
        year, month = divmod(months, _MONTHS)
        return date(year, month + 1, min(start.day, _length(year, month + 1)))
    except (OverflowError, ValueError, calendar.IllegalMonthError) as error:
        raise DateError("the date is out of range") from error


def _workday(start: date, steps: int) -> date:
    """The day some workdays later or earlier."""
    step = timedelta(days=1 if steps > 0 else -1)
    while steps:
        start += step
        if start.weekday() < _WORKDAYS:
            steps -= step.days
    return start


def between(first: Day, last: Day, unit: str) -> int:
    """Return the time between two dates in whole units.

    Args:
        first: The earlier date.
        last: The later date.
        unit: `day`, `week`, `month` or `year`.

    Raises:
        DateError: If a year or a day is not told, or the time is not a whole number of the unit.
    """
    if first.year is None or last.year is None:
        raise DateError("a year is not told")
    if unit in ("day", "week"):
        if first.day is None or last.day is None:
            raise DateError("a day is not told")
        found = date(last.year, last.month, last.day) - date(first.year, first.month, first.day)
        return _whole(found.days, _WEEK if unit == "week" else 1, unit)
    if unit == "year" and not (first.month and last.month):
        return last.year - first.year
    months = (last.year - first.year) * _MONTHS + last.month - first.month
    if (first.day or 1) != (last.day or 1):
        raise DateError(f"the time between them is not a whole number of {unit}s")
    return _whole(months, _MONTHS if unit == "year" else 1, unit)


def _whole(amount: int, per: int, unit: str) -> int:
    if amount % per:
        raise DateError(f"the time between them is not a whole number of {unit}s")
    return amount // per


def written(day: date, like: Day, *, year: bool) -> str:
    """Write a date as another one is written.

    Args:
        day: The date.
        like: The other date.
        year: Whether its year is told.
    """
    if re.match(r"\d{4}-", like.text):
        return day.isoformat()
    if re.fullmatch(r"\d{1,2}\.\s?\d{1,2}\.\s?\d{4}", like.text):
        return f"{day.day:02}.{day.month:02}.{day.year}"
    if like.text[:1].isdigit() and "/" not in like.text:
        return f"{day.day} {calendar.month_name[day.month]}" + (f" {day.year}" if year else "")
    return f"{calendar.month_name[day.month]} {day.day}" + (f", {day.year}" if year else "")


def _length(year: int, month: int) -> int:
    """Days of a month."""
    return calendar.monthrange(year, month)[1]
