"""Training examples for checks: whether a text gives an answer to a question, and by which figures.

A text has a few paragraphs, like the parts that an answer is decoded from. Some of its questions
are answered there. Others are of paragraphs that are left out, of a paragraph whose sentences with
the answer are cut, or about another year: near misses, which the text does not answer.
"""

from __future__ import annotations

import random
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nsa_cli.context.judge import NO, YES, judge_question
from nsa_cli.context.prompt import GAP
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.sentences import content_words, sentences
from nsa_cli.training.computations import Computation
from nsa_models.tasks import Article
from nsa_models.tasks.questions import Paragraph

EXPRESSION = "expression"
"""Kind of a check whose target is an arithmetic expression; see `PromptBuilder.expression`."""

_CHARACTERS = (1200, 5600)
"""Minimum and maximum characters of a text."""

_CHECKS = 8
"""Maximum checks of a text."""

_CUT = 0.4
"""Share of texts whose first paragraph lacks the sentences with an answer."""

_LEFT_OUT = 0.15
"""Share of texts without the first paragraph."""

_OTHER_YEAR = 0.3
"""Share of questions with a year that are asked about another year, too."""

_FROM_OTHERS = 0.3
"""Share of the other paragraphs that are of other articles."""

_SAMPLE = 24
"""Paragraphs of other articles of which those that share most words are taken."""

_LINES = (70, 110)
"""Minimum and maximum characters of a line, where a text is wrapped as in a PDF."""

_WRAPPED = 0.5
_RIGHT = 0.6
"""Share of right answers among those to judge, of questions that a text answers."""

_WITHOUT_OWN = 0.4
"""Share of the unanswered questions without an answer of the model that get another answer."""

_SHORT = 4
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NOT_WORD = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class Check:
    """A question about a text.

    Attributes:
        kind: `question`, or `expression`.
        question: What the model is asked.
        target: What it says.
    """

    kind: str
    question: str
    target: str


@dataclass(frozen=True, slots=True)
class CheckedText:
    """A text with its checks."""

    text: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswers:
    """Answers of a model to a question: those that a gold answer supports, and inventions."""

    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


