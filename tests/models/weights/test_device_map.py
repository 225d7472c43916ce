"""A model too large for one GPU: placement of its layers, and equal answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch

from nsa_models.cache import placement
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.layer_devices import layer_devices
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.cache.placement import cache_bytes, least_work_bytes, new_cache, offloaded_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError, ModelError
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights import device_map as device_maps
from nsa_models.weights import load
from nsa_models.weights.device_map import device_map, likely_layer_devices, move_model, weight_bytes
from nsa_models.weights.load import load_config, load_model, random_model

CARD = torch.device("cuda", 0)
LAYERS = 6


def build(seed: int, **changes: Any) -> NSAForCausalLM:
    torch.manual_seed(seed)
    config = NSAConfig(
        vocab_size=96,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        num_key_value_heads=2,
        select_count=2,
        window=64,
        **changes,
    )
    return NSAForCausalLM(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("placed", "devices"),
    [
        ({"": 1}, ["cuda:1", "cuda:1"]),
        ({"": "cpu"}, ["cpu", "cpu"]),
        ({"model": "cuda:2", "lm_head": 0}, ["cuda:2", "cuda:2"]),
        ({"model.layers.0": 0, "model.layers.1": 1}, ["cuda:0", "cuda:1"]),
        ({"model.layers.1": torch.device("cuda", 1), "model.layers": 0}, ["cuda:0", "cuda:1"]),
        # Weights on the host are copied to the first GPU.
        ({"model.layers.0": 1, "model.layers.1": "disk"}, ["cuda:1", "cuda:1"]),
        ({"model.layers.0": "cpu", "model.layers.1": "disk"}, ["cpu", "cpu"]),
    ],
)
def test_devices_of_a_device_map(placed: dict[str, Any], devices: list[str]) -> None:
    assert layer_devices(placed, 2) == [torch.device(device) for device in devices]


def test_the_tenth_layer_is_not_the_first() -> None:
    placed = {f"model.layers.{layer}": layer for layer in range(12)}
    assert [device.index for device in layer_devices(placed, 12)] == list(range(12))


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that simulates GPUs with memory for a number of bytes of a model's weights."""

    def pretend(model: NSAForCausalLM, *room: int) -> None:
        work = least_work_bytes(model.config, model.dtype)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(room))
        monkeypatch.setattr(device_maps, "free_bytes", lambda card: room[card.index] + work)

    return pretend


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Device maps of the dispatched models."""
    maps: list[Any] = []
    monkeypatch.setattr(accelerate, "dispatch_model", lambda _, placed: maps.append(placed))
    return maps


@pytest.mark.parametrize("tied", [False, True])
def test_layers_are_spread_over_gpus(
    tied: bool, seed: int, cards: Any, dispatched: list[Any]
) -> None:
    model = build(seed, tie_word_embeddings=tied)
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    needed = weight_bytes(model)
    cards(model, needed - 1, needed - 1, needed - 1)
    move_model(model, CARD)
    [placed] = dispatched
    devices = [device.index for device in layer_devices(placed, LAYERS)]
    assert devices == sorted(devices)
    # Filled one after another, the first GPU would hold nearly all layers.
    assert max(devices.count(card) for card in range(3)) <= LAYERS // 2
    assert set(placed.values()) == {0, 1, 2}


@pytest.mark.parametrize(("room", "several"), [(0, False), (-1, True)])
def test_a_model_that_fits_one_gpu_is_not_spread(
    room: int, several: bool, seed: int, cards: Any
) -> None:
    """Memory for the weights and for the keys and values of a text."""
    model = build(seed, max_position_embeddings=1000)
    needed = weight_bytes(model)
    room += cache_bytes(model.config, 1000, model.dtype)
    cards(model, needed + room, 10 * needed)
    devices = likely_layer_devices(model.config, needed, model.dtype, CARD)
    assert len(devices) == LAYERS
    assert len(set(devices)) == 1 + several
    cards(model, needed + room)
    assert set(likely_layer_devices(model.config, needed, model.dtype, CARD)) == {CARD}
    cpu = torch.device("cpu")
    assert set(likely_layer_devices(model.config, needed, model.dtype, cpu)) == {cpu}


@pytest.mark.parametrize("installed", [True, False])
def test_weights_stay_on_one_gpu_without_an_alternative(
    installed: bool, seed: int, cards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(seed)
    needed = weight_bytes(model)
    cards(model, needed, 10 * needed if installed else 0)
    if not installed:
        monkeypatch.setitem(sys.modules, "accelerate", None)
    placed = device_map(model, CARD)
    assert (placed == {"": CARD}) != installed


@pytest.mark.parametrize("tied", [False, True])
def test_a_random_model_is_spread_over_gpus(
    tied: bool, seed: int, cards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several names of one CPU stand for devices; accelerate moves nothing between them."""
    config = build(seed, tie_word_embeddings=tied).config

    def by_names(model: Any, _: torch.device) -> dict[str, Any]:
        cards(model, *[weight_bytes(model)] * 2)
        placed = device_map(model, CARD)
        return {name: f"cpu:{card}" for name, card in placed.items()}

    def dispatch(model: Any, placed: dict[str, Any]) -> None:
        model.hf_device_map = placed

    monkeypatch.setattr(load, "device_map", by_names)
    monkeypatch.setattr(load, "dispatch", dispatch)
    torch.manual_seed(seed)
    model = random_model(config)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert {device.index for device in model.layer_devices} == {0, 1}
    logits = model(torch.arange(9)[None]).logits
    assert logits.isfinite().all()
    assert logits.std() > 0
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("more", [0, -1])
def test_a_gpu_too_small_for_streaming_is_reported(
    more: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build(seed).config
    room = offloaded_bytes(config, 4096, torch.float32, LAYERS) + more
    monkeypatch.setattr(placement, "free_bytes", lambda _: room)
    monkeypatch.setattr(placement, "fits_devices", lambda *_: False)
    monkeypatch.setattr(placement, "OffloadedCache", lambda *_: "streamed")
    devices = [CARD] * LAYERS
    host = KVCache(config, 4096)
    if not more:
        assert new_cache(config, 4096, torch.float32, devices, host=host) == "streamed"
        return
    with pytest.raises(DoesNotFitError, match="4,096 tokens need"):
        new_cache(config, 4096, torch.float32, devices, host=host)


def test_gpus_that_are_too_small_are_counted(seed: int, cards: Any, dispatched: list[Any]) -> None:
    model = build(seed)
    cards(model, 10**4, 10**4)
    with pytest.raises(DoesNotFitError, match="the 2 GPUs of this machine") as caught:
        move_model(model, CARD)
    assert not dispatched
    assert caught.value.code == "does_not_fit"


def test_missing_accelerate_is_reported_with_the_remedy(
    seed: int, cards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(seed)
    cards(model, 0, 10**9)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModelError, match="more than one GPU") as caught:
        move_model(model, CARD)
    assert "pip install accelerate" in caught.value.hint


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two CUDA devices")
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("count", [None, 3])
def test_two_gpus_answer_like_one(
    count: int | None, fits: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.randint(96, (3000,), generator=torch.Generator().manual_seed(1))
    build(seed, answer_select_count=count, answer_window=64).save_pretrained(tmp_path)
    config, _ = load_config(tmp_path)
    monkeypatch.setattr(placement, "fits_devices", lambda *_: fits)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    results = []
    for several in (False, True):
        if several:
            work = least_work_bytes(config, torch.float32)
            room = weight_bytes(load_model(tmp_path, config)) - 1
            monkeypatch.setattr(device_maps, "free_bytes", lambda _, most=room + work: most)
        model = load_model(tmp_path, config, device="cuda")
        assert len(set(model.layer_devices)) == (2 if several else 1)
        cache = new_cache(config, 3100, model.dtype, model.layer_devices)
        assert isinstance(cache, OffloadedCache) != fits
        list(prefill(model, ids, cache, chunk_size=1024))
        steps = list(
            decode(model, [1, 2, 3], cache, DecodeOptions(max_tokens=12, stop_ids=frozenset()))
        )
        if isinstance(cache, OffloadedCache):
            cache.synchronize()
        results.append((cache, steps))
    (plain, expected), (spread, found) = results
    assert [step.id for step in found] == [step.id for step in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.mass.cpu(), theirs.mass.cpu(), rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(spread.keys, plain.keys, strict=True):
        torch.testing.assert_close(
            ours[:, :, : plain.length].cpu(),
            theirs[:, :, : plain.length].cpu(),
            rtol=1e-3,
            atol=1e-4,
        )


def test_a_cache_has_one_device_per_layer() -> None:
    config = NSAConfig(num_hidden_layers=3)
    devices = [torch.device("cpu", 0), torch.device("cpu", 1), torch.device("cpu", 1)]
    cache = KVCache(config, 10, device=devices)
    assert cache.layer_devices == tuple(devices)
    assert [each.shape for each in cache.keys] == [cache.shape[1:]] * 3
