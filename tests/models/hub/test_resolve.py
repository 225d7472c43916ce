"""Names that `resolve_model` accepts, without a network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from nsa_models.errors import ModelError
from nsa_models.gguf import convert
from nsa_models.hub import fetch
from nsa_models.hub import resolve as resolve_module
from nsa_models.hub.offline import OFFLINE_VARIABLES
from nsa_models.hub.registry import DEFAULT_MODEL, MODELS
from nsa_models.hub.resolve import (
    adapter_fingerprint,
    equal_quantizations,
    fingerprint_with_verifier,
    resolve_model,
)
from nsa_models.model_folder import SHIPPED, ModelFolder
from nsa_models.paths import imported_name, models_folder
from nsa_models.weights.load import load_config, load_model


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and working folder, and a hub that must not be called."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        pytest.fail(f"the network was asked: {arguments} {options}")

    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "cache"))
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(fetch, "fetch_model", refuse)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The imported GGUF files."""
    done: list[Path] = []
    original: Callable[..., None] = convert.import_gguf

    def watch(path: Path, folder: Path, **options: Any) -> None:
        done.append(path)
        original(path, folder, **options)

    monkeypatch.setattr(convert, "import_gguf", watch)
    return done


@pytest.fixture
def gguf_file(write_gguf: Any, tiny_qwen2: Any, here: Path) -> Path:
    path: Path = write_gguf(here / "tiny.gguf", model=tiny_qwen2)
    return path


class Reports:
    """Progress and notes for the user."""

    def __init__(self) -> None:
        self.progress: list[tuple[str, int, int]] = []
        self.notes: list[str] = []

    def resolve(self, name: str) -> ModelFolder:
        return resolve_model(
            name,
            on_progress=lambda *step: self.progress.append(step),
            on_note=self.notes.append,
        )


def resolve(name: str, adapter: str | None = SHIPPED) -> ModelFolder:
    return resolve_model(name, on_progress=lambda *_: None, on_note=lambda _: None, adapter=adapter)


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_quantizations_are_tested_with_a_model_and_its_own_adapter(here: Path) -> None:
    bare = ModelFolder(name=DEFAULT_MODEL, folder=here, fingerprint="f")
    shipped = Path(resolve_module.__file__).parents[1] / "adapters" / DEFAULT_MODEL
    assert shipped.is_dir()
    assert equal_quantizations(bare) == ("int8",)
    assert equal_quantizations(replace(bare, adapter=shipped)) == ("int8",)
    assert equal_quantizations(replace(bare, adapter=here)) == ()
    assert equal_quantizations(replace(bare, name="mine")) == ()
    assert equal_quantizations(replace(bare, name="smollm2-135m")) == ()


def test_a_folder(here: Path) -> None:
    folder = make_folder(here / "mine")
    for name in (str(folder), "mine", "./mine", "../here/mine"):
        found = resolve(name)
        assert found.name == name
        assert found.folder.resolve() == folder


def test_a_folder_in_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    folder = make_folder(here / "mine")
    assert resolve("~/mine").folder == folder


def test_the_fingerprint_follows_configuration_and_weights(here: Path) -> None:
    folder = make_folder(here / "mine")
    weights = folder / "model.safetensors"
    first = resolve("mine").fingerprint
    assert resolve(str(folder)).fingerprint == first
    (folder / "README.md").write_text("of no matter")
    assert resolve("mine").fingerprint == first
    seen = {first}
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    seen.add(resolve("mine").fingerprint)
    weights.write_bytes(b"other weights")
    seen.add(resolve("mine").fingerprint)
    os.utime(weights, ns=(1, 1))
    seen.add(resolve("mine").fingerprint)
    weights.rename(folder / "model-1.safetensors")
    seen.add(resolve("mine").fingerprint)
    assert len(seen) == 5


def test_a_gguf_file_is_imported_once(gguf_file: Path, imports: list[Path]) -> None:
    reports = Reports()
    first = reports.resolve(str(gguf_file))
    assert imports == [gguf_file]
    label, done, total = reports.progress[-1]
    assert label == f"Unpacking {gguf_file}"
    assert done == total > 0
    again = Reports()
    assert again.resolve(str(gguf_file)) == first
    assert resolve("tiny.gguf").folder == first.folder
    assert again.progress == []
    assert imports == [gguf_file]
    config, family = load_config(first.folder)
    assert family == "qwen2"
    assert load_model(first.folder, config).lm_head.weight.shape[1] == config.hidden_size


def test_another_file_of_the_same_name_is_imported(gguf_file: Path, imports: list[Path]) -> None:
    first = resolve("tiny.gguf")
    os.utime(gguf_file, ns=(1, 1))
    second = resolve("tiny.gguf")
    assert second.folder != first.folder
    assert second.fingerprint != first.fingerprint
    assert len(imports) == 2


def test_a_file_without_a_model(here: Path) -> None:
    (here / "notes.txt").write_text("not a model at all, but long enough to be looked at" * 9)
    with pytest.raises(ModelError, match=r"notes\.txt"):
        resolve("notes.txt")


