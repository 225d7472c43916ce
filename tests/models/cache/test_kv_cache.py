"""The KV cache: summaries computed step by step equal those computed at once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache, cache_shape
from nsa_models.configuration.config import NSAConfig

LAYERS, GROUPS, DIM, CAPACITY = 2, 2, 4, 400
CONFIG = NSAConfig(
    hidden_size=16, num_attention_heads=4, num_key_value_heads=GROUPS, num_hidden_layers=LAYERS
)
FINE = AttentionSettings(compress_block=4, compress_stride=4, select_count=1, window=64)
COARSE = AttentionSettings(compress_block=32, compress_stride=16, select_count=1, window=64)
DENSE = AttentionSettings(select_count=None)


def draw(seed: int, tokens: int = CAPACITY) -> Tensor:
    """Keys and values of every layer: (2, L, B, G, T, D)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, LAYERS, 1, GROUPS, tokens, DIM, generator=generator)


def append(
    cache: KVCache, text: Tensor, end: int, settings: AttentionSettings
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Append the next tokens of a text to every layer."""
    part = text[..., cache.length : end, :]
    results = [cache.update(i, part[0, i], part[1, i], settings) for i in range(LAYERS)]
    cache.advance(part.shape[-2])
    return results


def assert_from_scratch(
    results: list[tuple[Tensor, Tensor, Tensor | None]],
    text: Tensor,
    end: int,
    settings: AttentionSettings,
) -> None:
    for layer, (keys, values, summaries) in enumerate(results):
        assert torch.equal(keys, text[0, layer, ..., :end, :])
        assert torch.equal(values, text[1, layer, ..., :end, :])
        if settings.covers(end):
            assert summaries is None
        else:
            assert summaries is not None
            torch.testing.assert_close(summaries, mean_summaries(keys, settings))


@pytest.mark.parametrize("kinds", [[FINE], [COARSE], [FINE, COARSE, DENSE]])
def test_step_by_step_equals_at_once(kinds: list[AttentionSettings], seed: int) -> None:
    """Steps of one to sixty tokens, with changing settings."""
    dice = random.Random(seed)
    text, cache = draw(seed), KVCache(CONFIG, CAPACITY)
    while cache.length < CAPACITY:
        end = min(cache.length + dice.choice([1, 1, 3, 16, 60]), CAPACITY)
        settings = dice.choice(kinds)
        assert_from_scratch(append(cache, text, end, settings), text, end, settings)
        assert cache.length == end


@pytest.mark.parametrize("settings", [FINE, COARSE])
@pytest.mark.parametrize("keep", [0, 17, 33, 250, 331])
def test_truncate_forgets(settings: AttentionSettings, keep: int, seed: int) -> None:
    """Other tokens follow, and the removed tokens leave nothing behind."""
    first, second = draw(seed), draw(seed + 1)
    cache = KVCache(CONFIG, CAPACITY)
    append(cache, first, 331, settings)
    cache.truncate(keep)
    assert cache.length == keep
    text = torch.cat([first[..., :keep, :], second[..., keep:, :]], dim=-2)
    for end in (keep + 1, 340, CAPACITY):
        assert_from_scratch(append(cache, text, end, settings), text, end, settings)


def test_a_failed_step_leaves_nothing_behind(seed: int) -> None:
    """The cache is used again after an error between two layers."""
    first, second = draw(seed), draw(seed + 1)
    cache = KVCache(CONFIG, CAPACITY)
    append(cache, first, 300, FINE)
    cache.update(0, first[0, 0, ..., 300:360, :], first[1, 0, ..., 300:360, :], FINE)
    text = torch.cat([first[..., :300, :], second[..., 300:, :]], dim=-2)
    assert_from_scratch(append(cache, text, 380, FINE), text, 380, FINE)


def test_truncate_before_dense_steps(seed: int) -> None:
    """Summaries are needed again long after the truncation."""
    first, second = draw(seed), draw(seed + 1)
    cache = KVCache(CONFIG, CAPACITY)
    append(cache, first, 300, FINE)
    cache.truncate(20)
    text = torch.cat([first[..., :20, :], second[..., 20:, :]], dim=-2)
    append(cache, text, 350, DENSE)
    assert_from_scratch(append(cache, text, 360, FINE), text, 360, FINE)


def test_a_failed_step_before_a_dense_step(seed: int) -> None:
    """The dense step overwrites the tokens that the failed step compressed."""
    first, second = draw(seed), draw(seed + 1)
    cache = KVCache(CONFIG, CAPACITY)
    append(cache, first, 300, FINE)
    cache.update(0, first[0, 0, ..., 300:360, :], first[1, 0, ..., 300:360, :], FINE)
    text = torch.cat([first[..., :300, :], second[..., 300:, :]], dim=-2)
    append(cache, text, 380, DENSE)
    assert_from_scratch(append(cache, text, 390, FINE), text, 390, FINE)


def test_the_capacity_is_limited(seed: int) -> None:
    cache, text = KVCache(CONFIG, 10), draw(seed)
    append(cache, text, 10, FINE)
    with pytest.raises(AssertionError, match=r"\(11, 10\)"):
        append(cache, text, 11, FINE)
    with pytest.raises(AssertionError, match=r"\(11, 10\)"):
        cache.truncate(11)


def test_tensors_come_from_the_allocator(seed: int) -> None:
    made: dict[str, Any] = {}

    def allocate(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        assert name not in made
        made[name] = torch.zeros(shape, dtype=dtype)
        return made[name]

    cache = KVCache(CONFIG, CAPACITY, batch=1, dtype=torch.bfloat16, allocate=allocate)
    text = draw(seed).bfloat16()
    for end, settings in ((100, FINE), (300, FINE), (310, COARSE), (400, FINE)):
        append(cache, text, end, settings)
    assert {name: tuple(tensor.shape) for name, tensor in made.items()} == {
        "keys": (2, 1, 2, 400, 4),
        "values": (2, 1, 2, 400, 4),
        "summary_4_4": (2, 1, 2, 100, 4),
        "summary_32_16": (2, 1, 2, 25, 4),
    }
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}
    assert torch.equal(made["keys"], text[0])
    assert torch.equal(made["values"], text[1])


def test_shape() -> None:
    assert cache_shape(CONFIG, 7, batch=3) == (LAYERS, 3, GROUPS, 7, DIM)
    assert torch.stack(KVCache(CONFIG, 7, batch=3).values).shape == (LAYERS, 3, GROUPS, 7, DIM)
