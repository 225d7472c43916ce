"""Splitting texts into sentences, and comparing their content words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.retrieval.sentences import (
    content_words,
    contents_share,
    is_contents_entry,
    is_figure,
    sentences,
    word_weight,
)


def cut(text: str, *edges: int) -> list[str]:
    """The sentences of a text."""
    return [text[start:end] for start, end in sentences(text, 0, len(text), edges)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. The keeper left!", ["It rained.", "The keeper left!"]),
        ("Costs\nThe pier cost 4,200.", ["Costs", "The pier cost 4,200."]),
        ("The keeper\nwas away.", ["The keeper\nwas away."]),
        ("4.2. Fees\n- first\n- second", ["4.2. Fees", "- first", "- second"]),
        ("港口很旧。没有人抱怨。", ["港口很旧。", "没有人抱怨。"]),
        ("2024-01-02 up\n2024-01-03 down", ["2024-01-02 up", "2024-01-03 down"]),
        ('{"a": 1}\n{"a": 2}', ['{"a": 1}', '{"a": 2}']),
        ("One\n\ntwo", ["One", "two"]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The lessor is M. Paul Mercier, and J. R. Smith signs.",
        "Dr. Weber and Prof. Nair left, see Fig. 3 and Nr. 12 of Art. 5.",
        "Es beginnt am 1. Juni 2023 und endet mit dem 2. Absatz.",
        "Der 3. Oktober ist frei, z. B. in Bonn, ca. fünf Stunden.",
        "Am 12. März und am 1. August.",
        "It costs approx. 30 euros, e.g. Monday, or more (etc. and so on).",
        "Kessel Ltd. and others were heard.",
    ],
)
def test_abbreviations_and_ordinals_end_no_sentence(text: str) -> None:
    assert cut(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No. The tenant pays.", ["No.", "The tenant pays."]),
        ("He paid 12. Then he left.", ["He paid 12.", "Then he left."]),
        ("They sell ropes, etc. The rest is gone.", ["They sell ropes, etc.", "The rest is gone."]),
        (
            "It was sold to Kessel Ltd. The price rose.",
            ["It was sold to Kessel Ltd.", "The price rose."],
        ),
        ("It is Dr. Weber.\n\nJ. Smith left.", ["It is Dr. Weber.", "J. Smith left."]),
    ],
)
def test_full_stops_that_end_a_sentence(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Present: Anna\nApologies: Lucy", ["Present: Anna", "Apologies: Lucy"]),
        ("Next meeting: 9 April\nRoom: 2", ["Next meeting: 9 April", "Room: 2"]),
        ("1. Heat the oven\n2. Beat the eggs", ["1. Heat the oven", "2. Beat the eggs"]),
        ("1) Heat\n  2) Beat\n10) Eat", ["1) Heat", "2) Beat", "10) Eat"]),
        ("the court held\nthat: nothing", ["the court held\nthat: nothing"]),
        (
            "it was found in the second year after the fire that the\nRatio of both is 2",
            ["it was found in the second year after the fire that the\nRatio of both is 2"],
        ),
        (
            "a line of prose that is longer than a heading, to\n12 of the keepers",
            ["a line of prose that is longer than a heading, to\n12 of the keepers"],
        ),
    ],
)
def test_labeled_lines_and_numbered_items_are_sentences(text: str, expected: list[str]) -> None:
    assert [text[a:b] for a, b in sentences(text, 0, len(text))] == expected


def test_no_sentence_crosses_an_edge() -> None:
    assert cut("one page another page", 9) == ["one page", "another page"]


@given(st.text(alphabet="aB1 .\n。-", max_size=900), st.integers(0, 900))
def test_every_visible_character_is_in_one_sentence(text: str, edge: int) -> None:
    spans = list(sentences(text, 0, len(text), [edge] if edge <= len(text) else []))
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)
    assert all(0 < end - start <= 240 for start, end in spans)
    inside = {index for start, end in spans for index in range(start, end)}
    assert {i for i, character in enumerate(text) if not character.isspace()} <= inside


def test_content_words_exclude_stop_words_and_punctuation() -> None:
    assert content_words("What is the Price of /etc/passwd?") == {"price", "/etc/passwd"}
    assert content_words("42.5 crowns: it cost 42.5.") == {"42.5", "crowns", "cost"}
    assert content_words("the of and") == set()


def test_numbers_and_identifiers() -> None:
    assert is_figure("x86")
    assert not is_figure("eighty")
    assert word_weight({"pier", "max_tokens", "/etc/passwd"}) == 5


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("3.17. /srv : Data for services ...", True),
        ("Introduction . . . . . . . 4", True),
        ("Anhang ........ xii", True),
        ("Preface … 3", True),
        ("The tenant bears repairs.", False),
        ("He waited... and then left.", False),
        ("Total 1,200", False),
    ],
)
def test_entries_of_a_table_of_contents(line: str, expected: bool) -> None:
    assert is_contents_entry(line) is expected


def test_the_share_of_contents_counts_lines_with_text() -> None:
    assert contents_share("Contents\n\n1 One ... 3\n2 Two ... 4\n3 Three ... 9\n") == 0.75
    assert contents_share("") == 0.0
