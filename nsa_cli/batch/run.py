"""`nsa batch`: questions and summaries for each document by itself, failures apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from nsa_cli.batch.result_file import ResultFile, ResultRow, key_of
from nsa_cli.batch.work import Assignment, Pending, Work, rows_of
from nsa_cli.config.options import Options
from nsa_cli.documents import find_sources
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Event, without_answers

Made = Iterator[tuple[Pending, ResultRow | None]]
"""Documents with rows of theirs as they are made; None when one is done."""


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
    rows: ResultFile,
    emit: Callable[[Event], None],
    *,
    jobs: int = 1,
    ray: str | None = None,
) -> Outcome:
    """Ask about, or sum up, each document that the arguments name.

    Args:
        arguments: Paths, folders or globs.
        work: What is wanted of each document.
        options: How.
        rows: Takes what comes of it.
        emit: Receives everything worth showing.
        jobs: Processes that work at once.
        ray: Address of a Ray cluster whose machines work; None for this machine.

    Raises:
        NsaError: If no document is found, the model cannot be had, or no row can be written.
    """
    found = [each.path for each in find_sources(arguments) if not rows.is_at(each.path)]
    engine = Engine(options, without_answers(emit))
    run = _run(engine, work)
    assignment = Assignment(work=work, options=options, run=run)
    all_pending = [_pending(path, work, run, rows) for path in found]
    made: Made
    if ray is not None:
        from nsa_cli.batch.ray_cluster import on_ray

        made = on_ray(all_pending, assignment, engine.folder, ray, emit)
    elif jobs > 1:
        from nsa_cli.batch.processes import in_processes

        made = in_processes(all_pending, assignment, engine.folder, jobs, emit)
    else:
        made = _alone(all_pending, assignment, engine, emit)
    failed: set[str] = set()
    worked: set[str] = set()
    for pending, row in made:
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
    there = {task: rows.sha256(key_of(path, task, run)) for task in work.tasks}
    done = {task: sha256 for task, sha256 in there.items() if sha256 is not None}
    return Pending(path=path, done=done)


def _alone(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    engine: Engine,
    emit: Callable[[Event], None],
) -> Made:
    """One document after the other, in this process."""
    documents = list(all_pending)
    for number, pending in enumerate(documents):
        emit(BatchProgress(done=number, total=len(documents), name=pending.path))
        for row in rows_of(pending, engine, assignment):
            yield pending, row
        yield pending, None


def _run(engine: Engine, work: Work) -> str:
    """A name for everything that answers depend on, but for documents and questions."""
    options = asdict(engine.options)
    for name in ("store", "cache_limit_bytes"):
        del options[name]
    facts = [engine.folder.fingerprint, options, work.length, work.focus]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
