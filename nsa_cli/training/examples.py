"""Examples with known answers become lessons: what `nsa train` trains on."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedText
from nsa_models.errors import UsageError
from nsa_models.tasks import (
    GENERATORS,
    Article,
    Example,
    distinct_questions,
    hidden_questions,
    of_split,
    read_articles,
)
from nsa_models.tasks.haystack import documentation, paragraphs
from nsa_models.tasks.questions import read_lines
from nsa_models.training.lessons import Asked, Step, TrainingExample

_PROSE_CHARACTERS = 4_000_000
_BOOK_CHARACTERS = 600_000

_CLOSE_CHARACTERS = 4300
_CLOSE_QUESTIONS = 6

_CLOSE_TOGETHER = 12
_MADE_QUESTIONS = 12

_MIX = {
    "close": 0.42, "questions": 0.23, "similar": 0.12, "needle": 0.05, "values": 0.05,
    "variables": 0.04, "aggregation": 0.03, "reading": 0.06,
}  # fmt: skip
"""How often each kind of step comes. `close` asks about a few paragraphs, as the passages are that
an answer is decoded from, in several short lessons at once."""

_CLOSE_MIX = {"close": 0.45, "similar": 0.4, "needle": 0.07, "values": 0.08}
_CLOSE_SIMILAR = (3, 6, 12, 24)
"""Facts of one shape in a short lesson; a look finds a few of them, or many, beside each other."""

_CLOSE_TOKENS = (500, 1100)
"""Of a short lesson whose facts are made, the least and the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What lessons are made of.

    Attributes:
        articles: With questions about their paragraphs.
        prose: Texts to hide facts in, and to read, as paragraphs.
    """

    articles: tuple[Article, ...]
    prose: tuple[tuple[str, ...], ...]


def load_material(questions: Path, texts: Sequence[Path]) -> TrainingData:
    """Read the training split of articles, and prose of books and manuals.

    Args:
        questions: As for `nsa eval questions`.
        texts: JSON Lines whose lines have a `text`.

    Raises:
        UnreadableError: If a file cannot be read or is of another form.
        UsageError: If no article has a question of its own.
    """
    prose = [tuple(documentation(_PROSE_CHARACTERS))]
    for path in texts:
        rows = read_lines(path)
        texts_of = (unicodedata.normalize("NFC", str(row["text"])) for row in rows)
        prose += [tuple(paragraphs(text[:_BOOK_CHARACTERS])) for text in texts_of]
    articles = distinct_questions(of_split(read_articles(questions), "train"))
    if not any(part.questions for article in articles for part in article.paragraphs):
        raise UsageError(
            f"{questions} has no question to learn from",
            hint="what is asked about several articles in the same words does not count, and one "
            "article in eight is held out",
        )
    return TrainingData(articles=tuple(articles), prose=tuple(prose))


def lesson_of(prompter: PromptBuilder, examples: Sequence[Example], size: int) -> TrainingExample:
    """Examples with the same context as one lesson.

    Args:
        prompter: Of the model that learns.
        examples: At least one.
        size: Tokens of a selection block.
    """
    text = prompter.plain(examples[0].context)
    ids, spans = prompter.lesson([(each.question, each.target) for each in examples])
    behind = len(text.ids)
    asked = tuple(
        Asked(
            question=(question[0] + behind, question[1] + behind),
            answer=(answer[0] + behind, answer[1] + behind),
            evidence=blocks_of(text, each.evidence, size),
        )
        for each, (question, answer) in zip(examples, spans, strict=True)
    )
    own = np.flatnonzero(text.characters >= 0)
    return TrainingExample(
        ids=np.concatenate([text.ids, ids]),
        document=(int(own[0]), int(own[-1]) + 1),
        instruction=(behind, asked[0].question[0]),
        asked=asked,
        task=examples[0].task,
    )


def blocks_of(text: TokenizedText, spans: Sequence[tuple[int, int]], size: int) -> tuple[int, ...]:
    """Selection blocks that hold characters of some spans of a text."""
    blocks: set[int] = set()
    for start, stop in spans:
        inside = np.flatnonzero((text.characters >= start) & (text.characters < stop))
        blocks.update((inside // size).tolist())
    return tuple(sorted(blocks))


def lessons(
    prompter: PromptBuilder,
    material: TrainingData,
    lengths: Sequence[int],
    size: int,
    seed: int,
    *,
    short: bool = True,
    process: int = 0,
) -> Iterator[Step]:
    """What a model learns from, step by step, without end.

    Args:
        prompter: Of the model that learns.
        material: What lessons are made of.
        lengths: Tokens that long lessons may have.
        size: Tokens of a selection block.
        seed: The same seed makes the same lessons.
        short: Whether there are short lessons too, some of them in one step.
        process: Which of those that train together; each has lessons of its own, of the kind and
            length that the others have at the same time, so that none waits long.
    """
    rng = random.Random(seed)
    mix = {kind: share for kind, share in _MIX.items() if short or kind != "close"}
    while True:
        kind = rng.choices(list(mix), weights=list(mix.values()))[0]
        number, tokens = rng.randrange(2**31) + process * 2**31, rng.choice(lengths)
        if kind == "close":
            together = [_close(material, number + n) for n in range(_CLOSE_TOGETHER)]
            yield [lesson_of(prompter, each, size) for each in together]
        elif kind == "reading":
            yield [reading(prompter, material, tokens, number)]
        else:
            yield [lesson_of(prompter, _examples(kind, material, tokens, number), size)]


def _close(material: TrainingData, number: int) -> Sequence[Example]:
    """Examples about one short text."""
    rng = random.Random(f"short {number}")
    kind = rng.choices(list(_CLOSE_MIX), weights=list(_CLOSE_MIX.values()))[0]
    if kind == "close":
        return close_questions(material.articles, number)
    more = {"count": rng.choice(_CLOSE_SIMILAR)} if kind == "similar" else {}
    examples = _examples(kind, material, rng.randint(*_CLOSE_TOKENS), number, **more)
    return [replace(each, task="close") for each in examples[:_CLOSE_QUESTIONS]]


def _examples(
    kind: str, material: TrainingData, tokens: int, number: int, **more: int
) -> Sequence[Example]:
    """Examples about one text; `more` is for the generator of a kind."""
    if kind == "questions":
        count = max(4, tokens // 512)
        return hidden_questions(material.articles, tokens=tokens, seed=number, count=count)
    rng = random.Random(f"{kind} {number}")
    hay = rng.choice(material.prose)
    examples = GENERATORS[kind](hay, tokens=tokens, seed=number, split="train", **more)
    same = [each for each in examples if each.context == examples[0].context]
    rng.shuffle(same)
    return same[:_MADE_QUESTIONS]


def close_questions(articles: Sequence[Article], seed: int) -> tuple[Example, ...]:
    """Questions about a few paragraphs that stand apart, as passages do that a look has found.

    They are of one article, in its order, or of several.
    """
    rng = random.Random(f"close {seed}")
    able = [article for article in articles if any(each.questions for each in article.paragraphs)]
    weights = [sum(len(each.questions) for each in article.paragraphs) for article in able]
    article = rng.choices(able, weights)[0]
    asked = rng.choice([each for each in article.paragraphs if each.questions])
    mixed, many = rng.random() < 0.5, rng.randint(0, 6)
    others = [rng.choice((rng.choice(able) if mixed else article).paragraphs) for _ in range(many)]
    parts, length = {asked: rng.random()}, len(asked.text)
    for part in others:
        if part not in parts and length + len(part.text) <= _CLOSE_CHARACTERS:
            parts[part] = rng.random()
            length += len(part.text)
    if mixed:
        ordered = sorted(parts, key=lambda each: parts[each])
    else:
        ordered = [each for each in article.paragraphs if each in parts]
    context, found = "", []
    for part in ordered:
        context += "\n...\n" if context else ""
        span = (len(context), len(context) + len(part.text))
        context += part.text
        found += [(question, answers, span) for question, answers in part.questions]
    return tuple(
        Example(context=context, question=question, answers=answers, evidence=(span,), task="close")
        for question, answers, span in rng.sample(found, min(len(found), _CLOSE_QUESTIONS))
    )


def reading(
    prompter: PromptBuilder, material: TrainingData, tokens: int, seed: int
) -> TrainingExample:
    """A text that is only read."""
    rng = random.Random(seed)
    parts = rng.choice(material.prose)
    start, taken, length = rng.randrange(len(parts)), [], 0
    for part in (*parts[start:], *parts[:start]):
        taken.append(part)
        length += len(part)
        if length > tokens * 4:
            break
    one = Example(
        context="\n\n".join(taken), question="?", answers=("?",), evidence=(), task="reading"
    )
    lesson = lesson_of(prompter, [one], 64)
    return replace(
        lesson, ids=lesson.ids[: lesson.document[1]], asked=(), instruction=(0, 1), task="reading"
    )
