"""How right an answer is, how right its citations are, and how sure that is.

Source: answers are normalised and compared as in Rajpurkar et al. 2016, "SQuAD", arXiv 1606.05250;
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
"""Of the normal distribution, for an interval of 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How right an answer is.

    Attributes:
        exact_match: Whether it is the gold answer; of several wanted, these and no others.
        contains_gold: Whether the gold answer is in it; of several wanted, all of them.
        recall: Share of the gold answers that are in it; of alternatives, 1 or 0.
        f1: Harmonic mean of precision and recall of the words, with the best alternative.
    """

    exact_match: bool
    contains_gold: bool
    recall: float
    f1: float


def score(answer: str, gold: Sequence[str], *, every: bool = False) -> Score:
    """Compare an answer with the right ones.

    Args:
        answer: What was said.
        gold: At least one right answer.
        every: Whether all of `gold` are wanted; else any of them is right.
    """
    said = normal_words(answer)
    inside = [_contains(said, normal_words(each)) for each in gold]
    if every:
        dated = _MONTH_FIRST.sub(r"\2 \1 \3", answer.casefold())
        listed = sorted(filter(None, map(normal_words, _BETWEEN.split(dated))))
        return Score(
            exact_match=listed == sorted(map(normal_words, gold)),
            contains_gold=all(inside),
            recall=sum(inside) / len(inside),
            f1=_f1(said, [word for each in gold for word in normal_words(each)]),
        )
    return Score(
        exact_match=any(said == normal_words(each) for each in gold),
        contains_gold=any(inside),
        recall=float(any(inside)),
        f1=max(_f1(said, normal_words(each)) for each in gold),
    )


def normal_words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation and articles; dates in one form."""
    plain = _ORDINAL_DAY.sub(r"\1 ", _MONTH_FIRST.sub(r"\2 \1 \3", text.casefold()))
    plain = plain.translate(_SIGNS)
    return [word for word in plain.split() if word not in _ARTICLES]


def _contains(said: list[str], gold: list[str]) -> bool:
    """Whether some words stand in others one behind the other; no words never do."""
    size = len(gold)
    return bool(gold) and any(said[at : at + size] == gold for at in range(len(said) - size + 1))


def _f1(said: list[str], gold: list[str]) -> float:
    common = (Counter(said) & Counter(gold)).total()
    return 2 * common / (len(said) + len(gold)) if common else 0.0


def overlap_rank(
    found: Sequence[tuple[int, int]], evidence: Sequence[tuple[int, int]]
) -> int | None:
    """The place, from 1, of the first of some ranges that shares a character with the evidence.

    Args:
        found: Ranges of characters, best first.
        evidence: Ranges of characters.
    """
    for rank, (start, end) in enumerate(found, 1):
        if any(start < last and first < end for first, last in evidence):
            return rank
    return None


def wilson(mean: float, count: int) -> tuple[float, float]:
    """The interval in which a share lies with 95 % confidence.

    Args:
        mean: The share that was found; a mean of numbers from 0 to 1, such as F1, varies no more
            than a share does, so that its interval is wide enough.
        count: Of how many.
    """
    if not count:
        return 0.0, 1.0
    scale = 1 + _Z**2 / count
    middle = (mean + _Z**2 / (2 * count)) / scale
    reach = _Z * math.sqrt(mean * (1 - mean) / count + _Z**2 / (4 * count**2)) / scale
    return max(0.0, middle - reach), min(1.0, middle + reach)
