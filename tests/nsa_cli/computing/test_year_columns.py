"""A change over time has both figures from the row that the question names."""

from __future__ import annotations

import pytest

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.calculated import calculated, calculated_from_row
from nsa_cli.computing.choice import Span
from nsa_cli.computing.year_columns import years_of
from nsa_cli.documents.text import read_text

BUDGET = """Income and expenses of the choir, in euros

                    Note     2021      2022      2023
Membership fees        3    4,200     4,800     5,400
Concert tickets        4    9,000     7,200    10,800
Gifts                  5      600       900       450
Total income                13,800    12,900    16,650
Hall rent              6    3,100     3,300     3,700
Conductor              7    5,000     5,000     5,500
"""
TORN = """Outlays in thousand euros
                2009      2010
School          60,14     78
Hall            12,50     13,75
"""


@pytest.mark.parametrize(
    ("question", "years"),
    [
        ("By how many percent did the fees grow from 2021 to 2023?", (2021, 2023)),
        ("How much more came from gifts in 2022 than in 2021?", (2021, 2022)),
        ("By what percentage did the fees rise in 2023?", (2022, 2023)),
        ("Um wie viel Prozent stiegen die Beiträge gegenüber 2021?", (2021, 2022)),
        ("By how much did the fees exceed the gifts in 2023?", None),
        ("By how much did the fees grow between May and June 2023?", None),
        ("By how much did the fees grow in the first half of 2023?", None),
        ("By how much did the fees grow?", None),
        ("How did the fees grow in 2021, 2022 and 2023?", None),
    ],
)
def test_the_years_of_a_change(question: str, years: tuple[int, int] | None) -> None:
    assert years_of(question) == years


def value(text: str, question: str, expression: str) -> str:
    document, form = read_text(text.encode(), "a.txt"), asked_form(question)
    assert form is not None
    found = calculated(expression, form, question, document, [Span(0, len(document.text))])
    return found.calculation.expression


@pytest.mark.parametrize(
    ("question", "written", "mended"),
    [
        (  # the columns of two other years
            "By how many percent did the membership fees grow from 2021 to 2023?",
            "(4,800 - 4,200) / 4,200",
            "(5,400 - 4,200) / 4,200",
        ),
        (  # another row
            "By how many percent did the membership fees grow from 2021 to 2023?",
            "(10,800 - 9,000) / 9,000",
            "(5,400 - 4,200) / 4,200",
        ),
        (  # a fall
            "By how many percent did the income from gifts drop from 2022 to 2023?",
            "(900 - 450) / 450",
            "(900 - 450) / 900",
        ),
        (
            "By how much did the hall rent rise in 2023?",
            "3,300 - 3,100",
            "3,700 - 3,300",
        ),
        (  # right already
            "By how much did the hall rent rise in 2023?",
            "3,700 - 3,300",
            "3,700 - 3,300",
        ),
        (  # the model's row, whose name the question does not say
            "By how much did the costs of the room rise in 2023?",
            "3,700 - 3,300",
            "3,700 - 3,300",
        ),
        (  # no change over time
            "How much more was spent on the conductor than on the hall rent in 2023?",
            "5,500 - 3,700",
            "5,500 - 3,700",
        ),
        (  # no row is named
            "By how much did the reserve rise from 2022 to 2023?",
            "16,650 - 12,900",
            "16,650 - 12,900",
        ),
    ],
)
def test_an_expression_has_the_figures_of_the_row(question: str, written: str, mended: str) -> None:
    assert value(BUDGET, question, written) == mended


def from_row(text: str, question: str) -> str | None:
    document, form = read_text(text.encode(), "a.txt"), asked_form(question)
    assert form is not None
    found = calculated_from_row(form, question, document, [Span(0, len(document.text))])
    return None if found is None else found.calculation.result


def test_a_row_tells_a_change_without_an_expression() -> None:
    asked = "By how many percent did the income from concert tickets rise from 2022 to 2023?"
    assert from_row(BUDGET, asked) == "50.0 %"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (BUDGET, "By how many percent did the reserve rise from 2022 to 2023?"),
        (BUDGET, "By how many percent did the gifts rise from 2019 to 2023?"),
        (BUDGET, "Who received more in 2023, the hall or the conductor, and by how much?"),
        (TORN, "By how many percent did the outlays for the school rise from 2009 to 2010?"),
        (
            BUDGET + "\nGifts rose by 50 percent from 2021 to 2022.\n",
            "By how many percent did the gifts rise from 2021 to 2022?",
        ),
    ],
)
def test_no_row_is_guessed(text: str, question: str) -> None:
    assert from_row(text, question) is None


def test_two_rows_of_one_name_tell_nothing() -> None:
    twice = BUDGET + "\nThe same for the youth choir\n                    2021    2022    2023\n"
    twice += "Membership fees     420     480     540\n"
    asked = "By how many percent did the membership fees grow from 2021 to 2023?"
    assert from_row(twice, asked) is None
