"""What a batch wants of one document, and the rows that come of it; in any process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nsa_cli.answering.summarize import open_for_summary
from nsa_cli.batch.result_file import Row
from nsa_cli.config.options import Options
from nsa_cli.documents import read_source
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Desk
from nsa_models.errors import NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is wanted of each document.

    Attributes:
        questions: What to ask.
        summary: Whether to sum it up, too.
        length: Of the summary.
        focus: Of the summary.
    """

    questions: tuple[str, ...]
    summary: bool = False
    length: str = "medium"
    focus: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Questions, and an empty one for the summary."""
        return (*self.questions, *([""] if self.summary else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What is the same for all documents of a batch.

    Attributes:
        work: What is wanted of each.
        options: How.
        run: Names everything that answers depend on, but for documents and questions.
    """

    work: Work
    options: Options
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A document of a batch.

    Attributes:
        path: As rows name it.
        done: The SHA-256 that rows which are there were made of, by task.
        data: Its bytes, where they were read elsewhere.
    """

    path: str
    done: Mapping[str, str]
    data: bytes | None = None


def rows_of(pending: Pending, desk: Desk, assignment: Assignment) -> Iterator[Row]:
    """Rows of a document that are not there yet; each failure is a row, too."""
    work, path = assignment.work, pending.path
    row = partial(Row, document=path, model=desk.where.name, run=assignment.run)
    try:
        name, data = (path, pending.data) if pending.data is not None else read_source(path)
    except NsaError as error:
        for task in work.tasks:
            yield row(sha256="", question=task, error=_told(error))
        return
    sha256 = hashlib.sha256(data).hexdigest()
    sources = [Source(name=name, data=data, named=True)]
    del data
    for task in work.tasks:
        if pending.done.get(task) == sha256:
            continue
        try:
            made = _made(task, sources, desk, work)
        except NsaError as error:
            made = {"error": _told(error)}
        except Exception as error:  # one document must not end the others
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            made = {"error": {"code": "internal", "message": said, "hint": "report it"}}
        yield row(sha256=sha256, question=task, **made)


def lost_rows(
    pending: Pending, assignment: Assignment, model: str, made: Collection[str], why: str
) -> Iterator[Row]:
    """Rows of a document whose process has ended before it was done.

    Args:
        pending: The document.
        assignment: What was wanted of it.
        model: The model's name.
        made: Tasks whose rows have come.
        why: What has happened.
    """
    error = {"code": "killed", "message": why, "hint": "go on with --resume"}
    for task in assignment.work.tasks:
        if task not in made and task not in pending.done:
            yield Row(
                document=pending.path,
                sha256="",
                question=task,
                error=error,
                model=model,
                run=assignment.run,
            )


def _made(task: str, sources: Sequence[Source], desk: Desk, work: Work) -> dict[str, Any]:
    """Answer and citations of one task."""
    if task:
        questions = [*work.questions[work.questions.index(task) :]]
        finished = next(desk.answers(sources, sources[0].name, questions, time.monotonic()))
        cited = [asdict(citation) for citation in finished.citations]
        return {"answer": finished.answer, "citations": cited}
    from nsa_cli.answering.statements import summarize

    text = open_for_summary(desk, sources, sources[0].name, work.focus)
    made = list(summarize(text, length=work.length, focus=work.focus, outline=False))
    return {
        "answer": " ".join(statement.text for statement in made),
        "citations": [asdict(cited) for statement in made for cited in statement.citations],
    }


def _told(error: NsaError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "hint": error.hint}
