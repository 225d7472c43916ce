"""Dates and periods of a text, and arithmetic with them."""

from __future__ import annotations

from datetime import date

import pytest

from nsa_cli.computing.dates import DateError, Day, between, days, periods, shifted, written


def day(text: str) -> Day:
    [found] = days(text)
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("on Friday, 14 March 2025.", (2025, 3, 14)),
        ("on March 14, 2025", (2025, 3, 14)),
        ("on the 1st of June 2024", (2024, 6, 1)),
        ("am 3. Oktober 2021", (2021, 10, 3)),
        ("le 8 janvier 2018", (2018, 1, 8)),
        ("2026-02-28T10:00", (2026, 2, 28)),
        ("vom 31.12.2021 an", (2021, 12, 31)),
        ("by March 1.", (None, 3, 1)),
        ("established in March 2022", (2022, 3, None)),
    ],
)
def test_dates_in_many_notations(text: str, wanted: tuple[int | None, int, int | None]) -> None:
    found = day(text)
    assert (found.year, found.month, found.day) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "31 June 2024",
        "30 February 2023",
        "version 1.2.2020.3",
        "at March 10:30",
        "page 14",
        "clause 5 may be",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert not [each for each in days(text) if each.day is not None]


def test_slashes_need_a_date_that_tells_which_part_is_the_month() -> None:
    assert not days("from 08/01/2018 to 09/02/2020")
    first, second, *_ = days("from 08/01/2018 to 15/12/2018")
    assert (first.day, first.month, second.day) == (8, 1, 15)
    [first, _] = days("from 08/01/2018 to 12/15/2018")
    assert (first.day, first.month) == (1, 8)
    assert not days("15/12/2018 and 12/15/2018")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("within 30 days of", "30 days"),
        ("at least seven business days prior", "7 business days"),
        ("forty-five (45) days before", "45 days"),
        ("within one year of", "1 year"),
        ("up to two 30-day extensions", "30 days"),
        ("binnen 14 Tagen", "14 days"),
        ("mit einer Frist von drei Monaten", "3 months"),
        ("10 Werktage", "10 business days"),
    ],
)
def test_periods(text: str, wanted: str) -> None:
    assert [each.written for each in periods(text)] == [wanted]


@pytest.mark.parametrize(
    ("start", "period", "sign", "end"),
    [
        ("14 March 2026", "30 days", 1, date(2026, 4, 13)),
        ("30 June 2026", "45 days", -1, date(2026, 5, 16)),
        ("14 March 2025", "7 business days", -1, date(2025, 3, 5)),
        ("7 March 2025", "10 business days", 1, date(2025, 3, 21)),
        ("8 March 2025", "1 business day", 1, date(2025, 3, 10)),
        ("31 January 2023", "1 month", 1, date(2023, 2, 28)),
        ("29 February 2024", "1 year", 1, date(2025, 2, 28)),
        ("1 May 2024", "2 weeks", -1, date(2024, 4, 17)),
        ("15 January 2024", "3 months", -1, date(2023, 10, 15)),
    ],
)
def test_a_period_later_or_earlier(start: str, period: str, sign: int, end: date) -> None:
    [found] = periods(period)
    assert shifted(day(start), found, sign) == (end, True)


def test_a_year_that_is_not_told_must_not_matter() -> None:
    [sixty], [business] = periods("60 days"), periods("5 business days")
    end, known = shifted(day("March 1"), sixty, 1)
    assert (end.month, end.day, known) == (4, 30, False)
    for start, period in (("February 1", sixty), ("March 1", business)):
        with pytest.raises(DateError, match="year"):
            shifted(day(start), period, 1)
    with pytest.raises(DateError, match="range"):
        shifted(day("1 January 2024"), periods("9000 years")[0], 1)


def test_the_time_between_two_dates() -> None:
    assert between(day("8 January 2018"), day("9 February 2020"), "day") == 762
    assert between(day("1 May 2024"), day("15 May 2024"), "week") == 2
    assert between(day("March 2022"), day("May 2023"), "month") == 14
    assert between(day("3 May 2014"), day("3 May 2024"), "year") == 10
    for first, last, unit in (
        ("1 May 2024", "10 May 2024", "week"),
        ("March 1", "May 2, 2024", "day"),
        ("March 2022", "1 May 2022", "day"),
        ("3 May 2022", "1 June 2023", "month"),
    ):
        with pytest.raises(DateError):
            between(day(first), day(last), unit)


def test_a_date_is_written_like_the_one_of_the_question() -> None:
    end = date(2026, 4, 3)
    for like, wanted in (
        ("14 March 2026", "3 April 2026"),
        ("March 14, 2026", "April 3, 2026"),
        ("2026-03-14", "2026-04-03"),
        ("14.03.2026", "03.04.2026"),
    ):
        assert written(end, day(like), year=True) == wanted
    assert written(end, day("March 14"), year=False) == "April 3"
