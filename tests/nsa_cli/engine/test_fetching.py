"""A thread fetches a model; its events are emitted in the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.engine import fetching
from nsa_cli.engine.fetching import Fetching
from nsa_cli.events import Event, Note, Progress
from nsa_models.errors import ModelError
from nsa_models.model_folder import ModelFolder

SECONDS = 60.0
FOUND = ModelFolder(name="m", folder=Path("m"), fingerprint="1")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., ModelFolder]], None]:
    """A function that sets what the thread does."""
    return lambda do: monkeypatch.setattr(fetching, "resolve_model", do)


def test_events_arrive_when_they_are_asked_for(work: Any) -> None:
    said, go_on = threading.Event(), threading.Event()

    def resolve(name: str, *, on_progress: Any, on_note: Any, adapter: str | None) -> ModelFolder:
        assert (name, adapter) == ("m", "a")
        on_note("one")
        on_progress("Fetching m", 1, 3)
        on_progress("Fetching m", 2, 3)
        said.set()
        assert go_on.wait(SECONDS)
        on_progress("Fetching m", 3, 3)
        return FOUND

    work(resolve)
    running = Fetching("m", "a")
    assert said.wait(SECONDS)
    events = list[Event]()
    running.tell(events.append)
    assert events == [
        Note(text="one"),
        Progress(task="Fetching m", done=2, total=3, unit="bytes", stage="loading", beside=True),
    ]
    go_on.set()
    events.clear()
    threads = set[int]()

    def emit(event: Event) -> None:
        threads.add(threading.get_ident())
        events.append(event)

    assert running.wait(emit) is FOUND
    assert events == [Progress(task="Fetching m", done=3, total=3, unit="bytes", stage="loading")]
    assert threads == {threading.get_ident()}


def test_an_error_is_raised_where_the_model_is_waited_for(work: Any) -> None:
    def resolve(*_: Any, **__: Any) -> ModelFolder:
        raise ModelError("the disk is full", code="disk_full")

    work(resolve)
    with pytest.raises(ModelError, match="the disk is full"):
        Fetching("m", None).wait(list[Event]().append)


def test_a_stopped_thread_ends_at_its_next_byte(work: Any) -> None:
    begun, cleaned = threading.Event(), threading.Event()

    def resolve(_: str, *, on_progress: Any, **__: Any) -> ModelFolder:
        try:
            while True:
                on_progress("Fetching m", 1, 3)
                begun.set()
        finally:
            cleaned.set()

    work(resolve)
    running = Fetching("m", None)
    assert begun.wait(SECONDS)
    running.stop()
    assert cleaned.wait(SECONDS)
