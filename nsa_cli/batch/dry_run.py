"""`nsa batch --dry-run`: what reading each document would take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nsa_cli.answering.dry_run import not_here
from nsa_cli.batch.result_file import RowKey, is_same
from nsa_cli.batch.run import documents_of, pending_of, run_digest
from nsa_cli.batch.work import Pending, Work, source_of, told
from nsa_cli.config.options import Options
from nsa_cli.documents import digest
from nsa_cli.engine.answer_model import without_fetch
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Emit, Note, without_answers
from nsa_cli.results import Estimate
from nsa_models.errors import NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSurvey:
    """What one document of a batch would take.

    Attributes:
        path: The document.
        rows: Rows that the batch would write.
        estimate: What reading and answering would take; None if nothing is left, or it fails.
        error: `code`, `message` and `hint` of a failure, or None.
    """

    path: str
    rows: int
    estimate: Estimate | None = None
    error: Mapping[str, str] | None = None


def survey_batch(
    arguments: Sequence[str],
    work: Work,
    options: Options,
    done: Mapping[RowKey, str],
    out: Path | None,
    emit: Emit,
) -> Iterator[DocumentSurvey]:
    """Say what each document would take; prefill nothing and write nothing.

    Args:
        arguments: Paths, folders, globs or URLs.
        work: Questions and summaries for each document.
        options: Options for reading and answering.
        done: SHA-256 of the document of each finished row.
        out: The result file, which is not a document of the batch.
        emit: Receives progress and notes.

    Raises:
        NsaError: If no document is found or the model is unavailable.
    """
    found = [
        path for path in documents_of(arguments, emit) if out is None or not is_same(path, out)
    ]
    options, missing = without_fetch(options)
    engine = Engine(options, without_answers(emit))
    run = run_digest(engine, work)
    if missing is not None:
        emit(Note(text=not_here(missing)))
    for number, path in enumerate(found):
        emit(BatchProgress(done=number, total=len(found), name=path))
        pending = pending_of(path, work, run, done)
        yield _survey(pending, work, engine, answers=missing is None)
    emit(BatchProgress(done=len(found), total=len(found), name=""))


def _survey(pending: Pending, work: Work, engine: Engine, *, answers: bool) -> DocumentSurvey:
    from nsa_cli.context.tokens import answer_room

    found = DocumentSurvey(path=pending.path, rows=len(work.tasks))
    try:
        source = source_of(pending, engine.options, engine.emit)
        sha256 = hashlib.sha256(source.data).hexdigest()
        left = [task for task in work.tasks if pending.done.get(task) != sha256]
        found = replace(found, rows=len(left))
        if not left:
            return found
        document = engine.parse([source], source.name, digest([source]))
        asked = [engine.prompts.question(task or work.focus or source.name) for task in left]
        room = answer_room(asked, engine.options.max_tokens)
        answered = [
            question for task, question in zip(left, asked, strict=True) if task and answers
        ]
        return replace(found, estimate=engine.estimate(document, room, answered))
    except NsaError as error:
        return replace(found, error=told(error))
