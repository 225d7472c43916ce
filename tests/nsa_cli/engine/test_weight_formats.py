"""The format of a model's weights: which one is chosen, and what a change of it leaves valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.documents import digest, read_sources
from nsa_cli.engine import weight_formats
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.weight_formats import (
    fastest,
    format_speeds,
    quantization_of,
    relative_times,
    remembered_speeds,
)
from nsa_models.configuration.config import NSAConfig
from nsa_models.model_folder import ModelFolder
from nsa_models.modeling.int8 import Int8Linear
from nsa_models.modeling.speed import FormatSpeed
from nsa_models.paths import cache_root
from nsa_models.weights.load import load_config

Speeds = dict[str, FormatSpeed]


def speeds(stored: float, int8: float) -> Speeds:
    """Speeds of which an answer takes these seconds."""
    return {
        name: FormatSpeed(token_seconds=seconds / 128, reading_seconds=seconds / 4096)
        for name, seconds in (("none", stored), ("int8", int8))
    }


@pytest.fixture
def config(tiny_model: Path, cache_folder: Path) -> NSAConfig:  # noqa: ARG001
    return load_config(tiny_model)[0]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Speeds]:
    """What measurements find, in order; those that were made are gone."""
    found: list[Speeds] = []
    monkeypatch.setattr(weight_formats, "measure_formats", lambda *_: found.pop(0))
    return found


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 is as good as the stored weights, for any model."""
    monkeypatch.setattr(weight_formats, "equal_quantizations", lambda _: ("int8",))


def folder_of(path: Path) -> ModelFolder:
    return ModelFolder(name="a", folder=path, fingerprint="f")


@pytest.mark.parametrize(
    ("stored", "int8", "expected"), [(9, 4, "int8"), (9, 8.5, "none"), (9, 20, "none")]
)
def test_a_tenth_must_be_saved(stored: float, int8: float, expected: str) -> None:
    assert fastest(speeds(stored, int8), ["none", "int8"]) == expected
    assert fastest(speeds(stored, int8), ["none"]) == "none"


def test_a_measurement_is_remembered(config: NSAConfig, measured: list[Speeds]) -> None:
    assert remembered_speeds(config) is None
    measured += [speeds(2, 1), speeds(4, 3)]
    assert format_speeds(config) == speeds(2, 1) == format_speeds(config)
    assert remembered_speeds(config) == speeds(2, 1)
    assert format_speeds(config, again=True) == speeds(4, 3) == format_speeds(config)


@pytest.mark.parametrize("change", ["threads", "torch", "processor", "model"])
def test_another_machine_is_measured(
    change: str, config: NSAConfig, measured: list[Speeds], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured += [speeds(2, 1), speeds(4, 3)]
    format_speeds(config)
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "0.1")
    elif change == "processor":
        monkeypatch.setattr(weight_formats, "cpu_description", lambda: "Z80")
    else:
        config.intermediate_size *= 2
    assert format_speeds(config) == speeds(4, 3)
    assert len([*(cache_root() / "speeds").glob("*.json")]) == 2


@pytest.mark.parametrize("damage", ["{}", "", '{"formats": 3}'])
def test_a_damaged_measurement_is_made_again(
    damage: str, config: NSAConfig, measured: list[Speeds]
) -> None:
    measured += [speeds(2, 1), speeds(4, 3)]
    format_speeds(config)
    [path] = (cache_root() / "speeds").glob("*.json")
    path.write_text(damage)
    assert format_speeds(config) == speeds(4, 3)


def test_an_untested_model_is_not_measured(config: NSAConfig, tiny_model: Path) -> None:
    where, options = folder_of(tiny_model), Options(model="a")
    assert weight_formats.weight_formats(where, config, options) == ["none"]
    assert remembered_speeds(config) is None


@pytest.mark.usefixtures("tested")
@pytest.mark.parametrize(
    ("named", "expected"), [("none", ["none"]), ("int8", ["int8"]), (None, ["int8", "none"])]
)
def test_a_named_format_wins(
    named: str | None, expected: list[str],
    config: NSAConfig, tiny_model: Path, measured: list[Speeds],
) -> None:  # fmt: skip
    measured.append(speeds(2, 1))
    where, options = folder_of(tiny_model), Options(model="a", quantization=named)
    assert weight_formats.weight_formats(where, config, options) == expected
    assert quantization_of(where, config, options) == (None if named == "none" else "int8")
    assert len(measured) == (named is not None)


