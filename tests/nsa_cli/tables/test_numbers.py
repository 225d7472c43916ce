"""Numbers and dates as people write them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.tables.dates import day_first, parse_date
from nsa_cli.tables.numbers import Number, decimal_mark, number_text, parse_number

AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=2)
GERMAN = str.maketrans(",.", ".,")


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("1,234.56", "1234.56", ""),
        ("1.234,56", "1234.56", ""),
        ("1 234,56", "1234.56", ""),
        ("1\u202f234,56 €", "1234.56", "EUR"),
        ("1'234.50", "1234.50", ""),
        ("12,34,567.89", "1234567.89", ""),
        ("1,234", "1234", ""),
        ("0.125", "0.125", ""),
        ("(123)", "-123", ""),
        ("(1,200.00)", "-1200.00", ""),
        ("-5", "-5", ""),
        ("−5", "-5", ""),
        ("5-", "-5", ""),
        ("12 %", "12", "%"),
        ("12%", "12", "%"),
        ("€ 12", "12", "EUR"),
        ("-€12", "-12", "EUR"),
        ("€-12", "-12", "EUR"),
        ("$1,200", "1200", "USD"),
        ("US$ 5", "5", "USD"),
        ("EUR 1.200,50", "1200.50", "EUR"),
        ("1,200 CHF", "1200", "CHF"),
        ("12 kg", "12", "kg"),
        ("55 km/h", "55", "km/h"),
        ("1e3", "1000", ""),
        (".5", "0.5", ""),
    ],
)
def test_a_number_is_read(text: str, value: str, unit: str) -> None:
    assert parse_number(text) == Number(Decimal(value), unit)


@pytest.mark.parametrize(
    "text",
    [
        *("", "n/a", "A12", "ORD 12", "1.2.3", "12-03", "12.5.2025", "1,2,3", "(5", "(-5)", "--5"),
        *("1,234.567,89", "call 112 now", "€", "%", "+49 170 1234567", "1 2"),
    ],
)
def test_what_is_not_a_number_is_not_read(text: str) -> None:
    assert parse_number(text) is None


def test_the_decimal_mark_of_a_column_decides() -> None:
    assert parse_number("1,234", ",") == Number(Decimal("1.234"), "")
    assert parse_number("1,234", ".") == Number(Decimal(1234), "")
    assert parse_number("1.234", ",") == Number(Decimal(1234), "")
    assert parse_number("1.234", ".") == Number(Decimal("1.234"), "")
    assert parse_number("1.234,5", ".") is None


@given(AMOUNTS)
def test_english_and_german_notation_are_the_same_number(value: Decimal) -> None:
    english = f"{value:,.2f}"
    assert parse_number(english) == Number(value, "")
    assert parse_number(english.translate(GERMAN)) == Number(value, "")
    assert parse_number(english.translate(GERMAN) + " €") == Number(value, "EUR")
    if value < 0:
        assert parse_number(f"({english[1:]})") == Number(value, "")


@given(AMOUNTS)
def test_a_number_with_decimals_shows_its_mark(value: Decimal) -> None:
    assert decimal_mark(f"{value:,.2f}") == "."
    assert decimal_mark(f"{value:,.2f}".translate(GERMAN)) == ","


@given(AMOUNTS)
def test_a_number_in_words_is_read_back(value: Decimal) -> None:
    assert parse_number(number_text(value, 2, "EUR")) == Number(value, "EUR")
    assert parse_number(number_text(value)) == Number(value, "")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for mark in (None, ".", ","):
        number = parse_number(text, mark)
        assert number is None or number.value.is_finite()
    parse_date(text)


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2199, 12, 31)))
def test_dates_are_read(date: datetime.date) -> None:
    assert parse_date(date.isoformat()) == date
    assert parse_date(f"{date.isoformat()} 10:30:00") == date
    assert parse_date(f"{date:%d.%m.%Y}") == date
    assert parse_date(f"{date:%d/%m/%Y}", day_first=True) == date
    assert parse_date(f"{date:%m/%d/%Y}", day_first=False) == date
    assert parse_date(f"{date.day} {date:%B} {date.year}") == date
    assert parse_date(f"{date:%B} {date.day}, {date.year}") == date


def test_the_order_of_day_and_month_comes_from_the_column() -> None:
    assert parse_date("3/4/2025") is None
    assert parse_date("13/4/2025") == datetime.date(2025, 4, 13)
    assert day_first(["3/4/2025", "13/4/2025"]) is True
    assert day_first(["3/4/2025", "3/14/2025"]) is False
    assert day_first(["3/4/2025", "5/6/2025"]) is None
    assert day_first(["13/4/2025", "3/14/2025"]) is None
    assert parse_date("14. März 2025") == datetime.date(2025, 3, 14)
    assert parse_date("31.02.2025") is None
