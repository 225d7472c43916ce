"""Blocks that go with a question, by attention and by words."""

from __future__ import annotations

import torch

from nsa_cli.relevance import Bm25, relevance


def test_bm25_ranks_by_words_that_are_rare() -> None:
    index = Bm25(["the gate opens", "the watchword for gate W811 is lynx", "a gate", "", "other"])
    scores = index.scores("What is the watchword for gate W811?").tolist()
    assert len(scores) == 5
    assert max(scores) == scores[1] > scores[0] > 0
    assert scores[3] == scores[4] == 0
    assert index.scores("the of").tolist() == [0.0] * 5
    assert index.scores("unheard").tolist() == [0.0] * 5


def test_texts_without_a_word() -> None:
    assert Bm25(["", "…", "--"]).scores("What?").tolist() == [0.0] * 3


def test_what_both_light_on_goes_before_what_one_does() -> None:
    attention = torch.tensor([0.0, 4.0, 0.0, 4.0, 0.0, 0.0, 0.0])
    words = torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0, 3.0, 0.0])
    scores = relevance(attention, words)
    assert scores.argmax() == 1
    assert scores[1] == 2
    assert scores[3] == scores[5] == 1
    assert scores[[0, 2, 4, 6]].tolist() == [0.0] * 4


def test_a_long_passage_goes_before_a_short_one() -> None:
    words = torch.tensor([0.0, 2.0, 0.0, 0.0, 2.0, 1.5, 0.0])
    assert relevance(torch.zeros(7), words).argmax() == 4


def test_nothing_that_goes_with_it() -> None:
    assert relevance(torch.zeros(3), torch.zeros(3)).tolist() == [0.0] * 3
    assert relevance(torch.tensor([0.0, 0.01, 0.0]), torch.zeros(3)).tolist() == [0.0, 1.0, 0.0]
