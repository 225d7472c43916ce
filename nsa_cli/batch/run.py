"""`nsa batch`: questions and summaries for each document; a failure affects one document."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nsa_cli.batch.result_file import ResultFile, ResultRow, RowKey, key_of
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


@dataclass(slots=True, kw_only=True)
class Failure:
    """Failures of one kind.

    Attributes:
        code: The error's code.
        document: The first document that failed so.
        rows: Rows with this error.
    """

    code: str
    document: str
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a batch did.

    Attributes:
        documents: Documents in all.
        done_before: Documents without a row to write, since earlier runs wrote them.
        failed: Documents with at least one row that has an error.
        rows_before: Rows of earlier runs that were kept.
        rows: Rows with an answer that this run wrote.
        failures: Rows with an error that this run wrote, by kind, the most frequent first.
        seconds: Duration of the run.
    """

    documents: int
    done_before: int
    failed: int
    rows_before: int
    rows: int
    failures: Sequence[Failure]
    seconds: float


@dataclass(slots=True)
class _Tally:
    """Counts while a batch runs."""

    answered: int = 0
    replaced: int = 0
    worked: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)

    def add(self, document: str, row: ResultRow) -> None:
        """Count a row."""
        self.worked.add(document)
        if row.error is None:
            self.answered += 1
            return
        self.failed.add(document)
        code = row.error["code"]
        self.failures.setdefault(code, Failure(code=code, document=document)).rows += 1

    def by_frequency(self) -> list[Failure]:
        """The kinds of failures, the most frequent first."""
        return sorted(self.failures.values(), key=lambda each: (-each.rows, each.code))


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
    began = time.monotonic()
    found = [path for path in documents_of(arguments, emit) if not rows.is_at(path)]
    engine = Engine(options, without_answers(emit))
    run = run_digest(engine, work)
    assignment = Assignment(work=work, options=engine.options, run=run)
    all_pending = [pending_of(path, work, run, rows.done) for path in found]
    results: Results
    if ray is not None:
        from nsa_cli.batch.ray_cluster import on_ray

        results = on_ray(all_pending, assignment, engine.folder, ray, emit)
    elif jobs > 1:
        from nsa_cli.batch.processes import in_processes

        results = in_processes(all_pending, assignment, engine.folder, jobs, emit)
    else:
        results = _in_this_process(all_pending, assignment, engine, emit)
    tally = _Tally()
    for pending, row in results:
        if row is None:
            continue
        tally.add(pending.path, row)
        tally.replaced += row.question in pending.done
        rows.drop(row.key)
        rows.add(row)
    emit(BatchProgress(done=len(found), total=len(found), name=""))
    return Outcome(
        documents=len(found),
        done_before=len(found) - len(tally.worked),
        failed=len(tally.failed),
        rows_before=sum(len(pending.done) for pending in all_pending) - tally.replaced,
        rows=tally.answered,
        failures=tally.by_frequency(),
        seconds=time.monotonic() - began,
    )


def documents_of(arguments: Sequence[str], emit: Emit) -> list[str]:
    """The paths of all documents, binary files of folders included, so that each has a row.

    Args:
        arguments: Paths, folders, globs or URLs.
        emit: Receives notes about what is not read.

    Raises:
        NsaError: If no document is found.
    """
    sources = find_sources(arguments, on_note=lambda text: emit(Note(text=text)), binary=True)
    return [each.path for each in sources]


def pending_of(path: str, work: Work, run: str, done: Mapping[RowKey, str]) -> Pending:
    """A document with its finished rows.

    Args:
        path: The document.
        work: What to do with it.
        run: From `run_digest`.
        done: SHA-256 of the document of each finished row.
    """
    found = {task: done.get(key_of(path, task, run)) for task in work.tasks}
    return Pending(path=path, done={task: sha for task, sha in found.items() if sha is not None})


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


def run_digest(engine: Engine, work: Work) -> str:
    """Digest of the model and the options that affect answers."""
    values = cache_key(engine.options, "answer", _KEY)
    options = dict(zip(_KEY, values, strict=False))
    for later in values[len(_KEY) :]:  # options that are newer than the rows' first format
        options |= later
    facts = [engine.answers_with.fingerprint, options, work.length, work.focus]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
