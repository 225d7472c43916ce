"""A result is written as its figures are, with their scale, currency and decimals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from nsa_cli.computing.calculation import calculate
from nsa_cli.computing.captions import Caption
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.figures import figures
from nsa_cli.computing.forms import form_of

DIFFERENCE = "By how much did it rise?"
GROWTH = "By what percentage did it rise?"


@pytest.mark.parametrize(
    ("question", "text", "sentence"),
    [
        (DIFFERENCE, "$1,204 million; $930 million",
         "$274 million = $1,204 million - $930 million"),
        (DIFFERENCE, "1.5 billion euros; 900 million euros",
         "0.600 billion euros = 1.5 billion euros - 900 million euros"),
        (DIFFERENCE, "3,90 €; 3,2 €", "0,70 € = 3,90 € - 3,2 €"),
        (DIFFERENCE, "1.50; 2.25", "-0.75 = 1.50 - 2.25"),
        (GROWTH, "12; 11.9", "0.84 % = (12 - 11.9) / 11.9"),
        (GROWTH, "2; 1", "100.0 % = (2 - 1) / 1"),
        ("What is the ratio of debt to equity?", "2; 3", "0.67 = 2 / 3"),
        ("What were the fees per member?", "1,000 euros; 3", "333.33 euros = 1,000 euros / 3"),
    ],
)  # fmt: skip
def test_sentences(question: str, text: str, sentence: str) -> None:
    form = form_of(question)
    assert form is not None
    assert calculate(form, list(figures(text))).sentence(0) == sentence


def test_a_caption_scales_the_value_and_is_told() -> None:
    form, caption = form_of(DIFFERENCE), Caption("in thousands of dollars", Decimal(1000), "usd")
    assert form is not None
    found = calculate(form, list(figures("8,120 7,455")), caption)
    assert (found.value, found.unit) == (665_000, "USD")
    assert found.sentence(2) == "665 (in thousands of dollars) = 8,120 - 7,455 [1] [2]"
    ratio = form_of(GROWTH)
    assert ratio is not None
    assert calculate(ratio, list(figures("8,120 7,455")), caption).result == "8.9 %"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What share of the fees came from coal?", "22 of 17"),
        ("What share of all costs was rent?", "1 of 100,000"),
        ("By what percentage did dues grow from 2014 to 2015?", "36,135 and 3.2"),
    ],
)
def test_implausible_values_are_refused(question: str, text: str) -> None:
    form = form_of(question)
    assert form is not None
    with pytest.raises(ExpressionError, match="percent"):
        calculate(form, list(figures(text)))


def test_a_figure_is_taken_once() -> None:
    form = form_of("By how much did sales exceed costs?")
    assert form is not None
    [figure] = figures("8,432")
    with pytest.raises(ExpressionError, match="twice"):
        calculate(form, [figure, figure])


def test_a_share_and_a_growth_within_bounds_are_computed() -> None:
    share, growth = (
        form_of("What share of all costs was rent?"),
        form_of("By what percentage did dues grow from 2014 to 2015?"),
    )
    assert share is not None
    assert growth is not None
    assert calculate(share, list(figures("17 of 22"))).result == "77.3 %"
    assert calculate(growth, list(figures("284 and 100"))).result == "184.0 %"
