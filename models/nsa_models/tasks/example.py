"""A text with a question whose answer, and whose place in the text, are known."""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "eval"]

CHARACTERS_PER_TOKEN = 4.3
"""Of English prose, roughly; whoever has a tokenizer measures it."""

_SENTENCE_END = re.compile(r"[.!?][”\"')\]]*\s+(?=[A-Z0-9“\"'(])|\n+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text, a question about it, and what is known of the answer.

    Examples that were made together hold the very same context, so that it is read once.

    Attributes:
        context: The text.
        question: What is asked.
        answers: Right answers.
        every: Whether all of `answers` are wanted; else any of them is right.
        evidence: Characters of `context` that bear the answer out: first, and one past the last.
        task: The generator's name.
    """

    context: str
    question: str
    answers: tuple[str, ...]
    every: bool = False
    evidence: tuple[tuple[int, int], ...]
    task: str

    @property
    def depth(self) -> float:
        """Where the first evidence begins, 0 for the context's beginning and 1 for its end."""
        return self.evidence[0][0] / max(1, len(self.context))

    @property
    def target(self) -> str:
        """The answer as one text, such as training teaches it: of alternatives the fullest."""
        return ", ".join(self.answers) if self.every else max(self.answers, key=len)


def fill(haystack: Sequence[str], characters: int, rng: random.Random) -> str:
    """Paragraphs from a random one on, up to a length; from the first again after the last.

    Args:
        haystack: Sentences or paragraphs, in their order.
        characters: Of the result, roughly; the last paragraph is cut after a sentence.
        rng: Chooses the beginning.

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
    """Put sentences between those of a text.

    Args:
        text: The haystack.
        sentences: What to hide.
        depths: Where, as shares of the text, one for each; 0 is before it, 1 behind it. Sentences
            at one place stay in the order given.

    Returns:
        The text with the sentences in it, and the characters of each, in the order given.
    """
    if len(sentences) != len(depths):
        raise ValueError(f"{len(sentences)} sentences for {len(depths)} depths")
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    wanted = sorted(range(len(sentences)), key=lambda number: depths[number])
    pieces: list[str] = []
    spans = [(0, 0)] * len(sentences)
    done = length = 0
    for number in wanted:
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


def _nearest(places: Sequence[int], wanted: float) -> int:
    """The one of some ascending places that is nearest to another."""
    after = bisect_left(places, wanted)
    return min(places[max(0, after - 1) : after + 1], key=lambda place: abs(place - wanted))
