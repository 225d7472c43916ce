"""The one who does what a question for who asks is named beside its verb."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.agents import has_another_agent

FELT = "In May the felt roof is mended by Anders Holm; later Ida paints the shed, which Ole built."


@pytest.mark.parametrize(
    ("question", "answer", "passage", "another"),
    [
        ("Who mends the felt roof?", "Ida", FELT, True),
        ("Who mends the felt roof?", "Anders Holm", FELT, False),
        ("Who paints the shed?", "Ole paints the shed.", FELT, True),
        ("Who paints the shed?", "Ida paints the shed.", FELT, False),
        ("Who built the shed?", "Ida", FELT, True),
        ("Who built the shed?", "Ole", FELT, False),
        ("Who pays the fee?", "Ida", "As a rule Ole always pays the fee.", True),
        ("Who pays the fee?", "Ida", "Ole pays rent, Ida pays the fee.", False),
        ("Who pays the fee?", "Ole", "Ole pays rent, Ida pays the fee.", True),
        ("Who pays the fee?", "the owner", "1. The owner pays the fee.", False),
        ("Who pays the fee?", "Ida", "She came late. Then she paid the fee.", False),
        ("Wer zahlt die Miete?", "Berg", "Im Mai zahlt Frau Kranz die Miete an Berg.", False),
        ("Wer zahlt die Miete?", "Berg", "Wie Frau Kranz zahlt die Miete niemand.", True),
        ("Which fee does Ole pay?", "Ida", "Here Ole pays the fee.", False),
        ("Who?", "Ida", "Here Ole pays the fee.", False),
    ],
)
def test_another_agent(question: str, answer: str, passage: str, another: bool) -> None:
    assert has_another_agent(answer, question, passage) == another
