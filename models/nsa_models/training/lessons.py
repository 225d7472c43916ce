"""What a model is trained on: one text, with questions and their answers behind it, as ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Ids = np.ndarray[tuple[int], np.dtype[np.int32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question of a lesson, as positions in its ids.

    Attributes:
        question: First token of the question, and one past the last.
        answer: The same of the answer, the token that ends it included.
        evidence: Selection blocks that bear the answer out.
    """

    question: tuple[int, int]
    answer: tuple[int, int]
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExample:
    """A text and what is asked about it.

    Attributes:
        ids: All tokens.
        document: First token of the text, and one past the last.
        instruction: The same of the words before the first question, alike for any question.
        asked: The questions, in order; none for a text that is only read.
        task: What kind of lesson it is.
    """

    ids: Ids
    document: tuple[int, int]
    instruction: tuple[int, int]
    asked: tuple[Asked, ...]
    task: str


Step = Sequence[TrainingExample]
"""What a step learns from: one lesson, or several short ones, which are read side by side."""
