"""Texts with a question, its answer and the position of the evidence."""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "eval"]

CHARACTERS_PER_TOKEN = 4.3
"""Approximate value for English prose; callers with a tokenizer measure it."""

_SENTENCE_END = re.compile(r"[.!?][”\"')\]]*\s+(?=[A-Z0-9“\"'(])|\n+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text with a question, its answers and evidence.

    Examples of one generator call share one context object, so that it is prefilled once.

    Attributes:
        context: The text.
        question: The question.
        answers: The correct answers.
        every: Whether an answer must contain all of `answers`; otherwise any one is correct.
        evidence: Half-open character ranges of `context` that support the answer.
        task: Name of the task.
    """

    context: str
    question: str
    answers: tuple[str, ...]
    every: bool = False
    evidence: tuple[tuple[int, int], ...]
    task: str

    @property
    def depth(self) -> float:
        """Start of the first evidence, from 0 at the context's start to 1 at its end."""
        return self.evidence[0][0] / max(1, len(self.context))

    @property
    def target(self) -> str:
        """The training target: all answers joined, or the longest alternative."""
        return ", ".join(self.answers) if self.every else max(self.answers, key=len)


def fill(haystack: Sequence[str], characters: int, rng: random.Random) -> str:
    """Join paragraphs from a random start, cyclically, up to a length.

    Args:
        haystack: Sentences or paragraphs, in order.
        characters: Approximate length; the last paragraph is cut after a sentence.
        rng: Chooses the start.

    Raises:
        ValueError: If the haystack has no text.
    """
    if not any(part.strip() for part in haystack):
        raise ValueError("the haystack has no text")
    at, parts, length = rng.randrange(len(haystack)), [], 0
    while length < characters:
        part = haystack[at % len(haystack)].strip()
        at += 1
        if part:
            parts.append(part)
            length += len(part) + 1
    if parts and (over := length - characters) > 0:
        last = parts[-1]
        ends = [match.end() for match in _SENTENCE_END.finditer(last)]
        keep = max((end for end in ends if end <= len(last) - over), default=0)
        parts[-1:] = [last[:keep].rstrip()] if keep else []
    return "\n".join(parts)


def hide(
    text: str, sentences: Sequence[str], depths: Sequence[float]
) -> tuple[str, list[tuple[int, int]]]:
    """Insert sentences between the sentences of a text.

    Args:
        text: The haystack.
        sentences: The sentences to insert.
        depths: Position of each, from 0 before the text to 1 after it. Sentences at one position
            keep their order.

    Returns:
        The text with the sentences, and the half-open character range of each, in order.
    """
    if len(sentences) != len(depths):
        raise ValueError(f"{len(sentences)} sentences for {len(depths)} depths")
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    order = sorted(range(len(sentences)), key=lambda number: depths[number])
    pieces: list[str] = []
    spans = [(0, 0)] * len(sentences)
    done = length = 0
    for number in order:
        place = _nearest(ends, depths[number] * len(text))
        before = text[done:place]
        if before and not before[-1].isspace():
            before += "\n" if "\n" in before else " "
        elif not before and pieces and not pieces[-1][-1:].isspace():
            before = " "
        pieces.append(before)
        length += len(before)
        sentence = sentences[number]
        spans[number] = (length, length + len(sentence))
        pieces.append(sentence)
        length += len(sentence)
        done = place
        if place < len(text):
            pieces.append(" ")
            length += 1
    pieces.append(text[done:])
    return "".join(pieces), spans


def _nearest(places: Sequence[int], target: float) -> int:
    """Return the element of ascending `places` that is nearest to `target`."""
    after = bisect_left(places, target)
    return min(places[max(0, after - 1) : after + 1], key=lambda place: abs(place - target))
