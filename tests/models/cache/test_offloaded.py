"""A cache in host memory gives the same results as one on the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nsa_models.cache import placement
from nsa_models.cache.kv_cache import KVCache, LayerDevices
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.cache.placement import (
    cache_bytes,
    chunk_tokens,
    fits_devices,
    new_cache,
    offloaded_bytes,
    work_bytes,
)
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM

CUDA = torch.cuda.is_available()
CPU = torch.device("cpu")
LENGTH = 700


def build(seed: int, layers: int, device: torch.device = CPU, **changes: Any) -> NSAForCausalLM:
    torch.manual_seed(seed)
    config = NSAConfig(
        **{
            "vocab_size": 96,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": layers,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "select_count": 2,
            "window": 64,
            "answer_window": 64,
            **changes,
        }
    )
    return NSAForCausalLM(config).eval().to(device).requires_grad_(False)


def read(model: NSAForCausalLM, cache: KVCache, chunk_size: int = 128) -> KVCache:
    ids = torch.randint(96, (LENGTH,), generator=torch.Generator().manual_seed(1))
    list(prefill(model, ids, cache, chunk_size=chunk_size))
    return cache


def compare(seed: int, devices: LayerDevices, **changes: Any) -> None:
    """Prefill, truncate, prefill again and decode: once on the devices, once offloaded."""
    model = build(seed, len(devices), devices[0], **changes)
    results = []
    for streamed in (False, True):
        cache = KVCache(model.config, LENGTH + 60, device=CPU if streamed else devices)
        if streamed:
            cache = OffloadedCache(model.config, cache, devices)
        read(model, cache)
        cache.truncate(501)
        read(model, cache)
        steps = list(
            decode(model, [1, 2, 3], cache, DecodeOptions(max_tokens=8, stop_ids=frozenset()))
        )
        if isinstance(cache, OffloadedCache):
            cache.synchronize()
            assert cache.keys[0].device == CPU
        results.append((cache, steps))
    (plain, expected), (streamed_cache, found) = results
    assert [step.id for step in found] == [step.id for step in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.mass, theirs.mass, rtol=1e-4, atol=1e-5)
    end, reading = plain.length, model.config.prefill_settings()
    with torch.inference_mode():
        summaries = [cache.summaries(reading) for cache in (streamed_cache, plain)]
    for got, wanted in (
        (streamed_cache.keys, plain.keys),
        (streamed_cache.values, plain.values),
        summaries,
    ):
        for ours, theirs in zip(got, wanted, strict=True):
            torch.testing.assert_close(ours[:, :, :end].cpu(), theirs[:, :, :end].cpu())


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("count", [None, 3])
def test_streaming_equals_a_resident_cache(layers: int, count: int | None, seed: int) -> None:
    compare(seed, [CPU] * layers, answer_select_count=count)


@pytest.mark.parametrize("order", [(0, 1, 1), (0, 1, 0, 1), (0, 0, 0, 1)])
def test_streaming_to_several_devices(order: tuple[int, ...], seed: int) -> None:
    """Each device has separate buffers. Several names of the CPU stand for the devices."""
    compare(seed, [torch.device("cpu", index) for index in order], answer_select_count=3)


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="no CUDA device")
@pytest.mark.parametrize("count", [None, 3])
def test_streaming_equals_a_resident_cache_on_the_device(count: int | None, seed: int) -> None:
    compare(seed, [torch.device("cuda", 0)] * 3, answer_select_count=count)


def test_the_content_of_the_host_counts_as_prefilled(seed: int) -> None:
    model = build(seed, 2)
    host = read(model, KVCache(model.config, LENGTH + 60))
    cache = OffloadedCache(model.config, host, CPU)
    assert cache.length == LENGTH
    answers = [
        [
            step.id
            for step in decode(
                model, [5], prefilled, DecodeOptions(max_tokens=5, stop_ids=frozenset())
            )
        ]
        for prefilled in (cache, read(model, KVCache(model.config, LENGTH + 60)))
    ]
    assert answers[0] == answers[1]


def test_a_failed_step_leaves_nothing_behind(seed: int) -> None:
    """The step is repeated after an error between two layers."""
    model = build(seed, 2)
    settings = model.config.prefill_settings()
    caches = []
    for failing in (False, True):
        cache = OffloadedCache(model.config, KVCache(model.config, LENGTH + 60), CPU)
        read(model, cache)
        with torch.inference_mode():
            if failing:
                junk = torch.full((1, 2, 5, 8), 9.0)
                cache.update(0, junk, junk, settings)
            model(torch.tensor([[4, 5, 6]]), cache=cache, settings=settings)
        caches.append(cache)
    end = LENGTH + 3
    assert all(
        torch.equal(a[:, :, :end], b[:, :, :end])
        for a, b in zip(caches[0].keys, caches[1].keys, strict=True)
    )


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that simulates a GPU with a number of free bytes."""

    def pretend(count: int) -> LayerDevices:
        monkeypatch.setattr(placement, "free_bytes", lambda _: count)
        return [torch.device("cuda", 0)] * 2

    return pretend


