"""The nearest sentence shares more with a question than the words that many sentences have."""

from __future__ import annotations

import pytest

from nsa_cli.documents.text import read_text
from nsa_cli.results import Passage
from nsa_cli.retrieval.nearest import nearest_sentence

LEASE = (
    "Lease of a garden\n"
    "OFFER 2026-118\n"
    "1. The Tenant rents the garden from 1 March 2024.\n"
    "2. The Tenant pays 90 euros a month.\n"
    "3. The Tenant keeps no hens. Two rabbits are allowed.\n"
    "4. The Tenant lets the Owner in after notice of one day.\n"
    "5. The Owner insures the shed against fire.\n"
    "6. Contents of the shed ........ 9\n"
)


def nearest(question: str) -> str | None:
    document = read_text(LEASE.encode(), "a.txt")
    found = nearest_sentence(document, [Passage(start=0, end=len(LEASE), score=1.0)], question)
    return None if found is None else document.text[found[0] : found[1]]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("May the tenant keep a hen?", "3. The Tenant keeps no hens."),
        ("Is the shed insured against floods?", "5. The Owner insures the shed against fire."),
        ("May rabbits be sold?", "Two rabbits are allowed."),
    ],
)
def test_a_sentence_with_rare_words_is_near(question: str, sentence: str) -> None:
    assert nearest(question) == sentence


@pytest.mark.parametrize(
    "question",
    [
        "May the tenant have a dog?",
        "Is there a swimming pool?",
        "Wie hoch ist die Miete?",
        "Does the offer include a fountain?",
        "Why?",
    ],
)
def test_a_common_word_makes_no_sentence_near(question: str) -> None:
    assert nearest(question) is None


def test_without_passages_nothing_is_near() -> None:
    document = read_text(LEASE.encode(), "a.txt")
    assert nearest_sentence(document, [], "Is there a shed?") is None
