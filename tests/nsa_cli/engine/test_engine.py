"""The engine parses, opens and loads once, and again only if needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.options import Options
from nsa_cli.documents import digest, read_sources
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.parse import Parser
from nsa_cli.events import Event, Note, Progress
from nsa_models.errors import UsageError


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def engine(
    tiny_model: Path,
    cache_folder: Path,  # noqa: ARG001
    events: list[Event],
) -> Engine:
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=4)
    return Engine(options, events.append)


@pytest.fixture
def sources(text_file: Path) -> list[Source]:
    return read_sources([str(text_file)], on_note=print)


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("done again")


def test_an_open_document_stays_open(
    engine: Engine, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = digest(sources)
    assert engine.opened is None
    assert engine.context is None
    opened = engine.open(sources, "a", 100)
    assert engine.opened is opened
    assert engine.context == opened.model.config.max_position_embeddings
    assert opened.room == 256  # rounded up for the next question
    assert engine.is_open(content, 256)
    assert not engine.is_open(content, 257)
    assert not engine.is_open(b"another", 100)
    monkeypatch.setattr(Engine, "prefill_chunks", refuse)
    assert engine.open(sources, "a", 256) is opened
    with pytest.raises(AssertionError, match="done again"):
        engine.open(sources, "a", 257)
    assert engine.opened is None  # its memory was freed for the next document


def test_the_next_engine_reuses_the_kv_cache(
    engine: Engine, sources: list[Source], events: list[Event]
) -> None:
    first = engine.open(sources, "a", 100)
    again = Engine(engine.options, events.append).open(sources, "a", 100)
    assert again.reused_tokens == again.tokens == first.tokens


def test_a_document_is_parsed_once(
    engine: Engine, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.caches.documents._WORTH_SECONDS", 0)
    first = engine.parse(sources, "a", digest(sources))
    monkeypatch.setattr(Parser, "_parse", refuse)
    assert engine.parse(sources, "a", digest(sources)) == first


def test_questions_of_one_text_share_one_prefill(
    engine: Engine, sources: list[Source], events: list[Event]
) -> None:
    questions = ["Who wrote report 17?", "Who wrote report 18?"]
    answers = list(engine.ask(sources, "a", questions, time.monotonic()))
    assert [len(answer.citations) > 0 for answer in answers] == [True, True]
    read = [each for each in events if isinstance(each, Progress) and each.stage == "reading"]
    assert len({event.task for event in read}) == 1
    done = [event.done for event in read]
    assert done == sorted(done)
    events.clear()
    assert [each.answer for each in engine.ask(sources, "a", questions, time.monotonic())] == [
        each.answer for each in answers
    ]
    assert [event.text for event in events if isinstance(event, Note)] == [
        "answered before; --no-store asks again"
    ] * 2


def test_an_answer_with_marks_of_other_rules_is_asked_anew(
    engine: Engine, sources: list[Source], events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    def notes() -> list[str]:
        events.clear()
        list(engine.ask(sources, "a", ["Who wrote report 17?"], time.monotonic()))
        return [event.text for event in events if isinstance(event, Note)]

    notes()
    kept = ["answered before; --no-store asks again"]
    assert notes() == kept
    monkeypatch.setattr("nsa_cli.engine.compute.SUPPORT_RULES", 10**6)
    assert kept[0] not in notes()
    assert notes() == kept


def test_the_estimate_counts_stored_tokens(engine: Engine, sources: list[Source]) -> None:
    document = engine.parse(sources, "a", digest(sources))
    before = engine.estimate(document, 100)
    engine.open(sources, "a", 100)
    after = engine.estimate(document, 100)
    assert before.reused_tokens == 0
    assert after.reused_tokens == after.tokens == before.tokens


def test_a_model_is_loaded_once(
    engine: Engine, sources: list[Source], text_file: Path, prose: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    engine.open(sources, "a", 100)
    monkeypatch.setattr("nsa_models.weights.prepared.load_prepared", refuse)
    text_file.write_text(prose(40, seed=5))
    engine.open(read_sources([str(text_file)], on_note=print), "b", 100)


def test_quantization_is_refused_on_a_gpu(
    engine: Engine, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Card:
        type = "cuda"

    monkeypatch.setattr("nsa_models.cache.layer_devices.pick_device", lambda _: Card())
    engine.options = replace(engine.options, quantization="int8")
    with pytest.raises(UsageError, match="--quantize int8 is for the CPU"):
        engine.load(engine._fit(engine.parse(sources, "a", digest(sources)), 100)[2])
