"""Prepared weights: identical bit by bit, and never an obstacle to an answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nsa_models.configuration.pretrained import NSAPretrainedConfig
from nsa_models.errors import ModelError
from nsa_models.hub.resolve import resolve_model
from nsa_models.model_folder import ModelFolder
from nsa_models.paths import lock_path, partial_path, prepared_folder
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.adapter import Adapter, compression_like_mean, save_adapter
from nsa_models.weights.load import load_config, load_model, load_weights
from nsa_models.weights.prepared import load_prepared, prepared_path

SETTINGS = {"compress_block": 8, "compress_stride": 8, "compress_hidden": 8}
SETTINGS |= {"answer_compress_block": 8, "answer_compress_stride": 8}
LORA = "model.layers.1.mlp.up_proj"


def found(base: Path, adapter: Path | None = None) -> ModelFolder:
    return resolve_model(
        str(base),
        on_progress=lambda *_: None,
        on_note=lambda _: None,
        adapter=None if adapter is None else str(adapter),
    )


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the test."""
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=[False, True], ids=["own head", "tied head"])
def make(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Callable[..., ModelFolder]:
    """A function that writes a small model, optionally with an adapter."""
    torch.manual_seed(seed)
    config = NSAPretrainedConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        select_block=8,
        select_tile=8,
        window=16,
        answer_window=16,
        tie_word_embeddings=request.param,
        dtype=torch.bfloat16,
    )
    model = NSAForCausalLM(config).bfloat16()
    weights = model.state_dict()
    if request.param:
        del weights["lm_head.weight"]
    base = tmp_path / "base"
    base.mkdir()
    save_file(weights, base / "model.safetensors")
    config.save_pretrained(base)

    def write(*, adapter: bool) -> ModelFolder:
        if not adapter:
            return found(base)
        tensors = {f"lora.{LORA}.a": torch.randn(3, 32), f"lora.{LORA}.b": torch.randn(48, 3)}
        for layer in range(2):
            phi = compression_like_mean(8, 8, config.head_dim or 0, 8)
            for name, value in phi.state_dict().items():
                tensors[f"compression.{layer}.{name}"] = torch.randn_like(value)
        tensors["evidence"] = torch.rand(2, 4)
        save_adapter(
            tmp_path / "adapter",
            Adapter(base="abc", settings=SETTINGS, scale=0.5, tensors=tensors, about={}),
        )
        return found(base, tmp_path / "adapter")

    return write


def load(where: ModelFolder, quantization: str | None = None) -> tuple[NSAForCausalLM, list[str]]:
    """A model, and the notes of its loading."""
    notes: list[str] = []
    config, _ = load_config(where.folder, where.adapter)
    model = load_prepared(where, config, quantization=quantization, on_note=notes.append)
    return model, notes


def in_memory(where: ModelFolder, quantization: str | None = None) -> NSAForCausalLM:
    config, _ = load_config(where.folder, where.adapter)
    return load_model(where.folder, config, quantization=quantization, adapter=where.adapter)


def assert_same(got: NSAForCausalLM, expected: NSAForCausalLM) -> None:
    """Assert equality bit by bit, in all properties that matter for running."""
    ours, theirs = got.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name
    assert (got.retrieval_head_weights is None) == (expected.retrieval_head_weights is None)
    if got.retrieval_head_weights is not None and expected.retrieval_head_weights is not None:
        assert torch.equal(got.retrieval_head_weights, expected.retrieval_head_weights)
    tied = [m.lm_head.weight is m.model.embed_tokens.weight for m in (got, expected)]
    assert tied[0] == tied[1]
    assert not got.training
    assert not any(parameter.requires_grad for parameter in got.parameters())
    ids = torch.randint(64, (1, 150))
    with torch.inference_mode():
        assert torch.equal(got(ids).logits, expected(ids).logits)


