"""A rule tells which questions ask for arithmetic, and in which form."""

from __future__ import annotations

import pytest

from nsa_cli.computing.forms import form_of


@pytest.mark.parametrize(
    ("question", "name", "expression"),
    [
        ("By how much did revenue grow from 2018 to 2019?", "difference", "{0} - {1}"),
        ("How many more visitors came in 2019 than in 2018?", "difference", "{0} - {1}"),
        ("What was the difference between rent and deposit?", "difference", "{0} - {1}"),
        ("Um wie viel stieg der Umsatz?", "difference", "{0} - {1}"),
        ("By what percentage did revenue grow?", "growth", "({0} - {1}) / {1}"),
        ("By how many percent is A larger than B?", "growth", "({0} - {1}) / {1}"),
        ("Um wie viel Prozent wuchs der Umsatz gegenüber 2020?", "growth", "({0} - {1}) / {1}"),
        ("By how many percentage points did the margin rise?", "points", "{0} - {1}"),
        ("What share of the employees works in research?", "share", "{0} / {1}"),
        ("Wie hoch ist der Anteil der Frauen an allen Mitgliedern?", "share", "{0} / {1}"),
        ("What was the ratio of debt to equity?", "ratio", "{0} / {1}"),
        ("How many times larger were the royalties than the taxes?", "ratio", "{0} / {1}"),
        ("What were the days sales outstanding?", "days", "365 * {0} / {1}"),
        ("What was the DSO on 360 days?", "days", "360 * {0} / {1}"),
        ("What were the fees per member in 2019?", "per", "{0} / {1}"),
        ("What do rent and service charge come to together?", "sum", "{0} + {1}"),
        ("How much are rent, heating and water together?", "sum", "{0} + {1} + {2}"),
        ("What was the average number of visitors from 2016 to 2018?", "mean",
         "({0} + {1} + {2}) / 3"),
    ],
)  # fmt: skip
def test_questions_that_ask_for_arithmetic(question: str, name: str, expression: str) -> None:
    form = form_of(question)
    assert form is not None
    assert (form.name, form.expression) == (name, expression)
    assert form.slots == len({part for part in "01234567" if f"{{{part}}}" in expression})


@pytest.mark.parametrize(
    "question",
    [
        "What was the revenue in 2019?",
        "Who paid for the pier, and when?",
        "What is the average age?",
        "How much is the rent per month?",
        "How many pages does the report have?",
        "Which firm paid more, and by how much?",
        "Why did sales fall?",
        "Who worked together with Ada and Grace?",
        "What is the difference?",
        "Does the landlord share the costs of repairs?",
        "Wie hoch ist die Miete?",
        "What is the late fee in percent?",
        "",
    ],
)
def test_other_questions_have_no_form(question: str) -> None:
    assert form_of(question) is None
