"""An expression of a model becomes a calculation with the figures of what was read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from nsa_cli.computing.asked_forms import suited
from nsa_cli.computing.calculation import Calculation, calculate
from nsa_cli.computing.captions import Caption, caption_of
from nsa_cli.computing.choice import FigureChoice, Span
from nsa_cli.computing.compared import (
    alternatives,
    compared,
    compares,
    compares_with,
    positive,
)
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.figures import Figure, numbers
from nsa_cli.computing.forms import Form
from nsa_cli.computing.free_expression import (
    FreeExpression,
    free_expression,
    without_signs,
)
from nsa_cli.computing.year_columns import change_of_row, of_one_row
from nsa_cli.documents import Document
from nsa_cli.retrieval.number_words import NUMBERS

_PART = r"[(]*\s*(?:[$€£]\s?)?\d(?:[\d.,'’]*\d)?\s?%?(?:\s?[$€£])?\s*[)]*"
_EXPRESSION = re.compile(rf"(?<![\w.,=]){_PART}(?:\s*[-−–+*×·/÷]\s*{_PART})+(?=\s*(?:=|≈))")
_WORD = re.compile(r"[^\W\d_]+")
_MONEY = re.compile(r"[$€£]")


class Calculated(NamedTuple):
    """A calculation with what its figures were chosen from.

    Attributes:
        choice: Tells the sentence of each figure.
        figures: The figures of the expression.
        calculation: The expression with its value.
    """

    choice: FigureChoice
    figures: list[Figure]
    calculation: Calculation


def calculated(
    text: str, asked: Form, question: str, document: Document, spans: Sequence[Span]
) -> Calculated:
    """Evaluate an expression of a model.

    Args:
        text: The expression.
        asked: The form that the question asks for.
        question: The question.
        document: The document.
        spans: What the model has read of it.

    Raises:
        ExpressionError: If it has a figure that the spans lack, is of another form, or has no
            plausible value.
    """
    known = {each.digits for span in spans for each in numbers(document.text, span.start, span.end)}
    expression = None
    if asked.name == "per":
        expression = _divided_by_a_word(text, known, question, document, spans)
    if expression is None:
        expression = free_expression(text, known, asks_percent=asked.percent)
    choice = FigureChoice(expression.form, question, document, spans)
    figures = without_signs(choice.placed(expression.digits))
    changed, figures = of_one_row(expression.form, figures, question, document, spans)
    form, name = suited(asked, changed, figures, question), ""
    if compares_with(question) and alternatives(question) is None:
        form = positive(form, figures)
    elif compares(question):
        form, name = compared(form, figures, question, document, choice)
    calculation = calculate(form, figures, caption_around(document, figures))
    if name:
        calculation = replace(calculation, result=f"{name}: {calculation.result}")
    if asked.percent and not calculation.is_percent:
        raise ExpressionError("the question asks for a percentage")
    return Calculated(choice, figures, calculation)


def calculated_from_row(
    asked: Form, question: str, document: Document, spans: Sequence[Span]
) -> Calculated | None:
    """Compute a change over time from one row of a table; None where no row tells it.

    Args:
        asked: The form that the question asks for.
        question: The question.
        document: The document.
        spans: What was read of it.

    Raises:
        ExpressionError: If it has no plausible value.
    """
    found = None if compares(question) else change_of_row(asked, question, document, spans)
    if found is None:
        return None
    form, figures = found
    choice = FigureChoice(form, question, document, spans)
    if choice.is_stated():
        return None
    form = suited(asked, form, figures, question)
    return Calculated(choice, figures, calculate(form, figures, caption_around(document, figures)))


def caption_around(document: Document, figures: Sequence[Figure]) -> Caption | None:
    """Return the caption that gives figures of one table their scale; None without one."""
    pages = {document.piece_at(each.start).start for each in figures}
    captions = [caption_of(document.text, max(pages), each.start) for each in figures]
    return captions[0] if len({*captions}) == 1 and len(pages) == 1 else None


def _divided_by_a_word(
    text: str, known: set[str], question: str, document: Document, spans: Sequence[Span]
) -> FreeExpression | None:
    """One figure divided by a number that its sentence has in words; None for any other."""
    in_words = {
        digits for span in spans for digits in _in_words(document.text, span.start, span.end)
    }
    try:
        found = free_expression(text, known - in_words, in_words=in_words)
    except ExpressionError:
        return None
    divisor = found.form.expression.removeprefix("{0} / ")
    if len(found.digits) != 1 or divisor not in in_words:
        return None
    choice = FigureChoice(found.form, question, document, spans)
    start, end = choice.sentence_of(choice.placed(found.digits)[0])
    return found if divisor in _in_words(document.text, start, end) else None


def _in_words(text: str, start: int, end: int) -> set[str]:
    """The digits of the number words of a part of a text: a course of ten lessons."""
    words = {word.casefold() for word in _WORD.findall(text, start, end)}
    return {str(NUMBERS[word]) for word in words if word in NUMBERS}


def expression_in(answer: str) -> str | None:
    """Return the only expression of an answer that goes on with its value; None without one.

    Args:
        answer: An answer in words, such as `It is 12 / 48 * 100% = 24%.`
    """
    found = [each.group().strip() for each in _EXPRESSION.finditer(answer)]
    if len(found) != 1:
        return None
    return _MONEY.sub("", found[0]).replace("100%", "100").replace("100 %", "100")
