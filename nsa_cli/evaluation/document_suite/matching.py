"""Compares an answer with what a question wants: groups of alternatives, each group hit by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa_cli.retrieval.declining import declines
from nsa_cli.retrieval.quantities import Quantity, Word, same, tokens_of

_LESS = (
    *("decreas", "declin", "fell", "fall", "drop", "down", "lower", "less", "loss", "reduc"),
    *(
        "fewer",
        "shrank",
        "shrink",
        "minus",
        "negativ",
        "gesunken",
        "verringer",
        "baisse",
        "verlust",
    ),
)
"""Beginnings of words that make a number negative."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right.

    Attributes:
        right: Whether every group is hit and nothing wrong is said; for an unanswerable question,
            whether it is declined.
        declined: Whether the answer says that the document does not say.
        groups_hit: Groups that are hit.
    """

    right: bool
    declined: bool
    groups_hit: int


def judge(answer: str, groups: Sequence[Sequence[str]], wrong: Sequence[str] = ()) -> Verdict:
    """Judge an answer.

    Args:
        answer: The answer.
        groups: Groups of alternatives; empty for an unanswerable question.
        wrong: What a right answer does not say.
    """
    declined = declines(answer)
    if not groups:
        return Verdict(right=declined, declined=declined, groups_hit=0)
    said = _Said(answer)
    count = sum(any(map(said.holds, group)) for group in groups)
    right = count == len(groups) and not any(map(said.holds, wrong))
    return Verdict(right=right, declined=declined and not right, groups_hit=count)


def says(answer: str, wanted: str) -> bool:
    """Whether an answer holds some words and numbers, whole and next to each other."""
    return _Said(answer).holds(wanted)


class _Said:
    """What an answer says.

    Args:
        answer: The answer.
    """

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self._tokens = tokens_of(answer)
        self._is_less = any(
            isinstance(each, Word) and each.text.startswith(_LESS) for each in self._tokens
        )

    def holds(self, wanted: str) -> bool:
        """Whether it holds some words and numbers, whole and next to each other."""
        words = tokens_of(wanted)
        if not words:  # a sign, such as ©
            return wanted.strip() in self._answer
        size = len(words)
        if size == 1 and self._is_less and isinstance(words[0], Quantity):
            words = [_either_sign(words[0])]
        starts = range(len(self._tokens) - size + 1)
        return any(all(map(same, self._tokens[at : at + size], words)) for at in starts)


def _either_sign(wanted: Quantity) -> Quantity:
    """A negative number may be told as a decrease of a positive one."""
    if max(wanted.values) >= 0:
        return wanted
    positive = {-value for value in wanted.values}
    return Quantity(wanted.values | positive, wanted.unit, wanted.raw)
