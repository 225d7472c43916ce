"""Tables with questions as articles, so that training asks about tables as about paragraphs."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nsa_cli.training.computations import Computation, computations
from nsa_models.errors import DataError
from nsa_models.tasks import Article
from nsa_models.tasks.questions import Paragraph, read_lines

_SEPARATORS = (" | ", "  ", " ", "\t")
"""Between two cells; text of PDFs has spaces alone."""

_KINDS = ("span", "table")
"""Kinds of questions with one answer that a text states."""

LONGEST = 3600
"""Maximum characters of a table with the paragraphs around it."""


def read_table_articles(path: Path) -> list[Article]:
    """Read tables with questions; each is an article of one paragraph.

    Questions with several answers, or with one that the text does not state, are left out.

    Args:
        path: JSON Lines, optionally compressed: `title`, `table` (rows of cells), `paragraphs`,
            and `questions` with `question`, `answers`, `kind` and `scale`.

    Raises:
        DataError: If the file cannot be read, or a line has another form.
    """
    articles = []
    for number, row in enumerate(read_lines(path), 1):
        try:
            text = table_text(row, number)
            asked = tuple(_questions(row["questions"], text))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: not a table with questions",
                hint="each line has title, table, paragraphs and questions",
                code="broken",
            ) from error
        if len(text) <= LONGEST:
            paragraph = Paragraph(text=text, questions=asked)
            articles.append(Article(title=str(row["title"]), paragraphs=(paragraph,)))
    return articles


def read_computations(path: Path) -> dict[str, tuple[Computation, ...]]:
    """Read the computed questions of tables, by the text of each table.

    Args:
        path: As for `read_table_articles`, with `derivation` and `scale` of a question.

    Raises:
        DataError: If the file cannot be read.
    """
    found = {}
    for number, row in enumerate(read_lines(path), 1):
        text = table_text(row, number)
        if len(text) <= LONGEST and (some := computations(row, text, number)):
            found[text] = some
    return found


def table_text(row: Any, number: int) -> str:
    """Return the text of a table with the paragraphs around it; the number decides its form."""
    separator = random.Random(number).choice(_SEPARATORS)
    lines = [
        separator.join(cell for cell in map(str, cells) if cell.strip() or separator == " | ")
        for cells in row["table"]
    ]
    paragraphs: Sequence[str] = row["paragraphs"]
    text = "\n".join([*map(str, paragraphs), *lines])
    return unicodedata.normalize("NFC", text).strip()


def _questions(rows: Any, text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for asked in rows:
        answers = [unicodedata.normalize("NFC", str(each)).strip() for each in asked["answers"]]
        if asked["kind"] in _KINDS and len(answers) == 1 and answers[0] and answers[0] in text:
            yield str(asked["question"]), (answers[0],)
