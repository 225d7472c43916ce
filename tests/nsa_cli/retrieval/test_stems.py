"""Words without common endings are the same for forms of one word."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.stems import stems


@pytest.mark.parametrize(
    ("one", "other"),
    [("He voted.", "They vote."), ("The keys", "a key"), ("die Verträge", "der Verträge")],
)
def test_forms_of_a_word_are_one(one: str, other: str) -> None:
    assert stems(one) & stems(other)


def test_figures_stay_and_function_words_go() -> None:
    assert stems("Is the sum of the 30s 1,200?") >= {"1,200"}
    assert not stems("is the of and")
