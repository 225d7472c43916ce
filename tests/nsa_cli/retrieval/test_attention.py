"""Block scores from the attention of a question."""

from __future__ import annotations

import pytest
import torch

from nsa_cli.retrieval.attention import answer_attention, question_attention


def test_a_planted_block_is_found() -> None:
    torch.manual_seed(0)
    mass = torch.rand(2, 4, 9, 50) * 0.02
    mass[1, 2, 5, 31] = 0.6  # one head's strong attention from one word of the question
    scores = question_attention(mass, instruction=4, question=3)
    assert scores.shape == (50,)
    assert int(scores.argmax()) == 31
    assert scores[31] > 10 * scores.topk(2).values[1]


def test_blocks_that_every_question_attends_to_are_discounted() -> None:
    mass = torch.zeros(1, 1, 6, 4)
    mass[..., 2] = 0.9  # the instruction and the question alike
    mass[:, :, 3, 1] = 0.1
    scores = question_attention(mass, instruction=3, question=2)
    assert scores.tolist() == pytest.approx([0, 0.01, 0, 0])


def test_the_template_after_the_question_is_ignored() -> None:
    mass = torch.zeros(1, 1, 6, 4)
    mass[:, :, 5, 3] = 0.9
    assert not question_attention(mass, instruction=3, question=2).any()
    assert question_attention(mass, instruction=3, question=3).argmax() == 3


def test_one_strong_head_outweighs_many_weak_ones() -> None:
    mass = torch.zeros(2, 5, 3, 2)
    mass[:, :, 1:, 0] = 0.05
    mass[0, 0, 1, 1] = 0.5
    scores = question_attention(mass, instruction=1, question=2)
    assert scores[1] > scores[0] > 0
    answers = answer_attention(mass[:, :, 1])
    assert answers.tolist() == pytest.approx([10 * 0.05**2, 0.25])
