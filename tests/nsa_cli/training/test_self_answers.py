"""Correct answers of the base model are stored and used for training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.training import self_answers
from nsa_cli.training.examples import close_questions
from nsa_cli.training.self_answers import (
    read_own_answers,
    with_self_answers,
    write_inventions,
    write_self_answers,
)
from nsa_models.tasks import read_articles
from nsa_models.tokenization.tokenizer import Tokenizer

CPU = torch.device("cpu")


def test_padding_changes_no_answer(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.from_folder(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    prompter = PromptBuilder(tokenizer, None)
    prompts = [prompter.question(f"What is {'very ' * n}good?").ids for n in (0, 3, 9)]
    free = [greedy_continuation(model, prompt, 6) for prompt in prompts]
    stops = frozenset({free[0][4], free[2][2]})
    ends = [next((n for n, token in enumerate(ids) if token in stops), None) for ids in free]
    monkeypatch.setattr(self_answers, "MOST_TOKENS", 6)
    tokenizer.stop_ids = stops
    said = self_answers._generate(model, tokenizer, prompts)
    expected = [
        None if end is None else tokenizer.decode(ids[:end]).strip() or None
        for ids, end in zip(free, ends, strict=True)
    ]
    assert said == expected
    assert any(answer is not None for answer in said)


def greedy_continuation(model: Any, prompt: Sequence[int], tokens: int) -> list[int]:
    """Greedy decoding, one token at a time and without padding."""
    ids = [int(token) for token in prompt]
    with torch.inference_mode():
        for _ in range(tokens):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_correct_answers_are_stored_and_others_asked_again(
    tiny_model: Path,
    lesson_data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    articles, path = read_articles(lesson_data[0])[:4], tmp_path / "answers.jsonl"
    tokenizer = Tokenizer.from_folder(tiny_model)
    rounds: list[int] = []

    def generate(_: Any, __: Any, prompts: Sequence[np.ndarray]) -> list[str | None]:
        rounds.append(len(prompts))
        return [reply(tokenizer.decode(prompt.tolist())) for prompt in prompts]

    def reply(prompt: str) -> str | None:
        number = prompt.split("mayor is number ")[1].split(".")[0]
        town = prompt.split("of town ")[1].split(" ")[0]
        if town == "2":
            told = f"(The right answer is: {number}." in prompt
            return f"It is {number}." if told else "I do not know."
        return f"The mayor is number {number}." if town == "1" else None

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(self_answers, "_generate", generate)
    monkeypatch.setattr(self_answers, "_BATCH", {"cpu": 100})
    write_self_answers(
        tiny_model, articles, path, 60.0, CPU, lambda asked, right: told.append((asked, right))
    )
    assert told == [(20, 5), (15, 5)]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["article"] for row in rows} == {"Town 1", "Town 2"}

    learned = with_self_answers(articles, path)
    targets = {
        example.question: example.target
        for seed in range(60)
        for example in close_questions(learned, seed)
    }
    assert targets == {
        **{f"Who is {p} of 1?": f"The mayor is number {p}." for p in range(1, 6)},
        **{f"Who is {p} of 2?": f"It is {2 * p}." for p in range(1, 6)},
    }

    path.write_text(path.read_text() + '{"article": "Town 3", "para')  # truncated
    assert with_self_answers(articles, path) == learned
    rounds.clear()
    monkeypatch.setattr(self_answers, "_BATCH", {"cpu": 6})
    write_self_answers(tiny_model, articles, path, 0.0, CPU, lambda *_: None)
    assert rounds == [6], "one batch of those without an answer, then the time is over"
    assert with_self_answers(articles, path) == learned, "a truncated line stays separate"


def test_without_stored_answers_articles_stay_unchanged(
    lesson_data: tuple[Path, Path], tmp_path: Path
) -> None:
    articles = read_articles(lesson_data[0])
    assert with_self_answers(articles, tmp_path / "none.jsonl") == articles


def test_answers_without_a_source_are_inventions(
    tiny_model: Path,
    lesson_data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    articles, path = read_articles(lesson_data[0])[6:11], tmp_path / "answers.jsonl"
    gold = {a: g for each in articles for part in each.paragraphs for a, g in part.questions}
    tokenizer, asked_of = Tokenizer.from_folder(tiny_model), list[str]()

    def generate(_: Any, __: Any, prompts: Sequence[np.ndarray]) -> list[str | None]:
        return [reply(tokenizer.decode(prompt.tolist())) for prompt in prompts]

    def reply(prompt: str) -> str | None:
        [question] = [each for each in gold if each in prompt]
        asked_of.append(question)
        assert f"mayor is number {gold[question][0]}." not in prompt
        town = question.split(" of ")[1]
        said = {"6?": "The document does not say.", "7?": f"It is {gold[question][0]}.", "8?": None}
        return said.get(town, "It is Zed.")

    counts = list[int]()
    monkeypatch.setattr(self_answers, "_generate", generate)
    right = {
        "article": "Town 9",
        "paragraph": 0,
        "question": "Who is 1 of 9?",
        "answer": "It is 9.",
    }
    path.write_text(json.dumps(right) + '\n{"article": "Tow')  # truncated
    write_inventions(tiny_model, articles, path, 60.0, CPU, counts.append)
    # The number of a town answers the first of its questions, and is in all its paragraphs.
    asked = {each for each in gold if not each.startswith("Who is 1 ")}
    assert sorted(asked_of) == sorted(asked)
    rows = [json.loads(each) for each in path.read_text().splitlines() if each.endswith("}")]
    assert [each.get("right") for each in rows] == [None] + [False] * 8
    assert counts == [8]
    own = read_own_answers(path)
    assert {each for each, said in own.items() if said.wrong == ("It is Zed.",)} == {
        each for each in asked if each.endswith(("of 9?", "of 10?"))
    }
    assert {each: said.right for each, said in own.items() if said.right} == {
        "Who is 1 of 9?": ("It is 9.",)
    }
    learned = with_self_answers(articles, path)
    assert [part.questions for each in learned for part in each.paragraphs if part.questions] == [
        (("Who is 1 of 9?", ("It is 9.",)),)
    ]
    assert read_own_answers(tmp_path / "none.jsonl") == {}
