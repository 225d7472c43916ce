"""Documents of a batch in several processes, each with the model; one that dies costs its document.

The processes share what is kept on disk. They hear nothing of Ctrl-C, which is this process's to
heed, and end with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess

from nsa_cli.batch.result_file import ResultRow
from nsa_cli.batch.work import Assignment, Pending, lost_rows, rows_of
from nsa_cli.config.options import Options
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Event, Note
from nsa_cli.system import cause
from nsa_models.errors import NsaError
from nsa_models.model_folder import ModelFolder

_END_SECONDS = 5.0


def in_processes(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    where: ModelFolder,
    jobs: int,
    emit: Callable[[Event], None],
) -> Iterator[tuple[Pending, ResultRow | None]]:
    """Rows of documents as they are made, by so many processes as memory allows.

    Args:
        all_pending: The documents.
        assignment: What is wanted of them.
        where: The model, which is here already.
        jobs: Processes at once, at most.
        emit: Receives notes, and which document is begun.

    Yields:
        A document with a row of it, or with None when it is done.

    Raises:
        NsaError: If a process cannot have the model.
    """
    documents = list(all_pending)
    jobs, options = _affordable(jobs, assignment, where, emit)
    assignment = replace(assignment, options=options)
    waiting = deque(enumerate(documents))
    crew = [_Member(assignment, jobs) for _ in range(min(jobs, len(documents)))]
    try:
        while waiting or any(member.pending for member in crew):
            for member in crew:
                if member.pending is None and waiting:
                    number, pending = waiting.popleft()
                    emit(BatchProgress(done=number, total=len(documents), name=pending.path))
                    member.give(pending)
            busy = [member for member in crew if member.pending]
            ready = wait([member.connection for member in busy if member.connection])
            for member in busy:
                if member.connection in ready:
                    yield from member.take(where.name, emit)
    finally:
        for member in crew:
            member.end()


def _affordable(
    jobs: int, assignment: Assignment, where: ModelFolder, emit: Callable[[Event], None]
) -> tuple[int, Options]:
    """Processes that memory allows, and options with what each may take."""
    from nsa_cli.context.estimate import program_memory_bytes
    from nsa_cli.system import memory_limit

    limit = memory_limit(assignment.options.memory_bytes)
    each = program_memory_bytes(where.folder)
    fitting = max(1, min(jobs, limit // each))
    if fitting < jobs:
        emit(
            Note(
                text=f"{fitting} of {jobs} jobs: each takes {each / 1e9:.2f} GB of memory, and "
                f"{limit / 1e9:.2f} GB may be used"
            )
        )
    return fitting, replace(assignment.options, memory_bytes=limit // fitting)


@dataclass(slots=True)
class _Member:
    """A process, and the document that it has in hand."""

    assignment: Assignment
    jobs: int
    pending: Pending | None = None
    made: set[str] = field(default_factory=set)
    connection: Connection | None = None
    process: SpawnProcess | None = None

    def _start(self) -> Connection:
        context: SpawnContext = multiprocessing.get_context("spawn")  # threads do not survive forks
        self.connection, its = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        self.process = context.Process(
            target=_work, args=(its, self.assignment, threads), daemon=True
        )
        self.process.start()
        its.close()
        return self.connection

    def give(self, pending: Pending) -> None:
        """Hand it a document."""
        self.pending, self.made = pending, set()
        try:
            (self.connection or self._start()).send(pending)
        except OSError:  # it died while it had nothing to do
            self._stop()
            self._start().send(pending)

    def take(
        self, model: str, emit: Callable[[Event], None]
    ) -> Iterator[tuple[Pending, ResultRow | None]]:
        """What it has to say.

        Raises:
            NsaError: If it cannot have the model.
        """
        assert self.pending is not None
        assert self.connection is not None
        try:
            said = self.connection.recv()
        except (EOFError, OSError):
            pending, self.pending = self.pending, None
            why = f"its process ended ({cause(self._stop())})"
            for row in lost_rows(pending, self.assignment, model, self.made, why):
                yield pending, row
            yield pending, None
            return
        match said:
            case ResultRow():
                self.made.add(said.question)
                yield self.pending, said
            case Note():
                emit(said)
            case NsaError():
                raise said
            case None:
                pending, self.pending = self.pending, None
                yield pending, None

    def _stop(self) -> int | None:
        """Forget a process that has ended; its exit code."""
        assert self.connection is not None
        assert self.process is not None
        self.connection.close()
        self.process.join(_END_SECONDS)
        code = self.process.exitcode
        self.connection = self.process = None
        return code

    def end(self) -> None:
        """End it, whatever it does."""
        if self.process is not None:
            self.process.terminate()
            self._stop()


def _work(connection: Connection, assignment: Assignment, threads: int) -> None:
    """What a process does: rows of one document after the other."""
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
    except (EOFError, OSError):  # the other end is gone
        return
