"""Checks of a sentence against its source."""

from __future__ import annotations

import pytest

from nsa_cli.summaries.checks import (
    covers,
    has_facts,
    is_list,
    is_meta,
    is_vague,
    is_whole,
    keeps_duties,
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
    assert next(iter(sentences_of(text)), "") == sentence


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
    assert (has_facts(sentence, source) and keeps_duties(sentence, source)) == keeps


def test_no_duty_is_made_up() -> None:
    assert keeps_duties("She pays.", "She must pay.")
    assert not keeps_duties("She must pay.", "She pays.")


@pytest.mark.parametrize(
    ("sentence", "source", "holds"),
    [
        ("The lease begins on 1 April 2023.", "The lease begins on April 1, 2023.", True),
        ("The lease begins on 2 April 2023.", "The lease begins on April 1, 2023.", False),
        (
            "The lease begins on 1 April 2023, and the rent of the office rises each year.",
            "The lease begins on 1 April 2023 and ends on 31 March 2028.",
            False,
        ),
        ("The tenant may sublet the house.", "The tenant may not sublet the house.", False),
        ("The tenant may not sublet the house.", "The tenant may sublet the house.", False),
        ("They agreed on a new remote for kitchens.", "We want a new remote for kitchens.", True),
        ("Mira Berg repairs the crane.", "Mira Lund spoke.\nJan Berg repairs the crane.", False),
        ("Holm repairs the harbor crane.", "Berg repairs the harbor crane.", False),
        ("The lease was ended in writing.", "Either party may end the lease in writing.", False),
        ("The lease may be ended in writing.", "Either party may end the lease in writing.", True),
        ("The column of dates is “periods”.", "The column of dates of a period is here.", False),
        ("The column of dates is “periods”.", "The column of dates is called `periods`.", True),
        ("A user-friendly remote is planned.", "We planned a user friendly remote.", True),
        ("Sie muss die Fenster ersetzen.", "Sie muss die Fenster ersetzen.", True),
        ("这是一个关于港口的很长的中文句子。", "这是一个关于港口的很长的中文句子。", True),
    ],
)
def test_the_whole_sentence_is_supported(sentence: str, source: str, holds: bool) -> None:
    assert covers(sentence, source, ("holm", "berg")) == holds


@pytest.mark.parametrize(
    ("sentence", "meta"),
    [
        ("The section discusses rent and repairs.", True),
        ("This text is about a lease.", True),
        ("The document also outlines the fees.", True),
        ("In summary, the tenant pays rent.", True),
        ("The right answer is: rent.", True),
        ("The notes are due in March 2030.", False),
        ("The document must be signed by both parties.", False),
        ("The meeting ended at noon.", False),
        ("Summaries are sent each month.", False),
    ],
)
def test_sentences_about_the_text(sentence: str, meta: bool) -> None:
    assert is_meta(sentence) == meta


@pytest.mark.parametrize(
    ("sentence", "vague"),
    [
        ("The clerk and the chair are discussing the crane.", True),
        ("The chair talked about the crane.", True),
        ("The chair wants the crane repaired by June.", False),
    ],
)
def test_the_subject_alone_is_vague(sentence: str, vague: bool) -> None:
    assert is_vague(sentence) == vague


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("Adam Berg, Mira Lund, Jonas Holm.", True),
        ("Mira Lund pays the rent of the office.", False),
        ("这是港口，这是中文句子。", False),
        ("Yes.", False),
        ("Ingrid, Mira, and the supplier.", True),
    ],
)
def test_lists_of_names(sentence: str, names: bool) -> None:
    assert is_list(sentence) == names
