"""Training examples: a text with questions and answers, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsa_models.tokenization.ids import TokenIds


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleQuestion:
    """A question of a training example, as half-open ranges of its ids.

    Attributes:
        question: First token of the question, and one past the last.
        answer: The same for the answer, including its end token.
        evidence: Selection blocks that contain the evidence.
    """

    question: tuple[int, int]
    answer: tuple[int, int]
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExample:
    """A text and questions about it.

    Attributes:
        ids: (T,) all tokens.
        document: First token of the text, and one past the last.
        instruction: The same for the instruction before the first question, which is equal for
            all questions.
        asked: The questions, in order; empty for plain language modeling.
        task: Name of the example's kind.
    """

    ids: TokenIds
    document: tuple[int, int]
    instruction: tuple[int, int]
    asked: tuple[ExampleQuestion, ...]
    task: str


Batch = Sequence[TrainingExample]
"""Examples of one training step: one, or several short ones."""
