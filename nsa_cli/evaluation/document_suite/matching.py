"""Compares an answer with what a question wants: groups of alternatives, each group hit by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa_cli.evaluation.document_suite.declining import declines
from nsa_cli.evaluation.document_suite.quantities import Quantity, Token, Word, same, tokens_of

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
    said = tokens_of(answer)
    count = sum(any(_says(said, each) for each in group) for group in groups)
    right = count == len(groups) and not any(_says(said, each) for each in wrong)
    return Verdict(right=right, declined=declined and not right, groups_hit=count)


def says(answer: str, wanted: str) -> bool:
    """Whether an answer holds some words and numbers, whole and next to each other."""
    return _says(tokens_of(answer), wanted)


def _says(said: Sequence[Token], wanted: str) -> bool:
    words = tokens_of(wanted)
    if not words:
        return False
    if len(words) == 1 and isinstance(words[0], Quantity):
        below = [value for value in words[0].values if value < 0]
        if len(below) == len(words[0].values) and _tells_of_less(said):
            positive = Quantity(frozenset(-value for value in below), words[0].unit, words[0].raw)
            if any(same(each, positive) for each in said):
                return True
    size = len(words)
    return any(all(map(same, said[at : at + size], words)) for at in range(len(said) - size + 1))


def _tells_of_less(said: Sequence[Token]) -> bool:
    return any(isinstance(each, Word) and each.text.startswith(_LESS) for each in said)
