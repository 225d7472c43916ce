"""Needles: the answer is in the text once, at the evidence."""

from __future__ import annotations

from typing import Literal

import pytest

from nsa_models.tasks import GENERATORS, needle, several_values, similar_needles
from nsa_models.tasks.haystack import documentation

Split = Literal["train", "eval"]
HAYSTACK = documentation(30_000, seed=1)


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("task", ["needle", "similar", "values"])
def test_only_the_evidence_contains_the_answers(task: str, split: Split, seed: int) -> None:
    for example in GENERATORS[task](HAYSTACK, tokens=2500, seed=seed, split=split):
        said = [example.context[start:end] for start, end in example.evidence]
        assert example.task == task
        assert len(said) == len(example.answers)
        for answer, sentence in zip(example.answers, said, strict=True):
            assert answer in sentence
            assert answer not in example.question
            assert example.context.count(answer) == 1


@pytest.mark.parametrize("task", sorted(GENERATORS))
@pytest.mark.parametrize("tokens", [2000, 6000])
def test_length_seed_and_shared_text(task: str, tokens: int, seed: int) -> None:
    make = GENERATORS[task]
    examples = make(HAYSTACK, tokens=tokens, seed=seed, split="eval", characters_per_token=4.0)
    assert 0.8 * tokens < len(examples[0].context) / 4.0 < 1.1 * tokens
    assert all(example.context is examples[0].context for example in examples)
    again = make(HAYSTACK, tokens=tokens, seed=seed, split="eval", characters_per_token=4.0)
    assert examples == again
    other = make(HAYSTACK, tokens=tokens, seed=seed + 1, split="eval", characters_per_token=4.0)
    assert examples[0].context != other[0].context


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_needle_is_at_its_depth(depth: float, seed: int) -> None:
    [example] = needle(HAYSTACK, tokens=3000, seed=seed, split="eval", depth=depth)
    assert example.depth == pytest.approx(depth, abs=0.03)


def test_similar_needles_differ_only_in_key_and_value(seed: int) -> None:
    examples = similar_needles(HAYSTACK, tokens=4000, seed=seed, split="eval", count=24)
    assert len(examples) == 24
    assert len({example.question for example in examples}) == 24
    assert len({example.answers for example in examples}) == 24
    starts = [example.evidence[0][0] for example in examples]
    assert starts == sorted(starts)


def test_several_values_are_all_required(seed: int) -> None:
    examples = several_values(HAYSTACK, tokens=3000, seed=seed, split="eval", count=3, each=5)
    assert [len(set(example.answers)) for example in examples] == [5, 5, 5]
    assert all(example.every for example in examples)
    assert len({answer for example in examples for answer in example.answers}) == 15
