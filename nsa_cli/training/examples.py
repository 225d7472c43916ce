"""Training examples of `nsa train`, made from questions with known answers."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedText
from nsa_cli.training.computations import Computation
from nsa_cli.training.table_articles import read_computations, read_table_articles
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
from nsa_models.training.examples import Batch, ExampleQuestion, TrainingExample

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
"""Share of each kind of step. `close` is a batch of short examples about a few paragraphs, like
the passages that answers are decoded from."""

_CLOSE_MIX = {"close": 0.45, "similar": 0.4, "needle": 0.07, "values": 0.08}
_CLOSE_SIMILAR = (3, 6, 12, 24)
"""Numbers of similar facts in a short example; retrieval returns few or many together."""

_CLOSE_TOKENS = (500, 1100)
"""Minimum and maximum tokens of a short example with generated facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Sources of training examples.

    Attributes:
        articles: Articles with questions about their paragraphs.
        prose: Texts as paragraphs, to hide facts in and to read without questions.
        computations: Computed questions about a paragraph, by its text.
    """

    articles: tuple[Article, ...]
    prose: tuple[tuple[str, ...], ...]
    computations: Mapping[str, tuple[Computation, ...]]


def load_training_data(
    questions: Path, texts: Sequence[Path], tables: Sequence[Path] = ()
) -> TrainingData:
    """Load the training split of articles, and prose of books and manuals.

    Args:
        questions: JSON Lines of articles with questions, as for `nsa eval questions`.
        texts: JSON Lines files whose lines have a `text`.
        tables: JSON Lines files of tables with questions; see `read_table_articles`.

    Raises:
        DataError: If a file cannot be read or has another format.
        UsageError: If no question belongs to a single article.
    """
    found = read_articles(questions)
    for path in tables:
        found += read_table_articles(path)
    articles = distinct_questions(of_split(found, "train"))
    prose = []
    for path in texts:
        rows = read_lines(path)
        texts_of = (unicodedata.normalize("NFC", str(row["text"])) for row in rows)
        prose += [tuple(paragraphs(text[:_BOOK_CHARACTERS])) for text in texts_of]
    if not any(part.questions for article in articles for part in article.paragraphs):
        raise UsageError(
            f"{questions} has no question to train on",
            hint="add questions; those that occur in several articles are skipped, and one article "
            "in eight is held out",
        )
    manuals = tuple(documentation(_PROSE_CHARACTERS))
    computed: dict[str, tuple[Computation, ...]] = {}
    for path in tables:
        computed |= read_computations(path)
    return TrainingData(articles=tuple(articles), prose=(manuals, *prose), computations=computed)


def training_example(
    prompts: PromptBuilder, examples: Sequence[Example], size: int
) -> TrainingExample:
    """One training example of several questions about the same context.

    Args:
        prompts: The model's prompt builder.
        examples: At least one, all with the same context.
        size: Tokens of a selection block.
    """
    text = prompts.plain(examples[0].context)
    ids, spans = prompts.lesson([(each.question, each.target) for each in examples])
    behind = len(text.ids)
    asked = tuple(
        ExampleQuestion(
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
    """Selection blocks that contain characters of the spans."""
    blocks: set[int] = set()
    for start, stop in spans:
        inside = np.flatnonzero((text.characters >= start) & (text.characters < stop))
        blocks.update((inside // size).tolist())
    return tuple(sorted(blocks))


def training_steps(
    prompts: PromptBuilder,
    data: TrainingData,
    lengths: Sequence[int],
    size: int,
    seed: int,
    *,
    short: bool = True,
    process: int = 0,
) -> Iterator[Batch]:
    """Endless training steps.

    Args:
        prompts: The model's prompt builder.
        data: Sources of the examples.
        lengths: Token counts of long examples.
        size: Tokens of a selection block.
        seed: The same seed makes the same steps.
        short: Whether to include batches of short examples.
        process: Number of the training process; processes get different examples of the same
            kind and length at each step, so that none waits long.
    """
    rng = random.Random(seed)
    mix = {kind: share for kind, share in _MIX.items() if short or kind != "close"}
    while True:
        kind = rng.choices(list(mix), weights=list(mix.values()))[0]
        number, tokens = rng.randrange(2**31) + process * 2**31, rng.choice(lengths)
        if kind == "close":
            batch = [_close(data, number + n) for n in range(_CLOSE_TOGETHER)]
            yield [training_example(prompts, each, size) for each in batch]
        elif kind == "reading":
            yield [reading_example(prompts, data, tokens, number)]
        else:
            yield [training_example(prompts, _examples(kind, data, tokens, number), size)]


def _close(data: TrainingData, number: int) -> Sequence[Example]:
    """Examples about one short text."""
    rng = random.Random(f"short {number}")
    kind = rng.choices(list(_CLOSE_MIX), weights=list(_CLOSE_MIX.values()))[0]
    if kind == "close":
        return close_questions(data.articles, number)
    more = {"count": rng.choice(_CLOSE_SIMILAR)} if kind == "similar" else {}
    examples = _examples(kind, data, rng.randint(*_CLOSE_TOKENS), number, **more)
    return [replace(each, task="close") for each in examples[:_CLOSE_QUESTIONS]]


def _examples(
    kind: str, data: TrainingData, tokens: int, number: int, **more: int
) -> Sequence[Example]:
    """Examples about one text; `more` goes to the generator."""
    if kind == "questions":
        count = max(4, tokens // 512)
        return hidden_questions(data.articles, tokens=tokens, seed=number, count=count)
    rng = random.Random(f"{kind} {number}")
    hay = rng.choice(data.prose)
    examples = GENERATORS[kind](hay, tokens=tokens, seed=number, split="train", **more)
    same = [each for each in examples if each.context == examples[0].context]
    rng.shuffle(same)
    return same[:_MADE_QUESTIONS]


def close_questions(articles: Sequence[Article], seed: int) -> tuple[Example, ...]:
    """Questions about a few separate paragraphs, like retrieved passages.

    The paragraphs come from one article in its order, or from several.
    """
    rng = random.Random(f"close {seed}")
    candidates = [
        article for article in articles if any(each.questions for each in article.paragraphs)
    ]
    weights = [sum(len(each.questions) for each in article.paragraphs) for article in candidates]
    article = rng.choices(candidates, weights)[0]
    asked = rng.choice([each for each in article.paragraphs if each.questions])
    mixed, many = rng.random() < 0.5, rng.randint(0, 6)
    others = [
        rng.choice((rng.choice(candidates) if mixed else article).paragraphs) for _ in range(many)
    ]
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


def reading_example(
    prompts: PromptBuilder, data: TrainingData, tokens: int, seed: int
) -> TrainingExample:
    """A text without questions."""
    rng = random.Random(seed)
    parts = rng.choice(data.prose)
    start, taken, length = rng.randrange(len(parts)), [], 0
    for part in (*parts[start:], *parts[:start]):
        taken.append(part)
        length += len(part)
        if length > tokens * 4:
            break
    one = Example(
        context="\n\n".join(taken), question="?", answers=("?",), evidence=(), task="reading"
    )
    example = training_example(prompts, [one], 64)
    return replace(
        example,
        ids=example.ids[: example.document[1]],
        asked=(),
        instruction=(0, 1),
        task="reading",
    )
