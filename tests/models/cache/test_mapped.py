"""Release of mapped keys and values: the file's content comes back, and nothing else is lost."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.mapped import release_layer, release_mapped, releasing_layers
from nsa_models.configuration.config import NSAConfig

pytestmark = pytest.mark.skipif(
    not hasattr(mmap, "MADV_DONTNEED"), reason="this system cannot release mapped pages"
)

CAPACITY, TOKENS = 640, 400
"""Keys of a head take 2.5 pages of 4 KiB, so that strips begin and end within pages."""


@pytest.fixture
def config() -> NSAConfig:
    return NSAConfig(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip


@pytest.fixture
def cache(config: NSAConfig, tmp_path: Path, seed: int) -> KVCache:
    """A cache mapped privately from a file of random keys and values."""
    torch.manual_seed(seed)
    shape = (2, 1, 2, CAPACITY, 8)
    path = tmp_path / "tensors.bin"
    path.write_bytes(torch.randn(2, *shape, dtype=torch.bfloat16).view(torch.uint8).numpy())
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    flat = torch.frombuffer(memory, dtype=torch.bfloat16)
    halves = dict(zip(("keys", "values"), flat.chunk(2), strict=True))
    found = KVCache(
        config, CAPACITY, dtype=torch.bfloat16, allocate=lambda name, *_: halves[name].view(shape)
    )
    found.mapped, found.length, found.mapped_tokens = memory, TOKENS, TOKENS
    return found


def tensors(cache: KVCache) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in (*cache.keys, *cache.values)]


def test_released_keys_come_back(cache: KVCache) -> None:
    before = tensors(cache)
    for layer in range(2):
        release_layer(cache, layer)
    for got, expected in zip(tensors(cache), before, strict=True):
        assert torch.equal(got, expected)


def test_all_layers_are_released(cache: KVCache) -> None:
    """What a private mapping changed is lost with its page, which shows what was released."""
    before = tensors(cache)
    for tensor in (*cache.keys, *cache.values):
        tensor += 1
    release_mapped(cache)
    pages = mmap.PAGESIZE // (8 * 2)  # tokens of a page
    inner = slice(pages, max(pages, TOKENS - pages))
    for got, kept in zip(tensors(cache), before, strict=True):
        assert torch.equal(got[:, :, inner], kept[:, :, inner])
        assert not torch.equal(got[:, :, TOKENS:], kept[:, :, TOKENS:])


def test_a_layer_is_released_without_the_others(cache: KVCache) -> None:
    """What a private mapping changed is lost with its page, which shows what was released."""
    before = tensors(cache)
    for tensor in (*cache.keys, *cache.values):
        tensor += 1
    changed = tensors(cache)
    release_layer(cache, 0)
    pages = mmap.PAGESIZE // (8 * 2)  # tokens of a page
    inner = slice(pages, TOKENS - pages)
    for got, kept, other in zip(tensors(cache)[::2], before[::2], changed[::2], strict=True):
        assert torch.equal(got[:, :, TOKENS:], other[:, :, TOKENS:])
        if inner.start < inner.stop:
            assert torch.equal(got[:, :, inner], kept[:, :, inner])
    for got, other in zip(tensors(cache)[1::2], changed[1::2], strict=True):
        assert torch.equal(got, other)


def test_tokens_that_are_in_memory_alone_stay(cache: KVCache) -> None:
    """Tokens computed after a truncation are not in the file."""
    cache.truncate(10)
    assert cache.mapped_tokens == 10
    for tensor in (*cache.keys, *cache.values):
        tensor[:, :, 10:] += 1
    cache.length = TOKENS
    changed = tensors(cache)
    release_layer(cache, 0)
    release_layer(cache, 1)
    for got, expected in zip(tensors(cache), changed, strict=True):
        assert torch.equal(got, expected)


def test_a_cache_in_memory_is_left_alone(config: NSAConfig) -> None:
    cache = KVCache(config, CAPACITY)
    cache.keys[0].fill_(3)
    cache.length = cache.mapped_tokens = TOKENS
    release_layer(cache, 0)
    assert (cache.keys[0] == 3).all()


def test_layers_are_released_within_the_block_alone(cache: KVCache) -> None:
    def interrupted() -> None:
        with releasing_layers([cache]):
            assert cache.releases_layers
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not cache.releases_layers


def test_attention_is_the_same_while_layers_are_released(cache: KVCache, config: NSAConfig) -> None:
    settings = config.answer_settings()
    q, k, v = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    step = [x.to(torch.bfloat16) for x in (q, k, v)]
    found = []
    for releases in (False, True, True):
        cache.releases_layers = releases
        with torch.inference_mode():
            found.append(cache.attend(1, *step, settings, None, True)[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
