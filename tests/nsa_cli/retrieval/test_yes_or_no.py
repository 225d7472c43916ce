"""A sentence gives a yes or a no only where it says what is asked of the same thing."""

from __future__ import annotations

import pytest

from nsa_cli.documents.text import read_text
from nsa_cli.results import Passage
from nsa_cli.retrieval.yes_or_no import Told, is_contrary_to, told_yes_or_no

WARRANTY = (
    "The warranty lasts two years. It covers the pump and the motor. Wearing parts such as filters "
    "are not covered. Damage by frost is excluded from the warranty. Repairs are paid by the buyer "
    "after that time.\n"
)
LEASE = (
    "The tenant pays for water. The tenant does not pay for the heating. Smoking is not allowed in "
    "the staircase. No dogs are allowed. Cats may be kept. Bicycles are stored in the cellar. "
    "Subletting is allowed only with the consent of the landlord. Visitors may park in the yard. "
    "Visitors may not park in the yard on Sundays.\n"
)
CLUB = (
    "The insurance of the club covers accidents in the pool. Glasses and watches are not covered.\n"
)
OFFER = (
    "Kessler Roofing offers a new roof. The price is fixed. Damage to the garden is not covered by "
    "our insurance. The insurance of the owners covers fire.\n"
)
OTHERS = (
    "Hunde sind im Haus nicht erlaubt. Katzen sind im Haus erlaubt.\n"
    "Les chiens ne sont pas admis dans l’immeuble.\n"
)


def told(text: str, question: str) -> tuple[str, str] | None:
    document = read_text(text.encode(), "a.txt")
    found = told_yes_or_no(document, [Passage(start=0, end=len(text), score=1.0)], question)
    return None if found is None else (found.word, document.text[found.start : found.end])


@pytest.mark.parametrize(
    ("text", "question", "word", "sentence"),
    [
        (WARRANTY, "Does the warranty cover filters?", "No", "Wearing parts such as filters"),
        (WARRANTY, "Is damage by frost excluded from the warranty?", "Yes", "Damage by frost"),
        (CLUB, "Does the insurance of the club cover glasses?", "No", "Glasses and watches"),
        (OFFER, "Does the insurance of the roofer cover damage to the garden?", "No", "Damage to"),
        (LEASE, "Does the tenant pay for the heating?", "No", "The tenant does not pay"),
        (LEASE, "Does the tenant pay for water?", "Yes", "The tenant pays for water."),
        (LEASE, "Is smoking allowed in the staircase?", "No", "Smoking is not allowed"),
        (LEASE, "Are dogs allowed?", "No", "No dogs are allowed."),
        (LEASE, "Are cats allowed?", "Yes", "Cats may be kept."),
        (LEASE, "May bicycles be stored in the cellar?", "Yes", "Bicycles are stored"),
        (OTHERS, "Sind Hunde im Haus erlaubt?", "Nein", "Hunde sind im Haus nicht"),
        (OTHERS, "Sind Katzen im Haus erlaubt?", "Ja", "Katzen sind im Haus erlaubt."),
        (OTHERS, "Est-ce que les chiens sont admis dans l’immeuble ?", "Non", "Les chiens ne"),
    ],
)
def test_a_sentence_gives_yes_or_no(text: str, question: str, word: str, sentence: str) -> None:
    found = told(text, question)
    assert found is not None
    assert found[0] == word
    assert found[1].startswith(sentence)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (WARRANTY, "Does the warranty cover hail damage?"),
        (WARRANTY, "Does the warranty cover the display?"),
        (WARRANTY, "Does the seller cover filters?"),  # nothing before tells of a seller
        (WARRANTY, "Does the seller pay for repairs?"),
        (CLUB, "Does the insurance of the club cover phones?"),
        (OFFER, "Does the insurance of the painter cover damage to the garden?"),
        (OFFER, "Does the insurance of the roofer cover damage to the fence?"),
        (LEASE, "Does the landlord pay for the heating?"),
        (LEASE, "Does the tenant pay for the garage?"),
        (LEASE, "Is smoking allowed on the balcony?"),
        (LEASE, "Are dogs or cats allowed?"),
        (LEASE, "Is subletting allowed?"),  # it depends
        (LEASE, "May visitors park in the yard?"),  # two sentences disagree
        (LEASE, "Is there a swimming pool?"),
        (LEASE, "Who may park in the yard?"),
        (LEASE, "Does the tenant pay 50 euros for water?"),
        ("Ms. Abt asked whether beehives may be set up.", "May beehives be set up?"),
        ("Frau Abt fragte, ob Bienenstöcke erlaubt sind.", "Sind Bienenstöcke erlaubt?"),
    ],
)
def test_other_questions_get_neither(text: str, question: str) -> None:
    assert told(text, question) is None


@pytest.mark.parametrize(
    ("word", "answer", "contrary"),
    [
        ("No", "Yes, glasses are covered.", True),
        ("Yes", "No.", True),
        ("Nein", "Ja, das ist erlaubt.", True),
        ("No", "No, they are not.", False),
        ("Yes", "Yes.", False),
        ("No", "Glasses are not covered.", False),
    ],
)
def test_the_contrary_of_a_yes_is_a_no(word: str, answer: str, contrary: bool) -> None:
    assert is_contrary_to(Told(word, 0, 1), answer) is contrary
