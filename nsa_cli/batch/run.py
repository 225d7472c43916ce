"""`nsa batch`: questions and summaries for each document; a failure affects one document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nsa_cli.batch.result_file import ResultFile, ResultRow, key_of
from nsa_cli.batch.work import Assignment, Pending, Work, rows_of
from nsa_cli.config.options import Options, cache_key
from nsa_cli.documents import find_sources
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Emit, Note, without_answers

Results = Iterator[tuple[Pending, ResultRow | None]]
"""Each document with its rows as they arrive, then with None when it is done."""


_KEY = (
    *("model", "adapter", "device", "dense", "password", "pages", "ocr", "every_line", "yarn"),
    *("system", "max_tokens", "temperature", "seed", "answer_blocks", "quantization"),
    "memory_bytes",
)
"""Options in a run's digest since the first format of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Document counts of a batch: all, those done by earlier runs, and failures."""

    documents: int
    done_before: int
    failed: int


def run_batch(
    arguments: Sequence[str],
    work: Work,
    options: Options,
    rows: ResultFile,
    emit: Emit,
    *,
    jobs: int = 1,
    ray: str | None = None,
) -> Outcome:
    """Ask about, or summarize, each document.

    Args:
        arguments: Paths, folders or globs.
        work: Questions and summaries for each document.
        options: Options for reading and answering.
        rows: Receives the rows.
        emit: Receives progress and notes.
        jobs: Number of parallel processes.
        ray: Address of a Ray cluster to run on; None for this machine.

    Raises:
        NsaError: If no document is found, the model is unavailable, or a row cannot be written.
    """
    sources = find_sources(arguments, on_note=lambda text: emit(Note(text=text)))
    found = [each.path for each in sources if not rows.is_at(each.path)]
    engine = Engine(options, without_answers(emit))
    run = _run(engine, work)
    assignment = Assignment(work=work, options=options, run=run)
    all_pending = [_pending(path, work, run, rows) for path in found]
    results: Results
    if ray is not None:
        from nsa_cli.batch.ray_cluster import on_ray

        results = on_ray(all_pending, assignment, engine.folder, ray, emit)
    elif jobs > 1:
        from nsa_cli.batch.processes import in_processes

        results = in_processes(all_pending, assignment, engine.folder, jobs, emit)
    else:
        results = _in_this_process(all_pending, assignment, engine, emit)
    failed: set[str] = set()
    worked: set[str] = set()
    for pending, row in results:
        if row is None:
            continue
        worked.add(pending.path)
        if row.error is not None:
            failed.add(pending.path)
        rows.drop(row.key)
        rows.add(row)
    emit(BatchProgress(done=len(found), total=len(found), name=""))
    return Outcome(documents=len(found), done_before=len(found) - len(worked), failed=len(failed))


def _pending(path: str, work: Work, run: str, rows: ResultFile) -> Pending:
    found = {task: rows.sha256(key_of(path, task, run)) for task in work.tasks}
    done = {task: sha256 for task, sha256 in found.items() if sha256 is not None}
    return Pending(path=path, done=done)


def _in_this_process(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    engine: Engine,
    emit: Emit,
) -> Results:
    """Process one document after the other."""
    documents = list(all_pending)
    for number, pending in enumerate(documents):
        emit(BatchProgress(done=number, total=len(documents), name=pending.path))
        for row in rows_of(pending, engine, assignment):
            yield pending, row
        yield pending, None


def _run(engine: Engine, work: Work) -> str:
    """Digest of the model and the options that affect answers."""
    values = cache_key(engine.options, "answer", _KEY)
    options = dict(zip(_KEY, values, strict=False))
    for later in values[len(_KEY) :]:  # options that are newer than the rows' first format
        options |= later
    facts = [engine.answers_with.fingerprint, options, work.length, work.focus]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
