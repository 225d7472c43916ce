"""Weights of a converted model that prepared files replace: removed, and made again to the bit."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nsa_models.errors import ModelError
from nsa_models.gguf.shrink import restore, shrink
from nsa_models.hub.resolve import resolve_model
from nsa_models.model_folder import (
    KEPT,
    WEIGHTS,
    ModelFolder,
    lacks_weights,
    read_origin,
    weights_bytes,
    write_origin,
)
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.paths import lock_path
from nsa_models.weights.adapter import Adapter, save_adapter
from nsa_models.weights.load import load_config, load_model, load_weights
from nsa_models.weights.prepared import load_prepared


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def file(write_gguf: Any, tiny_qwen2: Any, tmp_path: Path) -> Path:
    """A GGUF file in eight bits, whose weights in bfloat16 are rounded."""
    kind = gguf.GGMLQuantizationType.Q8_0
    path: Path = write_gguf(tmp_path / "tiny.gguf", model=tiny_qwen2, kind=kind)
    return path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    name = "lora.model.layers.0.self_attn.o_proj"
    tensors = {f"{name}.a": torch.randn(2, 64), f"{name}.b": torch.randn(64, 2)}
    found = Adapter(base="", settings={}, scale=1.0, tensors=tensors, about={})
    save_adapter(tmp_path / "adapter", found)
    return tmp_path / "adapter"


def resolved(file: Path, adapter: Path | None = None) -> ModelFolder:
    return resolve_model(
        str(file),
        on_progress=lambda *_: None,
        on_note=lambda _: None,
        adapter=None if adapter is None else str(adapter),
    )


def loaded(where: ModelFolder, quantization: str | None = None) -> tuple[NSALanguageModel, str]:
    """A model and the notes of its loading."""
    notes: list[str] = []
    config, _ = load_config(where.folder, where.adapter)
    model = load_prepared(where, config, quantization=quantization, on_note=notes.append)
    return model, " ".join(notes)


def stored(where: ModelFolder) -> dict[str, torch.Tensor]:
    return load_file(where.folder / (KEPT if lacks_weights(where.folder) else WEIGHTS))


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_prepared_weights_leave_one_copy(file: Path) -> None:
    where = resolved(file)
    before, size = stored(where), weights_bytes(where.folder)
    model, note = loaded(where, "int8")
    assert note.endswith(", once")
    assert lacks_weights(where.folder)
    projections = {name for name in before if "_proj.weight" in name} | {"lm_head.weight"}
    assert stored(where).keys() == before.keys() - projections
    assert weights_bytes(where.folder) == size
    assert [path.name for path in where.folder.glob("*.safetensors")] == [KEPT]
    assert resolved(file).fingerprint == where.fingerprint
    again, note = loaded(resolved(file), "int8")
    assert note == ""
    assert_same(again.state_dict(), model.state_dict())


def test_a_hard_linked_copy_of_a_folder_does_not_change_it(file: Path, tmp_path: Path) -> None:
    where = resolved(file)
    loaded(where, "int8")
    copy = tmp_path / "copy"
    shutil.copytree(where.folder, copy, copy_function=os.link)
    origin = read_origin(where.folder)
    assert origin is not None
    write_origin(copy, replace(origin, fingerprint="another"))
    assert read_origin(where.folder) == origin
    assert resolved(file).fingerprint == where.fingerprint
    assert {path.name for path in copy.iterdir()} == {path.name for path in where.folder.iterdir()}


def test_weights_are_made_again_to_the_bit(file: Path) -> None:
    where = resolved(file)
    before = {name: tensor.clone() for name, tensor in stored(where).items()}
    loaded(where, "int8")
    model, note = loaded(where)
    assert note == f"unpacking the weights of {file.name} again"
    assert [path.name for path in where.folder.glob("*.safetensors")] == [WEIGHTS]
    assert_same(stored(where), before)
    assert resolved(file).fingerprint == where.fingerprint
    for name, tensor in model.state_dict().items():
        if name in before:
            assert torch.equal(tensor, before[name])


def test_two_kinds_of_prepared_weights_keep_what_both_need(file: Path, adapter: Path) -> None:
    where = resolved(file, adapter)
    loaded(where)
    first = set(stored(where))
    loaded(where, "int8")
    assert set(stored(where)) >= first
    assert lacks_weights(where.folder)
    for quantization in (None, "int8", None):
        assert loaded(resolved(file, adapter), quantization)[1] == ""


def test_what_needs_all_weights_gets_them(file: Path) -> None:
    where = resolved(file)
    before = {name: tensor.clone() for name, tensor in stored(where).items()}
    loaded(where, "int8")
    assert_same(load_weights(where.folder), before)
    loaded(where, "int8")
    assert lacks_weights(where.folder)
    config, _ = load_config(where.folder)
    load_model(where.folder, config)
    assert not lacks_weights(where.folder)


@pytest.mark.parametrize("loss", ["removed", "replaced"])
def test_a_missing_gguf_file_is_told(loss: str, file: Path) -> None:
    where = resolved(file)
    loaded(where, "int8")
    if loss == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert loaded(where, "int8")[1] == ""
    with pytest.raises(ModelError, match=r"needs .*tiny\.gguf to make its weights again") as caught:
        loaded(where)
    assert caught.value.code == "model_broken"
    assert caught.value.hint


def test_a_folder_in_use_keeps_its_weights(file: Path) -> None:
    where = resolved(file)
    with FileLock(lock_path(where.folder)):
        loaded(where, "int8")
    assert not lacks_weights(where.folder)
    loaded(where, "int8")
    assert lacks_weights(where.folder)


def test_a_changed_configuration_changes_the_fingerprint(file: Path) -> None:
    where = resolved(file)
    loaded(where, "int8")
    path = where.folder / "generation_config.json"
    path.write_text(path.read_text() + "\n")
    assert resolved(file).fingerprint != where.fingerprint


def test_a_checkpoint_of_the_user_stays_as_it_is(file: Path) -> None:
    folder = resolved(file).folder
    where = ModelFolder(name=str(folder), folder=folder, fingerprint="f")
    loaded(where, "int8")
    assert not lacks_weights(folder)
    restore(folder)
    assert not (folder / "origin").exists()


def test_nothing_is_removed_twice(file: Path) -> None:
    where = resolved(file)
    shrink(where.folder, file, {"lm_head.weight"})
    kept = set(stored(where))
    shrink(where.folder, file, kept)
    assert set(stored(where)) == kept


def test_transformers_finds_no_weights_rather_than_a_part_of_them(file: Path) -> None:
    where = resolved(file)
    loaded(where, "int8")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(where.folder)
    restore(where.folder)
    model = AutoModelForCausalLM.from_pretrained(where.folder)
    weights = load_weights(where.folder)["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(model.get_parameter("model.layers.0.mlp.up_proj.weight").bfloat16(), weights)
