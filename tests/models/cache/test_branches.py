"""The cache of a model whose branches have separate keys and values: exact, and no larger."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_models.cache.batch import CacheBatch
from nsa_models.cache.branches import RecentTokens
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.cache.placement import cache_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.generation.excerpts import Excerpt, join_excerpts
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "combine": "gated",
    "compress_block": 12,
    "compress_stride": 4,
    "answer_compress_block": 12,
    "answer_compress_stride": 4,
    "select_block": 16,
    "select_tile": 16,
    "select_count": 3,
    "answer_select_count": 4,
    "window": 40,
    "answer_window": 24,
}
HALF: dict[str, Any] = {
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5,
    },
}  # fmt: skip
"""A rotary embedding of half of each head, as in `examples/pretrain_twins.toml`."""

KINDS: dict[str, dict[str, Any]] = {
    "separate": {"branch_keys": "separate"},
    "linear": {"compress_phi": "linear"},
    "whole": {"branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 16},
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, **changes: Any) -> NSAForCausalLM:
    model = NSAForCausalLM(NSAConfig(**{**SIZES, **KINDS[kind], **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def random_ids(*shape: int) -> Tensor:
    return torch.randint(96, shape)


@EVERY
@pytest.mark.parametrize("rotary", [{}, HALF], ids=["", "half"])
@pytest.mark.parametrize("release", [False, True], ids=["kept", "released"])
def test_decoding_equals_the_full_pass(
    kind: str, release: bool, rotary: dict[str, Any], seed: int
) -> None:
    """Parts of one token to a hundred, each with the settings of the answer."""
    model, ids, dice = build(kind, **rotary), random_ids(1, 333), random.Random(seed)
    settings = model.config.answer_settings()
    cache = KVCache(model.config, 340)
    with torch.no_grad():
        full = model(ids, settings=settings).logits
        parts = []
        while cache.length < 333:
            end = min(333, cache.length + dice.choice([1, 1, 2, 9, 33, 100]))
            parts.append(model(ids[:, cache.length : end], cache=cache, settings=settings).logits)
            if release:
                cache.release_recent()
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-4)


@EVERY
def test_prefill_and_decode_are_greedy_as_the_full_pass(kind: str) -> None:
    """With one kind of settings throughout, so that one pass can check the choices."""
    model = build(kind, select_tile=1, score_stride=1, answer_window=40, answer_select_count=3)
    ids = random_ids(150)
    cache = KVCache(model.config, 200)
    list(prefill(model, ids[:130], cache, chunk_size=32))
    options = DecodeOptions(max_tokens=20, stop_ids=frozenset())
    steps = list(decode(model, ids[130:], cache, options, quoted=ids[:130].tolist()))
    answer = torch.tensor([step.id for step in steps])
    with torch.no_grad():
        logits = model(torch.cat([ids, answer])[None]).logits[0, 149:-1]
    best = logits.max(dim=-1).values
    chosen = logits.gather(1, answer[:, None])[:, 0]
    torch.testing.assert_close(chosen, best, rtol=1e-4, atol=1e-4)


@EVERY
def test_a_question_is_forgotten(kind: str) -> None:
    """A second question after a truncation gives what it gives after the text alone."""
    model, text = build(kind), random_ids(200)
    first, second = random_ids(1, 60), random_ids(1, 7)
    settings = model.config.answer_settings()
    found = []
    for asked in (True, False):
        cache = KVCache(model.config, 300)
        list(prefill(model, text, cache, chunk_size=64))
        with torch.inference_mode():
            if asked:
                model(first, cache=cache, settings=settings)
                cache.truncate(200)
            found.append(model(second, cache=cache, settings=settings).logits)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_what_was_released_cannot_be_gone_back_to() -> None:
    model, ids = build("separate"), random_ids(1, 100)
    cache = KVCache(model.config, 200)
    with torch.no_grad():
        model(ids, cache=cache)
        cache.truncate(70)
        cache.release_recent()
        cache.truncate(70)
        with pytest.raises(ValueError, match="cannot go back to 69 tokens"):
            cache.truncate(69)
        cache.truncate(0)
        again = model(ids, cache=cache).logits
        torch.testing.assert_close(again, model(ids).logits, rtol=1e-4, atol=1e-4)


@EVERY
@pytest.mark.parametrize("tokens", [5, 64, 301])
def test_the_cache_holds_no_more_than_it_needs(kind: str, tokens: int) -> None:
    """The last 39 tokens of the window, and of the compression those of no complete block."""
    model = build(kind)
    cache = KVCache(model.config, 1000)
    list(prefill(model, random_ids(tokens), cache, chunk_size=64))
    of_a_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, groups, head dim, bytes
    window = min(tokens, 39) if KINDS[kind].get("branch_keys") else 0
    rest = tokens - model.config.prefill_settings().complete_blocks(tokens) * 4
    assert cache.recent_bytes == (window + rest) * of_a_token
    assert rest < 12


def test_an_untrained_phi_and_shared_keys_hold_nothing_more() -> None:
    model = NSAForCausalLM(NSAConfig(**SIZES)).eval()
    cache = KVCache(model.config, 100)
    list(prefill(model, random_ids(90), cache, chunk_size=64))
    assert cache.recent_bytes == 0


@EVERY
def test_the_estimate_of_the_cache(kind: str) -> None:
    shared, config = NSAConfig(**SIZES), NSAConfig(**SIZES, **KINDS[kind])
    window = 39 if config.branch_keys == "separate" else 0
    more = cache_bytes(config, 1000, torch.float32) - cache_bytes(shared, 1000, torch.float32)
    assert more == (11 + window) * 2 * 2 * 2 * 8 * 4


@EVERY
def test_rows_of_a_batch_equal_single_texts(kind: str) -> None:
    """Texts of different lengths, and one question to all of them."""
    model, question = build(kind), random_ids(1, 9)
    settings = model.config.answer_settings()
    caches = []
    for tokens in (50, 129):
        cache = KVCache(model.config, 160)
        list(prefill(model, random_ids(tokens), cache, chunk_size=32))
        caches.append(cache)
    with torch.inference_mode():
        alone = []
        for cache in caches:
            alone.append(model(question, cache=cache, settings=settings).logits)
            cache.truncate(cache.length - 9)
        both = model(question.expand(2, -1), cache=CacheBatch(caches), settings=settings).logits
    torch.testing.assert_close(both, torch.cat(alone), rtol=1e-4, atol=1e-4)


@EVERY
def test_an_offloaded_cache_gives_the_same(kind: str) -> None:
    model, ids, cpu = build(kind), random_ids(1, 190), torch.device("cpu")
    found = []
    for offloaded in (False, True):
        cache = KVCache(model.config, 200)
        if offloaded:
            cache = OffloadedCache(model.config, cache, [cpu] * 2)
        list(prefill(model, ids[0, :170], cache, chunk_size=64))
        with torch.inference_mode():
            found.append(model(ids[:, 170:], cache=cache).logits)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_excerpts_are_refused() -> None:
    model = build("separate")
    cache = KVCache(model.config, 100)
    list(prefill(model, random_ids(90), cache, chunk_size=64))
    with pytest.raises(ModelError, match="cannot answer from parts of a stored text"):
        join_excerpts(model, [Excerpt(cache, 0, 32)], 10)


def test_recent_tokens_in_random_order(seed: int) -> None:
    dice, recent, whole = random.Random(seed), RecentTokens(), torch.zeros(1, 2, 0, 3)
    first = 0
    for _ in range(60):
        at = dice.randint(first, whole.shape[2])
        new = torch.randn(1, 2, dice.choice([1, 2, 40]), 3)
        whole = torch.cat([whole[:, :, :at], new], dim=2)
        recent.append(new, at)
        if dice.random() < 0.3:
            first = dice.randint(first, recent.stop)
            recent.release(first)
        assert (recent.first, recent.stop) == (first, whole.shape[2])
        assert torch.equal(recent.since(first), whole[:, :, first:])
