"""A rate of the text times the count that a question asks about."""

from __future__ import annotations

import pytest

from nsa_cli.computing.choice import Span
from nsa_cli.computing.rates import at_rate
from nsa_cli.documents.text import read_text

TEXT = """Members pay 52 EUR a month; the membership runs for at least one year.
Private cars: 0.30 EUR per kilometer, at most 150 EUR a trip.
All branches have computers; printing costs 10 cents a page.
The ticket for the tram is 2 EUR. Parking is $3 per hour.
Die Miete der Werkstatt beträgt 400 Euro pro Monat.
The insurance is 30 EUR a quarter. Wasser kostet 3 Euro je Liter.
"""


def computed(answer: str, question: str) -> str | None:
    document = read_text(TEXT.encode(), "a.txt")
    found = at_rate(answer, question, document, [Span(0, len(TEXT))])
    return None if found is None else found.calculation.sentence(1)


@pytest.mark.parametrize(
    ("answer", "question", "expected"),
    [
        (
            "52 EUR",
            "How much does the membership cost for a whole year?",
            "624 EUR = 12 × 52 EUR [1]",
        ),
        ("52 EUR", "What do members pay yearly?", "624 EUR = 12 × 52 EUR [1]"),
        (
            "0.30 EUR per kilometer",
            "How much do I get for 200 km with a private car?",
            "60.00 EUR = 200 × 0.30 EUR [1]",
        ),
        ("10 cents", "What does printing twelve pages cost?", "120 cents = 12 × 10 [1]"),
        ("$3 an hour", "What does parking cost for 4 hours?", "12 USD = 4 × $3 [1]"),
        (
            "400 Euro",
            "Wie viel kostet die Werkstatt ein ganzes Jahr?",
            "4,800 EUR = 12 × 400 Euro [1]",
        ),
        ("30 EUR", "How much is the insurance per year?", "120 EUR = 4 × 30 EUR [1]"),
        ("3 Euro", "Was kosten 5 Liter Wasser?", "15 EUR = 5 × 3 Euro [1]"),
    ],
)
def test_a_rate_times_a_count(answer: str, question: str, expected: str) -> None:
    assert computed(answer, question) == expected


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("52 EUR", "How much does the membership cost?"),
        ("52 EUR", "How much does the membership cost a month?"),
        ("52 EUR", "How much does the membership cost for 3 children?"),
        ("52 EUR", "Is the membership 52 EUR for a year?"),  # asks for no amount
        ("624 EUR", "How much does the membership cost for a whole year?"),
        ("52 EUR, so 624 EUR a year", "How much does the membership cost for a whole year?"),
        ("0.30 EUR", "How much do I get for 600 km with a private car?"),  # 180 is above the limit
        ("2 EUR", "What does the tram cost for 5 hours?"),  # no rate
        ("10 cents", "How long do 12 pages take?"),
        ("$3", "How much does the sauna cost for 4 hours?"),  # the sentence is about parking
    ],
)
def test_other_answers_stay(answer: str, question: str) -> None:
    assert computed(answer, question) is None