def test_chunks_are_as_long_as_the_memory_allows(card: Any) -> None:
    config = NSAConfig(hidden_size=896, intermediate_size=4864, num_attention_heads=14)
    dtype = torch.bfloat16
    assert chunk_tokens(config, dtype, [CPU]) == 1024
    assert chunk_tokens(config, dtype, card(140 * 10**9)) == 32768
    assert chunk_tokens(config, dtype, card(10**8)) == 1024
    sizes = [chunk_tokens(config, dtype, card(10**8 * 2**i)) for i in range(8)]
    assert sizes == sorted(sizes)
    for size, free in ((16384, 2 * 16384), (8192, 2 * 16384 - 1)):
        assert chunk_tokens(config, dtype, card(free * work_bytes(config, dtype))) == size


def test_a_cache_is_on_the_gpu_if_it_fits(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = NSAConfig(num_hidden_layers=2, answer_select_count=4, answer_compress_block=16)
    dtype = torch.float32
    per_token = 2 * 2 * 2 * 64 * 4
    # Both kinds of summaries have a stride of four tokens and different lengths.
    assert cache_bytes(config, 1000, dtype) == 1000 * (per_token + 2 * per_token // 2 // 4)
    need = cache_bytes(config, 10**6, dtype)
    assert fits_devices(config, 10**6, dtype, card(need + 2 * 10**9))
    assert not fits_devices(config, 10**6, dtype, card(need))
    made: list[Any] = []
    monkeypatch.setattr(placement, "OffloadedCache", lambda *given: made.append(given))
    config = NSAConfig(num_hidden_layers=8)
    host, devices = KVCache(config, 100), [torch.device("cuda", 0)] * 8
    card(offloaded_bytes(config, 100, dtype, 8))
    new_cache(config, 100, dtype, devices, host=host)
    assert made == [(config, host, devices)]
    assert isinstance(new_cache(config, 100, dtype, [CPU] * 8), KVCache)


def test_summaries_of_a_learned_compression(seed: int) -> None:
    """The summaries are the same in every kind of cache, also in one that copied φ.

    They differ from means.
    """
    model = build(seed, 2, compress_hidden=8, select_count=1)
    with torch.no_grad():
        for attention in model.attentions:
            assert attention.compression is not None
            attention.compression.outer.bias.normal_()
    reading = model.config.prefill_settings()
    plain = read(model, KVCache(model.config, LENGTH + 60))
    streamed = OffloadedCache(model.config, KVCache(model.config, LENGTH + 60), CPU)
    read(model, streamed)
    copied = KVCache(model.config, LENGTH + 60)
    means = KVCache(model.config, LENGTH + 60)
    for bare in (copied, means):
        for ours, theirs in zip(bare.keys, plain.keys, strict=True):
            ours.copy_(theirs)
        bare.length = plain.length
    with torch.inference_mode():
        copied.copy_compressors(plain)
        expected, *found = (
            torch.stack(cache.summaries(reading)) for cache in (plain, streamed, copied, means)
        )
    for summaries in found[:2]:
        torch.testing.assert_close(summaries, expected, rtol=1e-4, atol=1e-4)
    assert (found[2] - expected).abs().max() > 0.1
