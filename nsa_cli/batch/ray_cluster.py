"""Documents of a batch on the machines of a Ray cluster; one that dies costs time, no document.

Each machine needs nsa and the model, not the documents: these are sent.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from nsa_cli.batch.result_file import ResultRow
from nsa_cli.batch.work import Assignment, Pending, lost_rows, rows_of
from nsa_cli.documents import read_source
from nsa_cli.engine.engine import Engine
from nsa_cli.events import BatchProgress, Event, Note
from nsa_cli.output.logging import log
from nsa_models.errors import NsaError, UnreadableError, UsageError
from nsa_models.model_folder import ModelFolder

_MOST_TRIES = 3
"""Machines that a document is tried on."""

_LOOK_SECONDS = 5.0


def on_ray(
    all_pending: Iterable[Pending],
    assignment: Assignment,
    where: ModelFolder,
    address: str,
    emit: Callable[[Event], None],
) -> Iterator[tuple[Pending, ResultRow | None]]:
    """Rows of documents as they are made, by one process on each machine.

    Args:
        all_pending: The documents.
        assignment: What is wanted of them.
        where: The model.
        address: Of the cluster; `auto` for the one that this machine belongs to.
        emit: Receives notes, and which document is begun.

    Yields:
        A document with a row of it, or with None when it is done.

    Raises:
        UsageError: If Ray is not installed, or there is no cluster.
        NsaError: If no machine is left, or one cannot have the model.
    """
    ray = _connected(address)
    documents = list(all_pending)
    waiting = deque((number, 1, pending) for number, pending in enumerate(documents))
    busy: dict[Any, tuple[Any, int, int, Pending]] = {}
    idle = _readers(ray, assignment)
    log.info("%d machines", len(idle))
    try:
        while waiting or busy:
            while waiting and idle:
                number, tries, pending = waiting.popleft()
                emit(BatchProgress(done=number, total=len(documents), name=pending.path))
                reader = idle.pop()
                sent = reader.rows.remote(_with_data(pending))
                busy[sent] = (reader, number, tries, pending)
            if not busy:
                idle = _readers(ray, assignment)
                if not idle:
                    raise NsaError(
                        "no machine of the cluster is left", hint="go on with --resume", code="ray"
                    )
                continue
            for sent in ray.wait(list(busy), num_returns=1, timeout=_LOOK_SECONDS)[0]:
                reader, number, tries, pending = busy.pop(sent)
                try:
                    node, notes, made = ray.get(sent)
                except ray.exceptions.RayError as error:
                    _end(ray, reader)
                    log.info("lost: %s", error)
                    if tries < _MOST_TRIES:
                        emit(Note(text=f"{pending.path} was lost with its machine; trying again"))
                        waiting.append((number, tries + 1, pending))
                        continue
                    why = f"{tries} machines were lost with it"
                    for row in lost_rows(pending, assignment, where.name, (), why):
                        yield pending, row
                    yield pending, None
                    continue
                idle.append(reader)
                for note in notes:
                    emit(note)
                if isinstance(made, NsaError):
                    raise made
                log.info("%s was done on machine %s", pending.path, node)
                for row in made:
                    yield pending, row
                yield pending, None
    finally:
        for reader in [*idle, *(reader for reader, *_ in busy.values())]:
            _end(ray, reader)
        ray.shutdown()


def _connected(address: str) -> Any:
    """Ray, as part of a cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            "--ray needs the library ray, which is not installed",
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
        raise _nowhere(address) from error
    return ray


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _LOOK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _nowhere(address) from error


def _nowhere(address: str) -> UsageError:
    return UsageError(
        f"there is no Ray cluster at {address}",
        hint="start one with `ray start --head`, or say its address",
    )


def _readers(ray: Any, assignment: Assignment) -> list[Any]:
    """A process on each machine that is alive, with all its cores, or with a GPU."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    readers = []
    for node in nodes:
        at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=node["NodeID"], soft=False
        )
        gpu = assignment.options.device != "cpu" and node["Resources"].get("GPU", 0) >= 1
        kind = ray.remote(
            num_cpus=int(node["Resources"]["CPU"]), num_gpus=int(gpu), scheduling_strategy=at
        )(_Reader)
        readers.append(kind.remote(assignment))
    return readers


def _with_data(pending: Pending) -> Pending:
    """A document with its bytes; without, where its row is to say why they cannot be read."""
    try:
        return replace(pending, data=read_source(pending.path)[1])
    except UnreadableError:
        return pending


def _end(ray: Any, reader: Any) -> None:
    """End a process, if it has not ended already."""
    try:
        ray.kill(reader)
    except ray.exceptions.RayError as error:
        log.info("ended already: %s", error)


class _Reader:
    """What a process on a machine does: rows of one document after the other."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._notes: list[Note] = []
        self._engine: Engine | None = None

    def rows(self, pending: Pending) -> tuple[str, list[Note], list[ResultRow] | NsaError]:
        """The machine, notes, and rows; or why the model cannot be had."""
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        self._notes = []
        try:
            if self._engine is None:
                self._engine = Engine(self._assignment.options, self._emit)
            rows = rows_of(pending, self._engine, self._assignment)
            made: list[ResultRow] | NsaError = list(rows)
        except NsaError as error:
            made = error
        return node, self._notes, made

    def _emit(self, event: Event) -> None:
        if isinstance(event, Note):
            self._notes.append(event)
