"""The larger model answers by default where memory and network allow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nsa_cli.config import settings
from nsa_cli.config.options import AUTO, Options
from nsa_cli.engine import answer_model
from nsa_cli.engine.answer_model import beside_server, is_here, larger_model, options_of_answers
from nsa_models.hub.registry import DEFAULT_MODEL, model_entry
from nsa_models.model_folder import SHIPPED
from nsa_models.paths import imported_name, models_folder

Run = Callable[..., tuple[int, str, str]]
LARGER = "qwen2.5-coder-1.5b"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 8 GB of memory."""
    monkeypatch.setattr(answer_model, "total_memory_bytes", lambda: 8 * 10**9)


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
def test_a_server_is_found_by_the_larger_model_only_if_it_is_here() -> None:
    options = Options(model=DEFAULT_MODEL)
    assert beside_server(options) is options
    fetched()
    assert beside_server(options).answer_model == LARGER


def test_auto_is_a_setting(nsa: Run) -> None:
    code, _, err = nsa("config", "set", "answer_model", AUTO)
    assert code == 0, err
    assert settings.effective()["answer_model"].value == AUTO


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