class CheckExamples:
    """Makes texts with checks from articles with questions.

    Args:
        articles: The articles, with the answers that the data gives.
        computations: Computed questions about a paragraph, by its text.
        own: A model's own answers by question.
    """

    def __init__(
        self,
        articles: Sequence[Article],
        computations: Mapping[str, Sequence[Computation]],
        own: Mapping[str, OwnAnswers],
    ) -> None:
        self._computations, self._own = computations, own
        self._articles = [
            article for article in articles if any(each.questions for each in article.paragraphs)
        ]
        self._weights = [
            min(40, sum(len(each.questions) for each in article.paragraphs))
            + sum(len(computations.get(each.text, ())) for each in article.paragraphs)
            for article in self._articles
        ]
        self._numbers = range(len(self._articles))
        self._indices: dict[int, Bm25] = {}

    def example(self, seed: int) -> CheckedText:
        """Return one text with its checks; the same seed makes the same example."""
        rng = random.Random(f"checks {seed}")
        while not (found := self._drawn(rng)).checks:
            pass
        return found

    def _drawn(self, rng: random.Random) -> CheckedText:
        """One text; by chance, it has no checks."""
        number = rng.choices(self._numbers, self._weights)[0]
        paragraphs = self._articles[number].paragraphs
        at = rng.choice([n for n, each in enumerate(paragraphs) if each.questions])
        first = paragraphs[at]
        question, gold = rng.choice(first.questions)
        limit, kind = rng.randint(*_CHARACTERS), rng.random()
        shown = first
        if kind < _CUT:
            shown = Paragraph(text=without_sentences(first.text, gold), questions=())
        texts = [] if kind > 1 - _LEFT_OUT or not shown.text else [shown.text]
        parts = [] if shown is not first or not texts else [first]
        for other in self._others(number, at, question, rng):
            if sum(map(len, texts)) + len(other.text) > limit:
                break
            texts.append(other.text)
            parts.append(other)
        texts = texts or [rng.choice(paragraphs).text]
        rng.shuffle(texts)
        text = _joined(texts, rng)
        return CheckedText(text, tuple(self._checks(text, first, parts, number, rng)))

    def _checks(
        self,
        text: str,
        first: Paragraph,
        parts: Sequence[Paragraph],
        number: int,
        rng: random.Random,
    ) -> list[Check]:
        there = [each for part in parts for each in part.questions]
        absent = [
            (asked, gold)
            for part in (first, *rng.sample(self._articles[number].paragraphs, 1))
            if part not in parts
            for asked, gold in part.questions
            if not holds(text, gold)
        ]
        rng.shuffle(there)
        rng.shuffle(absent)
        there = sorted(there, key=lambda each: each not in first.questions)  # stable
        checks = list[Check]()
        for asked, gold in there[:5]:
            checks += self._stated(asked, gold, number, rng)
        for asked, gold in absent[:5]:
            checks += self._absent(asked, gold, number, rng)
        for asked, gold in there:
            if _YEAR.search(asked) and rng.random() < _OTHER_YEAR:
                other = _about_another_year(asked, text, rng)
                if other != asked:
                    checks += self._absent(other, gold, number, rng, like=asked)
        for part in dict.fromkeys((first, *parts)):
            some = list(self._computations.get(part.text, ()))
            if part in parts:
                checks += [
                    Check(EXPRESSION, each.question, each.expression)
                    for each in rng.sample(some, min(3, len(some)))
                ]
        rng.shuffle(checks)
        return list(dict.fromkeys(checks))[:_CHECKS]

    def _stated(
        self, asked: str, gold: Sequence[str], number: int, rng: random.Random
    ) -> list[Check]:
        own = self._own.get(asked, OwnAnswers())
        wrong = [*own.wrong, *own.wrong, *self._wrong(number, asked, gold, rng)[:2]]
        if rng.random() < _RIGHT or not wrong:
            return [_judged(asked, rng.choice([*own.right, *own.right, *gold]), YES)]
        return [_judged(asked, rng.choice(wrong), NO)]

    def _absent(
        self, asked: str, gold: Sequence[str], number: int, rng: random.Random, like: str = ""
    ) -> list[Check]:
        """Inventions first, then an answer that would be right elsewhere or to another question."""
        own = self._own.get(like or asked, OwnAnswers())
        said = [*own.wrong, *own.wrong, *own.right]
        if not said and rng.random() < _WITHOUT_OWN:
            said = [*gold, *self._wrong(number, asked, gold, rng)[:2]]
        return [_judged(asked, rng.choice(said), NO)] if said else []

    def _wrong(self, number: int, asked: str, gold: Sequence[str], rng: random.Random) -> list[str]:
        """Answers to other questions about an article, those that look alike first."""
        others = [
            each
            for part in self._articles[number].paragraphs
            for question, answers in part.questions
            if question != asked
            for each in answers
            if not holds(each, gold) and not any(holds(one, (each,)) for one in gold)
        ]
        rng.shuffle(others)
        return sorted(others, key=lambda each: _looks(each) != _looks(gold[0]))

    def _others(self, number: int, at: int, question: str, rng: random.Random) -> list[Paragraph]:
        """Other paragraphs, those that share most words with a question first."""
        own = [each for each in self._ranked(number, question) if each != at]
        found = [self._articles[number].paragraphs[each] for each in own]
        asked, elsewhere = content_words(question), list[Paragraph]()
        for other in rng.sample(self._numbers, min(_SAMPLE, len(self._numbers))):
            if other != number:
                elsewhere.append(rng.choice(self._articles[other].paragraphs))
        elsewhere.sort(key=lambda each: -len(asked & _words(each.text)))
        for place in range(len(found) + 4):
            if elsewhere and (rng.random() < _FROM_OTHERS or place >= len(found)):
                found.insert(place, elsewhere.pop(0))
        return list(dict.fromkeys(found))

    def _ranked(self, number: int, question: str) -> list[int]:
        """Paragraphs of an article, those that share most words with a question first."""
        if number not in self._indices:
            texts = [each.text for each in self._articles[number].paragraphs]
            self._indices[number] = Bm25(texts)
        scores = self._indices[number].scores(question)
        ranked: list[int] = scores.argsort(descending=True, stable=True).tolist()
        return ranked


def _judged(asked: str, said: str, verdict: str) -> Check:
    return Check("question", judge_question(asked, said), verdict)


def without_sentences(text: str, answers: Sequence[str]) -> str:
    """Return a text without its sentences, and without its rows of a table, that have an answer."""
    kept = [
        text[start:end]
        for start, end in sentences(text, 0, len(text))
        if not holds(text[start:end], answers)
    ]
    lines = [line for each in kept for line in each.split("\n") if not holds(line, answers)]
    return "\n".join(lines)


def holds(text: str, answers: Sequence[str]) -> bool:
    """Whether a text has one of some answers, ignoring case and punctuation."""
    plain = f" {_NOT_WORD.sub(' ', text.casefold())} "
    return any(f" {_NOT_WORD.sub(' ', each.casefold()).strip()} " in plain for each in answers)


def _about_another_year(question: str, text: str, rng: random.Random) -> str:
    """The question about a year that a text does not name; unchanged if it names all near it."""
    year = _YEAR.findall(question)[0]
    others = [str(int(year) + n) for n in (-4, -3, -2, -1, 1, 2, 3, 4)]
    new = [each for each in others if each not in text]
    return question.replace(year, rng.choice(new)) if new else question


def _looks(answer: str) -> tuple[bool, bool]:
    """Whether an answer has a digit, and whether it is short."""
    return any(each.isdigit() for each in answer), len(answer.split()) < _SHORT


@lru_cache(maxsize=1 << 15)
def _words(text: str) -> frozenset[str]:
    return frozenset(content_words(text))


def _joined(texts: Sequence[str], rng: random.Random) -> str:
    width = rng.randint(*_LINES) if rng.random() < _WRAPPED else None
    return GAP.join(text if width is None else _wrapped(text, width) for text in texts)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(
        line for each in text.split("\n") for line in textwrap.wrap(each, width) or [""]
    )
