"""Differences between two ways on the same questions."""

from __future__ import annotations

import pytest

from nsa_cli.evaluation.paired import paired_difference, sign_test


def test_the_sign_test_counts_the_uneven_pairs() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == 2 / 32
    assert sign_test(1, 5) == pytest.approx(2 * 7 / 64)


def test_a_difference_with_its_interval() -> None:
    first, second = [True] * 70 + [False] * 30, [True] * 50 + [False] * 50
    found = paired_difference(first, second, seed=3)
    assert (found.questions, found.difference) == (100, pytest.approx(0.2))
    assert (found.better, found.worse) == (20, 0)
    assert 0.1 < found.low < 0.2 < found.high < 0.3
    assert found == paired_difference(first, second, seed=3)


def test_no_difference() -> None:
    found = paired_difference([True, False], [True, False])
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1.0)


def test_pairs_are_needed() -> None:
    with pytest.raises(ValueError, match="2 and 1 questions"):
        paired_difference([True, False], [True])
