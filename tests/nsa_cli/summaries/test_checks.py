"""Checks of a sentence against its source."""

from __future__ import annotations

import pytest

from nsa_cli.summaries.checks import (
    first_sentence,
    is_whole,
    keeps_duties,
    keeps_facts,
    sentences_of,
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("The pier cost 4,200\ncrowns. It was new.", "The pier cost 4,200 crowns."),
        ("Version 3.0 of it was built in Rust", "Version 3.0 of it was built in Rust"),
        ("No. It was not built at all. Ever.", "No. It was not built at all."),
        ("This text says that either side may end it.", "Either side may end it."),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_sentences_of_an_answer() -> None:
    text = "The pier is new and long. It cost 4,200 crowns in all. It was"
    assert sentences_of(text) == ["The pier is new and long.", "It cost 4,200 crowns in all."]
    assert sentences_of("Document: a b c d e f g h i.") == []
    assert sentences_of(" \n") == []


@pytest.mark.parametrize(
    ("text", "whole"), [("It ends.", True), ("“It ends.”", True), ("It ends", False), ("", False)]
)
def test_a_whole_sentence(text: str, whole: bool) -> None:
    assert is_whole(text) == whole


@pytest.mark.parametrize(
    ("sentence", "source", "keeps"),
    [
        ("Rent is 1,200 crowns.", "The tenant pays 1,200 crowns a month.", True),
        ("Rent is paid monthly.", "The tenant pays 1,200 crowns a month.", False),
        ("It ends in 2028.", "It ends on 31 March 2028.", False),
        ("The end is March 31, 2028.", "It ends on 31 March 2028.", True),
        ("She keeps the roof dry.", "She must keep the roof dry.", False),
        ("She is required to keep the roof dry.", "She must keep the roof dry.", True),
        ("She must keep the roof dry.", "She keeps the roof dry.", False),
        ("She must store fuel.", "She must not store fuel.", False),
        ("Fuel is prohibited.", "She must not store fuel.", True),
    ],
)
def test_facts_are_kept(sentence: str, source: str, keeps: bool) -> None:
    assert keeps_facts(sentence, source) == keeps


def test_no_duty_is_made_up() -> None:
    assert keeps_duties("She pays.", "She must pay.")
    assert not keeps_duties("She must pay.", "She pays.")
