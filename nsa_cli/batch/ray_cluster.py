"""Documents of a batch on the machines of a Ray cluster; a lost machine loses no document.

Each machine needs nsa and the model; the driver sends the documents.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from nsa_cli.batch.result_file import ResultRow
from nsa_cli.batch.work import Assignment, Pending, lost_rows, rows_of, source_of
from nsa_cli.config.options import Options
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Emit, Event, Note
from nsa_cli.output.logging import log
from nsa_cli.system import install_hint
from nsa_models.errors import NsaError, UsageError
from nsa_models.model_folder import ModelFolder

_MOST_TRIES = 3
"""Attempts for a document, each on another worker."""

_POLL_SECONDS = 5.0
_NONE_LEFT = "no machine of the cluster is left"


def on_ray(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    where: ModelFolder,
    address: str,
    emit: Emit,
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
    waiting = deque(_Task(pending, number) for number, pending in enumerate(all_pending))
    total = len(waiting)
    running: dict[Any, tuple[Any, _Task]] = {}
    idle = _start_workers(ray, assignment)
    log.info("%d machines", len(idle))
    try:
        while waiting or running:
            while waiting and idle:
                task, worker = waiting.popleft(), idle.pop()
                emit(BatchProgress(done=task.number, total=total, name=task.pending.path))
                pending = _with_data(task.pending, assignment.options, emit)
                running[worker.rows.remote(pending)] = (worker, task)
            if not running:
                idle = _start_workers(ray, assignment)
                if not idle:
                    raise NsaError(_NONE_LEFT, hint="continue with --resume", code="ray")
                continue
            for reference in ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)[0]:
                worker, task = running.pop(reference)
                rows = _result(ray, worker, reference, task.pending.path, emit)
                if rows is not None:
                    idle.append(worker)
                elif task.attempt < _MOST_TRIES:
                    emit(Note(text=f"{task.pending.path} was lost with its machine; trying again"))
                    waiting.append(task._replace(attempt=task.attempt + 1))
                    continue
                else:
                    reason = f"lost with {task.attempt} machines"
                    rows = lost_rows(task.pending, assignment, where.name, (), reason)
                yield from ((task.pending, row) for row in rows)
                yield task.pending, None
    finally:
        for worker in (*idle, *(worker for worker, _ in running.values())):
            _end(ray, worker)
        ray.shutdown()


class _Task(NamedTuple):
    """A document, its number in the batch and the current attempt."""

    pending: Pending
    number: int
    attempt: int = 1


def _result(
    ray: Any, worker: Any, reference: Any, path: str, emit: Emit
) -> Iterable[ResultRow] | None:
    """The rows of a finished task, or None if its worker was lost; raises the worker's error."""
    try:
        node, notes, rows = ray.get(reference)
    except ray.exceptions.RayError as error:
        _end(ray, worker)
        log.info("lost: %s", error)
        return None
    for note in notes:
        emit(note)
    if isinstance(rows, NsaError):
        _end(ray, worker)
        raise rows
    log.info("%s was done on machine %s", path, node)
    found: list[ResultRow] = rows
    return found


def _end(ray: Any, worker: Any) -> None:
    """End a worker, if it has not ended already."""
    try:
        ray.kill(worker)
    except ray.exceptions.RayError as error:
        log.info("ended already: %s", error)


def _connect(address: str) -> Any:
    """The library ray, connected to the cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            "--ray needs the library ray",
            hint=install_hint("ray"),
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
    """One worker per live machine, with all of its cores and a GPU if it has one."""
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


def _with_data(pending: Pending, options: Options, emit: Emit) -> Pending:
    """A document with its bytes; unchanged if unreadable, so that the worker reports why."""
    try:
        return replace(pending, source=source_of(pending, options, emit))
    except NsaError:
        return pending


class _Worker:
    """A Ray actor that processes one document after the other."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._notes: list[Note] = []
        self._engine: Engine | None = None

    def rows(self, pending: Pending) -> tuple[str, list[Note], list[ResultRow] | NsaError]:
        """The machine's id, notes, and rows or the error of loading the model."""
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        self._notes = []
        try:
            if self._engine is None:
                self._engine = Engine(self._assignment.options, self._emit)
            made = rows_of(pending, self._engine, self._assignment)
            rows: list[ResultRow] | NsaError = list(made)
        except NsaError as error:
            rows = error
        return node, self._notes, rows

    def _emit(self, event: Event) -> None:
        if isinstance(event, Note):
            self._notes.append(event)