@pytest.mark.parametrize(("adapter", "quantization"), [(False, None), (True, "int8")])
def test_a_verifier_is_attached_and_off(
    make: Callable[..., ModelFolder], tmp_path: Path, adapter: bool, quantization: str | None
) -> None:
    where = make(adapter=adapter)
    expected = in_memory(where, quantization)
    a, b = torch.randn(3, 32), torch.randn(48, 3)
    tensors = {f"lora.{LORA}.a": a, f"lora.{LORA}.b": b}
    verifier = Adapter(base="abc", settings={}, scale=0.5, tensors=tensors, about={})
    save_adapter(tmp_path / "verifier", verifier)
    model, _ = load(replace(where, verifier=tmp_path / "verifier"), quantization)
    assert_same(model, expected)
    assert model.verifier is not None
    projection, x = model.get_submodule(LORA), torch.randn(5, 32).to(model.dtype)
    with torch.inference_mode():
        off = projection(x)
        with model.verifier.active():
            on = projection(x)
    change = (x.float() @ a.T @ b.T * 0.5).to(off.dtype)
    torch.testing.assert_close(on, off + change, rtol=0.02, atol=0.05)
    assert not torch.equal(on, off)
    wrong = {**tensors, f"lora.{LORA}.b": torch.randn(47, 3)}
    save_adapter(tmp_path / "verifier", replace(verifier, tensors=wrong))
    with pytest.raises(ModelError, match="do not belong to this model"):
        load(replace(where, verifier=tmp_path / "verifier"), quantization)


@pytest.mark.parametrize(
    ("adapter", "quantization"), [(True, None), (False, "int8"), (True, "int8")]
)
def test_prepared_weights_are_identical(
    make: Callable[..., ModelFolder], adapter: bool, quantization: str | None
) -> None:
    where = make(adapter=adapter)
    expected = in_memory(where, quantization)
    first, notes = load(where, quantization)
    assert len(notes) == 1
    assert notes[0].endswith(f"of {where.name}, once")
    assert ("adapter" in notes[0]) == adapter
    assert ("int8" in notes[0]) == (quantization is not None)
    again, notes = load(where, quantization)
    assert notes == []
    for got in (first, again):
        assert_same(got, expected)
    kept = prepared_path(where, quantization)
    assert [path for path in prepared_folder().iterdir() if path.suffix != ".lock"] == [kept]
    # Tensors in the model's files are not written again.
    assert "model.embed_tokens.weight" not in load_weights_of(kept)


def load_weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file."""
    alone = path.parent / "alone"
    alone.mkdir()
    shutil.copy(path, alone / "model.safetensors")
    return load_weights(alone)


def test_an_unchanged_model_needs_no_file(make: Callable[..., ModelFolder]) -> None:
    where = make(adapter=False)
    model, notes = load(where)
    assert notes == []
    assert_same(model, in_memory(where))
    assert not prepared_folder().exists()


def test_weights_adapters_and_quantizations_have_separate_files(
    make: Callable[..., ModelFolder], tmp_path: Path
) -> None:
    first = make(adapter=True)
    paths = {prepared_path(where, bits) for where in (first,) for bits in (None, "int8")}
    paths |= {prepared_path(found(first.folder), "int8")}
    second = make(adapter=True)  # trained further
    paths.add(prepared_path(second, None))
    stat = (first.folder / "model.safetensors").stat()
    os.utime(first.folder / "model.safetensors", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    paths.add(prepared_path(found(first.folder, tmp_path / "adapter"), None))
    assert len(paths) == 5


@pytest.mark.parametrize("damage", ["junk", "cut", "other tensors", "empty"])
def test_a_damaged_file_is_written_again(make: Callable[..., ModelFolder], damage: str) -> None:
    where = make(adapter=True)
    load(where)
    kept = prepared_path(where, None)
    whole = kept.read_bytes()
    if damage == "other tensors":
        save_file({"a": torch.ones(3)}, kept)
    else:
        kept.write_bytes({"junk": os.urandom(500), "cut": whole[:-9], "empty": b""}[damage])
    model, notes = load(where)
    assert len(notes) == 1
    assert_same(model, in_memory(where))
    assert kept.read_bytes() == whole


def test_use_updates_the_time_of_a_file(make: Callable[..., ModelFolder]) -> None:
    where = make(adapter=True)
    load(where)
    kept = prepared_path(where, None)
    os.utime(kept, (0, 0))
    load(where)
    assert kept.stat().st_mtime > time.time() - 100


@pytest.fixture
def small_disk(cache_folder: Path) -> Iterator[Path]:
    """The cache folder on a disk of 16 kilobytes."""
    cache_folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(cache_folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield cache_folder
    subprocess.run(["umount", "-l", str(cache_folder)], check=True)


@pytest.mark.parametrize("known", [True, False], ids=["known before", "found out while writing"])
def test_a_full_disk(
    *,
    known: bool,
    small_disk: Path,
    make: Callable[..., ModelFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = make(adapter=True)
    if not known:
        plenty = shutil.disk_usage("/")._replace(free=10**12)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: plenty)
    model, notes = load(where, "int8")
    assert_same(model, in_memory(where, "int8"))
    assert len(notes) == 2
    assert "cannot store" in notes[1]
    assert "the disk is full" in notes[1]
    assert "\n" not in notes[1]
    assert not [path for path in small_disk.rglob("*") if "safetensors" in path.suffixes[-1:]]
    assert not list(small_disk.rglob("*.partial"))


def test_a_read_only_folder(make: Callable[..., ModelFolder], cache_folder: Path) -> None:
    where = make(adapter=True)
    cache_folder.write_text("in the way")
    model, notes = load(where)
    assert_same(model, in_memory(where))
    assert len(notes) == 2
    assert f"cannot store prepared weights in {prepared_folder()}" in notes[1]


START = """
import os, signal, sys
from pathlib import Path
from nsa_models.weights import prepared
from nsa_models.weights.load import load_config
from nsa_models.hub.resolve import resolve_model

