"""Ranks of passages, by the model's look and by BM25."""

from __future__ import annotations

from nsa_cli.evaluation.gold_rank import best_rank, gold_blocks


def test_blocks_that_hold_half_of_the_evidence_or_are_half_evidence() -> None:
    spans = [(0, 100), (100, 200), (200, 300), (300, 400), (0, 0)]
    assert gold_blocks(spans, [(110, 130)]) == {1}
    assert gold_blocks(spans, [(190, 210)]) == {1, 2}
    assert gold_blocks(spans, [(195, 225)]) == {2}
    assert gold_blocks(spans, [(40, 330)]) == {0, 1, 2}
    assert gold_blocks(spans, [(10, 20), (310, 320)]) == {0, 3}


def test_the_best_gold_block_counts_and_ties_do_not_help() -> None:
    scores = [0.1, 0.5, 0.9, 0.3, 0.5]
    assert best_rank(scores, {2}) == 1
    assert best_rank(scores, {0, 3}) == 4
    assert best_rank(scores, {1}) == 3
    assert best_rank(scores, {1, 4}) == 2
    assert best_rank([0.0, 0.0, 1.0], {0}) is None
    assert best_rank(scores, set()) is None
