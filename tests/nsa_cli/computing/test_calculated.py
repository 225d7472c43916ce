"""The expression in an answer, and the figures of a text that it means."""

from __future__ import annotations

import pytest

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.calculated import calculated, expression_in
from nsa_cli.computing.choice import Span
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.forms import form_of
from nsa_cli.documents.text import read_text


@pytest.mark.parametrize(
    ("answer", "expression"),
    [
        ("The share is 12 / 48 * 100% = 24%.", "12 / 48 * 100"),
        ("$1,200 + $300 = $1,600", "1,200 + 300"),
        ("It is (48 - 12) / 12 = 3.", "(48 - 12) / 12"),
        ("48 − 12 ≈ 36", "48 − 12"),
        ("It grew by 24 %.", None),
        ("Between 2018-2019 it grew.", None),
        ("48 - 12 = 36 and 12 / 48 = 0.25", None),
        ("x = 5", None),
        ("", None),
    ],
)
def test_the_only_expression_with_a_value_is_found(answer: str, expression: str | None) -> None:
    assert expression_in(answer) == expression


def test_a_figure_of_two_lines_is_written_on_one() -> None:
    document = read_text(b"The budget was $166.3\nmillion, then $143.1 million.", "a.txt")
    question = "By how much did the budget fall?"
    asked = form_of(question)
    assert asked is not None
    found = calculated("166.3 - 143.1", asked, question, document, [Span(0, len(document.text))])
    assert found.calculation.sentence(0) == "$23.2 million = $166.3 million - $143.1 million"


def test_figures_outside_the_spans_are_refused() -> None:
    document = read_text(b"The budget was 480 euros, then 120 euros.", "a.txt")
    asked = form_of("By how much did it fall?")
    assert asked is not None
    with pytest.raises(ExpressionError, match="do not have 120"):
        calculated("480 - 120", asked, "By how much did it fall?", document, [Span(0, 25)])


COURSE = (
    "The first course has ten lessons and costs 95 euros. The second one costs 60 euros.\n"
    "Who is late pays 10 euros. There are six trainers.\n"
)


def test_a_figure_is_divided_by_a_number_in_words() -> None:
    document, question = read_text(COURSE.encode(), "a.txt"), "What does one lesson cost?"
    form = asked_form(question)
    assert form is not None
    spans = [Span(0, len(COURSE))]
    found = calculated("95 / 10", form, question, document, spans)
    assert found.calculation.sentence(1) == "9.50 EUR = 95 euros / 10 [1]"
    for text in ("95 / 12", "95 / 6", "95 * 8"):  # no such word, or of another sentence
        with pytest.raises(ExpressionError):
            calculated(text, form, question, document, spans)


def test_other_questions_are_not_divided_by_a_number_in_words() -> None:
    document = read_text(COURSE.encode(), "a.txt")
    question = "How many times more expensive is the first course?"
    form = asked_form(question)
    assert form is not None
    with pytest.raises(ExpressionError):
        calculated("95 / 6", form, question, document, [Span(0, len(COURSE))])
