"""Expressions of a model get the figures of a document, and anything else is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa_cli.computing.calculation import Calculation, calculate
from nsa_cli.computing.choice import FigureChoice, Span
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.figures import numbers
from nsa_cli.computing.free_expression import free_expression, without_signs
from nsa_cli.documents.text import read_text

KNOWN = ("120", "100", "80", "2.8", "1.4", "4,913", "3,000", "2019", "2018", "1", "2", "5", "7")
TEXT = "Revenue was 120 euros in 2019, 100 euros in 2018, 1.4 million units and (4,913) of loss."


def computed(text: str, expression: str, question: str = "How much?") -> Calculation:
    """What the program computes from a model's expression about a text."""
    document = read_text(text.encode(), "a.txt")
    found = free_expression(expression, {each.digits for each in numbers(document.text)})
    spans = [Span(0, len(document.text))]
    choice = FigureChoice(found.form, question, document, spans)
    return calculate(found.form, without_signs(choice.placed(found.digits)))


@pytest.mark.parametrize(
    ("text", "name", "form", "digits"),
    [
        ("(120 - 100) / 100 * 100", "growth", "({0} - {1}) / {1}", "120 100"),
        ("(120 / 80 - 1) * 100", "growth", "{0} / {1} - 1", "120 80"),
        ("120 / 80 × 100", "share", "{0} / {1}", "120 80"),
        ("80 / 360 * 100", "share", "{0} / 360", "80"),
        ("120 + 80 + 5", "sum", "{0} + {1} + {2}", "120 80 5"),
        ("120 − 80", "difference", "{0} - {1}", "120 80"),
        ("2019 - 2018", "difference", "{0} - {1}", "2019 2018"),
        ("(120 + 80) / 2", "mean", "({0} + {1}) / 2", "120 80"),
        ("(120 + 80 + 5) / 3", "mean", "({0} + {1} + {2}) / 3", "120 80 5"),
        ("120 ÷ 80", "ratio", "{0} / {1}", "120 80"),
        ("120 / 2", "ratio", "{0} / {1}", "120 2"),
        ("365 * 120 / 80", "other", "365 * {0} / {1}", "120 80"),
        ("120 / 80 - 1", "other", "{0} / {1} - 1", "120 80"),
        ("((120 - (80)) * (5)) / (7)", "other", "({0} - {1}) * {2} / {3}", "120 80 5 7"),
        ("2.8 million - 1.4 million", "difference", "{0} - {1}", "2.8 1.4"),
        ("$120 - 80 euros", "difference", "{0} - {1}", "120 80"),
        ("(-4,913) - 3,000", "difference", "-{0} - {1}", "4,913 3,000"),
        ("120 - 80 - 120", "difference", "{0} - {1} - {0}", "120 80"),
        ("max(120, 80) - 5", "difference", "max({0}, {1}) - {2}", "120 80 5"),
    ],
)
def test_figures_get_places_and_the_form_a_name(
    text: str, name: str, form: str, digits: str
) -> None:
    found = free_expression(text, KNOWN)
    assert (found.form.name, found.form.expression) == (name, form)
    assert " ".join(found.digits) == digits
    assert found.form.percent == (name in ("growth", "share"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("120", "no operator"),
        ("-120", "no operator"),
        ("120 / 777", "do not have 777"),
        ("120 + 5,000", "do not have 5,000"),
        ("80 + 360", "has 1 figures"),
        ("2 * 3", "has 1 figures"),
        ("365 / 12 * 100", "has 0 figures"),
        (" + ".join(["120", "80", "5", "7"] * 4) + " + 777", "do not have 777"),
        ("8'h0", "cannot be read"),
        ("30 June 2026 - 45 days", "not an arithmetic"),
        ("120 + 80 = 200", "not an arithmetic"),
        ("120 + True", "not an arithmetic"),
        ("120 - 80 + 'x'", "not an arithmetic"),
        ("120 - 80 + ' 5 '", "not an arithmetic"),
        ("120 - 80 + None", "not an arithmetic"),
        ("revenue + 120 - 80", "not an arithmetic"),
        ("open(120) + 80", "not an arithmetic"),
        ("120 + {80: 5}", "not an arithmetic"),
        ("120 + [80][5]", "not an arithmetic"),
        ("120 .real + 80", "not an arithmetic"),
        ("", "not an arithmetic"),
        ("120 + " * 2000, "more than 400 characters"),
    ],
)
def test_anything_else_is_refused(text: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        free_expression(text, KNOWN)


def test_more_figures_than_twelve_are_refused() -> None:
    many = [str(number) for number in range(20, 33)]
    assert len(free_expression(" + ".join(many[1:]), many).digits) == 12
    with pytest.raises(ExpressionError, match="13 figures"):
        free_expression(" + ".join(many), many)


@pytest.mark.parametrize(
    ("text", "expression", "result", "unit"),
    [
        (TEXT, "(120 - 100) / 100 * 100", "20.0 %", "%"),
        (TEXT, "(120 / 100 - 1) * 100", "20.0 %", "%"),
        (TEXT, "120 + 100", "220 euros", "EUR"),
        (TEXT, "(100 + 120) / 2", "110.0 euros", "EUR"),
        (TEXT, "120 / 100", "1.20", ""),
        (TEXT, "2019 - 2018", "1", ""),
        ("It had 2.8 million users, then 1.4 million users.", "2.8 - 1.4", "1.4 million", ""),
        ("It had 2 million users, then 8 and 4.", "(8 + 4) / 2", "6.0", ""),
        ("A loss of (4,913), then 3,000.", "3,000 - (-4,913)", "7,913", ""),
        ("A change of -4,913, then 3,000.", "(-4,913) + 3,000", "-1,913", ""),
        ("It is 14 %, not 12 %.", "14 - 12", "2 percentage points", "percentage points"),
    ],
)
def test_the_document_gives_the_figures_their_units(
    text: str, expression: str, result: str, unit: str
) -> None:
    found = computed(text, expression)
    assert (found.result, found.unit) == (result, unit)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("A loss of (4,913), then 3,000.", "(-4,913) - 3,000"),
        ("A change of -4,913, then 3,000.", "(-4,913) - 3,000"),
        ("A change of -4,913, then 3,000.", "-4,913 - 3,000"),
    ],
)
def test_the_expression_and_not_the_document_gives_the_sign(text: str, expression: str) -> None:
    assert computed(text, expression).value == Decimal(-7913)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("120 euros and 5 dollars", "120 + 5"),
        ("120 and 0", "120 / 0"),
        ("5,000 of 20", "5,000 / 20 * 100"),
        ("9,999 and 8", "9,999 ** 8 * 8"),
        ("9,999 and 64", "9,999 ** 64 * 64"),
    ],
)
def test_values_that_cannot_be_are_refused(text: str, expression: str) -> None:
    with pytest.raises(ExpressionError):
        computed(text, expression)


