"""Texts and questions of an evaluation, by suite and length."""

from __future__ import annotations

import hashlib
import itertools
import platform
import random
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nsa_cli.documents import parse_document, read_source
from nsa_models.errors import UsageError
from nsa_models.tasks import (
    CHARACTERS_PER_TOKEN,
    GENERATORS,
    Article,
    Example,
    distinct_questions,
    hidden_questions,
    of_split,
    read_articles,
)
from nsa_models.tasks.haystack import documentation, paragraphs

SUITES = (*GENERATORS, "questions")

_QUESTIONS = {"needle": 1, "similar": 24, "values": 12, "variables": 12, "aggregation": 8}
"""Default number of questions of a suite at one length, and one depth."""

_OTHER_QUESTIONS = 24
_PER_TEXT = 8
"""Questions about one text."""

_CHARACTERS_PER_TOKEN_AT_MOST = 6
_VARIETY = 400_000
"""Minimum characters of documentation, so that short texts differ from each other."""

_TRIES = 6
_SHORTEST = 0.93
"""Share of the requested length that a text must reach, if the haystack is long enough."""

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The texts and questions of an evaluation.

    Attributes:
        suites: Some of `SUITES`.
        lengths: Limits in tokens of text, question and answer together.
        depths: Number of depths of the single needle.
        limit: Maximum number of questions of a suite at one length, and one needle depth; None
            for the suite's default.
        seed: Seed of the texts.
        haystack: Paragraphs to hide facts in.
        articles: Articles of the suite `questions`.
    """

    suites: tuple[str, ...]
    lengths: tuple[int, ...]
    depths: int
    limit: int | None
    seed: int
    haystack: Sequence[str]
    articles: Sequence[Article] = ()

    def texts(self) -> Iterator[TextSpec]:
        """Specifications of the texts, shortest first."""
        for length in sorted(self.lengths):
            for suite in self.suites:
                yield from self._of_suite(suite, length)

    def _of_suite(self, suite: str, length: int) -> Iterator[TextSpec]:
        left = self.limit or _QUESTIONS.get(suite, _OTHER_QUESTIONS)
        each = {"needle": 1, "similar": 24, "values": 4, "variables": 4, "aggregation": 2}
        numbers = itertools.count()
        while left > 0:
            count = min(left, each.get(suite, _PER_TEXT))
            for depth in self._depths() if suite == "needle" else (None,):
                yield TextSpec(
                    suite=suite,
                    length=length,
                    depth=depth,
                    number=next(numbers),
                    questions=count,
                )
            left -= count

    def _depths(self) -> list[float]:
        if self.depths == 1:
            return [0.5]
        return [number / (self.depths - 1) for number in range(self.depths)]

    def make(self, spec: TextSpec, count: Count, room: int) -> tuple[Example, ...]:
        """Make one text, as long as the length allows, and its questions.

        Args:
            spec: Specification of the text.
            count: Counts the tokens of a text as a document.
            room: Tokens of the longest question and its answer.
        """
        seed = self.seed * 1_000_000 + spec.number
        make: Callable[..., tuple[Example, ...]]
        if spec.suite == "questions":
            make = partial(hidden_questions, self.articles, seed=seed, count=spec.questions)
        else:
            generator = GENERATORS[spec.suite]
            more: dict[str, Any] = {"depth": spec.depth} if spec.suite == "needle" else {}
            make = partial(generator, self.haystack, seed=seed, split="eval", **more)
        examples = fitted(make, spec.length - room, count)
        asked = random.Random(seed).sample(range(len(examples)), min(spec.questions, len(examples)))
        return tuple(examples[number] for number in sorted(asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """Specification of one text.

    Attributes:
        suite: One of `SUITES`.
        length: Tokens of text, question and answer together.
        depth: Depth of the single needle, a share of the text; None in other suites.
        number: Number of the text among those of its suite and length, from 0.
        questions: Number of questions.
    """

    suite: str
    length: int
    depth: float | None
    number: int
    questions: int

    @property
    def name(self) -> str:
        """Name for progress."""
        where = "" if self.depth is None else f", depth {self.depth:.0%}"
        return f"{self.suite}, {self.length:,} tokens{where}"


def fitted(
    make: Callable[..., tuple[Example, ...]], tokens: int, count: Count
) -> tuple[Example, ...]:
    """Examples whose text has nearly, and at most, the given tokens.

    Args:
        make: Makes examples from `tokens` and `characters_per_token`.
        tokens: Maximum tokens of the text.
        count: Counts the tokens of a text.

    Raises:
        UsageError: If even the shortest text has more tokens.
    """
    ratio = CHARACTERS_PER_TOKEN
    best: tuple[Example, ...] = ()
    longest = 0
    seen: set[float] = set()
    for _ in range(_TRIES if tokens > 0 else 0):
        examples = make(tokens=tokens, characters_per_token=ratio)
        found = count(examples[0].context)
        if longest < found <= tokens:
            best, longest = examples, found
        if longest >= _SHORTEST * tokens:
            break
        ratio = min(ratio * 0.98 * tokens / found, _CHARACTERS_PER_TOKEN_AT_MOST)
        if ratio in seen:
            break
        seen.add(ratio)
    if not best:
        raise UsageError(
            f"{max(0, tokens):,} tokens of text are too few to hide the facts in",
            hint="raise --lengths",
        )
    return best


def load_haystack(path: str | None, longest: int, seed: int) -> tuple[list[str], dict[str, Any]]:
    """Paragraphs to hide facts in, and their name, size and SHA-256.

    Args:
        path: File of the haystack; None for Python's documentation.
        longest: Tokens of the longest text.
        seed: Seed of the order of the documentation.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    if path is None:
        characters = max(longest * _CHARACTERS_PER_TOKEN_AT_MOST, _VARIETY)
        found = [unicodedata.normalize("NFC", part) for part in documentation(characters, seed)]
        name = f"documentation of Python {platform.python_version()}"
    else:
        document = parse_document(*read_source(path))
        found, name = paragraphs(document.text), path
    whole = "\n".join(found)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    return found, {"name": name, "characters": len(whole), "sha256": digest}


def load_articles(path: Path, *, held_out: bool) -> list[Article]:
    """Articles of a file, with the questions that belong to a single article.

    Args:
        path: File for `nsa_models.tasks.read_articles`.
        held_out: Whether to load only the eighth of the articles that training excludes.

    Raises:
        DataError: If the file cannot be read.
        UsageError: If no loaded article has a question.
    """
    articles = read_articles(path)
    if held_out:
        articles = of_split(articles, "eval")
    articles = distinct_questions(articles)
    if not any(each.questions for article in articles for each in article.paragraphs):
        raise UsageError(
            f"{path} has no question to ask",
            hint="omit --held-out, or name another file" if held_out else "name another file",
        )
    return articles
