"""A device's KV cache is stored in the background, equal to a CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.kv_store import prefill
from nsa_cli.kv_store.prefill import Prefiller, open_store
from nsa_cli.kv_store.store import KVStore
from nsa_models.cache import placement
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.generation import generate
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights import device_map
from nsa_models.weights.load import load_config, load_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> NSAForCausalLM:
    return load_model(tiny_model, load_config(tiny_model, answer_select_count=4)[0])


@pytest.fixture
def open_readings(model: NSAForCausalLM) -> Any:
    def build() -> Prefiller:
        options = Options(model="m", cache_limit_bytes=10**9)
        store = open_store(model.config, model.dtype, "w", "t", options)
        return Prefiller(model=model, store=store, emit=lambda _: None)

    return build


def simulate_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a device with separate memory, with or without capacity for the cache."""
    monkeypatch.setattr(Prefiller, "_apart", property(lambda _: True))
    if kind == "streamed":

        def streamed(
            config: Any, capacity: int, dtype: Any, homes: Any, *, host: KVCache | None = None
        ) -> KVCache:
            return OffloadedCache(config, host or KVCache(config, capacity, dtype=dtype), homes)

        monkeypatch.setattr(prefill, "new_cache", streamed)


@pytest.fixture(params=["held", "streamed"])
def device_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_device(request.param, monkeypatch)


def prefilled(prefiller: Prefiller, ids: Any, room: int, name: str) -> tuple[KVCache, int]:
    """Prefill a text; return its cache and the number of stored tokens."""
    done = prefiller.run(prefiller.match(ids), room, name)
    return done.cache, done.reused_tokens


def ids(count: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, count).astype(np.int32)


def assert_same(found: KVCache, expected: KVCache) -> None:
    assert found.length == expected.length
    for name in ("keys", "values"):
        both = (torch.stack(getattr(cache, name)) for cache in (found, expected))
        ours, theirs = (tensor[..., : expected.length, :] for tensor in both)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def files(folder: Path) -> dict[str, bytes]:
    [found] = [path for path in folder.glob("readings/*") if path.is_dir()]
    return {path.name: path.read_bytes() for path in found.iterdir() if path.suffix == ".bin"}


@pytest.mark.parametrize("kind", ["held", "streamed"])
@pytest.mark.parametrize("room", [50, ANSWER_ROOM + 1])
def test_stored_files_equal_a_cpu(
    room: int, kind: str, open_readings: Any, cache_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    text = ids(2500)
    expected, _ = prefilled(open_readings(), text, room, "a")
    plain = files(cache_folder)
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "other"))
    simulate_device(kind, monkeypatch)
    fresh, read = prefilled(open_readings(), text, room, "a")
    assert files(tmp_path / "other") == plain
    again, reused = prefilled(open_readings(), text, room, "a")
    assert (read, reused) == (0, 2500)
    for cache in (fresh, again):
        assert_same(cache, expected)
        assert cache.capacity >= 2500 + room


@pytest.mark.usefixtures("device_memory")
def test_an_answer_does_not_change_the_stored_cache(open_readings: Any) -> None:
    cache, _ = prefilled(open_readings(), ids(300), 50, "a")
    before = torch.stack(cache.keys)[..., :300, :]
    for keys in cache.keys:
        keys.fill_(7)
    again, reused = prefilled(open_readings(), ids(300), 50, "a")
    assert reused == 300
    assert torch.equal(torch.stack(again.keys)[..., :300, :], before)


@pytest.mark.usefixtures("device_memory")
def test_only_the_new_part_of_a_text_is_prefilled(open_readings: Any) -> None:
    text = ids(2200)
    prefilled(open_readings(), text[:1500], 50, "a")
    cache, reused = prefilled(open_readings(), text, 50, "a")
    assert reused == 1500 // 64 * 64
    fresh = replace(open_readings(), store=None)
    assert_same(cache, prefilled(fresh, text, 50, "a")[0])


@pytest.mark.usefixtures("device_memory")
def test_chunks_before_an_error_are_stored(
    open_readings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, quick = ids(2500), prefill.prefill

    def failing(*arguments: Any, **named: Any) -> Iterator[int]:
        for done in quick(*arguments, **named):
            yield done
            if done >= 2048:
                raise ZeroDivisionError

    monkeypatch.setattr(prefill, "prefill", failing)
    with pytest.raises(ZeroDivisionError):
        prefilled(open_readings(), text, 50, "a")
    monkeypatch.setattr(prefill, "prefill", quick)
    assert prefilled(open_readings(), text, 50, "a")[1] == 2048


@pytest.mark.usefixtures("device_memory")
def test_a_failed_write_is_reported_and_nothing_wrong_is_stored(
    open_readings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second chunk cannot be written; the third is not written in its place."""
    text, commit = ids(3500), KVStore.commit
    starts: list[int] = []

    def failing(store: Any, stored: Any, cache: Any, start: int) -> None:
        starts.append(start)
        if start == 1024:
            raise OSError(5, "the disk failed")
        commit(store, stored, cache, start)

    monkeypatch.setattr(KVStore, "commit", failing)
    cache, reused = prefilled(open_readings(), text, 50, "a")
    assert (cache.length, reused) == (3500, 0)
    assert starts == [0, 1024]
    monkeypatch.setattr(KVStore, "commit", commit)
    again, reused = prefilled(open_readings(), text, 50, "a")
    assert reused == 1024
    assert_same(again, cache)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("cards", [1, 2])
def test_a_device_stores_and_reuses_its_cache(
    cards: int, fits: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cards > torch.cuda.device_count():
        pytest.skip("no two CUDA devices")
    monkeypatch.setattr(placement, "fits_devices", lambda *_: fits)
    monkeypatch.setattr(generate, "chunk_tokens", lambda *_: 1024)
    config, _ = load_config(tiny_model)
    model = load_model(tiny_model, config, device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    if cards > 1:
        room = device_map.weight_bytes(model) - 1 + placement.least_work_bytes(config, model.dtype)
        monkeypatch.setattr(device_map, "free_bytes", lambda _: room)
        model = load_model(tiny_model, config, device="cuda")
    assert len(set(model.layer_devices)) == cards
    options = Options(model="m", cache_limit_bytes=10**9)
    text = ids(5000)
    results = []
    for _ in range(2):
        store = open_store(model.config, model.dtype, "w", "t", options)
        readings = Prefiller(model=model, store=store, emit=lambda _: None)
        results.append(prefilled(readings, text, 50, "a"))
    plain = KVCache(model.config, 5050, dtype=model.dtype, device=model.layer_devices)
    list(generate.prefill(model, text, plain))
    assert [reused for _, reused in results] == [0, 5000]
    for cache, _ in results:
        assert cache.keys[0].is_cuda == fits
        assert cache.length == 5000
        for name in ("keys", "values"):
            for ours, theirs in zip(getattr(cache, name), getattr(plain, name), strict=True):
                torch.testing.assert_close(
                    ours[..., :5000, :].cpu(), theirs[..., :5000, :].cpu(), rtol=1e-4, atol=1e-4
                )
