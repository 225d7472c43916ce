"""Computed questions: derivations of the data are checked, others are made from a table."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from nsa_cli.computing.expression import evaluate
from nsa_cli.computing.figures import numbers
from nsa_cli.computing.free_expression import free_expression
from nsa_cli.training.computations import Computation, computations
from nsa_cli.training.table_articles import table_text

YEARS = [
    ["", "2019", "2018", "2017"],
    ["Sales:", "1,452.4", "$1,146.2", "980.0"],
    ["Net income", "(210)", "320", "150"],
    ["Opened in", "2011", "2011", "2012"],
    ["Debt", "-", "0.0", "77"],
    ["15", "3", "4", "5"],
]
CLUBS = [
    ["Club", "Founded", "Members", "Ended (year)"],
    ["Rowers", "1901", "410", "12"],
    ["Climbers", "1923", "95", "13"],
    ["Sailors", "1947", "120", "14"],
]
WORDS = {
    "growth": "percentage|percent,|growth rate|many percent",
    "difference": "difference|By how much|higher or lower|more|greater",
    "sum": "together|in total|sum",
    "mean": "average",
    "ratio": "ratio|times as large|per unit",
    "share": "percent|share",
}


def row(table: Any, *questions: Any) -> dict[str, Any]:
    return {"table": table, "paragraphs": ["In thousands."], "questions": list(questions)}


def asked(derivation: str, *answers: str) -> dict[str, Any]:
    return {
        "question": "Q?",
        "answers": list(answers),
        "kind": "arithmetic",
        "derivation": derivation,
    }


def found(table: Any, *questions: Any, seed: int = 1) -> tuple[Computation, ...]:
    each = row(table, *questions)
    return computations(each, table_text(each, seed), seed)


def made(table: Any) -> list[Computation]:
    return [each for seed in range(60) for each in found(table, seed=seed)]


@pytest.mark.parametrize(
    ("derivation", "answer", "expression"),
    [
        ("1,452.4 - 1,146.2", "306.2", "1,452.4 - 1,146.2"),
        ("[1,452.4+1,146.2]/2", "1,299.3", "(1,452.4 + 1,146.2) / 2"),
        ("(1,452.4-1,146.2)/1,146.2", "26.71", "(1,452.4 - 1,146.2) / 1,146.2 * 100"),
        ("(1,452.4-1,146.2)/1,146.2", "0.2671", "(1,452.4 - 1,146.2) / 1,146.2"),
        ("$320 / 150", "2.13", "320 / 150"),
        ("-(210) - 320", "-530", "-210 - 320"),
        ("1,452.4/1,146.2 - 1", "0.267", "1,452.4 / 1,146.2 - 1"),
        ("1,452.4/1,146.2 - 1", "26.7", None),
        ("1,452.4 - 1,146.2", "300", None),
        ("1,452.4 - 1,000", "452.4", None),
        ("1,452.4 - sales", "306.2", None),
        ("1,452.4 / 0.0", "0", None),
        ("", "306.2", None),
        ("1,452.4 - 1,146.2", "about 306", None),
    ],
)
def test_a_derivation_is_kept_if_it_gives_the_answer(
    derivation: str, answer: str, expression: str | None
) -> None:
    given = [
        each.expression for each in found(YEARS, asked(derivation, answer)) if each.question == "Q?"
    ]
    assert given == ([] if expression is None else [expression])


def test_only_arithmetic_questions_with_one_answer_are_taken() -> None:
    sure = asked("320 - 150", "170")
    others = [{**sure, "kind": "span"}, asked("320 - 150", "170", "171")]
    assert [each.question for each in found(YEARS, *others, sure)].count("Q?") == 1


def cell(table: Any, label: str, column: str) -> Decimal:
    """The figure of a table, by the label of its row and of its column."""
    [cells] = [each for each in table if each[0].strip(":").casefold() == label.casefold()]
    text = cells[table[0].index(column)].strip("$")
    return Decimal(text.strip("()").replace(",", "")) * (-1 if "(" in text else 1)


def expected(question: str, table: Any) -> Decimal:
    """The answer by the words of a made question, from the cells that it names."""
    years = sorted(re.findall(r"\b20\d\d\b", question))
    labels = [
        each[0].strip(":")
        for each in table[1:]
        if each[0].strip(":").casefold() in question.casefold()
    ]
    labels.sort(key=lambda each: question.casefold().index(each.casefold()))
    if table is CLUBS:
        a, b = (cell(table, label, "Members") for label in labels)
    elif len(years) == 2:
        b, a = (cell(table, labels[0], year) for year in years)
    else:
        # What is compared stands first, except in the questions that begin with the whole.
        a, b = (cell(table, label, years[0]) for label in labels)
        if re.match(r"What (?:percentage|share) of", question):
            a, b = b, a
    change = len(years) == 2 and re.search(WORDS["growth"], question)
    if change:
        return (a - b) / b * 100
    for name, value in (
        ("ratio", a / b), ("share", a / b * 100), ("sum", a + b), ("mean", (a + b) / 2),
    ):  # fmt: skip
        if re.search(WORDS[name], question):
            return value
    assert re.search(WORDS["difference"], question), question
    return a - b


@pytest.mark.parametrize("table", [YEARS, CLUBS], ids=["years", "lines"])
def test_made_questions_compute_what_the_table_says(table: Any) -> None:
    some = made(table)
    assert len({each.question for each in some}) > 20
    for each in some:
        value = evaluate(each.expression).value
        assert abs(value - expected(each.question, table)) < Decimal("1e-9"), each


@pytest.mark.parametrize("table", [YEARS, CLUBS], ids=["years", "lines"])
def test_made_expressions_are_those_that_the_program_reads(table: Any) -> None:
    each = row(table)
    for seed in range(20):
        text = table_text(each, seed)
        if not re.search(r"  |[|\t]", text):
            continue  # two figures with a space between them may be one
        known = {figure.digits for figure in numbers(text)}
        for one in computations(each, text, seed):
            assert free_expression(one.expression, known).digits


def test_years_zeros_and_dashes_are_no_figures() -> None:
    for each in made(YEARS):
        assert not re.search(r"\b20\d\d\b|\b0\.0", each.expression), each
        assert not each.question.startswith("15")
    for each in made(CLUBS):
        assert not re.search(r"\b19\d\d\b|\b1[234]\b", each.expression), each


def test_a_table_without_figures_or_rows_has_none() -> None:
    assert not found([["Name", "Town"], ["Ada", "Rome"], ["Bo", "Oslo"]])
    assert not found([])
    assert not found([["", "2019", "2018"]])


def test_the_same_seed_makes_the_same_questions() -> None:
    assert found(YEARS, seed=3) == found(YEARS, seed=3)
    assert len({found(YEARS, seed=seed) for seed in range(5)}) > 1
    assert max(len(found(YEARS * 6, seed=seed)) for seed in range(3)) <= 8
