"""Which form a written expression may have, and in which order its figures stand."""

from __future__ import annotations

import pytest

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.calculated import calculated
from nsa_cli.computing.choice import Span
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.documents.text import read_text

TEXT = (
    "The crew caught 480 tonnes in spring, 120 tonnes in autumn and 60 tonnes in winter. "
    "The motor takes 8 hours, the sail 32 hours."
)


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("By how much did the catch fall?", "difference"),
        ("How many times faster is the motor than the sail?", "ratio"),
        ("How many times as much was caught in spring?", "ratio"),
        ("Which part of the catch came in autumn?", "share"),
        ("What portion of the crew stayed?", "share"),
        ("What was paid per ton of coal?", "per"),
        ("How many kilos of fish come to each boat?", "per"),
        ("Auf einen Fischer kommen wie viele Boote?", "per"),
        ("What did the spring and the autumn boats catch together?", "sum"),
        ("Taking both harbors together, how many boats are there?", "sum"),
        ("Wie viel ist danach noch zu zahlen?", "difference"),
        ("How much is left for the winter?", "difference"),
        ("What does one boat cost?", "per"),
        ("What does one trip of the fishers' boat cost?", "per"),
        ("How did the catch change from 2019 to 2020, in percent?", "growth"),
        ("Was kostete eine einzelne Fahrt?", "per"),
        ("What is the average catch of the boats with a motor?", "mean"),
        ("Was the catch higher than the one of last year, and by how much?", "difference"),
    ],
)
def test_questions_have_a_form(question: str, name: str) -> None:
    form = asked_form(question)
    assert form is not None
    assert form.name == name


@pytest.mark.parametrize(
    "question",
    [
        "Who caught the fish?",
        "Was the rent still unpaid?",
        "How many boats are there?",
        "Was fishing per boat restricted?",
        "Why do they work together?",
        "How many boats did each list (rafts left out)?",
        "By how much did it fall according to the minutes, and according to the letter?",
        "By how much did the catch fall, and which harbor lost most?",
        "How many times faster is the motor? Give both values.",
        "What does the boat cost?",
        "How did the catch change from 2019 to 2020?",
        "Which boat has more nets than the others, and by how many?",
    ],
)
def test_other_questions_have_none(question: str) -> None:
    assert asked_form(question) is None


def computed(question: str, expression: str) -> str:
    document = read_text(TEXT.encode(), "a.txt")
    asked = asked_form(question)
    assert asked is not None
    spans = [Span(0, len(document.text))]
    return calculated(expression, asked, question, document, spans).calculation.sentence(0)


@pytest.mark.parametrize(
    ("question", "expression", "answer"),
    [
        ("How many times faster is the motor than the sail?", "8 / 32 * 100", "4.00 = 32"),
        ("How many times faster is the motor than the sail?", "32 / 8", "4.00 = 32"),
        ("What share of the spring catch is the autumn one?", "480 / 120 * 100", "25.0 % = 120"),
        ("What share of the spring catch is the autumn one?", "120 / 480", "25.0 % = 120"),
        ("What percentage of the catch is left?", "(120 - 480) / 480 * 100", "25.0 % = 120"),
        ("By how much did the catch fall until autumn?", "120 - 480", "360 tonnes = 480"),
        ("By how much is autumn lower than spring?", "480 - 120", "360 tonnes = 480"),
        ("By how many percent did it drop?", "(120 - 480) / 480 * 100", "75.0 % = (480"),
        ("By how many percent did it rise?", "(120 - 480) / 480 * 100", "-75.0 % = (120"),
        ("By how much did the catch rise?", "120 - 480", "-360 tonnes = 120"),
        ("What is the difference between the two?", "120 - 480", "360 tonnes = 480"),
        ("How much did the two seasons yield together?", "480 + 120", "600 tonnes = 480"),
    ],
)
def test_figures_stand_in_the_order_of_the_question(
    question: str, expression: str, answer: str
) -> None:
    assert computed(question, expression).startswith(answer)


@pytest.mark.parametrize(
    ("question", "expression"),
    [
        ("By how many percent did it rise?", "120 / 480 * 100"),
        ("By how much did it rise?", "480 / 120"),
        ("What share of the catch came in autumn?", "480 - 120"),
        ("What was paid per ton of coal?", "480 - 120"),
        ("How much did the two seasons yield together?", "480 - 120"),
        ("How many times faster is it?", "480 - 120"),
    ],
)
def test_an_expression_of_another_form_is_refused(question: str, expression: str) -> None:
    with pytest.raises(ExpressionError):
        computed(question, expression)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("The fee was 37 million euros in 2015.", "37 - 2015"),
        ("It held 4,632 papers worth 26.5 billion euros.", "4,632 - 26.5"),
    ],
)
def test_a_year_and_another_magnitude_are_refused(text: str, expression: str) -> None:
    document = read_text(text.encode(), "a.txt")
    question = "By how much did it fall?"
    asked = asked_form(question)
    assert asked is not None
    with pytest.raises(ExpressionError):
        calculated(expression, asked, question, document, [Span(0, len(text))])


def test_years_have_a_difference() -> None:
    text = "The pier was built in 1998 and burnt in 2015."
    document = read_text(text.encode(), "a.txt")
    question = "By how many years was the fire later?"
    asked = asked_form(question)
    assert asked is not None
    found = calculated("2015 - 1998", asked, question, document, [Span(0, len(text))])
    assert found.calculation.value == 17
