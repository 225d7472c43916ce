"""Figures of a text keep their scale, unit and sign; years and dates are none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from nsa_cli.computing.captions import caption_of
from nsa_cli.computing.figures import decimal_sign, figures, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sales of $1,204 million. Then", [("$1,204 million", "1204000000", "usd")]),
        ("USD 12.4 million, or €3bn.", [("USD 12.4 million", "12400000", "usd"),
                                        ("€3bn", "3000000000", "eur")]),
        ("rund 3,2 Mio. € mehr", [("3,2 Mio. €", "3200000", "eur")]),
        ("up -5.2 % (was 12.5%)", [("-5.2 %", "-5.2", "percent"), ("12.5%", "12.5", "percent")]),
        ("loss  (1,234)   8,120", [("(1,234)", "-1234", None), ("8,120", "8120", None)]),
        ("12 400 units and 1'200 EUR", [("12 400", "12400", None), ("1'200 EUR", "1200", "eur")]),
        ("In 2018 and on 3 March 2019, 48 left", [("48", "48", None)]),
        ("version 1.8.9 of sda1 in 1990s", []),
        ("a 10-year term of 5 days", [("10-year", "10", "year"), ("5 days", "5", "day")]),
        ("210.50 euros. The deposit", [("210.50 euros", "210.50", "eur")]),
    ],
)  # fmt: skip
def test_figures(text: str, expected: list[tuple[str, str, str | None]]) -> None:
    found = [(each.text, f"{each.value}", each.quantity.unit) for each in figures(text)]
    normal = [(text, f"{float(value):g}", unit) for text, value, unit in found]
    assert normal == [(text, f"{float(value):g}", unit) for text, value, unit in expected]
    assert all(text[each.start : each.end] == each.text for each in figures(text))


def test_a_negative_figure_is_written_with_a_minus() -> None:
    [negative, positive] = figures("Result (1,234) 55")
    assert (negative.written, positive.written) == ("(-1,234)", "55")
    assert negative.digits == "1,234"


@pytest.mark.parametrize(
    ("caption", "scale", "currency"),
    [
        ("(in thousands of dollars)", 1000, "usd"),
        ("in millions of euros", 10**6, "eur"),
        ("Angaben in TEUR", 1000, "eur"),
        ("($ millions)", 10**6, "usd"),
        ("(€m)", 10**6, "eur"),
        ("in Mio. €", 10**6, "eur"),
        ("in millions", 10**6, ""),
    ],
)
def test_a_caption_gives_a_scale(caption: str, scale: int, currency: str) -> None:
    text = f"Income {caption}\n 2019 2018\nSales 15,320 13,870\nEarnings per share 1.20 1.10"
    found = caption_of(text, 0, text.index("15,320"))
    assert found is not None
    assert (found.scale, found.currency) == (scale, currency)
    assert caption_of(text, 0, text.index("1.20")) is None
    assert caption_of(text, text.index("Sales"), text.index("15,320")) is None


def test_prose_is_no_caption() -> None:
    text = "They live in Milan.\nSales 15,320"
    assert caption_of(text, 0, text.index("15,320")) is None


def test_neighboring_cells_are_no_thousands() -> None:
    row = "Members 1901 410 and 1 250 000 euros, 12,400 380"
    assert [each.text for each in numbers(row)] == [
        "1901",
        "410",
        "1 250 000 euros",
        "12,400",
        "380",
    ]


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Sales were 12,400 and 1.964 billion.", "."),
        ("ratios of 5.3 and 29.45", "."),
        ("Der Umsatz betrug 1.234,50 Euro, davon 750.000 im Inland (Abschnitt 4.1).", ","),
        ("12,5 und 13,25", ","),
        ("1.964 or 750.000", None),
        ("no numbers", None),
    ],
)
def test_the_decimal_sign_of_a_text(text: str, sign: str | None) -> None:
    assert decimal_sign(text) == sign


def test_three_digits_after_a_point_are_read_by_the_decimal_sign() -> None:
    def value(text: str, sign: str | None) -> Decimal:
        [found] = numbers(text, decimal=sign)
        return found.value

    assert value("100.804", ".") == Decimal("100.804")
    assert value("100.804", ",") == value("100.804", None) == Decimal(100804)
    assert value("$1.964 billion", None) == Decimal(1_964_000_000)
    assert value("1.964 Mio.", ",") == Decimal(1_964_000_000)
    assert value("(1.964)", ".") == Decimal("-1.964")
    assert value("1,964", ".") == Decimal(1964)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("Le loyer est de 12 400,50 € par an.", ["12 400,50"]),
        (
            "Schule 78 602,14 E 13,39 % 20 458,72 E 4,77 %",
            ["78 602,14", "13,39", "20 458,72", "4,77"],
        ),
        ("Miete 12 345,67", ["12", "345,67"]),
        ("Miete 5 123,45 6 234,56 345,67", ["5", "123,45", "6", "234,56", "345,67"]),
    ],
)
def test_spaces_between_thousands_and_a_decimal_comma(text: str, digits: list[str]) -> None:
    assert [each.digits for each in numbers(text)] == digits


def test_in_an_expression_spaces_are_between_thousands() -> None:
    [found, _] = numbers("12 345,67 - 2", signed=False)
    assert found.value == Decimal("12345.67")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a wall of 14 m and a hedge", "14"),
        ("0.80 m high", "0.80"),
        ("EUR 14 m", "14000000"),
        ("$12.4 m of sales", "12400000"),
        ("14m of sales", "14000000"),
        ("2.5 million", "2500000"),
    ],
)
def test_a_letter_that_is_apart_is_a_scale_of_money_alone(text: str, value: str) -> None:
    [figure] = figures(text)
    assert figure.value == Decimal(value)


def test_a_currency_at_the_end_of_a_line_is_not_of_the_next() -> None:
    found = [(each.digits, each.quantity.unit) for each in figures("Hedge 640.00 EUR\n2. A wall")]
    assert found == [("640.00", "eur"), ("2", None)]


def test_the_first_part_of_a_torn_number_is_no_figure() -> None:
    found = [each.digits for each in numbers("Gifts 478 ,611.84 and 53,442.12, then 12 .")]
    assert found == ["53,442.12", "12"]


def test_a_sign_between_two_numbers_is_of_the_second() -> None:
    found = figures("Units 46,421,857 $ 5,000 and 7 $")
    assert [(each.text, each.quantity.unit) for each in found] == [
        ("46,421,857", None),
        ("$ 5,000", "usd"),
        ("7 $", "usd"),
    ]
