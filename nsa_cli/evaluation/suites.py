"""Which texts are read and what is asked about them, suite by suite and length by length."""

from __future__ import annotations

import hashlib
import itertools
import platform
import random
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
"""Questions of a suite at one length (and depth) unless `--limit` says another number."""

_OTHER_QUESTIONS = 24
_PER_TEXT = 8
"""Questions about one text of articles."""

_CHARACTERS_PER_TOKEN_AT_MOST = 6
_VARIETY = 400_000
"""Characters of documentation at least, so that short texts differ from each other."""

_TRIES = 6
_SHORTEST = 0.93
"""Share of the length wanted that a text must have, where there is enough of the haystack."""

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is evaluated.

    Attributes:
        suites: Of `SUITES`.
        lengths: Tokens that text, question and answer take together at most.
        depths: At how many depths the single needle is hidden.
        limit: Questions at most of a suite at one length, and for the needle at one depth; a
            number of the suite's own when None.
        seed: Makes the texts.
        haystack: Paragraphs to hide facts in.
        articles: What the suite `questions` is made of.
    """

    suites: tuple[str, ...]
    lengths: tuple[int, ...]
    depths: int
    limit: int | None
    seed: int
    haystack: Sequence[str]
    articles: Sequence[Article] = ()

    def texts(self) -> Iterator[Wanted]:
        """What is to be made, shortest first; each is one text."""
        for length in sorted(self.lengths):
            for suite in self.suites:
                yield from self._of_suite(suite, length)

    def _of_suite(self, suite: str, length: int) -> Iterator[Wanted]:
        left = self.limit or _QUESTIONS.get(suite, _OTHER_QUESTIONS)
        each = {"needle": 1, "similar": 24, "values": 4, "variables": 4, "aggregation": 2}
        numbers = itertools.count()
        while left > 0:
            count = min(left, each.get(suite, _PER_TEXT))
            for depth in self._depths() if suite == "needle" else (None,):
                yield Wanted(
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

    def make(self, wanted: Wanted, count: Count, room: int) -> tuple[Example, ...]:
        """Make one text, as long as there is place for.

        Args:
            wanted: Which.
            count: Counts the tokens that a text takes as a document.
            room: Tokens of the longest question and its answer.
        """
        seed = self.seed * 1_000_000 + wanted.number
        if wanted.suite == "questions":

            def make(tokens: int, ratio: float) -> tuple[Example, ...]:
                return hidden_questions(
                    self.articles,
                    tokens=tokens,
                    seed=seed,
                    count=wanted.questions,
                    characters_per_token=ratio,
                )
        else:
            more: dict[str, Any] = {"depth": wanted.depth} if wanted.suite == "needle" else {}

            def make(tokens: int, ratio: float) -> tuple[Example, ...]:
                generator = GENERATORS[wanted.suite]
                return generator(
                    self.haystack,
                    tokens=tokens,
                    seed=seed,
                    split="eval",
                    characters_per_token=ratio,
                    **more,
                )

        examples = fitted(make, wanted.length - room, count)
        asked = random.Random(seed).sample(
            range(len(examples)), min(wanted.questions, len(examples))
        )
        return tuple(examples[number] for number in sorted(asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One text that is to be made.

    Attributes:
        suite: Of `SUITES`.
        length: Tokens, text, question and answer together.
        depth: Of the single needle, a share of the text; None in other suites.
        number: Of the text among those alike, from 0.
        questions: How many are asked.
    """

    suite: str
    length: int
    depth: float | None
    number: int
    questions: int

    @property
    def name(self) -> str:
        """For progress."""
        where = "" if self.depth is None else f", depth {self.depth:.0%}"
        return f"{self.suite}, {self.length:,} tokens{where}"


def fitted(
    make: Callable[[int, float], tuple[Example, ...]], tokens: int, count: Count
) -> tuple[Example, ...]:
    """Examples whose text is as long as is wanted, and no longer.

    Args:
        make: Makes them from a number of tokens and characters per token.
        tokens: Of the text at most, and nearly.
        count: Counts the tokens of a text.

    Raises:
        UsageError: If no text is that short.
    """
    ratio = CHARACTERS_PER_TOKEN
    best: tuple[Example, ...] = ()
    longest = 0
    seen: set[float] = set()
    for _ in range(_TRIES if tokens > 0 else 0):
        examples = make(tokens, ratio)
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
            f"{max(0, tokens):,} tokens of text are too few for what is hidden in them",
            hint="raise --lengths",
        )
    return best


def load_haystack(path: str | None, longest: int, seed: int) -> tuple[list[str], dict[str, Any]]:
    """Paragraphs to hide facts in, and what they are.

    Args:
        path: A file of the user's; Python's documentation when None.
        longest: Tokens of the longest text.
        seed: Of the order of the documentation.

    Raises:
        UnreadableError: If the file cannot be read.
    """
    if path is None:
        wanted = max(longest * _CHARACTERS_PER_TOKEN_AT_MOST, _VARIETY)
        found = [unicodedata.normalize("NFC", part) for part in documentation(wanted, seed)]
        name = f"documentation of Python {platform.python_version()}"
    else:
        document = parse_document(*read_source(path))
        found, name = paragraphs(document.text), path
    whole = "\n".join(found)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    return found, {"name": name, "characters": len(whole), "sha256": digest}


def load_articles(path: Path, *, held_out: bool) -> list[Article]:
    """Articles with the questions from a file that are asked about one of them alone.

    Args:
        path: See `nsa_models.tasks.read_articles`.
        held_out: Whether to take only every eighth, which training leaves out.

    Raises:
        UnreadableError: If it cannot be read.
        UsageError: If no article taken has a question.
    """
    articles = read_articles(path)
    if held_out:
        articles = of_split(articles, "eval")
    articles = distinct_questions(articles)
    if not any(each.questions for article in articles for each in article.paragraphs):
        raise UsageError(
            f"{path} has no question to ask",
            hint="leave --held-out out, or name another file" if held_out else "name another file",
        )
    return articles
