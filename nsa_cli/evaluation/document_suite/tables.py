"""Questions about tables and meetings, from JSON Lines, in the form of the suite.

A line with `table` is a table among paragraphs, a document of one page; a line with `turns` is a
meeting, a document whose pages are its turns. The part that training omits is chosen by title.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from nsa_cli.documents import Document, Piece
from nsa_cli.evaluation.document_suite.questions import DocumentEntry, Question, QuestionSet
from nsa_models.errors import DataError, UsageError
from nsa_models.tasks import is_held_out
from nsa_models.tasks.questions import read_lines

_KINDS = {"arithmetic": "computed", "count": "computed"}
"""Kinds of the data that are computed; the others are looked up."""

_SEVERAL = ("multi-span", "table")
"""Kinds whose answers are all needed."""

_SCALES = ("thousand", "million", "billion")


def read_data(path: Path, *, held_out: bool) -> tuple[QuestionSet, dict[str, Document]]:
    """Read tables or meetings with questions.

    Args:
        path: JSON Lines, optionally compressed with xz or gzip. A line has `title`, `questions`,
            and either `table` (rows of cells) with `paragraphs`, or `turns` (speaker and text).
        held_out: Whether to read only the eighth of the titles that training omits.

    Returns:
        The questions, and the documents by name.

    Raises:
        DataError: If the file cannot be read, or a line has another form.
        UsageError: If no line is left.
    """
    entries: dict[str, DocumentEntry] = {}
    documents: dict[str, Document] = {}
    questions: list[Question] = []
    for number, row in enumerate(read_lines(path), 1):
        try:
            if held_out and not is_held_out(str(row["title"])):
                continue
            name = f"{number:05d}"
            document = _document(name, row)
            documents[name] = document
            entries[name] = _entry(name, row, document)
            questions += _questions(name, row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: neither a table nor a meeting with questions",
                hint="each line has title, questions, and table or turns",
                code="broken",
            ) from error
    if not questions:
        raise UsageError(f"{path} has no question to ask", hint="leave out --held-out")
    whole = QuestionSet(documents=entries, questions=tuple(questions), name=path.name)
    return whole, documents


def _document(name: str, row: Any) -> Document:
    if "turns" in row:
        said = [f"{speaker}: {text}" for speaker, text in row["turns"]]
        return of_parts(name, said, unit="turn")
    cells = [" | ".join(map(str, line)) for line in row["table"]]
    return of_parts(name, ["\n".join([*row["paragraphs"], *cells])], unit="page")


def of_parts(name: str, parts: Sequence[str], *, unit: str) -> Document:
    """A document of one piece for each part that has text, numbered from 1."""
    text, pieces = "", list[Piece]()
    for number, part in enumerate(parts, 1):
        own = unicodedata.normalize("NFC", part).strip()
        if not own:
            continue
        text += "\n" if text else ""
        piece = Piece(
            source=name,
            page=number,
            page_label=None,
            start=len(text),
            end=len(text) + len(own),
            first_line=1,
            unit=unit,
        )
        text, pieces = text + own, [*pieces, piece]
    return Document(name=name, text=text, pieces=tuple(pieces))


def _entry(name: str, row: Any, document: Document) -> DocumentEntry:
    return DocumentEntry(
        id=name,
        title=str(row["title"]),
        kind="minutes" if "turns" in row else "statistics",
        language="en",
        sha256=hashlib.sha256(document.text.encode()).hexdigest(),
        source={"from": str(row.get("source", ""))},
    )


def _questions(name: str, row: Any) -> Iterator[Question]:
    is_meeting = "turns" in row
    for number, asked in enumerate(row["questions"], 1):
        places: list[tuple[int, ...]] = [(1,)]
        if is_meeting:  # turns are counted from 0 in the data
            spans = asked["turns"] or []
            places = [tuple(range(first + 1, last + 2)) for first, last in spans]
        text = json.dumps([row["title"], asked], ensure_ascii=False, sort_keys=True)
        yield Question(
            id=f"{name}-{number:02d}",
            question=str(asked["question"]),
            kind="summary" if is_meeting else _KINDS.get(str(asked["kind"]), "lookup"),
            documents=(name,),
            document_kind="minutes" if is_meeting else "statistics",
            groups=_summaries(asked) if is_meeting else _groups(asked),
            wrong=(),
            places=tuple((name, pages) for pages in places),
            digest=hashlib.sha256(text.encode()).hexdigest(),
        )


def _summaries(asked: Any) -> tuple[tuple[str, ...], ...]:
    return (tuple(map(str, asked["answers"])),)


def _groups(asked: Any) -> tuple[tuple[str, ...], ...]:
    """Groups of alternatives: every answer of a list is needed, each in some notations."""
    answers = [_alternatives(str(each), str(asked["scale"])) for each in asked["answers"]]
    if not answers:
        raise ValueError("a question without an answer")
    if asked["kind"] in _SEVERAL:
        return tuple(answers)
    return (tuple(each for group in answers for each in group),)


def _alternatives(answer: str, scale: str) -> tuple[str, ...]:
    """An answer as it is, with its scale, and a computed share rounded to one decimal, too."""
    if scale in _SCALES:
        return answer, f"{answer} {scale}"
    if scale != "percent":
        return (answer,)
    try:
        value = Decimal(answer.rstrip("%"))
    except InvalidOperation:
        return (answer,)
    return f"{answer.rstrip('%')}%", f"{round(value, 1)}%"
