"""Scores of a document's blocks for a question: attention and BM25 together."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.results import Turn

WINDOWS_TOGETHER = 4
"""Volumes that a question looks over side by side: as many are in memory."""


_FEW_WORDS, _FEW_CHARACTERS = 3, 24
"""Of a question that names too little to be looked up by itself: "And when?"; the second for
scripts that do not set words apart."""


def in_full(question: str, turns: Sequence[Turn]) -> str:
    """A question as it can be looked up: one of a few words goes with the one that it takes up."""
    few = len(question.split()) <= _FEW_WORDS and len(question) <= _FEW_CHARACTERS
    if turns and few:
        return f"{turns[-1].question} {question}"
    return question
