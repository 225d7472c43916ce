"""Documents of a batch in several processes, each with the model; a crash fails one document.

The processes share the KV store on disk. They ignore Ctrl-C and end with the parent process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess

from nsa_cli.batch.result_file import ResultRow
from nsa_cli.batch.work import Assignment, Pending, lost_rows, rows_of
from nsa_cli.config.options import Options
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Emit, Event, Note
from nsa_cli.system import cause
from nsa_models.errors import NsaError
from nsa_models.model_folder import ModelFolder

_END_SECONDS = 5.0


def in_processes(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    where: ModelFolder,
    jobs: int,
    emit: Emit,
) -> Iterator[tuple[Pending, ResultRow | None]]:
    """Process documents in parallel, in as many processes as memory allows.

    Args:
        all_pending: The documents.
        assignment: Work and options of the batch.
        where: The model, already fetched.
        jobs: Maximum number of processes.
        emit: Receives notes, and progress when a document starts.

    Yields:
        Each document with its rows as they arrive, then with None when it is done.

    Raises:
        NsaError: If a process cannot load the model.
    """
    documents = list(all_pending)
    jobs, options = _affordable(jobs, assignment, where, emit)
    assignment = replace(assignment, options=options)
    waiting = deque(enumerate(documents))
    workers = [_Worker(assignment, jobs) for _ in range(min(jobs, len(documents)))]
    try:
        while waiting or any(worker.pending for worker in workers):
            for worker in workers:
                if worker.pending is None and waiting:
                    number, pending = waiting.popleft()
                    emit(BatchProgress(done=number, total=len(documents), name=pending.path))
                    worker.send(pending)
            busy = [worker for worker in workers if worker.pending]
            ready = wait([worker.connection for worker in busy if worker.connection])
            for worker in busy:
                if worker.connection in ready:
                    yield from worker.receive(where.name, emit)
    finally:
        for worker in workers:
            worker.end()


def _affordable(
    jobs: int, assignment: Assignment, where: ModelFolder, emit: Emit
) -> tuple[int, Options]:
    """The number of processes that fit in memory, and options with the limit of each."""
    from nsa_cli.context.estimate import program_memory_bytes
    from nsa_cli.system import memory_limit

    limit = memory_limit(assignment.options.memory_bytes)
    each = program_memory_bytes(where.folder)
    fitting = max(1, min(jobs, limit // each))
    if fitting < jobs:
        emit(
            Note(
                text=f"running {fitting} of {jobs} jobs: each needs {each / 1e9:.2f} GB of memory, "
                f"and the limit is {limit / 1e9:.2f} GB"
            )
        )
    return fitting, replace(assignment.options, memory_bytes=limit // fitting)


@dataclass(slots=True)
class _Worker:
    """A process, its current document, and the questions of it whose rows have arrived."""

    assignment: Assignment
    jobs: int
    pending: Pending | None = None
    made: set[str] = field(default_factory=set)
    connection: Connection | None = None
    process: SpawnProcess | None = None

    def _start(self) -> Connection:
        context: SpawnContext = multiprocessing.get_context("spawn")  # forks lose threads
        self.connection, remote = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        self.process = context.Process(
            target=_work, args=(remote, self.assignment, threads), daemon=True
        )
        self.process.start()
        remote.close()
        return self.connection

    def send(self, pending: Pending) -> None:
        """Send a document to the process, restarting it if it has died."""
        self.pending, self.made = pending, set()
        try:
            (self.connection or self._start()).send(pending)
        except OSError:  # the process died while idle
            self._stop()
            self._start().send(pending)

    def receive(self, model: str, emit: Emit) -> Iterator[tuple[Pending, ResultRow | None]]:
        """Receive a message of the process; yield as `in_processes` does.

        A dead process fails its document; an error of loading the model is raised.
        """
        assert self.pending is not None
        assert self.connection is not None
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            pending, self.pending = self.pending, None
            reason = f"its process ended ({cause(self._stop())})"
            for row in lost_rows(pending, self.assignment, model, self.made, reason):
                yield pending, row
            yield pending, None
            return
        match message:
            case ResultRow():
                self.made.add(message.question)
                yield self.pending, message
            case Note():
                emit(message)
            case NsaError():
                raise message
            case None:
                pending, self.pending = self.pending, None
                yield pending, None

    def _stop(self) -> int | None:
        """Wait for an ended process and return its exit code."""
        assert self.connection is not None
        assert self.process is not None
        self.connection.close()
        self.process.join(_END_SECONDS)
        code = self.process.exitcode
        self.connection = self.process = None
        return code

    def end(self) -> None:
        """Terminate the process."""
        if self.process is not None:
            self.process.terminate()
            self._stop()


def _work(connection: Connection, assignment: Assignment, threads: int) -> None:
    """Process one document after the other; the target of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)

    def emit(event: Event) -> None:
        if isinstance(event, Note):
            connection.send(event)

    try:
        engine = Engine(assignment.options, emit)
        while True:
            pending = connection.recv()
            for row in rows_of(pending, engine, assignment):
                connection.send(row)
            connection.send(None)
    except NsaError as error:
        connection.send(error)
    except (EOFError, OSError):  # the parent has ended
        return
