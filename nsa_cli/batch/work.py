"""The questions of a batch about one document, and its rows; runs in any process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nsa_cli.answering.read import web_access
from nsa_cli.batch.result_file import ResultRow
from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength, SummaryRequest
from nsa_cli.documents.sources import Found, Source, read_one
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Emit, Note
from nsa_cli.output.hints import hint_for
from nsa_cli.summaries.once import summarize_once
from nsa_models.errors import NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What to do with each document.

    Attributes:
        questions: Questions to ask.
        summary: Whether to summarize it, too.
        length: Length of the summary.
        focus: Topic of the summary, or None.
    """

    questions: tuple[str, ...]
    summary: bool = False
    length: str = "medium"
    focus: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The questions, and an empty one for the summary."""
        return (*self.questions, *([""] if self.summary else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What all documents of a batch have in common.

    Attributes:
        work: What to do with each.
        options: How to read and answer.
        run: Fingerprint of everything that answers depend on besides document and question.
    """

    work: Work
    options: Options
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A document of a batch.

    Attributes:
        path: Its path, as in its rows.
        done: SHA-256 of the document that each existing row was made from, by task.
        source: The document with its bytes, if another process read it.
    """

    path: str
    done: Mapping[str, str]
    source: Source | None = None


def rows_of(pending: Pending, engine: Engine, assignment: Assignment) -> Iterator[ResultRow]:
    """Yield the missing rows of a document; a failure is a row, too."""
    work, path = assignment.work, pending.path
    row = partial(ResultRow, document=path, model=engine.answers_with.name, run=assignment.run)
    try:
        source = source_of(pending, engine.options, engine.emit)
    except NsaError as error:
        for task in work.tasks:
            yield row(sha256="", question=task, error=told(error))
        return
    sha256 = hashlib.sha256(source.data).hexdigest()
    sources = [source]
    del source
    for task in work.tasks:
        if pending.done.get(task) == sha256:
            continue
        try:
            made = _made(task, sources, engine, work)
        except NsaError as error:
            made = {"error": told(error)}
        except Exception as error:  # one document must not end the others
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            made = {"error": {"code": "internal", "message": said, "hint": "report it"}}
        yield row(sha256=sha256, question=task, **made)


def source_of(pending: Pending, options: Options, emit: Emit) -> Source:
    """Return a document with its bytes; read it unless another process did.

    Raises:
        NsaError: If it cannot be read.
    """
    if pending.source is not None:
        return pending.source

    def note(text: str) -> None:
        emit(Note(text=text))

    found = Found(path=pending.path, named=True)
    return read_one(found, on_note=note, web=web_access(options, emit))


def lost_rows(
    pending: Pending, assignment: Assignment, model: str, made: Collection[str], why: str
) -> Iterator[ResultRow]:
    """Yield the rows of a document whose process ended too early.

    Args:
        pending: The document.
        assignment: What was to be done with it.
        model: Name of the model.
        made: Tasks that have rows.
        why: What happened.
    """
    error = {"code": "killed", "message": why, "hint": "continue with --resume"}
    for task in assignment.work.tasks:
        if task not in made and task not in pending.done:
            yield ResultRow(
                document=pending.path,
                sha256="",
                question=task,
                error=error,
                model=model,
                run=assignment.run,
            )


def _made(task: str, sources: Sequence[Source], engine: Engine, work: Work) -> dict[str, Any]:
    """Return answer, citations and warnings of one task."""
    if task:
        questions = [*work.questions[work.questions.index(task) :]]
        finished = next(engine.ask(sources, sources[0].name, questions, time.monotonic()))
        cited = [asdict(citation) for citation in finished.citations]
        return {
            "answer": finished.answer,
            "citations": cited,
            "warnings": list(finished.warnings),
            "computation": finished.computation and asdict(finished.computation),
            "support": finished.support,
        }
    [source] = sources
    request = SummaryRequest(length=SummaryLength.parse(work.length), focus=work.focus)
    made = summarize_once(engine, source, request)
    found = dict.fromkeys(each for sentence in made.overview for each in sentence.citations)
    return {
        "answer": " ".join(sentence.text for sentence in made.overview),
        "citations": [asdict(citation) for citation in found],
        "warnings": list(made.warnings),
    }


def told(error: NsaError) -> dict[str, str]:
    """An error as a row has it."""
    return {"code": error.code, "message": error.message, "hint": hint_for(error)}
