"""`nsa cache`, `nsa models` and `nsa doctor`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from filelock import FileLock

from nsa_models.hub.registry import DEFAULT_MODEL, MODELS
from nsa_models.modeling.speed import FormatSpeed
from nsa_models.paths import imported_name, lock_path

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reading(nsa: Run, text_file: Path) -> dict[str, Any]:
    """One stored KV cache, as in `nsa cache list --json`."""
    assert nsa("ask", str(text_file), "Who?")[0] == 0
    code, out, err = nsa("cache", "list", "--json")
    assert (code, err) == (0, "")
    [found] = json.loads(out)["readings"]
    assert isinstance(found, dict)
    return found


def test_a_stored_kv_cache_names_its_source(
    nsa: Run, reading: dict[str, Any], text_file: Path, tiny_model: Path
) -> None:
    assert list(reading) == ["id", "name", "sources", "model", "tokens", "bytes", "used"]
    assert reading["name"] == str(text_file)
    assert reading["sources"] == [str(text_file)]
    assert reading["model"] == str(tiny_model)
    assert reading["tokens"] > 1800
    assert reading["bytes"] > 100_000
    _, out, _ = nsa("cache", "list")
    assert out.splitlines()[0].split() == ["ID", "TOKENS", "SIZE", "USED", "MODEL", "OF"]
    assert out.splitlines()[1].startswith(reading["id"][:8])
    _, out, _ = nsa("cache", "show", reading["id"][:6])
    assert str(text_file) in out


def test_removal_needs_confirmation(nsa: Run, reading: dict[str, Any], cache_folder: Path) -> None:
    folder = cache_folder / "readings" / reading["id"]
    code, _, err = nsa("cache", "rm", reading["id"])
    assert code == 2
    assert "--force" in err
    assert folder.is_dir()
    assert nsa("cache", "rm")[0] == 2
    assert nsa("cache", "rm", "zz", "--force")[0] == 2
    assert nsa("cache", "rm", "--force", reading["id"])[0] == 0
    assert not folder.exists()
    assert nsa("cache", "list")[:2] == (0, "")


def test_confirmation_at_a_terminal(
    terminal: Any, reading: dict[str, Any], cache_folder: Path
) -> None:
    folder = cache_folder / "readings" / reading["id"]
    asked = terminal("cache", "rm", reading["id"])
    asked.read_until("[y/N]")
    asked.type("n\n")
    assert asked.end()[0] == 1
    assert folder.is_dir()
    asked = terminal("cache", "rm", reading["id"])
    asked.read_until("[y/N]")
    asked.type("y\n")
    assert asked.end()[0] == 0
    assert not folder.exists()


def test_pruning(nsa: Run, reading: dict[str, Any], cache_folder: Path) -> None:
    folder = cache_folder / "readings" / reading["id"]
    assert "nothing is older" in nsa("cache", "prune", "--force")[2]
    for path in (folder / "manifest.json", *(cache_folder / "answers").glob("*.json")):
        os.utime(path, (0, 0))
    assert nsa("cache", "prune", "--older-than", "x")[0] == 2
    assert nsa("cache", "prune", "--force")[0] == 0
    assert not folder.exists()
    assert not list((cache_folder / "answers").glob("*.json"))
    _, out, _ = nsa("cache", "size", "--json")
    assert json.loads(out)["bytes"]["answers"] == 0


def test_removing_everything(nsa: Run, reading: dict[str, Any], cache_folder: Path) -> None:
    assert nsa("cache", "rm", "--all", "--force")[0] == 0
    assert not (cache_folder / "readings" / reading["id"]).exists()
    assert not (cache_folder / "answers").exists()


def prepare(cache_folder: Path, name: str) -> Path:
    """A file of prepared weights for a model folder."""
    path = cache_folder / "models" / "prepared" / f"{name}.0123.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(200_000))
    return path


def test_prepared_weights_are_counted_and_pruned(nsa: Run, cache_folder: Path) -> None:
    used, old = prepare(cache_folder, "used"), prepare(cache_folder, "old")
    cut = old.with_name(".cut.0123.safetensors.partial")  # of a killed process
    cut.write_bytes(bytes(300_000))
    for path in (old, cut):
        os.utime(path, (0, 0))
    sizes = json.loads(nsa("cache", "size", "--json")[1])["bytes"]
    assert sizes["prepared"] >= 700_000
    assert sizes["models"] < 100_000
    assert "prepared weights 0.0 GB" in nsa("doctor")[1]
    code, _, err = nsa("cache", "prune", "--force")
    assert (code, err) == (0, "nsa: 0.5 MB freed\n")
    assert used.exists()
    assert not old.exists()
    assert not cut.exists()
    assert nsa("cache", "rm", "--all", "--force")[0] == 0
    assert not used.exists()


def test_prepared_weights_being_written_are_kept(nsa: Run, cache_folder: Path) -> None:
    path = prepare(cache_folder, "busy")
    with FileLock(lock_path(path)):
        code, _, err = nsa("cache", "rm", "--all", "--force")
    assert code == 0
    assert f"skipped {path}: another process is using it" in err
    assert path.exists()


def test_a_model_is_removed_with_its_prepared_weights(nsa: Run, cache_folder: Path) -> None:
    for name in ("mine", "mine-too"):
        folder = cache_folder / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    mine, other = prepare(cache_folder, "mine"), prepare(cache_folder, "mine-too")
    assert nsa("models", "rm", "mine", "--force")[0] == 0
    assert not mine.exists()
    assert other.exists()


def test_models(nsa: Run, cache_folder: Path) -> None:
    _, out, _ = nsa("models", "list", "--json")
    assert [model["name"] for model in json.loads(out)["models"]] == list(MODELS)
    assert not any(model["here"] for model in json.loads(out)["models"])
    entry = MODELS[DEFAULT_MODEL]
    folder = cache_folder / "models" / f"{DEFAULT_MODEL}-{entry.sha256[:12]}-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    other = cache_folder / "models" / "mine-0123"
    other.mkdir()
    (other / "config.json").write_text("{}")
    _, out, _ = nsa("models", "list")
    lines = out.splitlines()
    assert lines[1].startswith(f"{DEFAULT_MODEL} (default)")
    assert lines[1].endswith("yes")
    assert lines[2].endswith("no")
    assert lines[-1].startswith("mine-0123")
    assert nsa("models", "show", "nothing")[0] == 1
    assert entry.sha256 in nsa("models", "show", DEFAULT_MODEL)[1]
    assert nsa("models", "rm", DEFAULT_MODEL)[0] == 2
    assert nsa("models", "rm", DEFAULT_MODEL, "--force")[0] == 0
    assert nsa("models", "rm", "mine-0123", "--force")[0] == 0
    assert not folder.exists()
    assert not other.exists()
    assert nsa("models", "rm", DEFAULT_MODEL, "--force")[0] == 2


def test_aliases(nsa: Run, tiny_model: Path, text_file: Path) -> None:
    code, _, err = nsa("models", "add", "mine", str(tiny_model))
    assert (code, err) == (0, f"nsa: mine is {tiny_model}\n")
    assert any(
        line.split() == ["mine", "at", str(tiny_model)]
        for line in nsa("models", "list")[1].splitlines()
    )
    [shown] = [
        m for m in json.loads(nsa("models", "list", "--json")[1])["models"] if m["name"] == "mine"
    ]
    checkpoint = json.loads(nsa("models", "show", "mine", "--json")[1])
    assert {**shown, "checkpoint": checkpoint["checkpoint"]} == checkpoint
    assert shown["here"] == [str(tiny_model)]
    code, out, _ = nsa("ask", str(text_file), "Who?", "--json", "-m", "mine", model=None)
    assert (code, json.loads(out)["model"]) == (0, "mine")
    nsa("config", "set", "model", "mine")
    assert nsa("doctor")[0] == 0
    assert nsa("models", "rm", "mine")[0] == 0
    assert tiny_model.is_dir()
    assert nsa("models", "rm", "mine")[0] == 2


def test_pulling_without_a_network(nsa: Run) -> None:
    code, out, err = nsa("models", "pull", "smollm2-135m")
    assert (code, out) == (1, "")
    assert "NSA_OFFLINE forbids the network" in err


def test_a_healthy_machine(nsa: Run) -> None:
    code, out, err = nsa("doctor", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    names = [check["what"] for check in shown["checks"]]
    assert names == [
        *(
            "program",
            "device",
            "kernels",
            "memory",
            "model",
            "answers",
            "weights",
            "cache",
            "formats",
            "config",
        )
    ]
    for check in shown["checks"]:
        assert check["state"] in ("ok", "warning")
        assert bool(check["remedy"]) == (check["state"] == "warning")
    assert "nsa models pull" in nsa("doctor")[1]


def weights(nsa: Run, *words: str) -> str:
    """What `nsa doctor` says of the format of the weights."""
    checks = json.loads(nsa("doctor", "--json", *words, model=None)[1])["checks"]
    [found] = [check["found"] for check in checks if check["what"] == "weights"]
    return str(found)


def test_the_speeds_of_formats_are_shown(
    nsa: Run, cache_folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    measured = [(0.5, 0.25), (0.125, 0.25)]

    def measure(*_: object) -> dict[str, FormatSpeed]:
        stored, int8 = measured.pop(0)
        return {
            "none": FormatSpeed(token_seconds=stored, reading_seconds=0.01),
            "int8": FormatSpeed(token_seconds=int8, reading_seconds=0.005),
        }

    monkeypatch.setattr("nsa_cli.engine.weight_formats.measure_formats", measure)
    assert weights(nsa) == f"chosen when {DEFAULT_MODEL} is on this machine"
    name = imported_name(DEFAULT_MODEL, MODELS[DEFAULT_MODEL].sha256)
    shutil.copytree(tiny_model, cache_folder / "models" / f"{name}-1")
    assert weights(nsa).startswith("not measured yet")
    shown = (
        "int8, the fastest; without attention, as stored reads 100 and decodes 2.0 tokens/s, "
        "int8 reads 200 and decodes 4.0 tokens/s"
    )
    assert weights(nsa, "--measure") == shown == weights(nsa)
    assert weights(nsa, "--measure").startswith("as stored, the fastest")
    assert measured == []
    monkeypatch.setenv("NSA_QUANTIZE", "int8")
    assert weights(nsa) == "int8, by the setting quantize"
    monkeypatch.setenv("NSA_QUANTIZE", "auto")
    assert weights(nsa).startswith("as stored, the fastest")
    monkeypatch.setenv("NSA_MODEL", "smollm2-135m")
    assert weights(nsa) == "as stored: no other format is tested with smollm2-135m"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Mock(total_memory=1e9))
    assert weights(nsa) == "as stored, on a GPU"


def test_a_read_only_cache(nsa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    code, out, _ = nsa("doctor")
    assert code == 1
    assert "FAIL  cache" in out
    assert "set NSA_CACHE_DIR" in out
