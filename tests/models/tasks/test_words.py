"""Names and values: distinct, within their split, and not substrings of each other."""

from __future__ import annotations

import itertools
import random

import pytest

from nsa_models.tasks.facts import facts
from nsa_models.tasks.tracing import _CHAINS, _TALLIES
from nsa_models.tasks.words import _LISTS, keys, values, words


@pytest.mark.parametrize("kind", sorted(_LISTS))
def test_words_of_the_splits_are_disjoint_and_distinct(kind: str) -> None:
    train, held_out = words(kind, "train"), words(kind, "eval")
    assert len({*train, *held_out}) == len(train) + len(held_out) == len(_LISTS[kind].split())


def test_the_splits_share_no_sentence_and_no_question() -> None:
    def said(split: str) -> list[str]:
        shapes = [(*f.says, *f.asks, *f.asks_all) for f in facts(split)]  # type: ignore[arg-type]
        chains = _CHAINS[split]  # type: ignore[index]
        tallies = [(*says, top, count) for says, top, count in _TALLIES[split]]  # type: ignore[index]
        return list(itertools.chain(*shapes, *chains, *tallies))

    train, held_out = said("train"), said("eval")
    assert len({*train, *held_out}) == len(train) + len(held_out)


@pytest.mark.parametrize("kind", ["person", "place", "thing", "code"])
def test_keys_differ(kind: str, seed: int) -> None:
    found = keys(kind, 100, "eval", random.Random(seed))
    assert len(set(found)) == 100
    with pytest.raises(ValueError, match="fewer than 10000"):
        keys(kind, 10_000, "eval", random.Random(seed))


@pytest.mark.parametrize("kind", ["number", "code", "word", "date", "time", "person"])
def test_values_are_not_substrings_of_each_other_or_the_text(kind: str, seed: int) -> None:
    outside = " ".join(values(kind, 20, "eval", random.Random(seed)))
    found = values(kind, 40, "eval", random.Random(seed), outside=outside)
    assert len(found) == 40
    assert not any(value in outside for value in found)
    assert not any(a in b for a, b in itertools.permutations(found, 2))


@pytest.mark.parametrize("call", [lambda: words("color", "eval"), lambda: words("place", "test")])
def test_unknown_names_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"color|'test'"):
        call()  # type: ignore[operator]
    with pytest.raises(ValueError, match="'planet'"):
        values("planet", 1, "eval", random.Random(0))
    with pytest.raises(ValueError, match="'test'"):
        facts("test")  # type: ignore[arg-type]
