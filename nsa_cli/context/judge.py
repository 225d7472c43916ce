"""The question that asks a model whether a text gives an answer to a question."""

from __future__ import annotations

YES, NO = "Yes.", "No."
"""What the model says to `judge_question`."""


def judge_question(question: str, answer: str) -> str:
    """Return the question whether a text answers another question with a given answer.

    Args:
        question: The other question.
        answer: The answer to judge.
    """
    return f"Does the document answer “{question.strip()}” with “{answer.strip()}”? Say yes or no."
