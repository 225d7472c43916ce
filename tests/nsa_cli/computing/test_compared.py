"""Which of two has more, and by how much: the name with a positive amount, or no expression."""

from __future__ import annotations

import pytest

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.calculated import calculated
from nsa_cli.computing.choice import Span
from nsa_cli.computing.compared import alternatives, compares
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.documents.build import join_documents
from nsa_cli.documents.text import read_text

RENT = (
    "Costs of the year\n"
    "Rent of the mill, Harbor Street: 14,200 euros\n"
    "Rent of the bakery, Long Lane: 9,700 euros\n"
)


def computed(text: str, question: str, expression: str) -> str:
    asked = asked_form(question)
    assert asked is not None
    document = read_text(text.encode(), "a.txt")
    found = calculated(expression, asked, question, document, [Span(0, len(document.text))])
    return found.calculation.sentence(0)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Who paid more, Shell or BP, and by how much?", ("Shell", "BP")),
        (
            "Did the north plant or the south plant use more, and by how much?",
            ("the north plant", "the south plant"),
        ),
        ("Which is dearer, a chair or a stool, and by how many euros?", ("a chair", "a stool")),
        ("War die Miete in Bonn oder Kiel höher, und um wie viel?", None),
        ("Wo kostet es mehr, in Bonn oder in Kiel, und um wie viel?", ("Bonn", "Kiel")),
        ("Qui a payé plus, Anna ou Marc, et de combien ?", ("Anna", "Marc")),
        ("Who paid more, Ann or Bo, and by roughly how much?", ("Ann", "Bo")),
        ("Who paid more, Ann or Bo, and how big is the gap?", ("Ann", "Bo")),
        ("Which team has more members, and by how many?", None),
    ],
)
def test_names_of_a_question(question: str, names: tuple[str, str] | None) -> None:
    assert compares(question)
    found = alternatives(question)
    assert found == names or (names is None and (found is None or len(found[0].split()) > 2))


@pytest.mark.parametrize(
    "question",
    [
        "How much more did the mill pay than the bakery?",
        "Who paid more, the mill or the bakery?",
        "By how much did the rent grow?",
    ],
)
def test_other_questions_compare_nothing_by_name(question: str) -> None:
    assert not compares(question)


@pytest.mark.parametrize("expression", ["14,200 - 9,700", "9,700 - 14,200"])
@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Who pays more rent, the mill or the bakery, and by how much?", "the mill"),
        ("Who pays more rent, the bakery or the mill, and by how much?", "the mill"),
        ("Which pays less rent, the bakery or the mill, and by how much?", "the bakery"),
        ("Does the mill or the bakery pay more rent, and by how much?", "the mill"),
    ],
)
def test_the_name_and_a_positive_amount(question: str, name: str, expression: str) -> None:
    assert computed(RENT, question, expression) == (
        f"{name}: 4,500 euros = 14,200 euros - 9,700 euros"
    )


@pytest.mark.parametrize(
    ("text", "question", "expression", "answer"),
    [
        (
            "Bonn: Miete 820 Euro\nKiel: Miete 640 Euro\n",
            "Wo ist die Miete höher, in Kiel oder in Bonn, und um wie viel?",
            "640 - 820",
            "Bonn: 180 Euro = 820 Euro - 640 Euro",
        ),
        (
            "Anna : 45 euros\nMarc : 70 euros\n",
            "Qui a payé plus, Anna ou Marc, et de combien ?",
            "45 - 70",
            "Marc: 25 euros = 70 euros - 45 euros",
        ),
        (
            "Team   2023   2024\nRed   31   44\nBlue   52   57\n",
            "Who had more members in 2024, Red or Blue, and by how many?",
            "44 - 57",
            "Blue: 13 = 57 - 44",
        ),
        (
            "In May the choir sold 310 tickets, and the theater sold 275 tickets.\n",
            "Which sold more in May, the theater or the choir, and by how many tickets?",
            "275 - 310",
            "the choir: 35 = 310 - 275",
        ),
    ],
)
def test_tables_prose_and_languages(text: str, question: str, expression: str, answer: str) -> None:
    assert computed(text, question, expression) == answer


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("Rent: 14,200 euros\nRent: 9,700 euros\n", "14,200 - 9,700"),
        (RENT, "14,200 / 9,700"),
        ("Rent of the mill: 9,700 euros\nRent of the bakery: 9,700 euros\n", "9,700 - 9,700"),
    ],
)
def test_an_expression_that_tells_no_name_is_refused(text: str, expression: str) -> None:
    question = "Who pays more rent, the mill or the bakery, and by how much?"
    with pytest.raises(ExpressionError):
        computed(text, question, expression)


def test_a_question_that_names_no_two_has_no_form() -> None:
    assert asked_form("Which of them got the higher score, and by how many points?") is None


@pytest.mark.parametrize("expression", ["14,200 - 9,700", "9,700 - 14,200"])
def test_more_than_another_one_is_a_positive_amount(expression: str) -> None:
    question = "Was the rent of the mill higher than that of the bakery, and by how much?"
    assert computed(RENT, question, expression) == "4,500 euros = 14,200 euros - 9,700 euros"


@pytest.mark.parametrize("expression", ["14,200 + 9,700", "14,200 / 9,700"])
def test_more_than_another_one_is_a_difference(expression: str) -> None:
    question = "Was the rent of the mill higher than that of the bakery, and by how much?"
    with pytest.raises(ExpressionError):
        computed(RENT, question, expression)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            "Which sum is higher, that of the offer or that of the bill, and by how much?",
            "the bill: 2,855 euros = 34,255 euros - 31,400 euros",
        ),
        (
            "Which sum is lower, that of the offer or that of the bill, and by how much?",
            "the offer: 2,855 euros = 34,255 euros - 31,400 euros",
        ),
    ],
)
def test_files_tell_whose_a_figure_is(question: str, expected: str) -> None:
    texts = {"offer.txt": "Roofer 4\nSum: 31,400 euros\n", "b.txt": "BILL 3\nSum: 34,255 euros\n"}
    files = [read_text(text.encode(), name) for name, text in texts.items()]
    document, asked = join_documents(files, "two"), asked_form(question)
    assert asked is not None
    spans = [Span(0, len(document.text))]
    found = calculated("34,255 - 31,400", asked, question, document, spans)
    assert found.calculation.sentence(0) == expected
