"""Documents of a batch on the machines of a Ray cluster; a lost machine loses no document.

Each machine needs nsa and the model; the driver sends the documents.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from nsa_cli.batch.result_file import ResultRow
from nsa_cli.batch.work import Assignment, Pending, lost_rows, rows_of
from nsa_cli.documents import read_source
from nsa_cli.engine.engine import Desk
from nsa_cli.events import BatchProgress, Event, Note
from nsa_cli.output.logging import log
from nsa_models.errors import NsaError, UnreadableError, UsageError
from nsa_models.model_folder import ModelFolder

_MOST_TRIES = 3
"""Attempts for a document, each on another worker."""

_POLL_SECONDS = 5.0


def on_ray(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    where: ModelFolder,
    address: str,
    emit: Callable[[Event], None],
) -> Iterator[tuple[Pending, ResultRow | None]]:
    """Process documents with one worker per machine.

    Args:
        all_pending: The documents.
        assignment: Work and options of the batch.
        where: The model.
        address: Address of the cluster; `auto` for the cluster of this machine.
        emit: Receives notes, and progress when a document starts.

    Yields:
        Each document with its rows as they arrive, then with None when it is done.

    Raises:
        UsageError: If Ray or the cluster is missing.
        NsaError: If no machine is left, or one cannot load the model.
    """
    ray = _connect(address)
    tasks = _Tasks(ray, assignment, where.name, list(all_pending), emit)
    try:
        yield from tasks.results()
    finally:
        tasks.close()
        ray.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A document on its way: its number in the batch and the current attempt."""

    pending: Pending
    number: int
    attempt: int = 1


class _Tasks:
    """Documents that wait and run, and the workers of the cluster.

    Args:
        ray: The connected library.
        assignment: Work and options of the batch.
        model: Name of the model.
        documents: All documents.
        emit: Receives notes and progress.
    """

    def __init__(
        self,
        ray: Any,
        assignment: Assignment,
        model: str,
        documents: list[Pending],
        emit: Callable[[Event], None],
    ) -> None:
        self._ray = ray
        self._assignment = assignment
        self._model = model
        self._emit = emit
        self._total = len(documents)
        self._waiting = deque(
            _Task(pending=pending, number=number) for number, pending in enumerate(documents)
        )
        self._running: dict[Any, tuple[Any, _Task]] = {}
        self._idle = _start_workers(ray, assignment)
        log.info("%d machines", len(self._idle))

    def results(self) -> Iterator[tuple[Pending, ResultRow | None]]:
        """Rows of all documents; see `on_ray`."""
        while self._waiting or self._running:
            while self._waiting and self._idle:
                self._submit(self._waiting.popleft(), self._idle.pop())
            if not self._running:
                self._idle = _start_workers(self._ray, self._assignment)
                if not self._idle:
                    raise NsaError(
                        "no machine of the cluster is left",
                        hint="continue with --resume",
                        code="ray",
                    )
                continue
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_SECONDS)
            for reference in ready:
                yield from self._collect(reference)

    def close(self) -> None:
        """End all workers."""
        for worker in (*self._idle, *(worker for worker, _ in self._running.values())):
            self._end(worker)

    def _submit(self, task: _Task, worker: Any) -> None:
        self._emit(BatchProgress(done=task.number, total=self._total, name=task.pending.path))
        self._running[worker.rows.remote(_with_data(task.pending))] = (worker, task)

    def _collect(self, reference: Any) -> Iterator[tuple[Pending, ResultRow | None]]:
        worker, task = self._running.pop(reference)
        try:
            node, notes, rows = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._end(worker)
            log.info("lost: %s", error)
            yield from self._lost(task)
            return
        self._idle.append(worker)
        for note in notes:
            self._emit(note)
        if isinstance(rows, NsaError):
            raise rows
        log.info("%s was done on machine %s", task.pending.path, node)
        for row in rows:
            yield task.pending, row
        yield task.pending, None

    def _lost(self, task: _Task) -> Iterator[tuple[Pending, ResultRow | None]]:
        """Queue the document of a lost worker again, or fail it after the last attempt."""
        pending = task.pending
        if task.attempt < _MOST_TRIES:
            self._emit(Note(text=f"{pending.path} was lost with its machine; trying again"))
            self._waiting.append(replace(task, attempt=task.attempt + 1))
            return
        reason = f"lost with {task.attempt} machines"
        for row in lost_rows(pending, self._assignment, self._model, (), reason):
            yield pending, row
        yield pending, None

    def _end(self, worker: Any) -> None:
        try:
            self._ray.kill(worker)
        except self._ray.exceptions.RayError as error:
            log.info("ended already: %s", error)


def _connect(address: str) -> Any:
    """The library ray, connected to the cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            "--ray needs the library ray",
            hint="install it with `pip install 'nsa[ray]'`",
            code="missing_library",
        ) from error
    _check_reachable(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address) from error
    return ray


def _check_reachable(address: str) -> None:
    """Check for a listening port; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _POLL_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address) from error


def _no_cluster(address: str) -> UsageError:
    return UsageError(
        f"no Ray cluster at {address}",
        hint="start one with `ray start --head`, or give its address",
    )


def _start_workers(ray: Any, assignment: Assignment) -> list[Any]:
    """One worker per live machine, with all of its cores and a GPU if there is one."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    workers = []
    for node in nodes:
        at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=node["NodeID"], soft=False
        )
        gpu = assignment.options.device != "cpu" and node["Resources"].get("GPU", 0) >= 1
        worker = ray.remote(
            num_cpus=int(node["Resources"]["CPU"]), num_gpus=int(gpu), scheduling_strategy=at
        )(_Worker)
        workers.append(worker.remote(assignment))
    return workers


def _with_data(pending: Pending) -> Pending:
    """A document with its bytes; unchanged if unreadable, so that the worker reports why."""
    try:
        return replace(pending, data=read_source(pending.path)[1])
    except UnreadableError:
        return pending


class _Worker:
    """A Ray actor that processes one document after the other."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._notes: list[Note] = []
        self._desk: Desk | None = None

    def rows(self, pending: Pending) -> tuple[str, list[Note], list[ResultRow] | NsaError]:
        """The machine's id, notes, and rows or the error of loading the model."""
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        self._notes = []
        try:
            if self._desk is None:
                self._desk = Desk(self._assignment.options, self._emit)
            rows: list[ResultRow] | NsaError = list(rows_of(pending, self._desk, self._assignment))
        except NsaError as error:
            rows = error
        return node, self._notes, rows

    def _emit(self, event: Event) -> None:
        if isinstance(event, Note):
            self._notes.append(event)
