"""Questions about documents: their files, selection, order and digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa_models.errors import DataError, UsageError

KINDS = ("lookup", "computed", "unanswerable", "compare", "cross-language", "summary")
"""Kinds of questions; a summary is compared by words."""

FROZEN = "frozen.json"
"""File beside the questions with the SHA-256 of each."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_FORM = "docs/guide/real-documents.md has the form of a question file"

PageGroup = tuple[int, ...]
"""Pages of one place, any of which serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry:
    """A document of the suite.

    Attributes:
        id: Its name; the file is `ID.pdf`.
        title: Its title.
        kind: Such as `manual`.
        language: ISO code.
        sha256: SHA-256 of the file; empty for a document that is not a file.
        source: Where the file is public: `from`, `name`, `version` and `path`.
    """

    id: str
    title: str
    kind: str
    language: str
    sha256: str
    source: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about one document, or about two.

    Attributes:
        id: Its name.
        question: The question.
        kind: One of `KINDS`.
        documents: Names of the documents.
        document_kind: Kind of the first of them.
        groups: Groups of alternative answers, each needed; empty if unanswerable.
        wrong: What a right answer does not say.
        places: Groups of pages by document, each needed; empty if unanswerable.
        digest: SHA-256 of the question with its answers and pages.
    """

    id: str
    question: str
    kind: str
    documents: tuple[str, ...]
    document_kind: str
    groups: tuple[tuple[str, ...], ...]
    wrong: tuple[str, ...]
    places: tuple[tuple[str, PageGroup], ...]
    digest: str

    @property
    def is_answerable(self) -> bool:
        """Whether the documents hold the answer."""
        return bool(self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """Documents and the questions about them.

    Attributes:
        documents: The documents by name.
        questions: The questions, in the order of the files.
        name: Name of the data.
    """

    documents: dict[str, DocumentEntry]
    questions: tuple[Question, ...]
    name: str

    @property
    def digest(self) -> str:
        """One SHA-256 of all questions and all hashes of documents."""
        return set_digest(self)


def read_questions(folder: Path) -> QuestionSet:
    """Read a folder of question files.

    Raises:
        DataError: If the folder has no question file, or a file has another form.
    """
    paths = sorted(path for path in folder.glob("*.json") if path.name != FROZEN)
    if not paths:
        why = "has no question file" if folder.is_dir() else "is not a folder"
        raise DataError(
            f"{folder} {why}", hint="name a folder of JSON files, one a document", code="missing"
        )
    documents: dict[str, DocumentEntry] = {}
    questions: list[Question] = []
    for path in paths:
        row = _read(path)
        try:
            entry = _entry(row)
            if entry.id != path.stem:
                raise ValueError(f"its id is {entry.id!r}")
            documents[entry.id] = entry
            questions += [_question(each, entry) for each in row["questions"]]
        except (KeyError, TypeError, ValueError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}: {why}", hint=_FORM, code="broken") from error
    _check(questions, documents, folder)
    return QuestionSet(documents=documents, questions=tuple(questions), name=folder.name)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: invalid JSON ({error})", hint=_FORM, code="broken") from error


def _entry(row: Any) -> DocumentEntry:
    name = str(row["id"])
    if not _NAME.fullmatch(name):
        raise ValueError(f"id {name!r} is not a file name")
    return DocumentEntry(
        id=name,
        title=str(row["title"]),
        kind=str(row["kind"]),
        language=str(row["language"]),
        sha256=str(row["sha256"]),
        source={key: str(value) for key, value in row["source"].items()},
    )


def _question(row: Any, entry: DocumentEntry) -> Question:
    name, kind = str(row["id"]), str(row["kind"])
    if kind not in KINDS:
        raise ValueError(f"{name} has the kind {kind!r}, not one of {', '.join(KINDS)}")
    second = row.get("document2")
    groups = _groups(row["answers"], name)
    places = [(entry.id, tuple(map(int, group))) for group in row["pages"]]
    places += [(str(second), tuple(map(int, group))) for group in row.get("pages2", ())]
    if bool(groups) != bool(places) or bool(groups) == (kind == "unanswerable"):
        raise ValueError(f"{name} needs answers and pages, or neither if it is unanswerable")
    if any(not pages or min(pages) < 1 for _, pages in places):
        raise ValueError(f"{name} has an empty group of pages, or a page below 1")
    if second is not None and not any(document == second for document, _ in places) and groups:
        raise ValueError(f"{name} has no pages of {second}")
    return Question(
        id=name,
        question=str(row["question"]),
        kind=kind,
        documents=(entry.id,) if second is None else (entry.id, str(second)),
        document_kind=entry.kind,
        groups=groups,
        wrong=tuple(map(str, row.get("wrong") or ())),
        places=tuple(places),
        digest=_sha256(row),
    )


def _groups(answers: Any, name: str) -> tuple[tuple[str, ...], ...]:
    if not isinstance(answers, list) or any(not isinstance(each, list) for each in answers):
        raise ValueError(f"{name} needs answers as a list of groups, each a list of alternatives")
    groups = tuple(tuple(map(str, group)) for group in answers)
    if any(not group or not all(each.strip() for each in group) for group in groups):
        raise ValueError(f"{name} has an empty answer")
    return groups


def _check(
    questions: Sequence[Question], documents: dict[str, DocumentEntry], folder: Path
) -> None:
    """Refuse names that are used twice, and documents without a file of questions."""
    seen: set[str] = set()
    for each in questions:
        if each.id in seen:
            raise DataError(f"{folder}: two questions have the id {each.id}", hint=_FORM)
        seen.add(each.id)
        for name in each.documents:
            if name not in documents:
                raise DataError(f"{folder}: {each.id} needs {name}.json", hint=_FORM)


def _sha256(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def set_digest(questions: QuestionSet) -> str:
    """Return one SHA-256 of all questions and all hashes of documents, in any order of files."""
    facts = [[each.id, each.digest] for each in questions.questions]
    files = [[each.id, each.sha256] for each in questions.documents.values()]
    return _sha256([sorted(facts), sorted(files)])


def chosen(
    questions: QuestionSet, *, only: Sequence[str] = (), limit: int | None = None, seed: int = 0
) -> tuple[Question, ...]:
    """Return questions in a seeded order, in which each beginning is a fair part.

    Documents come in random order, and a document's questions together, because a document is
    read once for all of them.

    Args:
        questions: The questions.
        only: Names of documents, of questions, or kinds of either; empty for all.
        limit: Maximum number of questions.
        seed: Seed of the order.

    Raises:
        UsageError: If a name of `only` is unknown.
    """
    of_documents = {each.document_kind for each in questions.questions}
    known = {*questions.documents, *(each.id for each in questions.questions), *KINDS}
    for name in only:
        if name not in known | of_documents:
            raise UsageError(
                f"no document, question or kind {name!r} in {questions.name}",
                hint=f"kinds are {', '.join((*KINDS, *sorted(of_documents)))}",
            )
    wanted = [
        each
        for each in questions.questions
        if not only or {each.id, each.kind, each.document_kind, *each.documents} & set(only)
    ]
    places = {each.id: number for number, each in enumerate(wanted)}
    ordered = sorted(wanted, key=lambda each: (_lot(each.documents, seed), places[each.id]))
    return tuple(ordered[:limit])


def _lot(documents: Iterable[str], seed: int) -> str:
    return _sha256([seed, *documents])


def read_frozen(folder: Path) -> dict[str, str]:
    """Return the frozen SHA-256 of each question and document by name; empty if none is frozen."""
    path = folder / FROZEN
    if not path.exists():
        return {}
    row = _read(path)
    return {str(key): str(value) for key, value in {**row["documents"], **row["questions"]}.items()}


def changes(questions: QuestionSet, frozen: dict[str, str]) -> list[str]:
    """Return a line for each question or document that differs from its frozen hash.

    Args:
        questions: The questions as they are.
        frozen: From `read_frozen`.
    """
    now = {each.id: each.digest for each in questions.questions}
    now |= {each.id: each.sha256 for each in questions.documents.values()}
    return [
        *(f"{name} was changed" for name in now if name in frozen and now[name] != frozen[name]),
        *(f"{name} was added" for name in now if name not in frozen),
        *(f"{name} was removed" for name in frozen if name not in now),
    ]
