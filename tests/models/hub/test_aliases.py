"""Aliases of the user's models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.aliases import add_name, aliases, names_file, remove_name
from nsa_models.hub.registry import DEFAULT_MODEL
from nsa_models.hub.resolve import resolve_model
from nsa_models.model_folder import ModelFolder


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate configuration and cache folder for the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def gguf(write_gguf: Any, tiny_qwen2: Any, tmp_path: Path) -> Path:
    path: Path = write_gguf(tmp_path / "tiny.gguf", model=tiny_qwen2)
    return path


def resolve(name: str) -> ModelFolder:
    return resolve_model(name, on_progress=print, on_note=print)


def test_an_alias_of_a_file(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gguf.parent)
    assert add_name("mine", Path("tiny.gguf")) == gguf
    found = resolve("mine")
    assert found.name == "mine"
    assert (found.folder / "config.json").is_file()
    assert found.fingerprint == resolve(str(gguf)).fingerprint
    assert add_name("folder", found.folder) == found.folder
    assert resolve("folder").fingerprint == found.fingerprint
    assert list(aliases()) == ["folder", "mine"]


def test_a_taken_name_is_refused(gguf: Path) -> None:
    add_name("mine", gguf)
    with pytest.raises(UsageError, match="already"):
        add_name("mine", gguf)
    add_name("mine", gguf, replace=True)
    with pytest.raises(UsageError, match="built-in model"):
        add_name(DEFAULT_MODEL, gguf, replace=True)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "..", "-x", "a.gguf", "a\\b"])
def test_invalid_names(gguf: Path, name: str) -> None:
    with pytest.raises(UsageError):
        add_name(name, gguf)
    assert not names_file().exists()


def test_paths_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"not a model")
    (tmp_path / "folder").mkdir()
    for path in ("a.gguf", "folder", "missing"):
        with pytest.raises(ModelError):
            add_name("mine", tmp_path / path)
    assert aliases() == {}


def test_a_deleted_model(gguf: Path) -> None:
    add_name("mine", gguf)
    gguf.unlink()
    with pytest.raises(ModelError) as caught:
        resolve("mine")
    assert caught.value.code == "alias_broken"
    assert remove_name("mine")
    assert not remove_name("mine")


@pytest.mark.parametrize("text", ["no json", "[]", '{"a": 1}'])
def test_a_malformed_file(text: str) -> None:
    names_file().parent.mkdir(parents=True)
    names_file().write_text(text)
    with pytest.raises(ModelError):
        aliases()
