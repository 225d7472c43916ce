"""Texts of repeated facts: exact lengths, answers that the text states, and other texts by seed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nsa_models.tasks.recall import RECALL_TASKS, RecallText, recall_text, recall_training_text


def encode(text: str) -> list[int]:
    """One token for each character."""
    return [ord(char) for char in text]


NOISE = [encode(f"line {n} of noise\n") for n in range(50)]


def text_of(made: RecallText) -> str:
    return "".join(map(chr, made.ids))


def answers_of(made: RecallText) -> list[str]:
    return [text_of(made)[start:stop].strip() for start, stop in made.answers]


@pytest.mark.parametrize("task", RECALL_TASKS)
def test_texts_have_the_length_and_answers_that_they_state(task: str) -> None:
    made = recall_text(task, NOISE, encode, tokens=6000, seed=1)
    text = text_of(made)
    assert len(made.ids) == 6000
    assert made.ids.dtype == np.int64
    first = min(start for start, _ in made.answers)
    stated = text[: text.rindex("\n", 0, first)]
    for answer in answers_of(made):
        assert answer
        assert answer in stated
    assert "line 7 of noise" in text
    assert 0.0 < made.chance < 0.5


def test_an_answer_follows_from_its_fact() -> None:
    made = recall_text("latest", NOISE, encode, tokens=6000, seed=3)
    lines = text_of(made).split("\n")
    asked = [line for line in lines if line.startswith("At last")]
    assert len(asked) == 8
    for line, answer in zip(asked, answers_of(made), strict=True):
        thing = line.removeprefix("At last ").split(" belongs")[0]
        said = [each for each in lines if each.startswith(f"Now {thing} belongs")]
        assert len(said) == 3
        assert said[-1].endswith(f" {answer}.")


def test_a_chain_ends_at_its_first_value() -> None:
    made = recall_text("variables", NOISE, encode, tokens=6000, seed=3)
    lines = text_of(made).split("\n")
    for line, answer in zip(
        [each for each in lines if each.startswith("So ")], answers_of(made), strict=True
    ):
        name = line.removeprefix("So ").split(" has the")[0]
        for _ in range(2):
            (said,) = [each for each in lines if each.startswith(f"{name} picks the same as ")]
            name = said.split(" as ")[1].rstrip(".")
        assert f"{name} picks the {answer}." in lines


def test_the_most_frequent_entry_is_the_answer() -> None:
    made = recall_text("aggregation", NOISE, encode, tokens=6000, seed=3)
    lines = text_of(made).split("\n")
    for line, answer in zip(
        [each for each in lines if "got most" in each], answers_of(made), strict=True
    ):
        place = line.split(" got")[0]
        items = [each.split()[-1] for each in lines if each.startswith(f"{place} got a crate")]
        assert len(items) == 15
        assert max(set(items), key=items.count) == f"{answer}."
        assert sorted(items.count(item) for item in set(items))[-2] < items.count(f"{answer}.")


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_needle_is_at_its_depth(depth: float) -> None:
    made = recall_text("needle", NOISE, encode, tokens=6000, seed=2, depth=depth)
    assert abs(text_of(made).index("The sign of") / 6000 - depth) < 0.03
    assert len(made.answers) == 1


def test_a_seed_gives_one_text() -> None:
    def make(seed: int) -> str:
        return text_of(recall_text("similar", NOISE, encode, tokens=4000, seed=seed))

    random.seed(1)
    first = make(1)
    random.seed(2)
    assert make(1) == first
    assert make(2) != first


def test_training_texts_repeat_each_fact_after_it() -> None:
    for seed in range(6):
        made = recall_training_text(NOISE, encode, tokens=9000, seed=seed)
        text = text_of(made)
        assert len(made.ids) == 9000
        assert made.answers
        for answer, (start, _) in zip(answers_of(made), made.answers, strict=True):
            assert answer in text[:start]
        share = 1 - sum(len(line) + 1 for line in text.split("\n") if "noise" in line) / 9000
        assert 0.15 < share < 0.85


def test_repetitions_for_training_are_near_and_far() -> None:
    distances = []
    for seed in range(12):
        made = recall_training_text(NOISE, encode, tokens=9000, seed=seed)
        text = text_of(made)
        for start, _ in made.answers:
            line = text[text.rindex("\n", 0, start) + 1 : start]
            if line.startswith("The sign of"):
                distances.append(start - text.index(line) - len(line))
    assert len(distances) > 50
    near, far = (sum(low <= n < high for n in distances) for low, high in ((0, 900), (900, 9000)))
    assert min(near, far) > 0.2 * len(distances)


def test_facts_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match="more than 100"):
        recall_text("copying", NOISE, encode, tokens=100, seed=0)
    with pytest.raises(ValueError, match="task is 'x'; valid are needle, similar"):
        recall_text("x", NOISE, encode, tokens=100, seed=0)
