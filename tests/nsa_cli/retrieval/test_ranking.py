"""Hybrid block scores from attention and BM25."""

from __future__ import annotations

import torch

from nsa_cli.retrieval.ranking import hybrid_scores


def test_a_block_with_both_scores_ranks_first() -> None:
    attention = torch.tensor([0.0, 4.0, 0.0, 4.0, 0.0, 0.0, 0.0])
    words = torch.tensor([0.0, 3.0, 0.0, 0.0, 0.0, 3.0, 0.0])
    scores = hybrid_scores(attention, words)
    assert scores.argmax() == 1
    assert scores[1] == 2
    assert scores[3] == scores[5] == 1
    assert scores[[0, 2, 4, 6]].tolist() == [0.0] * 4


def test_a_long_passage_ranks_before_a_short_one() -> None:
    words = torch.tensor([0.0, 2.0, 0.0, 0.0, 2.0, 1.5, 0.0])
    assert hybrid_scores(torch.zeros(7), words).argmax() == 4


def test_words_have_more_weight_if_attention_covers_few_blocks() -> None:
    attention = torch.tensor([4.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    words = torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0, 0.0])
    assert hybrid_scores(attention, words).argmax() == 1
    assert hybrid_scores(attention, words, few=True).argmax() == 4


def test_blocks_without_scores() -> None:
    assert hybrid_scores(torch.zeros(3), torch.zeros(3)).tolist() == [0.0] * 3
    assert hybrid_scores(torch.tensor([0.0, 0.01, 0.0]), torch.zeros(3)).tolist() == [0.0, 1.0, 0.0]
