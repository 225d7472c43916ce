"""Questions whose answer is computed from the figures of a table, with the expression.

Some come with the data, as derivations; others are made from rows and columns of figures.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from nsa_cli.computing.expression import ExpressionError, evaluate_figures, parse
from nsa_cli.computing.free_expression import CONSTANTS

_MADE = 8
"""Maximum questions that are made from one table."""

_CLOSE = Decimal("0.006")
"""Relative difference up to which a derivation gives the answer: answers are rounded."""

_YEAR = re.compile(r"(?:19|20)\d\d")
_FIGURE = re.compile(r"[$€£]?\s?\(?\d[\d,]*(?:\.\d+)?\)?\s?%?")
_LABEL = re.compile(r"[^\W\d_][^\n#|]*[^\W\d_]{2}[^\n#|]*")
_LONGEST_LABEL = 60
_NO_AMOUNT = re.compile(
    r"\b(?:years?|dates?|days?|no|number|rank|season|round|ended)\b", re.IGNORECASE
)
"""Headers of columns whose figures cannot be added or compared in a useful way."""

_OF_TWO_YEARS = (
    ("growth", "By what percentage did {row} change from {y0} to {y1}?"),
    ("growth", "By how many percent did {row} grow between {y0} and {y1}?"),
    ("growth", "What was the growth rate of {row} from {y0} to {y1}?"),
    ("growth", "How much, in percent, did {row} rise or fall in {y1} compared with {y0}?"),
    ("growth", "What is the percentage change in {row} between {y0} and {y1}?"),
    ("difference", "By how much did {row} change from {y0} to {y1}?"),
    ("difference", "How much higher or lower was {row} in {y1} than in {y0}?"),
    ("difference", "What is the difference in {row} between {y1} and {y0}?"),
    ("difference", "How much more was {row} in {y1} than in {y0}?"),
    ("sum", "What was {row} in {y0} and {y1} together?"),
    ("sum", "How much was {row} over the two years {y0} and {y1} in total?"),
    ("mean", "What was the average {row} of {y0} and {y1}?"),
    ("mean", "What was {row} on average in {y0} and {y1}?"),
    ("ratio", "What is the ratio of {row} in {y1} to {y0}?"),
    ("times", "How many times as large was {row} in {y1} as in {y0}?"),
)
_OF_TWO_ROWS = (
    ("share", "What percentage of {other} was {row} in {y1}?"),
    ("share", "What share of {other} did {row} make up in {y1}?"),
    ("share", "{row} was what percent of {other} in {y1}?"),
    ("difference", "By how much did {row} exceed {other} in {y1}?"),
    ("difference", "What is the difference between {row} and {other} in {y1}?"),
    ("sum", "How much were {row} and {other} together in {y1}?"),
    ("sum", "What is the sum of {row} and {other} for {y1}?"),
    ("ratio", "What was the ratio of {row} to {other} in {y1}?"),
    ("per", "How much {row} was there per unit of {other} in {y1}?"),
)
_OF_TWO_LINES = (
    ("difference", "How much greater is the {column} of {row} than that of {other}?"),
    ("difference", "What is the difference in {column} between {row} and {other}?"),
    ("difference", "How many more {column} does {row} have than {other}?"),
    ("sum", "What is the {column} of {row} and {other} together?"),
    ("times", "How many times as large is the {column} of {row} as that of {other}?"),
    ("mean", "What is the average {column} of {row} and {other}?"),
    ("share", "What is the {column} of {row} as a percentage of that of {other}?"),
)
_EXPRESSIONS = {
    "growth": "({a} - {b}) / {b} * 100",
    "difference": "{a} - {b}",
    "sum": "{b} + {a}",
    "mean": "({b} + {a}) / 2",
    "ratio": "{a} / {b}",
    "times": "{a} / {b}",
    "share": "{a} / {b} * 100",
    "per": "{a} / {b}",
}


@dataclass(frozen=True, slots=True)
class Computation:
    """A question with the expression that computes its answer from the figures of a text."""

    question: str
    expression: str


def computations(row: Any, text: str, seed: int) -> tuple[Computation, ...]:
    """Return the computed questions about a table: those of the data, and made ones.

    Args:
        row: A line of the data, with `table` and `questions`; see `read_table_articles`.
        text: The text of the table, as a model reads it.
        seed: The same seed makes the same questions.
    """
    rng = random.Random(f"computations {seed}")
    given = list(_given(row["questions"], text))
    made = list(_made([[str(cell).strip() for cell in cells] for cells in row["table"]], rng))
    rng.shuffle(made)
    return (*given, *made[:_MADE])


def _given(questions: Any, text: str) -> Iterator[Computation]:
    for asked in questions:
        if asked["kind"] != "arithmetic" or len(asked["answers"]) != 1:
            continue
        expression = _expression(str(asked["derivation"]), str(asked["answers"][0]), text)
        if expression is not None:
            yield Computation(str(asked["question"]), expression)


def _expression(derivation: str, answer: str, text: str) -> str | None:
    """A derivation as the program writes expressions; None if it does not give the answer."""
    plain = derivation.translate(str.maketrans("[]", "()", "$£€"))
    try:
        tree, figures = parse(plain)
        value = evaluate_figures(tree, figures).value
        gold = Decimal(answer.replace(",", ""))
    except (ExpressionError, InvalidOperation):
        return None
    digits = [each.digits for each in figures]
    if any(each not in text and each not in CONSTANTS for each in digits):
        return None
    times = next((each for each in (1, 100) if _is_close(value * each, gold)), None)
    if times is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = _Digits(digits[int(str(node.value))])
    written = ast.unparse(tree)
    if times == 1:
        return written
    return f"{written} * 100" if isinstance(tree, ast.BinOp) and _binds(tree) else None


def _binds(tree: ast.BinOp) -> bool:
    """Whether `* 100` after an expression applies to all of it."""
    return isinstance(tree.op, (ast.Div, ast.Mult))


class _Digits(int):
    """A constant that is written with its digits."""

    def __new__(cls, digits: str) -> _Digits:
        made = super().__new__(cls, 0)
        made.digits = digits
        return made

    digits: str

    def __repr__(self) -> str:
        return self.digits


def _is_close(value: Decimal, gold: Decimal) -> bool:
    return abs(value - gold) <= max(_CLOSE * abs(gold), Decimal("0.011"))


def _made(table: Sequence[Sequence[str]], rng: random.Random) -> Iterator[Computation]:
    """Questions from the rows and columns of a table."""
    header = next((n for n, cells in enumerate(table) if _years(cells)), None)
    if header is not None:
        yield from _of_years(_years(table[header]), table[header + 1 :], rng)
    elif len(table) > 2:
        yield from _of_lines(table[0], table[1:], rng)


def _years(cells: Sequence[str]) -> dict[int, str]:
    """Columns whose header is a year; none for a single year, or for one that stands twice."""
    found = {n: m.group() for n, cell in enumerate(cells) if (m := _YEAR.fullmatch(cell))}
    return found if 2 <= len(found) == len({*found.values()}) else {}


def _of_years(
    years: dict[int, str], rows: Sequence[Sequence[str]], rng: random.Random
) -> Iterator[Computation]:
    named = [(cells[0], cells) for cells in rows if cells and _is_label(cells[0])]
    for label, cells in named:
        later, earlier = sorted(rng.sample(sorted(years), 2), key=lambda n: years[n], reverse=True)
        a, b = _figure(cells, later), _figure(cells, earlier)
        if a is None or b is None or b == a:
            continue
        form, words = rng.choice(_OF_TWO_YEARS)
        question = words.format(row=_inside(label), y0=years[earlier], y1=years[later])
        yield _computation(form, question, a, b)
        other, others = rng.choice(named)
        c = _figure(others, later)
        if other != label and c is not None and c != a:
            form, words = rng.choice(_OF_TWO_ROWS)
            question = words.format(row=_inside(label), other=_inside(other), y1=years[later])
            yield _computation(form, question, a, c)


def _of_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], rng: random.Random
) -> Iterator[Computation]:
    named = [(cells[0], cells) for cells in rows if cells and _is_label(cells[0])]
    columns = [
        n for n, cell in enumerate(header) if n and _is_label(cell) and not _NO_AMOUNT.search(cell)
    ]
    for label, cells in named:
        other, others = rng.choice(named)
        column = rng.choice(columns) if columns else 0
        a, b = _figure(cells, column), _figure(others, column)
        if not column or a is None or b is None or other == label or a == b:
            continue
        form, words = rng.choice(_OF_TWO_LINES)
        question = words.format(row=label, other=other, column=_inside(header[column]))
        yield _computation(form, question, a, b)


def _computation(form: str, question: str, a: str, b: str) -> Computation:
    expression = _EXPRESSIONS[form].format(a=a, b=b)
    return Computation(question[0].upper() + question[1:], expression)


def _is_label(cell: str) -> bool:
    return len(cell) <= _LONGEST_LABEL and _LABEL.fullmatch(cell) is not None


def _inside(label: str) -> str:
    """A label inside a sentence: without a colon, a single capital at its beginning small."""
    bare = label.strip(" :.")
    return bare[0].lower() + bare[1:] if bare[1:2].islower() else bare


def _figure(cells: Sequence[str], column: int) -> str | None:
    """The figure of a cell as an expression has it; None without one, or if it is zero."""
    cell = cells[column] if column < len(cells) else ""
    if not _FIGURE.fullmatch(cell) or _YEAR.fullmatch(cell):
        return None
    digits = cell.strip("$€£ ()%")
    if not digits.strip("0.,"):
        return None
    return f"(-{digits})" if "(" in cell else digits
