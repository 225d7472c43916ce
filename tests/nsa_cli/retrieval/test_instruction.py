"""Scores of a question whose instruction was run before, against one pass over both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.retrieval.attention import block_scores
from nsa_cli.retrieval.instruction import InstructionMemory, separable
from nsa_models.configuration.config import NSAConfig

QUESTIONS = ("Who wrote report 17?", "When was the pier built, and by whom was it paid for?")


@pytest.fixture
def passes(opened: OpenDocument) -> list[int]:
    """Tokens of each pass of the model from now on."""
    seen: list[int] = []
    opened.model.model.embed_tokens.register_forward_hook(
        lambda _, ids, __: seen.append(ids[0].shape[1])
    )
    return seen


def scores(opened: OpenDocument, text: str, *memories: InstructionMemory) -> torch.Tensor:
    """Score the only window for a question."""
    window = opened.windows[0]
    settings = opened.model.config.answer_settings()
    question = opened.prompts.question(text)
    length = window.cache.length
    [found] = block_scores(
        opened.model, [window.cache], [window.text], question, settings, memories
    )
    assert window.cache.length == length
    return found


@pytest.mark.parametrize("later", [False, True], ids=["in memory", "in a later process"])
def test_scores_are_the_same(
    opened: OpenDocument, passes: list[int], tmp_path: Path, later: bool
) -> None:
    expected = [scores(opened, text) for text in QUESTIONS]
    memory = InstructionMemory(tmp_path)
    first = scores(opened, QUESTIONS[1], memory)
    torch.testing.assert_close(first, expected[1])
    asked = opened.prompts.question(QUESTIONS[1])
    assert passes[-2:] == [asked.instruction, asked.asked]
    del passes[:]
    if later:
        memory = InstructionMemory(tmp_path)
    for text, wanted in zip(QUESTIONS, expected, strict=True):
        torch.testing.assert_close(scores(opened, text, memory), wanted)
    assert passes == [opened.prompts.question(text).asked for text in QUESTIONS]
    assert torch.equal(scores(opened, QUESTIONS[1], memory), first), "bit by bit"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda _: b"", lambda data: bytes([data[0] ^ 1]) + data[1:]]
)
def test_a_damaged_file_is_made_again(
    opened: OpenDocument, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    expected = scores(opened, QUESTIONS[0], InstructionMemory(tmp_path))
    [path] = tmp_path.glob("instruction-*.bin")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    torch.testing.assert_close(scores(opened, QUESTIONS[0], InstructionMemory(tmp_path)), expected)
    assert path.read_bytes() == whole


def test_it_is_kept_beside_a_stored_text(opened: OpenDocument, passes: list[int]) -> None:
    window, question = opened.windows[0], opened.prompts.question(QUESTIONS[0])
    assert window.prefiller.store is not None
    folder = window.prefiller.store.folder(window.text.ids)
    first = opened.scores(question)
    assert len([*folder.glob("instruction-*.bin")]) == 1
    second = opened.scores(question)
    assert torch.equal(first.attention, second.attention)
    assert passes == [question.instruction, question.asked, question.asked]


def test_earlier_turns_are_not_kept(opened: OpenDocument, tmp_path: Path) -> None:
    window, settings = opened.windows[0], opened.model.config.answer_settings()
    question = opened.prompts.question(QUESTIONS[0], earlier=[("Why?", "So.")])
    memory = InstructionMemory(tmp_path)
    found = [
        block_scores(opened.model, [window.cache], [window.text], question, settings, [memory])[0]
        for _ in range(2)
    ]
    torch.testing.assert_close(found[0], found[1])
    assert not [*tmp_path.glob("instruction-*")]
    assert memory.get(question, settings, window.cache) is None


def test_a_question_with_sparse_attention_is_run_with_its_instruction(
    opened: OpenDocument, tmp_path: Path
) -> None:
    window = opened.windows[0]
    config: NSAConfig = opened.model.config
    sparse = config.prefill_settings()
    question = opened.prompts.question(QUESTIONS[0])
    covered = sparse.covers(window.cache.length + len(question))
    assert separable(question, sparse, [window.cache]) is covered
    assert separable(question, config.answer_settings(), [window.cache])
    block_scores(
        *(opened.model, [window.cache], [window.text], question, sparse),
        [InstructionMemory(tmp_path)],
    )
    assert bool([*tmp_path.glob("instruction-*")]) is covered
