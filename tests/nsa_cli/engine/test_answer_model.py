"""The larger model answers by default where memory and network allow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nsa_cli.config import settings
from nsa_cli.config.options import AUTO, Options
from nsa_cli.engine import answer_model, models
from nsa_cli.engine.answer_model import (
    beside_server,
    is_here,
    larger_model,
    options_of_answers,
    reading_model,
)
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Event, Note
from nsa_models.errors import ModelError
from nsa_models.hub.registry import DEFAULT_MODEL, model_entry
from nsa_models.model_folder import SHIPPED, ModelFolder
from nsa_models.paths import imported_name, models_folder

Run = Callable[..., tuple[int, str, str]]
LARGER = "qwen2.5-coder-1.5b"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 8 GB of memory and without a GPU."""
    monkeypatch.setattr(answer_model, "total_memory_bytes", lambda: 8 * 10**9)
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: 0)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable forbids the network."""
    monkeypatch.delenv("NSA_OFFLINE", raising=False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def converted() -> Path:
    folder = models_folder() / f"{imported_name(LARGER, model_entry(LARGER).sha256)}-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def fetched() -> Path:
    models_folder().mkdir(parents=True)
    path = models_folder() / f"{LARGER}.gguf"
    path.write_bytes(b"")
    return path


@pytest.mark.usefixtures("online")
def test_the_larger_model_answers_for_the_default_one_alone() -> None:
    assert larger_model(DEFAULT_MODEL) == LARGER
    assert larger_model(LARGER) is None
    assert larger_model("smollm2-135m") is None
    assert larger_model("some/folder") is None


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(("size", "name"), [(4 * 10**9, None), (6 * 10**9, LARGER)])
def test_a_small_memory_holds_one_model(
    size: int, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_model, "total_memory_bytes", lambda: size)
    assert larger_model(DEFAULT_MODEL) == name


@pytest.mark.parametrize("make", [converted, fetched])
def test_without_a_network_the_model_has_to_be_here(make: Callable[[], Path]) -> None:
    assert not is_here(LARGER)
    assert larger_model(DEFAULT_MODEL) is None
    make()
    assert is_here(LARGER)
    assert not is_here(DEFAULT_MODEL)
    assert larger_model(DEFAULT_MODEL) == LARGER


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("adapter", "second"), [(SHIPPED, SHIPPED), ("my/adapter", SHIPPED), (None, None)]
)
@pytest.mark.parametrize("named", [AUTO, LARGER])
def test_the_second_model_has_its_own_adapter(
    named: str, adapter: str | None, second: str | None
) -> None:
    options = Options(model=DEFAULT_MODEL, answer_model=named, adapter=adapter, max_tokens=7)
    found = options_of_answers(options)
    assert found == Options(model=LARGER, answer_model=None, adapter=second, max_tokens=7)


def test_without_a_larger_model_the_one_that_reads_answers() -> None:
    assert options_of_answers(Options(model=DEFAULT_MODEL, answer_model=AUTO)) is None
    named = options_of_answers(Options(model=DEFAULT_MODEL, answer_model=LARGER))
    assert named is not None
    assert named.model == LARGER


@pytest.mark.usefixtures("online")
def test_the_model_that_answers_is_that_of_the_chosen_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = Options(model=AUTO, answer_model=AUTO)
    second = options_of_answers(options)
    assert second is not None
    assert second.model == LARGER
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: GPU)
    assert options_of_answers(options) is None


@pytest.mark.usefixtures("online")
def test_a_server_is_found_by_the_larger_model_only_if_it_is_here() -> None:
    options = Options(model=DEFAULT_MODEL)
    assert beside_server(options) is options
    fetched()
    assert beside_server(options).answer_model == LARGER


@pytest.mark.parametrize("name", ["model", "answer_model"])
def test_auto_is_a_setting(name: str, nsa: Run) -> None:
    code, _, err = nsa("config", "set", name, AUTO)
    assert code == 0, err
    assert settings.effective()[name].value == AUTO


GPU = 24 * 10**9


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("name", "device", "memory", "reads"),
    [
        (AUTO, "auto", 0, DEFAULT_MODEL),
        (AUTO, "auto", 4 * 10**9, DEFAULT_MODEL),
        (AUTO, "auto", GPU, LARGER),
        (AUTO, "cuda", GPU, LARGER),
        (AUTO, "cpu", GPU, DEFAULT_MODEL),
        (DEFAULT_MODEL, "auto", GPU, DEFAULT_MODEL),
        ("my/folder", "cpu", 0, "my/folder"),
    ],
)
def test_on_a_gpu_the_larger_model_reads(
    name: str, device: str, memory: int, reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: memory)
    assert reading_model(name, device) == reads


def test_without_a_network_the_model_that_is_here_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: GPU)
    assert reading_model(AUTO, "auto") == DEFAULT_MODEL
    fetched()
    assert reading_model(AUTO, "auto") == LARGER


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that are looked for; the larger one cannot be fetched."""
    names: list[str] = []

    def resolve(name: str, **_: object) -> ModelFolder:
        names.append(name)
        if name == LARGER:
            raise ModelError(f"cannot fetch {name}")
        return ModelFolder(name=name, folder=Path(name), fingerprint=name)

    monkeypatch.setattr(models, "resolve_model", resolve)
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: GPU)
    return names


