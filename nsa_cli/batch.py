"""`nsa batch`: questions and summaries for each document by itself, failures apart."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nsa_cli.desk import Desk
from nsa_cli.documents import find_sources, read_source
from nsa_cli.documents.sources import Source
from nsa_cli.events import Event, Overall
from nsa_cli.options import Options
from nsa_cli.rows import Row, Rows, key_of
from nsa_cli.summarizing import open_for_summary, without_answers
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
class Outcome:
    """What came of a batch: counts of documents."""

    documents: int
    done_before: int
    failed: int


def run_batch(
    arguments: Sequence[str],
    work: Work,
    options: Options,
    rows: Rows,
    emit: Callable[[Event], None],
) -> Outcome:
    """Ask about, or sum up, each document that the arguments name.

    Args:
        arguments: Paths, folders or globs.
        work: What is wanted of each document.
        options: How.
        rows: Takes what comes of it.
        emit: Receives everything worth showing.

    Raises:
        NsaError: If no document is found, the model cannot be had, or no row can be written.
    """
    found = [each for each in find_sources(arguments) if not rows.is_at(each.path)]
    desk = Desk(options, without_answers(emit))
    run = _run(desk, work)
    failed = before = 0
    for number, each in enumerate(found):
        emit(Overall(done=number, total=len(found), name=each.path))
        sound, pending = True, False
        for row in _rows_of(each.path, desk, work, run, rows):
            pending = True
            sound &= row.error is None
            rows.add(row)
        before += not pending
        failed += not sound
    emit(Overall(done=len(found), total=len(found), name=""))
    return Outcome(documents=len(found), done_before=before, failed=failed)


def _rows_of(path: str, desk: Desk, work: Work, run: str, rows: Rows) -> Iterator[Row]:
    """Rows of a document that are not there yet; each failure is a row, too."""
    row = partial(Row, document=path, model=desk.where.name, run=run)
    try:
        name, data = read_source(path)
    except NsaError as error:
        for task in work.tasks:
            rows.drop(key_of(path, task, run))
            yield row(sha256="", question=task, error=_told(error))
        return
    sha256 = hashlib.sha256(data).hexdigest()
    sources = [Source(name=name, data=data, named=True)]
    del data
    for task in work.tasks:
        key = key_of(path, task, run)
        if rows.has(key, sha256):
            continue
        rows.drop(key)
        try:
            made = _made(task, sources, desk, work)
        except NsaError as error:
            made = {"error": _told(error)}
        except Exception as error:  # one document must not end the others
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            made = {"error": {"code": "internal", "message": said, "hint": "report it"}}
        yield row(sha256=sha256, question=task, **made)


def _made(task: str, sources: Sequence[Source], desk: Desk, work: Work) -> dict[str, Any]:
    """Answer and citations of one task."""
    if task:
        questions = [*work.questions[work.questions.index(task) :]]
        finished = next(desk.answers(sources, sources[0].name, questions, time.monotonic()))
        cited = [asdict(citation) for citation in finished.citations]
        return {"answer": finished.answer, "citations": cited}
    from nsa_cli.summary import summarize

    text = open_for_summary(desk, sources, sources[0].name, work.focus)
    made = list(summarize(text, length=work.length, focus=work.focus, outline=False))
    return {
        "answer": " ".join(statement.text for statement in made),
        "citations": [asdict(cited) for statement in made for cited in statement.citations],
    }


def _told(error: NsaError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _run(desk: Desk, work: Work) -> str:
    """A name for everything that answers depend on, but for documents and questions."""
    options = asdict(desk.options)
    for name in ("store", "cache_limit_bytes"):
        del options[name]
    facts = [desk.where.fingerprint, options, work.length, work.focus]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