base, adapter, hold = sys.argv[1:]
original = prepared.save_file
def slow(tensors, path):
    original(tensors, path)
    if hold == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if hold == "waits":
        print("writing", flush=True)
        sys.stdin.readline()
prepared.save_file = slow
where = resolve_model(
    base, on_progress=lambda *_: None, on_note=lambda _: None, adapter=adapter
)
config, _ = load_config(where.folder, where.adapter)
prepared.load_prepared(where, config, on_note=lambda _: None)
print("done", flush=True)
"""


def start(where: ModelFolder, hold: str) -> subprocess.Popen[str]:
    """Another process that loads the model; it waits or is killed after the write."""
    return subprocess.Popen(
        [sys.executable, "-c", START, str(where.folder), str(where.adapter), hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_a_process_killed_during_a_write_leaves_no_valid_file(
    make: Callable[..., ModelFolder],
) -> None:
    where = make(adapter=True)
    other = start(where, "killed")
    assert other.communicate()[0] == ""
    assert other.returncode == -signal.SIGKILL
    kept = prepared_path(where, None)
    assert partial_path(kept).exists()
    assert not kept.exists()
    model, _ = load(where)
    assert_same(model, in_memory(where))
    assert kept.exists()
    assert not partial_path(kept).exists()


@pytest.mark.long
def test_two_processes_at_once(make: Callable[..., ModelFolder]) -> None:
    where = make(adapter=True)
    other = start(where, "waits")
    assert other.stdout is not None
    assert other.stdout.readline() == "writing\n"
    model, notes = load(where)  # uses its weights in memory
    assert_same(model, in_memory(where))
    assert len(notes) == 1
    kept = prepared_path(where, None)
    assert not kept.exists()
    assert other.communicate("\n")[0] == "done\n"
    assert kept.exists()
    assert lock_path(kept).exists()
    again, notes = load(where)
    assert notes == []
    assert_same(again, model)


def test_loaded_weights_are_mapped(make: Callable[..., ModelFolder]) -> None:
    where = make(adapter=True)
    model, _ = load(where)
    kept = str(prepared_path(where, None))
    address = model.get_submodule(LORA).weight.data_ptr()
    assert any(low <= address < high for low, high in mappings_of(kept))


def mappings_of(path: str) -> list[Any]:
    """Address range of each mapped part of a file in this process."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        pytest.skip("this system does not list mapped files")
    ranges = [line.split()[0].split("-") for line in lines if line.endswith(path)]
    return [(int(low, 16), int(high, 16)) for low, high in ranges]