@pytest.mark.usefixtures("tested")
def test_a_gpu_has_the_stored_weights(
    config: NSAConfig, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = torch.device("cuda")
    monkeypatch.setattr(weight_formats, "pick_device", lambda _: card)
    where = folder_of(tiny_model)
    assert weight_formats.weight_formats(where, config, Options(model="a")) == ["none"]


def test_an_estimate_is_of_the_format(config: NSAConfig, measured: list[Speeds]) -> None:
    assert relative_times(config, "int8") == (1.0, 1.0)
    stored = FormatSpeed(token_seconds=0.5, reading_seconds=0.25)
    int8 = FormatSpeed(token_seconds=0.25, reading_seconds=0.0625)
    measured.append({"none": stored, "int8": int8})
    format_speeds(config)
    assert relative_times(config, "none") == (1.0, 1.0)
    share = (2048 * 0.0625 + 64 * 0.25) / (2048 * 0.25 + 64 * 0.5)
    assert relative_times(config, "int8") == pytest.approx((0.25, share))


@pytest.mark.usefixtures("tested")
def test_a_dry_run_estimates_the_format_that_answers(
    tiny_model: Path, text_file: Path, measured: list[Speeds], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine takes a second for a token as stored, and half of it in int8."""
    monkeypatch.setattr("nsa_cli.context.estimate._seconds_per_token", lambda *_: 1.0)
    stored = FormatSpeed(token_seconds=1.0, reading_seconds=1.0)
    int8 = FormatSpeed(token_seconds=0.5, reading_seconds=0.5)
    measured.append({"none": stored, "int8": int8})
    sources = read_sources([str(text_file)], on_note=print)
    found = []
    for named in (None, "none"):
        options = Options(model=str(tiny_model), quantization=named, cache_limit_bytes=10**9)
        engine = Engine(options, lambda _: None)
        document = engine.parse(sources, "a", digest(sources))
        found.append(engine.estimate(document, 100).seconds)
    assert found[0] == pytest.approx(found[1] / 2)


@pytest.mark.usefixtures("tested")
def test_the_fastest_format_is_loaded(
    tiny_model: Path, config: NSAConfig, measured: list[Speeds]
) -> None:
    measured.append(speeds(2, 1))
    engine = Engine(Options(model=str(tiny_model)), lambda _: None)
    assert isinstance(engine.load(config).lm_head, Int8Linear)
    assert not isinstance(engine.load(config, "none").lm_head, Int8Linear)


@pytest.mark.usefixtures("tested")
def test_a_stored_text_stays_stored_when_the_choice_changes(
    asker: Any, text_file: Path, tmp_path: Path, prose: Callable[..., str], measured: list[Speeds]
) -> None:
    measured += [speeds(1, 9), speeds(9, 1)]
    first = asker(text_file, "Who?")
    assert first.stats.reused_tokens == 0
    for path in (cache_root() / "speeds").glob("*.json"):
        path.unlink()
    again = asker(text_file, "Who?")
    assert again.stats.reused_tokens == again.stats.document_tokens
    assert again.answer == first.answer
    (tmp_path / "new.txt").write_text(prose(30, seed=11))
    assert asker(tmp_path / "new.txt", "Who?").stats.reused_tokens == 0
    assert asker(tmp_path / "new.txt", "Who?", quantization="int8").stats.reused_tokens > 0
    assert asker(tmp_path / "new.txt", "Who?", quantization="none").stats.reused_tokens == 0
    assert measured == []


@pytest.mark.usefixtures("tested")
def test_an_answer_stays_known_when_the_choice_changes(
    asker: Any, text_file: Path, measured: list[Speeds]
) -> None:
    measured.append(speeds(1, 9))
    asker(text_file, "Who?", remember=True)
    for path in (cache_root() / "speeds").glob("*.json"):
        path.unlink()
    asker(text_file, "Who?", remember=True)  # measures nothing
    assert asker.notes == ["answered before; --no-store asks again"]
    asker(text_file, "Who?", remember=True, quantization="int8")
    assert asker.notes == [] or "answered before" not in asker.notes[-1]
