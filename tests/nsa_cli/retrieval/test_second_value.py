"""Where a question asks for two values and the answer has one, the other one is found."""

from __future__ import annotations

import pytest

from nsa_cli.documents.text import read_text
from nsa_cli.results import Passage
from nsa_cli.retrieval.second_value import second_value


def other(text: str, question: str, answer: str) -> str | None:
    document = read_text(text.encode(), "a.txt")
    found = second_value(question, answer, document, [Passage(start=0, end=len(text), score=1.0)])
    return None if found is None else document.text[found[0] : found[1]]


HANDBOOK = (
    "Staff may carry over 5 days of unused leave into the next year.\n\n"
    "The oven is serviced every 6 months.\n\n"
    "Annex B. Up to 8 days of unused leave may be carried over.\n\n"
    "The canteen opens 200 days a year.\n"
)
CARRIED = "Annex B. Up to 8 days of unused leave may be carried over."


@pytest.mark.parametrize(
    "question",
    [
        (
            "How many days of unused leave may I carry over? The handbook and its annex disagree: "
            "give both."
        ),
        (
            "How much unused leave is carried over according to the handbook, and according to the "
            "annex?"
        ),
        "The text and the annex do not agree on the leave that is carried over. State the two.",
        (
            "How much unused leave may be carried over? Give the value of the text and that of the "
            "annex."
        ),
    ],
)
def test_the_other_place_is_found(question: str) -> None:
    assert other(HANDBOOK, question, "5 days") == CARRIED


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many days of unused leave may I carry over?", "5 days"),
        ("How much leave is carried over? Give both values.", "5 days, and 8 days in the annex"),
        ("How much leave is carried over? Give both values.", "The document has two rules."),
        ("How often is the oven serviced? Give both periods.", "Every 6 months."),
        ("Where does the 8 days of leave stand? Give both.", "5 days is in the text."),
    ],
)
def test_nothing_is_added_without_need(question: str, answer: str) -> None:
    assert other(HANDBOOK, question, answer) is None


@pytest.mark.parametrize(
    ("text", "question", "answer", "quote"),
    [
        (
            (
                "Die Kündigungsfrist beträgt laut Vertrag 3 Monate.\n\n"
                "Anlage 2: Für die Kündigung gilt eine Frist von 6 Monaten.\n"
            ),
            "Welche Kündigungsfrist gilt laut Vertrag und welche laut Anlage?",
            "3 Monate",
            "6 Monaten",
        ),
        (
            "Le délai de livraison est de 10 jours.\n\nAnnexe : livraison sous 15 jours.\n",
            "Quel est le délai de livraison ? Donnez les deux valeurs.",
            "10 jours",
            "15 jours",
        ),
        (
            "La garantía cubre 24 meses.\n\nAnexo: la garantía es de 36 meses.\n",
            "¿Cuánto dura la garantía según el contrato y el anexo? Indica ambos plazos.",
            "24 meses",
            "36 meses",
        ),
        (
            "The pump delivers 40 liters a minute.\n\nTable 3: flow of the pump, 35 liters.\n",
            "The text and the table contradict each other on the flow of the pump: which flows?",
            "40 liters",
            "35 liters",
        ),
        (
            (
                "The tenant reports damage within 14 days.\n\n"
                "The landlord repairs the damage within thirty days.\n"
            ),
            "How long has the tenant to report damage, and the landlord to repair it? Give both.",
            "14 days",
            "thirty days",
        ),
    ],
)
def test_other_topics_and_languages(text: str, question: str, answer: str, quote: str) -> None:
    found = other(text, question, answer)
    assert found is not None
    assert quote in found


def test_equal_rivals_are_not_guessed() -> None:
    text = "Leave: 5 days.\n\nSome leave of 8 days.\n\nSome leave of 9 days.\n"
    assert other(text, "How much leave? Give both values.", "5 days") is None


def test_the_part_of_a_sentence_decides() -> None:
    text = (
        "In May the fund trailed its index by 49 basis points.\n\n"
        "The fund trailed the index by 46 basis points in May; over the year by 29 basis points.\n"
    )
    asked = "By how much did the fund trail its index in May? The two places disagree: give both."
    found = other(text, asked, "49 basis points")
    assert found is not None
    assert "46 basis points in May" in found


def test_a_year_is_no_value() -> None:
    text = "The plan of 2019 says so.\n\nThe plan of 2021 says no.\n"
    assert other(text, "What do the plans say? Give both.", "The plan of 2019 says so.") is None
