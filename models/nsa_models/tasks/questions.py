"""Questions about single paragraphs in a text of many articles."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nsa_models.errors import DataError
from nsa_models.tasks.example import CHARACTERS_PER_TOKEN, Example, Split

_HELD_OUT = 8
"""One article in this many is held out for evaluation."""

_OPEN: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph and its questions, each with alternative answers."""

    text: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """An article and its paragraphs, in order."""

    title: str
    paragraphs: tuple[Paragraph, ...]


def read_articles(path: Path) -> list[Article]:
    """Read articles with questions from a file.

    Args:
        path: JSON Lines, optionally compressed with xz or gzip. A line has `title` and
            `paragraphs`, a paragraph `text` and `questions`, a question `question` and `answers`.

    Raises:
        DataError: If the file cannot be read or a line is malformed.
    """
    articles = []
    for number, row in enumerate(read_lines(path), 1):
        try:
            articles.append(
                Article(
                    title=str(row["title"]),
                    paragraphs=tuple(_paragraph(each) for each in row["paragraphs"]),
                )
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: not an article with questions",
                hint='each line is {"title": …, "paragraphs": [{"text": …, "questions": '
                '[{"question": …, "answers": [… ]}]}]}',
                code="broken",
            ) from error
    return articles


def read_lines(path: Path) -> list[Any]:
    """Return the values of a JSON Lines file, optionally compressed with xz or gzip.

    Raises:
        DataError: If the file cannot be read, is empty or has an invalid line.
    """
    number = 0
    rows = []
    try:
        with _OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 - for the error below
                if line.strip():
                    rows.append(json.loads(line))
    except (FileNotFoundError, IsADirectoryError) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else "is a folder"
        raise DataError(f"{path} {why}", hint="name a JSON Lines file", code="missing") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}: invalid JSON", hint="name a JSON Lines file", code="broken"
        ) from error
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"cannot read {path}: {error}", hint="name a JSON Lines file", code="broken"
        ) from error
    if not rows:
        raise DataError(f"{path} is empty", hint="name another file", code="empty")
    return rows


def _paragraph(row: Any) -> Paragraph:
    return Paragraph(
        text=unicodedata.normalize("NFC", str(row["text"])).strip(),
        questions=tuple(
            (str(asked["question"]), tuple(str(answer) for answer in asked["answers"]))
            for asked in row["questions"]
            if asked["answers"]
        ),
    )


def of_split(articles: Sequence[Article], split: Split) -> list[Article]:
    """Return the articles for training, or the eighth, by title hash, for evaluation."""
    if split not in ("train", "eval"):
        raise ValueError(f"split is {split!r}; valid are train and eval")
    return [article for article in articles if is_held_out(article.title) == (split == "eval")]


def is_held_out(title: str) -> bool:
    """Whether a text with this title is held out for evaluation, so that training omits it."""
    return zlib.crc32(title.encode()) % _HELD_OUT == 0


def distinct_questions(articles: Sequence[Article]) -> list[Article]:
    """Remove questions that occur in several articles, because they are ambiguous."""
    counts = Counter(
        asked
        for article in articles
        for asked in {_key(q) for part in article.paragraphs for q, _ in part.questions}
    )
    return [
        replace(
            article,
            paragraphs=tuple(
                replace(part, questions=tuple(q for q in part.questions if counts[_key(q[0])] == 1))
                for part in article.paragraphs
            ),
        )
        for article in articles
    ]


def _key(question: str) -> str:
    return " ".join(question.casefold().split())


def hidden_questions(
    articles: Sequence[Article],
    *,
    tokens: int,
    seed: int,
    count: int = 8,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
) -> tuple[Example, ...]:
    """Return questions about paragraphs among many; the paragraph is the evidence.

    The text consists of distinct articles with their titles, in random order, up to a length. The
    last article is cut.

    Args:
        articles: The articles, such as one split.
        tokens: Approximate length of the text in tokens; less if the articles are shorter.
        seed: The same seed gives the same examples.
        count: Maximum number of questions, about different paragraphs while possible.
        characters_per_token: Ratio of the tokenizer in the articles' language.

    Returns:
        Examples with the same context, in the order of the text.

    Raises:
        ValueError: If no article has a question.
    """
    rng = random.Random(f"questions {seed}")
    room = int(tokens * characters_per_token)
    able = [article for article in articles if any(part.questions for part in article.paragraphs)]
    if not able:
        raise ValueError("no article has a question")
    pieces: list[str] = []
    length = 0
    asked: list[tuple[str, tuple[str, ...], tuple[int, int]]] = []
    for article in rng.sample(able, len(able)):
        pieces.append(f"# {article.title.replace('_', ' ')}\n\n")
        length += len(pieces[-1])
        for paragraph in article.paragraphs:
            if length + len(paragraph.text) > room and asked:
                break
            span = (length, length + len(paragraph.text))
            pieces.append(f"{paragraph.text}\n\n")
            length += len(pieces[-1])
            asked += [(question, answers, span) for question, answers in paragraph.questions]
        if length >= room * 0.98 or (asked and length + 400 > room):
            break
    context = "".join(pieces).rstrip()
    return tuple(
        Example(
            context=context, question=question, answers=answers, evidence=(span,), task="questions"
        )
        for question, answers, span in _spread(asked, count, rng)
    )


def _spread(
    asked: Sequence[tuple[str, tuple[str, ...], tuple[int, int]]], count: int, rng: random.Random
) -> list[tuple[str, tuple[str, ...], tuple[int, int]]]:
    """Choose `count` questions from as many paragraphs as possible, in the order of the text."""
    remaining = rng.sample(range(len(asked)), len(asked))
    chosen: list[int] = []
    while remaining and len(chosen) < count:
        seen: set[tuple[int, int]] = set()
        later = []
        for number in remaining:
            if asked[number][2] in seen or len(chosen) == count:
                later.append(number)
            else:
                seen.add(asked[number][2])
                chosen.append(number)
        remaining = later
    return [asked[number] for number in sorted(chosen)]