def test_a_named_model_is_fetched_and_imported_once(
    gguf_file: Path, imports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch_it(entry: Any, folder: Path, *, on_progress: Any, on_note: Any) -> Path:
        fetched.append((entry, folder.name))
        on_progress(5, 10)
        on_note("from somewhere")
        return gguf_file

    monkeypatch.setattr(fetch, "fetch_model", fetch_it)
    reports = Reports()
    first = reports.resolve(DEFAULT_MODEL)
    assert fetched == [(MODELS[DEFAULT_MODEL], "models")]
    assert reports.progress[0] == (f"Fetching {DEFAULT_MODEL}", 5, 10)
    assert reports.progress[-1][0] == f"Unpacking {DEFAULT_MODEL}"
    assert reports.notes == ["from somewhere"]
    assert first.name == DEFAULT_MODEL
    assert MODELS[DEFAULT_MODEL].sha256[:12] in first.folder.name
    assert resolve(DEFAULT_MODEL) == first
    assert len(fetched) == len(imports) == 1


def test_an_unknown_name() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'qwen2\.5-coder-0\.5'") as caught:
        resolve("qwen2.5-coder-0.5")
    assert caught.value.code == "model_unknown"
    assert "did you mean qwen2.5-coder-0.5b?" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "missing.gguf",
        "owner/missing.gguf",
        "/no/such/folder",
        "a/b/c",
        "~/no-such-model",
        "missing/",
        "..\\missing",
    ],
)
def test_a_missing_path(name: str) -> None:
    with pytest.raises(ModelError, match="no model at") as caught:
        resolve(name)
    assert caught.value.code == "model_missing"
    assert DEFAULT_MODEL in caught.value.hint


@pytest.mark.parametrize("name", ["./missing", "../missing"])
def test_a_missing_relative_path(name: str) -> None:
    with pytest.raises(ModelError, match="no model at"):
        resolve(name)


def test_a_hub_id(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(here / "snapshot")
    asked = []

    def download(repo: str, **options: Any) -> str:
        asked.append((repo, options["local_files_only"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    reports = Reports()
    assert reports.resolve("owner/na-me.1").folder == folder
    assert reports.notes == ["looking up owner/na-me.1 on the Hugging Face hub"]
    monkeypatch.setenv("NSA_OFFLINE", "1")
    offline = Reports()
    assert offline.resolve("owner/na-me.1").folder == folder
    assert offline.notes == []
    assert asked == [("owner/na-me.1", False), ("owner/na-me.1", True)]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError("no route to host\nand more"), "no route to host"),
        (ValueError(""), "ValueError"),
    ],
)
def test_an_unavailable_hub(error: Exception, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_arguments: Any, **_options: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    message = f"cannot fetch owner/name from the Hugging Face hub: {why}$"
    with pytest.raises(ModelError, match=message) as caught:
        resolve("owner/name")
    assert caught.value.code == "model_unavailable"
    assert caught.value.__cause__ is error


def test_a_built_in_model_comes_with_its_verifier(here: Path) -> None:
    name = "qwen2.5-coder-1.5b"
    shipped = Path(resolve_module.__file__).parents[1] / "verifiers" / name
    make_folder(models_folder() / f"{imported_name(name, MODELS[name].sha256)}-1")
    assert resolve(name).verifier == shipped
    assert resolve(name, None).verifier is None
    (here / "adapter").mkdir()
    (here / "adapter" / "adapter.json").write_text("{}")
    assert resolve(name, str(here / "adapter")).verifier is None
    make_folder(here / name)
    assert resolve(str(here / name)).verifier is None


def test_a_built_in_model_without_a_verifier_has_none() -> None:
    make_folder(models_folder() / f"{imported_name(DEFAULT_MODEL, MODELS[DEFAULT_MODEL].sha256)}-1")
    found = resolve(DEFAULT_MODEL)
    assert found.verifier is None
    assert found.adapter is not None


def test_the_fingerprint_follows_the_verifier(here: Path) -> None:
    bare = ModelFolder(name="a", folder=here, fingerprint="f")
    verifier = here / "verifier"
    verifier.mkdir()
    (verifier / "adapter.json").write_text('{"about": {"steps": 1}}')
    (verifier / "adapter-1.safetensors").write_bytes(b"1234")
    where = replace(bare, verifier=verifier)
    assert fingerprint_with_verifier(bare) == "f"
    first = fingerprint_with_verifier(where)
    assert first.startswith("f:")
    assert fingerprint_with_verifier(where) == first
    (verifier / "adapter.json").write_text('{"about": {"steps": 2}}')
    second = fingerprint_with_verifier(where)
    (verifier / "adapter-1.safetensors").write_bytes(b"12345")
    assert len({first, second, fingerprint_with_verifier(where)}) == 3


def test_the_fingerprint_of_an_adapter_covers_all_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored texts name it, so that it must stay the same however the files are read."""
    files = {
        "adapter.json": b"{}",
        "adapter-1.safetensors": b"abcd" * 3,
        "adapter-2.safetensors": b"e",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(resolve_module, "_READ_BYTES", 5)
    whole = hashlib.sha256(b"{}" + b"abcd" * 3 + b"e").hexdigest()[:16]
    assert adapter_fingerprint(tmp_path) == whole
