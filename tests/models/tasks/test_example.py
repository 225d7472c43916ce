"""Sentences inserted into a haystack, and their positions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_models.tasks.example import Example, fill, hide

HAYSTACK = [f"Paragraph {n} begins. It goes on, and ends (at last)." for n in range(40)]


@given(
    text=st.text(alphabet="Ab. \n", max_size=300),
    depths=st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_spans_of_hidden_sentences(text: str, depths: list[float]) -> None:
    sentences = [f"Fact number {n} is here." for n in range(len(depths))]
    context, spans = hide(text, sentences, depths)
    assert [context[start:end] for start, end in spans] == sentences
    rest = context
    for sentence in sentences:
        rest = rest.replace(sentence, "")
    assert "".join(rest.split()) == "".join(text.split())
    order = sorted(range(len(depths)), key=lambda n: depths[n])
    assert order == sorted(order, key=lambda n: spans[n])


def test_sentences_are_not_split() -> None:
    text = "\n".join(HAYSTACK)
    for depth in (0.0, 0.213, 0.5, 0.77, 1.0):
        context, [(start, end)] = hide(text, ["Here it is."], [depth])
        assert not start or context[:start].rstrip()[-1] in ".)"
        assert end == len(context) or context[end:].lstrip().startswith(("Paragraph", "It goes"))
        assert abs(start - depth * len(text)) < 60


def test_each_sentence_has_a_depth() -> None:
    with pytest.raises(ValueError, match="2 sentences for 1 depths"):
        hide("Text.", ["A.", "B."], [0.5])


@pytest.mark.parametrize("characters", [120, 500, 3000, 9000])
def test_fill_has_the_length_and_whole_sentences(characters: int, seed: int) -> None:
    text = fill(HAYSTACK, characters, random.Random(seed))
    assert characters - 60 <= len(text) <= characters + 1
    assert text[-1] in ".)"
    assert text.startswith("Paragraph ")


def test_fill_repeats_only_short_haystacks() -> None:
    once = fill(HAYSTACK, 1500, random.Random(0)).splitlines()
    assert len(set(once)) == len(once)
    longer = fill(HAYSTACK, 5000, random.Random(0)).splitlines()
    assert len(set(longer[:-1])) == len(HAYSTACK)


def test_a_length_of_zero_has_no_text() -> None:
    assert fill(HAYSTACK, 0, random.Random(0)) == fill(HAYSTACK, -9, random.Random(0)) == ""


def test_an_empty_haystack_is_refused() -> None:
    with pytest.raises(ValueError, match="no text"):
        fill(["", " "], 10, random.Random(0))


def test_target_and_depth() -> None:
    shared = {"context": "x" * 100, "question": "?", "evidence": ((25, 30), (50, 60)), "task": "t"}
    one = Example(answers=("a", "b"), **shared)  # type: ignore[arg-type]
    every = Example(answers=("a", "b"), every=True, **shared)  # type: ignore[arg-type]
    assert (one.target, every.target) == ("a", "a, b")
    assert one.depth == 0.25
