"""Which quotes may state the result that a question for arithmetic asks for."""

from __future__ import annotations

import pytest

from nsa_cli.computing.stated import states_result

SHARE = "What share of the boats is red?"
GROWTH = "By what percentage did the catch grow?"


@pytest.mark.parametrize(
    ("question", "answer", "quote", "states"),
    [
        ("Who owns the boats?", "Ada", "Ada owns the boats.", True),
        (SHARE, "12 %", "Red are 12 % of the boats.", True),
        (SHARE, "12", "Red are 12 % of the boats.", False),
        (SHARE, "12 boats", "Twelve boats are red.", False),
        (GROWTH, "12 %", "The catch grew by 12 % in spring.", True),
        (GROWTH, "12 %", "Nets 12 % of all costs, hooks 9 %", False),
        ("What is the fee per ton?", "$2", "The fee is $2 per ton.", True),
        ("What is the fee per ton?", "$2 per ton", "Fee: $2", True),
        ("What is the fee per ton?", "$900", "Fees came to $900.", False),
        ("Which boat is larger, and by how much?", "The red one.", "The red boat has 9 m.", False),
        ("Which boat grew, and by how much?", "Red, by 9 m.", "The red boat grew by 9 m.", True),
        ("Which boat has the largest crew?", "The red one.", "Red boat, crew 9, 12 m", False),
        ("Which boat has the largest crew?", "Red.", "The red boat has the largest crew.", True),
        ("Which boat sails most?", "The red one.", "Red sailed 90 days, blue 70.", False),
        ("Which boat sails most?", "The red one.", "The red boat sails more than any other.", True),
        ("Welches Boot ist am größten?", "Das rote.", "Rotes Boot: 12 m", False),
        ("Wer zahlt den höchsten Beitrag?", "Ada", "Den höchsten Beitrag zahlt Ada.", True),
        ("Quel bateau est le plus long ?", "Le rouge.", "Bateau rouge : 12 m", False),
        ("How many may sail at most?", "Nine.", "Up to nine may sail.", True),
        ("How many must sail at the least?", "Nine.", "Nine or more must sail.", True),
        ("How much of the most of days is paid?", "Half.", "Half is paid.", True),
        ("Liegt A über B, und um welchen Betrag?", "Ja, 9 Euro.", "A kostet 9 Euro.", False),
    ],
)
def test_a_result_is_stated_in_its_words(
    question: str, answer: str, quote: str, states: bool
) -> None:
    assert states_result(question, answer, quote) == states