@pytest.mark.usefixtures("online")
def test_where_the_larger_model_cannot_be_fetched_the_small_one_reads(resolved: list[str]) -> None:
    events: list[Event] = []
    engine = Engine(Options(model=AUTO), events.append)
    assert engine.folder.name == DEFAULT_MODEL
    assert resolved == [LARGER, DEFAULT_MODEL]
    assert engine.options.model == engine.model_name == DEFAULT_MODEL
    assert Note(text=f"{DEFAULT_MODEL} reads: cannot fetch {LARGER}") in events


def test_a_named_model_that_cannot_be_fetched_is_an_error(resolved: list[str]) -> None:
    with pytest.raises(ModelError, match=f"cannot fetch {LARGER}"):
        _ = Engine(Options(model=LARGER), list[Event]().append).folder
    assert resolved == [LARGER]


@pytest.mark.usefixtures("online")
def test_on_a_gpu_no_second_model_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, **_: object) -> ModelFolder:
        return ModelFolder(name=name, folder=Path(name), fingerprint=name)

    monkeypatch.setattr(models, "resolve_model", resolve)
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: GPU)
    engine = Engine(Options(model=AUTO, answer_model=AUTO), list[Event]().append)
    assert engine.answerer is None
    assert engine.options == Options(model=LARGER)
    assert engine.answers_with.fingerprint == LARGER
    fetched()
    assert beside_server(Options(model=AUTO)) == Options(model=AUTO)


def test_doctor_and_settings_tell_the_model_that_reads(
    nsa: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> tuple[str, bool, str, str]:
        [answers] = [each for each in nsa("doctor")[1].splitlines() if "answers" in each]
        listed = nsa("config", "list", "--all", "--json")[1]
        row = json.loads(listed)["all"]["model"]
        models = json.loads(nsa("models", "list", "--json")[1])["models"]
        [default] = [each["name"] for each in models if each["default"]]
        here = row["meaning"].partition("; here ")[2]
        return row["value"], f"{default} reads" in answers, here, default

    monkeypatch.setenv("NSA_QUANTIZE", "none")  # no speed is measured
    assert told() == (AUTO, True, DEFAULT_MODEL, DEFAULT_MODEL)
    converted()
    monkeypatch.setattr(answer_model, "gpu_memory_bytes", lambda: GPU)
    assert told() == (AUTO, True, LARGER, LARGER)
    assert nsa("config", "set", "model", DEFAULT_MODEL)[0] == 0
    assert told()[0] == DEFAULT_MODEL
    assert f"{DEFAULT_MODEL} reads, {LARGER} answers" in nsa("doctor")[1]


def test_doctor_tells_the_larger_model(nsa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def line() -> str:
        _, printed, _ = nsa("doctor")
        [found] = [each for each in printed.splitlines() if "answers" in each]
        return found

    assert f"{DEFAULT_MODEL} reads and answers" in line()
    converted()
    assert f"{DEFAULT_MODEL} reads, {LARGER} answers; {LARGER} is on this machine" in line()
    monkeypatch.setattr(answer_model, "total_memory_bytes", lambda: 10**9)
    assert f"{DEFAULT_MODEL} reads and answers" in line()
