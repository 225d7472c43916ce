"""Scores of answers and citations, and confidence intervals.

Source: answers are normalized and compared as in Rajpurkar et al. 2016, "SQuAD", arXiv 1606.05250;
Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_ARTICLES = frozenset(["a", "an", "the"])
_SIGNS = str.maketrans("", "", string.punctuation + "’‘“”–—…")
_BETWEEN = re.compile(r"[,;\n]|\band\b")
_MONTH_FIRST = re.compile(
    r"\b(january|february|march|april|may|june|july|august|september|october|november|december)"
    r" (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})\b"
)
_ORDINAL_DAY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th) (?:of )?(?=[a-z]+ \d{4}\b)")
_Z = 1.959964
"""Quantile of the normal distribution for a 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Scores of an answer against gold answers, which are alternatives or all required.

    Attributes:
        exact_match: Whether it equals a gold answer, or lists exactly the required ones.
        contains_gold: Whether it contains a gold answer, or all required ones.
        recall: Share of the required answers that it contains; 1 or 0 for alternatives.
        f1: Harmonic mean of precision and recall of words, for the best alternative.
    """

    exact_match: bool
    contains_gold: bool
    recall: float
    f1: float


def score(answer: str, gold: Sequence[str], *, every: bool = False) -> Score:
    """Compare an answer with the gold answers.

    Args:
        answer: The model's answer.
        gold: At least one gold answer.
        every: Whether all of `gold` are required; otherwise they are alternatives.
    """
    words = normal_words(answer)
    inside = [_contains(words, normal_words(each)) for each in gold]
    if every:
        dated = _MONTH_FIRST.sub(r"\2 \1 \3", answer.casefold())
        listed = sorted(filter(None, map(normal_words, _BETWEEN.split(dated))))
        return Score(
            exact_match=listed == sorted(map(normal_words, gold)),
            contains_gold=all(inside),
            recall=sum(inside) / len(inside),
            f1=_f1(words, [word for each in gold for word in normal_words(each)]),
        )
    return Score(
        exact_match=any(words == normal_words(each) for each in gold),
        contains_gold=any(inside),
        recall=float(any(inside)),
        f1=max(_f1(words, normal_words(each)) for each in gold),
    )


def normal_words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles; dates in one form."""
    plain = _ORDINAL_DAY.sub(r"\1 ", _MONTH_FIRST.sub(r"\2 \1 \3", text.casefold()))
    plain = plain.translate(_SIGNS)
    return [word for word in plain.split() if word not in _ARTICLES]


def _contains(words: list[str], gold: list[str]) -> bool:
    """Whether `gold`, if not empty, is a contiguous part of `words`."""
    size = len(gold)
    return bool(gold) and any(words[at : at + size] == gold for at in range(len(words) - size + 1))


def _f1(words: list[str], gold: list[str]) -> float:
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold)) if common else 0.0


def overlap_rank(
    found: Sequence[tuple[int, int]], evidence: Sequence[tuple[int, int]]
) -> int | None:
    """Rank, from 1, of the first range that overlaps the evidence, or None.

    Args:
        found: Character ranges, best first.
        evidence: Character ranges of the gold evidence.
    """
    for rank, (start, end) in enumerate(found, 1):
        if any(start < last and first < end for first, last in evidence):
            return rank
    return None


def wilson(mean: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share.

    Args:
        mean: The measured share. For a mean of numbers from 0 to 1, such as F1, the interval is
            conservative: the variance of such a mean is at most that of a share.
        count: Number of samples.
    """
    if not count:
        return 0.0, 1.0
    scale = 1 + _Z**2 / count
    middle = (mean + _Z**2 / (2 * count)) / scale
    reach = _Z * math.sqrt(mean * (1 - mean) / count + _Z**2 / (4 * count**2)) / scale
    return max(0.0, middle - reach), min(1.0, middle + reach)
