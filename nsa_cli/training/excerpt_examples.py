"""Training examples like the excerpts that an answer is decoded from, with or without the answer.

An example has a few paragraphs: the one that answers a question, and those of the same and of
other articles that share most words with it. In a part of the examples the paragraph with the
answer is left out, or the question asks about another year, and the target declines. In another
part the question is whether the text gives an answer, which is right, or of another question.
"""

from __future__ import annotations

import random
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from nsa_cli.context.judge import NO, YES, judge_question
from nsa_cli.context.prompt import GAP
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.declining import DECLINED
from nsa_cli.retrieval.sentences import content_words
from nsa_models.tasks import Article, Example
from nsa_models.tasks.questions import Paragraph

_SILENT = 0.35
"""Share of examples whose text does not answer the question."""

_OTHER_YEAR = 0.25
"""Share of these, among questions with a year, that ask about another year instead."""

_JUDGED = 0.3
"""Share of examples that ask whether the text gives an answer."""

_RIGHT = 0.6
"""Share of these, among texts with the answer, whose answer is the right one."""

_CHARACTERS = (1200, 5600)
"""Minimum and maximum characters of a text."""

_FROM_OTHERS = 0.3
"""Share of the other paragraphs that are of other articles."""

_SAMPLE = 24
"""Paragraphs of other articles of which those that share most words are taken."""

_LINES = (70, 110)
"""Minimum and maximum characters of a line, where a text is wrapped as in a PDF."""

_WRAPPED = 0.5
_SHORT = 4
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NOT_WORD = re.compile(r"\W+")


class ExcerptExamples:
    """Makes examples from articles with questions.

    Args:
        articles: The articles.
        golds: The answers that the data gives to each question, by which a paragraph is known to
            answer it; those of the articles may be a model's own.
    """

    def __init__(self, articles: Sequence[Article], golds: Mapping[str, tuple[str, ...]]) -> None:
        self._golds = golds
        self._articles = [
            article for article in articles if any(each.questions for each in article.paragraphs)
        ]
        self._weights = [
            sum(len(each.questions) for each in article.paragraphs) for article in self._articles
        ]
        self._numbers = range(len(self._articles))
        self._indices: dict[int, Bm25] = {}

    def example(self, seed: int) -> Example:
        """Return one question with its text; the same seed makes the same example."""
        rng = random.Random(f"excerpts {seed}")
        number = rng.choices(self._numbers, self._weights)[0]
        paragraphs = self._articles[number].paragraphs
        at = rng.choice([n for n, each in enumerate(paragraphs) if each.questions])
        gold = paragraphs[at]
        question, answers = rng.choice(gold.questions)
        limit, silent = rng.randint(*_CHARACTERS), rng.random() < _SILENT
        other_year = silent and rng.random() < _OTHER_YEAR and bool(_YEAR.search(question))
        parts = [] if silent and not other_year else [gold]
        for other in self._others(number, at, question, rng):
            if sum(len(each.text) for each in parts) + len(other.text) > limit:
                break
            if not (silent and _holds(other.text, self._golds[question])):
                parts.append(other)
        asked = _about_another_year(question, parts, rng) if other_year else question
        if asked == question and silent:
            parts = [each for each in parts if each is not gold]
        parts = parts or [rng.choice(self._articles[rng.choice(self._numbers)].paragraphs)]
        rng.shuffle(parts)
        context, evidence = _joined(parts, gold, rng)
        example = Example(
            context=context,
            question=asked,
            answers=(DECLINED,) if silent else answers,
            evidence=() if silent else evidence,
            task="excerpts",
        )
        if rng.random() >= _JUDGED:
            return example
        given = rng.choice([max(answers, key=len), *self._golds[question]])
        wrong = [each for each in self._wrong(number, question, rng) if each != given]
        is_right = not silent and (rng.random() < _RIGHT or not wrong)
        said = given if is_right or not wrong or rng.random() < _SILENT else wrong[0]
        is_right = is_right or (not silent and said == given)
        return replace(
            example, question=judge_question(asked, said), answers=(YES if is_right else NO,)
        )

    def _wrong(self, number: int, question: str, rng: random.Random) -> list[str]:
        """Answers to other questions about an article, those that look alike first."""
        gold = self._golds[question]
        others = [
            each
            for part in self._articles[number].paragraphs
            for asked, _ in part.questions
            if asked != question
            for each in self._golds[asked]
            if not _holds(each, gold) and not any(_holds(one, (each,)) for one in gold)
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


def _about_another_year(question: str, parts: Sequence[Paragraph], rng: random.Random) -> str:
    """The question about a year that no paragraph names; unchanged without such a year."""
    year = _YEAR.findall(question)[0]
    others = [str(int(year) + n) for n in (-4, -3, -2, -1, 1, 2, 3, 4)]
    new = [each for each in others if not any(each in part.text for part in parts)]
    return question.replace(year, rng.choice(new)) if new else question


def _looks(answer: str) -> tuple[bool, bool]:
    """Whether an answer has a digit, and whether it is short."""
    return any(each.isdigit() for each in answer), len(answer.split()) < _SHORT


@lru_cache(maxsize=1 << 15)
def _words(text: str) -> frozenset[str]:
    return frozenset(content_words(text))


def _joined(
    parts: Sequence[Paragraph], gold: Paragraph, rng: random.Random
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """One text of some paragraphs, and the characters of one of them."""
    width = rng.randint(*_LINES) if rng.random() < _WRAPPED else None
    context, evidence = "", list[tuple[int, int]]()
    for part in parts:
        context += GAP if context else ""
        text = part.text if width is None else _wrapped(part.text, width)
        if part is gold:
            evidence.append((len(context), len(context) + len(text)))
        context += text
    return context, tuple(evidence)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(
        line for each in text.split("\n") for line in textwrap.wrap(each, width) or [""]
    )


def _holds(text: str, answers: Sequence[str]) -> bool:
    """Whether a text has one of some answers, ignoring case and punctuation."""
    plain = f" {_NOT_WORD.sub(' ', text.casefold())} "
    return any(f" {_NOT_WORD.sub(' ', each.casefold()).strip()} " in plain for each in answers)
