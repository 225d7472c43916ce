"""The model that answers is fetched while the model that reads reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.answering.dry_run import survey
from nsa_cli.config.options import AUTO, Options
from nsa_cli.documents import read_sources
from nsa_cli.documents.sources import Source
from nsa_cli.engine import answer_model, fetching, models
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.models import Models
from nsa_cli.events import Event, Note, Progress
from nsa_models.errors import ModelError
from nsa_models.hub.offline import OFFLINE_VARIABLES
from nsa_models.hub.resolve import resolve_model
from nsa_models.model_folder import ModelFolder

SMALL, LARGER = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
QUESTION = "Who wrote report 17?"
SECONDS = 60.0
"""Time after which a test fails rather than waits."""


class Index:
    """Fetches the model that answers, when it may.

    Attributes:
        fetched: What was fetched.
        may_end: Set when the fetch may end.
        error: What the fetch raises, if anything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.may_end = threading.Event()
        self.error: Exception | None = None

    def resolve(
        self,
        name: str,
        *,
        on_progress: Callable[[str, int, int], None],
        on_note: Callable[[str], None],
        **_: Any,
    ) -> ModelFolder:
        self.fetched.append(name)
        on_note(f"fetching {name}")
        on_progress(f"Fetching {name}", 1, 2)
        assert self.may_end.wait(SECONDS), "the fetch was waited for"
        if self.error is not None:
            raise self.error
        on_progress(f"Fetching {name}", 2, 2)
        found = resolve_model(str(self.folder), on_progress=on_progress, on_note=on_note)
        return replace(found, name=name)


@pytest.fixture
def index(tiny_model: Path, other_model: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """A machine with memory and network that lacks the model that answers."""
    found = Index(other_model)
    monkeypatch.setattr(fetching, "resolve_model", found.resolve)
    monkeypatch.setattr(answer_model, "_LARGER", {str(tiny_model): LARGER, SMALL: LARGER})
    monkeypatch.setattr(answer_model, "total_memory_bytes", lambda: 8 * 10**9)
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: 0)
    for variable in OFFLINE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return found


@pytest.fixture
def options(tiny_model: Path) -> Options:
    return Options(model=str(tiny_model), answer_model=AUTO, cache_limit_bytes=10**9, max_tokens=6)


@pytest.fixture
def sources(text_file: Path) -> list[Source]:
    return read_sources([str(text_file)], on_note=print)


def ask(engine: Engine, sources: list[Source], question: str = QUESTION) -> Any:
    return next(engine.ask(sources, "a", [question], time.monotonic()))


def ended_by_reading(index: Index, events: list[Event]) -> Callable[[Event], None]:
    """A receiver of events that ends the fetch when the text is read."""

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and event.unit == "tokens" and event.done == event.total:
            index.may_end.set()

    return emit


@pytest.mark.parametrize("named", [AUTO, LARGER])
def test_the_text_is_read_while_the_second_model_is_fetched(
    index: Index, options: Options, sources: list[Source], named: str
) -> None:
    events = list[Event]()
    options = replace(options, answer_model=named)
    engine = Engine(options, ended_by_reading(index, events))
    assert index.fetched == []  # nothing needs it yet
    assert not engine.is_ready
    found = ask(engine, sources)
    assert found.model == LARGER
    assert index.fetched == [LARGER]
    assert engine.is_ready
    fetched = [each for each in events if isinstance(each, Progress) and "Fetch" in each.task]
    assert fetched[0].beside  # shown below the progress of the reading
    assert fetched[-1].done == fetched[-1].total
    assert Note(text=f"fetching {LARGER}") in events
    ask(engine, sources)
    assert Note(text="answered before; --no-store asks again") in events


@pytest.mark.parametrize("model", [SMALL, AUTO])
def test_the_second_model_is_fetched_as_soon_as_the_first_is(
    model: str,
    index: Index,
    options: Options,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_fetch = list[list[str]]()

    def resolve(name: str, *, on_fetched: Callable[[], None], **more: Any) -> ModelFolder:
        at_fetch.append([*index.fetched])
        on_fetched()  # the conversion comes after it
        ended = time.monotonic() + SECONDS
        while not index.fetched and time.monotonic() < ended:
            time.sleep(0.01)
        at_fetch.append([*index.fetched])
        return replace(resolve_model(str(tiny_model), **more), name=name)

    monkeypatch.setattr(models, "resolve_model", resolve)
    engine = Engine(replace(options, model=model), list[Event]().append)
    assert engine.options.model == SMALL
    assert at_fetch == []
    assert engine.folder.name == SMALL
    assert at_fetch == [[], [LARGER]]
    index.may_end.set()
    assert engine.answers_with.name == LARGER


def test_a_failed_fetch_is_one_line(index: Index, options: Options, sources: list[Source]) -> None:
    index.error = ModelError("cannot fetch it: no network", code="model_unavailable")
    index.may_end.set()
    events = list[Event]()
    found = ask(Engine(options, events.append), sources)
    assert found.model == options.model
    told = [each.text for each in events if isinstance(each, Note) and "network" in each.text]
    assert told == [f"{options.model} answers: cannot fetch it: no network"]
    with pytest.raises(ModelError, match="cannot fetch it: no network"):
        ask(Engine(replace(options, answer_model=LARGER), events.append), sources)


def test_an_answer_without_a_model_fetches_none(
    index: Index, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "resolve_model", None)
    path = tmp_path / "a.csv"
    path.write_text("Order,Region,Amount\n1,West,10\n2,East,20\n3,West,30\n")
    engine = Engine(replace(options, model=SMALL), list[Event]().append)
    found = ask(engine, read_sources([str(path)], on_note=print), "What is the total amount?")
    assert found.answer.startswith("60")
    assert found.model == LARGER
    assert index.fetched == []


def test_without_a_network_the_first_model_is_named_at_once(
    options: Options, sources: list[Source]
) -> None:
    engine = Engine(replace(options, model=SMALL, answer_model=None), list[Event]().append)
    with pytest.raises(ModelError, match="NSA_OFFLINE forbids the network"):
        ask(engine, sources)
    with pytest.raises(ModelError, match="NSA_OFFLINE forbids the network"):
        Engine(replace(options, answer_model=LARGER), list[Event]().append)


def test_a_dry_run_fetches_no_second_model(index: Index, options: Options, text_file: Path) -> None:
    events = list[Event]()
    found = survey([str(text_file)], [QUESTION], options, events.append).estimate()
    assert not found.answer_seconds
    assert index.fetched == []
    [note] = [each.text for each in events if isinstance(each, Note)]
    assert note.startswith(f"{LARGER}, which answers, is not on this machine")
    assert "1,117 MB" in note


def test_an_engine_that_goes_stops_its_fetch(
    index: Index, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = list[bool]()
    monkeypatch.setattr(fetching.Fetching, "stop", lambda _: stopped.append(True))
    made = Models(options, list[Event]().append)
    made.start()
    assert stopped == []
    del made
    assert stopped == [True]
    index.may_end.set()