@pytest.mark.parametrize(("asked", "unit"), [("rent", "EUR"), ("tickets", "USD")])
def test_of_two_places_the_one_about_the_question_counts(asked: str, unit: str) -> None:
    text = "The rent was 50 euros. The tickets were 50 dollars. Ada gave 20."
    assert computed(text, "50 - 20", f"How much were the {asked} less what Ada gave?").unit == unit


FIGURES = ("120", "80", "4,913", "1'204", "12.5 %", "$5", "2019", "365", "100", "1")
SIGNS = "+ - * / ** // ( ) { } [ ] , . ' : = ! min round if else lambda x None million days \\d"
PIECES = (*FIGURES, *SIGNS.split(), "\n", "\0")
RUBBISH = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)


@settings(max_examples=60)
@given(RUBBISH, st.booleans())
def test_random_text_raises_no_other_error(text: str, tight: bool) -> None:
    text = text.replace(" ", "") if tight else text
    document = " and ".join(FIGURES)
    try:
        found = computed(document, text)
    except ExpressionError:
        return
    assert found.result


@pytest.mark.parametrize(
    ("text", "known", "digits"),
    [
        ("2765 / 576000 * 100", ("2 765", "576 000"), ("2 765", "576 000")),
        (
            "166.326,570 - 143.126,000",
            ("166,326,570", "143,126,000"),
            ("166,326,570", "143,126,000"),
        ),
        ("1234.50 - 12", ("1,234.50", "12"), ("1,234.50", "12")),
    ],
)
def test_separators_are_those_of_the_document(
    text: str, known: tuple[str, ...], digits: tuple[str, ...]
) -> None:
    assert free_expression(text, known).digits == digits


def test_other_numbers_are_not_taken_for_those_of_the_document() -> None:
    for text, known in (("1.5 - 12", ("15", "12")), ("2765 - 12", ("2 765", "2,765", "12"))):
        with pytest.raises(ExpressionError, match="do not have"):
            free_expression(text, known)


def test_a_quotient_is_a_percentage_where_the_question_asks_for_one() -> None:
    known = ("178", "417")
    assert not free_expression("178 / 417", known).form.percent
    form = free_expression("178 / 417", known, asks_percent=True).form
    assert (form.percent, form.name) == (True, "share")
    assert free_expression("(178 - 417) / 417", known, asks_percent=True).form.name == "growth"
    assert not free_expression("178 - 417", known, asks_percent=True).form.percent


def test_a_figure_is_not_compared_with_itself() -> None:
    for text in ("122 / 122 * 100", "122 - 122"):
        with pytest.raises(ExpressionError, match="itself"):
            free_expression(text, ("122", "39"))


def test_figures_of_one_expression_have_one_scale() -> None:
    text = "The 143.1 of the plan: 166.3 million after 143.1 million. Margins were 5 % and 7 %."
    shown = computed(text, "166.3 - 143.1", "By how much did the plan grow?").sentence(0)
    assert shown == "23.2 million = 166.3 million - 143.1 million"
    with pytest.raises(ExpressionError, match="percentage beside"):
        computed(text, "166.3 - 5")
    assert computed(text, "7 - 5").sentence(0) == "2 percentage points = 7 % - 5 %"
