"""Stored KV caches of models whose branches have separate keys and values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nsa_cli.config.options import Options
from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.engine import engine
from nsa_cli.kv_store.prefill import Prefiller, open_store
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.load import load_config, load_model

KINDS: dict[str, dict[str, Any]] = {
    "separate": {"branch_keys": "separate"},
    "whole": {"branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 24},
    "linear": {"compress_phi": "linear"},
}


def write_native(folder: Path, base: Path, kind: str) -> Path:
    """Write a random native model with the tokenizer of another folder."""
    values = json.loads((base / "config.json").read_text())
    kept = ("vocab_size", "eos_token_id", "max_position_embeddings")
    config = NSAConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        combine="gated",
        compress_block=32,
        compress_stride=16,
        answer_compress_block=32,
        answer_compress_stride=16,
        select_count=4,
        answer_select_count=4,
        window=100,
        answer_window=80,
        **KINDS[kind],
        **{name: values[name] for name in kept},
    )
    model = NSAForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return folder


@pytest.fixture(params=KINDS)
def native(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """The folder of a native model of each kind."""
    return write_native(tmp_path / "native", tiny_model, request.param)


@pytest.fixture
def model(native: Path) -> NSAForCausalLM:
    return load_model(native, load_config(native)[0])


@pytest.fixture
def make(model: NSAForCausalLM) -> Callable[..., Prefiller]:
    """A function that creates a prefiller, with a store or without."""

    def build(*, store: bool = True) -> Prefiller:
        options = Options(model="m", store=store, cache_limit_bytes=10**9, device="cpu")
        found = open_store(model.config, model.dtype, "w", "t", options)
        return Prefiller(model=model, store=found, emit=lambda _: None)

    return build


def ids(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 300, count, dtype=np.int32)


def prefilled(prefiller: Prefiller, text: Any, room: int = 50) -> tuple[KVCache, int]:
    done = prefiller.run(prefiller.match(text), room, "a")
    return done.cache, done.reused_tokens


def answer(model: NSAForCausalLM, cache: KVCache) -> Tensor:
    """Logits of a question of 40 tokens, which the cache then forgets."""
    length = cache.length
    with torch.inference_mode():
        question = torch.arange(40)[None]
        logits = model(question, cache=cache, settings=model.config.answer_settings()).logits
    cache.truncate(length)
    return logits


@pytest.mark.parametrize("room", [50, ANSWER_ROOM + 100])
def test_a_stored_cache_answers_as_a_new_one(make: Any, model: NSAForCausalLM, room: int) -> None:
    """Twice, and after more than one chunk; the second command prefills nothing."""
    text = ids(1500)
    fresh = answer(model, prefilled(make(store=False), text, room)[0])
    for expected in (0, 1500, 1500):
        cache, reused = prefilled(make(), text, room)
        assert reused == expected
        for _ in range(2):
            torch.testing.assert_close(answer(model, cache), fresh, rtol=1e-5, atol=1e-5)


def test_the_last_tokens_of_one_length_are_stored(make: Any, cache_folder: Path) -> None:
    prefilled(make(), ids(1500))
    [path] = cache_folder.rglob("branches-*.bin")
    assert path.name == "branches-1500.bin"
    assert path.stat().st_size < 2 * 2 * 2 * 2 * 16 * 4 * (99 + 31) + 3000


def test_an_interrupted_prefill_is_resumed(make: Any, model: NSAForCausalLM) -> None:
    text = ids(2200)
    prefiller = make()
    chunks = prefiller.chunks(prefiller.match(text), 50, "a")
    while next(chunks).done < 1024:
        pass
    next(chunks)
    chunks.close()
    cache, reused = prefilled(make(), text)
    assert reused == 2048
    fresh = answer(model, prefilled(make(store=False), text)[0])
    torch.testing.assert_close(answer(model, cache), fresh, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("damaged", ["summaries.bin", "branches-1500.bin", "tensors.bin"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_never_changes_the_answer(
    make: Any, model: NSAForCausalLM, cache_folder: Path, damaged: str, how: str
) -> None:
    text = ids(1500)
    fresh = answer(model, prefilled(make(), text)[0])
    [path] = cache_folder.rglob(damaged)
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 3 if damaged.startswith("branches") else 300] ^= 0x10
        path.write_bytes(data)
    elif how == "cut" and not damaged.startswith("tensors"):
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    cache, reused = prefilled(make(), text)
    assert reused == 0
    torch.testing.assert_close(answer(model, cache), fresh, rtol=1e-4, atol=1e-4)
    assert prefilled(make(), text)[1] == 1500


def test_another_text_with_the_same_beginning(make: Any, model: NSAForCausalLM) -> None:
    """The branches' last tokens are those of another place, so nothing is shared."""
    text = ids(1400)
    prefilled(make(), text[:1200])
    cache, reused = prefilled(make(), text)
    assert reused == 0
    fresh = answer(model, prefilled(make(store=False), text)[0])
    torch.testing.assert_close(answer(model, cache), fresh, rtol=1e-4, atol=1e-4)


def test_a_device_with_its_own_memory_stores_nothing(
    native: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = load_config(native)
    monkeypatch.setattr("nsa_cli.kv_store.prefill.pick_device", lambda _: torch.device("cuda"))
    options = Options(model="m", cache_limit_bytes=10**9)
    assert open_store(config, torch.float32, "w", "t", options) is None


def test_commands(native: Path, nsa: Any, text_file: Path, cache_folder: Path) -> None:
    """Ask, find and ask again; the second question reads nothing."""
    question = "Who wrote report 7?"
    code, out, err = nsa("ask", str(text_file), question, "--json", model=native)
    assert code == 0, err
    first = json.loads(out)
    code, out, err = nsa("find", str(text_file), "worker of line 12", "--json", model=native)
    assert code == 0, err
    assert out
    shutil.rmtree(cache_folder / "answers")
    code, out, err = nsa("ask", str(text_file), question, "--json", model=native)
    assert code == 0, err
    again = json.loads(out)
    assert again["answer"] == first["answer"]
    assert again["stats"]["reused_tokens"] == first["stats"]["document_tokens"]
    code, out, err = nsa("ask", str(text_file), question, "--json", "--no-store", model=native)
    assert json.loads(out)["answer"] == first["answer"]


def test_the_description(native: Path, nsa: Any) -> None:
    code, out, err = nsa("models", "show", str(native), "--json", model=None)
    assert code == 0, err
    config, _ = load_config(native)
    notes = "; ".join(json.loads(out)["checkpoint"]["notes"])
    assert ("separate keys and values" in notes) == (config.branch_keys == "separate")
    assert ("φ of keys and values is learned" in notes) == (config.compress_phi != "mean")
    assert "reused for the same text alone" in notes


def test_settings_that_do_not_fit_are_refused(native: Path) -> None:
    with pytest.raises(ValueError, match="set answer_compress_block"):
        load_config(native, compress_block=16)


def test_what_is_not_stored_is_said(
    native: Path, asker: Any, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.engine.weight_formats.open_store", lambda *_: None)
    asker.model = native
    asker(text_file)
    assert engine._NOT_STORED in asker.notes
    asker(text_file, store=False)
    assert engine._NOT_STORED not in asker.notes
