"""Questions that ask a model about a text: whether it answers a question, and with what."""

from __future__ import annotations

YES, NO = "Yes.", "No."
"""What the model says to `judge_question`."""

STATED, COMPUTED, ABSENT = "Stated.", "Computed.", "Absent."
"""What the model says to `source_question`: the text states the answer, has the figures to compute
it, or has neither."""


def judge_question(question: str, answer: str) -> str:
    """Return the question whether a text answers another question with a given answer.

    Args:
        question: The other question.
        answer: The answer to judge.
    """
    return f"Does the document answer “{question.strip()}” with “{answer.strip()}”? Say yes or no."


def source_question(question: str) -> str:
    """Return the question whether a text states the answer to another question.

    Args:
        question: The other question.
    """
    return (
        f"Is the answer to “{question.strip()}” stated in the document, computed from its figures, "
        "or absent? Say stated, computed or absent."
    )
