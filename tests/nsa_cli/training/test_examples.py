"""Training examples: positions of question, answer and evidence."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.training.examples import (
    blocks_of,
    close_questions,
    load_training_data,
    training_example,
    training_steps,
)
from nsa_models.errors import DataError, UsageError
from nsa_models.tasks import Example
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.examples import TrainingExample

SIZE = 16


@pytest.fixture(autouse=True)
def few_manuals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prose of Python's documentation that is read in less than a second."""
    monkeypatch.setattr("nsa_cli.training.examples._PROSE_CHARACTERS", 100_000)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_model)


def decoded_span(tokenizer: Tokenizer, lesson: TrainingExample, span: tuple[int, int]) -> str:
    ids = lesson.ids[slice(*span)].tolist()
    return b"".join(tokenizer.decode_bytes(token) for token in ids).decode()


def examples() -> list[Example]:
    context = "The harbour was built in 1871. " * 9 + "Its engineer was Ada. " + "It rains. " * 9
    at = context.index("Its engineer")
    year = (context.index("1871"), context.index("1871") + 4)
    return [
        Example(context=context, question="When was it built?", answers=("1871", "in 1871"),
                evidence=(year,), task="questions"),
        Example(context=context, question="Who was the engineer?", answers=("Ada",),
                evidence=((at, at + 21),), task="questions"),
    ]  # fmt: skip


def test_positions_of_the_words(tokenizer: Tokenizer) -> None:
    prompter = PromptBuilder(tokenizer, None)
    lesson = training_example(prompter, examples(), SIZE)
    text = prompter.plain(examples()[0].context)
    first, last = lesson.asked
    assert decoded_span(tokenizer, lesson, lesson.document) == examples()[0].context
    assert decoded_span(tokenizer, lesson, first.question) == "When was it built?"
    assert decoded_span(tokenizer, lesson, first.answer).startswith(" in 1871\n")
    assert decoded_span(tokenizer, lesson, last.question) == " Who was the engineer?"
    assert decoded_span(tokenizer, lesson, last.answer) == "Ada<|im_end|>"
    assert lesson.ids[-1] in tokenizer.stop_ids
    inside = decoded_span(
        tokenizer, lesson, (last.evidence[0] * SIZE, last.evidence[-1] * SIZE + SIZE)
    )
    assert "Its engineer was Ada." in inside
    assert blocks_of(text, [], SIZE) == ()


def test_a_single_question_has_the_prompt_of_ask(tokenizer: Tokenizer) -> None:
    prompter = PromptBuilder(tokenizer, None)
    example = examples()[1]
    lesson = training_example(prompter, [example], SIZE)
    asked = np.concatenate(
        [prompter.plain(example.context).ids, prompter.question(example.question).ids]
    )
    assert np.array_equal(lesson.ids[: len(asked)], asked)
    answer = lesson.asked[0].answer
    assert answer[0] == len(asked)
    instruction = prompter.question(example.question).instruction
    assert lesson.instruction == (lesson.document[1], lesson.document[1] + instruction)


def test_every_kind_of_example_and_no_held_out_ones(
    tokenizer: Tokenizer, lesson_data: tuple[Path, Path]
) -> None:
    questions, texts = lesson_data
    data = load_training_data(questions, [texts])
    titles = {article.title for article in data.articles}
    assert 0 < len(titles) < 20
    prompter = PromptBuilder(tokenizer, None)
    steps = list(itertools.islice(training_steps(prompter, data, [600], SIZE, 3), 80))
    assert all((len(step) > 1) == (step[0].task == "close") for step in steps)
    made = [lesson for step in steps for lesson in step]
    kinds = {lesson.task for lesson in made}
    assert {"questions", "close", "similar", "reading", "variables"} <= kinds
    for lesson in made:
        assert 0 < lesson.document[0] < lesson.document[1] <= len(lesson.ids)
        for asked in lesson.asked:
            assert asked.question[1] <= asked.answer[0] < asked.answer[1] <= len(lesson.ids)
            assert all(block * SIZE < lesson.document[1] for block in asked.evidence)
        assert bool(lesson.asked) == (lesson.task != "reading")
    again = [each for step in itertools.islice(training_steps(prompter, data, [600], SIZE, 3), 3)
             for each in step]  # fmt: skip
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(made, again, strict=False))
    long = itertools.islice(training_steps(prompter, data, [600], SIZE, 3, short=False), 40)
    assert {len(step) for step in long} == {1}


def test_processes_have_separate_examples_of_one_kind(
    tokenizer: Tokenizer, lesson_data: tuple[Path, Path]
) -> None:
    data, prompter = (
        load_training_data(lesson_data[0], [lesson_data[1]]),
        PromptBuilder(tokenizer, None),
    )
    first, second = (
        list(itertools.islice(training_steps(prompter, data, [300, 900], SIZE, 3, process=n), 20))
        for n in (0, 1)
    )
    for mine, theirs in zip(first, second, strict=True):
        assert (len(mine), mine[0].task) == (len(theirs), theirs[0].task)
    taken = {lesson.ids.tobytes() for step in first for lesson in step}
    same = [lesson for step in second for lesson in step if lesson.ids.tobytes() in taken]
    assert len(same) < len(taken) / 4, "a small data set repeats some short ones"


def test_close_questions_include_their_paragraph(lesson_data: tuple[Path, Path]) -> None:
    data = load_training_data(lesson_data[0], [])
    several = set()
    for seed in range(12):
        examples = close_questions(data.articles, seed)
        assert 1 <= len(examples) <= 6
        for example in examples:
            assert example.context == examples[0].context
            start, stop = example.evidence[0]
            assert example.answers[0] in example.context[start:stop]
        several.add("\n...\n" in examples[0].context)
    assert several == {True, False}


def test_prose_is_in_nfc(lesson_data: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "prose.jsonl"
    path.write_text(json.dumps({"text": "The cafe\u0301 was full. " * 20}))
    [_, (paragraph, *_)] = load_training_data(lesson_data[0], [path]).prose
    assert paragraph.startswith("The caf\u00e9 was")


def test_identical_questions_are_refused(tmp_path: Path) -> None:
    asked = [{"text": "A.", "questions": [{"question": "Why?", "answers": ["A"]}]}]
    rows = [json.dumps({"title": f"T{n}", "paragraphs": asked}) for n in range(20)]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(UsageError, match="no question to train on"):
        load_training_data(path, [])


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_training_data(tmp_path / "none.jsonl", [])
