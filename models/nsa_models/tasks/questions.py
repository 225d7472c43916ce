"""Questions about a paragraph that is hidden among those of other articles."""

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

from nsa_models.errors import UnreadableError
from nsa_models.tasks.example import CHARACTERS_PER_TOKEN, Example, Split

_HELD_OUT = 8
"""Every how many articles one is kept for evaluation."""

_OPEN: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph, and questions with the answers that any of them may have."""

    text: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """An article and its paragraphs, in their order."""

    title: str
    paragraphs: tuple[Paragraph, ...]


def read_articles(path: Path) -> list[Article]:
    """Read articles with questions from a file.

    Args:
        path: JSON Lines, also compressed with xz or gzip; each line has `title` and `paragraphs`,
            each of these `text` and `questions`, each of these `question` and `answers`.

    Raises:
        UnreadableError: If the file cannot be read, or a line is not of this form.
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
            raise UnreadableError(
                f"{path}, line {number}, is no article with questions",
                hint='each line is {"title": …, "paragraphs": [{"text": …, "questions": '
                '[{"question": …, "answers": [… ]}]}]}',
                code="broken",
            ) from error
    return articles


def read_lines(path: Path) -> list[Any]:
    """The objects of a file of JSON Lines, also compressed with xz or gzip.

    Raises:
        UnreadableError: If the file cannot be read, has no line or one that is no JSON.
    """
    number = 0
    rows = []
    try:
        with _OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 - the error below tells it
                if line.strip():
                    rows.append(json.loads(line))
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "is a folder"
        raise UnreadableError(
            f"{path} {what}", hint="name a file of JSON Lines", code="missing"
        ) from error
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"{path}, line {number}, is no JSON", hint="name a file of JSON Lines", code="broken"
        ) from error
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise UnreadableError(
            f"{path} cannot be read ({error})", hint="name a file of JSON Lines", code="broken"
        ) from error
    if not rows:
        raise UnreadableError(f"{path} is empty", hint="name another file", code="empty")
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
    """The articles for training, or every eighth, by its title, that is held out from it."""
    if split not in ("train", "eval"):
        raise ValueError(f"split is {split!r}; valid are train and eval")
    return [
        article
        for article in articles
        if (zlib.crc32(article.title.encode()) % _HELD_OUT == 0) == (split == "eval")
    ]


def distinct_questions(articles: Sequence[Article]) -> list[Article]:
    """Articles without what is asked about several of them in the same words.

    Among the others such a question does not say which one is meant.
    """
    counts = Counter(
        asked
        for article in articles
        for asked in {_key(each) for part in article.paragraphs for each, _ in part.questions}
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
    """Questions about paragraphs among many; the paragraph is the evidence.

    Whole articles come in a random order, each under its title, as many as there is room for; the
    last is cut, and articles are never there twice.

    Args:
        articles: What the text is made of, such as one split of them.
        tokens: Of the text, roughly, or all articles where they are shorter.
        seed: The same seed makes the same examples.
        count: Questions at most, each about another paragraph as long as there are enough.
        characters_per_token: Of the tokenizer in the articles' language.

    Returns:
        Examples with the same context, in the order of the text.

    Raises:
        ValueError: If no article has a question.
    """
    rng = random.Random(f"questions {seed}")
    room = int(tokens * characters_per_token)
    able = [article for article in articles if any(each.questions for each in article.paragraphs)]
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
    """Some of the questions, from as many paragraphs as can be, in the order of the text."""
    left = rng.sample(range(len(asked)), len(asked))
    chosen: list[int] = []
    while left and len(chosen) < count:
        seen: set[tuple[int, int]] = set()
        later = []
        for number in left:
            if asked[number][2] in seen or len(chosen) == count:
                later.append(number)
            else:
                seen.add(asked[number][2])
                chosen.append(number)
        left = later
    return [asked[number] for number in sorted(chosen)]
