"""Fetch and convert a model in a thread, while the program does other work."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from nsa_cli.events import Emit, Event, Note, Progress
from nsa_models.hub.resolve import resolve_model

if TYPE_CHECKING:
    from nsa_models.model_folder import ModelFolder

_PAUSE_SECONDS = 0.2
"""Time between two events while a command waits for the model."""

_STOP_SECONDS = 2.0
"""Time that the thread has to end its processes when the program ends."""


class _Stopped(BaseException):
    """The program ends; what was fetched stays for the next command."""


class Fetching:
    """A model that a thread fetches and converts.

    The thread emits nothing itself: `tell` and `wait` pass its events on, in the caller's thread.

    Args:
        name: The model, as `resolve_model` takes it.
        adapter: Its adapter, as `resolve_model` takes it.
    """

    def __init__(self, name: str, adapter: str | None) -> None:
        self._notes: queue.SimpleQueue[Note] = queue.SimpleQueue()
        self._progress: Progress | None = None
        self._stopping = threading.Event()
        self._found: ModelFolder | None = None
        self._error: BaseException | None = None
        # A daemon: a connection without an answer does not keep the program from ending.
        self._thread = threading.Thread(
            target=self._run, args=(name, adapter), name="nsa-fetching", daemon=True
        )
        self._thread.start()

    def _run(self, name: str, adapter: str | None) -> None:
        try:
            self._found = resolve_model(
                name,
                on_progress=self._on_progress,
                on_note=lambda text: self._notes.put(Note(text=text)),
                adapter=adapter,
            )
        except BaseException as error:  # `wait` raises it
            self._error = error

    def _on_progress(self, task: str, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._progress = Progress(
            task=task, done=done, total=total, unit="bytes", stage="loading", beside=True
        )

    def tell(self, emit: Emit) -> None:
        """Emit the notes since the last call, and the latest progress."""
        for event in self._events():
            emit(event)

    def _events(self) -> list[Event]:
        events: list[Event] = []
        while not self._notes.empty():
            events.append(self._notes.get())
        progress, self._progress = self._progress, None
        return [*events, *([] if progress is None else [progress])]

    def wait(self, emit: Emit) -> ModelFolder:
        """Wait for the model; its progress is that of the command meanwhile.

        Raises:
            ModelError: As `resolve_model`.
        """
        while True:
            self._thread.join(_PAUSE_SECONDS)
            is_done = not self._thread.is_alive()
            for event in self._events():
                emit(replace(event, beside=False) if isinstance(event, Progress) else event)
            if is_done:
                break
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found

    def stop(self) -> None:
        """End the thread; what it has fetched stays, and the next fetch continues it."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)
