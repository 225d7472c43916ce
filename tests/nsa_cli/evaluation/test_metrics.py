"""Scores and intervals, by examples worked out by hand."""

from __future__ import annotations

import pytest

from nsa_cli.evaluation.metrics import Score, normal_words, overlap_rank, score, wilson


def test_words_without_case_signs_and_articles() -> None:
    assert normal_words("The  “Gray” lynx, at 18:46 (a locker: AD-670-K).") == [
        *("gray", "lynx", "at", "1846", "locker", "ad670k"),
    ]


@pytest.mark.parametrize(
    ("answer", "exact", "inside", "f1"),
    [
        ("The gray lynx.", True, True, 1.0),
        ("It is the gray lynx, said Ada", False, True, 2 * 2 / (6 + 2)),
        ("A lynx that is gray", False, False, 2 * 2 / (4 + 2)),
        ("graying lynxes", False, False, 0.0),
        ("", False, False, 0.0),
    ],
)
def test_one_answer(answer: str, exact: bool, inside: bool, f1: float) -> None:
    found = score(answer, ["gray lynx"])
    assert (found.exact_match, found.contains_gold, found.recall) == (exact, inside, float(inside))
    assert found.f1 == pytest.approx(f1)


def test_figures_are_not_found_inside_others() -> None:
    assert not score("It is 14823.", ["4823"]).contains_gold
    assert score("It is 4,823.", ["4823"]).contains_gold


@pytest.mark.parametrize(
    "said", ["14 March 1701", "March 14, 1701", "the 14th of March 1701", "on March 14th 1701."]
)
def test_a_date_may_be_written_otherwise(said: str) -> None:
    assert score(f"It was lit {said}", ["14 March 1701"]).contains_gold
    assert not score(f"It was lit {said}", ["4 March 1701"]).contains_gold
    assert not score(f"It was lit {said}", ["14 May 1701"]).contains_gold


def test_dates_may_be_listed() -> None:
    gold = ["14 March 1701", "2 May 1820"]
    assert score("March 14, 1701 and May 2, 1820", gold, every=True).exact_match


def test_any_of_several_alternatives_will_do() -> None:
    found = score("in Prague", ["Brno", "Prague", "the city of Prague"])
    assert found.contains_gold
    assert not found.exact_match
    assert found.f1 == pytest.approx(2 / 3)
    assert score("Prague", ["Brno", "Prague"]).exact_match


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B2, a1 and C3.", Score(exact_match=True, contains_gold=True, recall=1.0, f1=6 / 7)),
        ("A1, B2, C3, D4", Score(exact_match=False, contains_gold=True, recall=1.0, f1=6 / 7)),
        ("A1, B2", Score(exact_match=False, contains_gold=False, recall=2 / 3, f1=4 / 5)),
    ],
)
def test_all_of_several_values_are_wanted(answer: str, expected: Score) -> None:
    found = score(answer, ["A1", "B2", "C3"], every=True)
    assert (found.exact_match, found.contains_gold) == (
        expected.exact_match,
        expected.contains_gold,
    )
    assert (found.recall, found.f1) == (pytest.approx(expected.recall), pytest.approx(expected.f1))


def test_the_rank_of_the_first_that_shares_a_character() -> None:
    evidence = [(100, 110), (300, 310)]
    assert overlap_rank([(0, 100), (109, 120)], evidence) == 2
    assert overlap_rank([(305, 306)], evidence) == 1
    assert overlap_rank([(110, 300)], evidence) is None
    assert overlap_rank([], evidence) is None


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [  # from the tables of Newcombe 1998, "Two-sided confidence intervals for the single
        # proportion: comparison of seven methods"
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right / count, count) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_of_nothing() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)
