"""Figures, dates, names and obligations of a text."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.facts import facts_of, kept, name_words


def found(text: str) -> list[tuple[str, str]]:
    return [(fact.kind, fact.text) for fact in facts_of(text)]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("The tenant pays 1,200 crowns.", [("figure", "1,200")]),
        ("It rose by twenty points.", [("figure", "twenty")]),
        ("One of the two is new.", []),
        ("It ends on 31 March 2028.", [("date", "31 March 2028")]),
        ("Due 2024-05-01 or Friday.", [("date", "2024-05-01"), ("date", "Friday")]),
        ("Er zahlt am 31. März 2028.", [("date", "31. März 2028")]),
        ("payé le 3 mai 2024", [("date", "3 mai 2024")]),
        ("2024年3月1日までに", [("date", "2024年3月1日")]),
        ("In May 2023 and Sept 3rd.", [("date", "May 2023"), ("date", "Sept 3rd")]),
        ("You may 3 times ask.", [("figure", "3")]),
        ("They met Mira Lund in Berlin.", [("name", "Mira Lund"), ("name", "Berlin")]),
        ("The Bank of England spoke.", [("name", "Bank of England")]),
        ("Grad D liked XML.", [("name", "Grad D"), ("name", "XML")]),
        ("Chair: Yeah, I think so.", [("name", "Chair")]),
        ("Afterwards all left. OK. So I did.", []),
        ("The tenant must pay.", [("duty", "duty")]),
        ("She may not sublet.", [("ban", "ban")]),
        ("It is not large. It is good.", []),
        ("Smoking is not permitted.", [("ban", "ban")]),
        ("Damage shall be told; fuel is prohibited.", [("ban", "ban"), ("duty", "duty")]),
    ],
)
def test_facts(text: str, facts: list[tuple[str, str]]) -> None:
    assert found(text) == facts


def test_a_name_known_from_elsewhere_counts_at_the_beginning_of_a_sentence() -> None:
    names = name_words("We asked Litonya to come.")
    assert names == {"litonya"}
    assert [fact.text for fact in facts_of("Litonya agreed.", names)] == ["Litonya"]
    assert found("Litonya agreed.") == []


@pytest.mark.parametrize(
    ("text", "other", "is_kept"),
    [
        ("It cost 12.4 million.", "The price: 12,400 thousand.", True),
        ("It cost 42 crowns.", "It cost 420 crowns.", False),
        ("It ends on 31 March 2028.", "March 31, 2028 is the last day.", True),
        ("It ends on 31 March 2028.", "It ends in March 2028.", False),
        ("They met Mira Lund.", "mira lund was there", True),
        ("They met Mira Lund.", "Lund and Mira were there", False),
        ("She must pay.", "She is obliged to pay.", True),
        ("She must pay.", "She pays.", False),
        ("She may not enter.", "She must enter.", False),
    ],
)
def test_kept(text: str, other: str, is_kept: bool) -> None:
    assert bool(kept(facts_of(text), other)) == is_kept
