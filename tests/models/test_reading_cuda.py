"""Prefill and decoding on a CUDA device equal those on a CPU up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_kernels import api
from nsa_kernels.api import Impl
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation import generate
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM

LENGTH = 3000

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def build(seed: int, **changes: Any) -> NSAForCausalLM:
    """A random model with a dense checkpoint's prefill settings."""
    torch.manual_seed(seed)
    config = NSAConfig(
        **{
            "vocab_size": 96,
            "hidden_size": 128,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "select_count": 8,
            **changes,
        }
    )
    model = NSAForCausalLM(config).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + torch.randn_like(parameter) * 0.02).bfloat16())
    return model


def read(model: NSAForCausalLM, device: str, dtype: torch.dtype) -> KVCache:
    ids = torch.randint(96, (LENGTH,), generator=torch.Generator().manual_seed(7))
    model.to(device=device, dtype=dtype)
    cache = KVCache(model.config, LENGTH + 100, dtype=dtype, device=model.device)
    list(prefill(model, ids, cache, chunk_size=1024))
    return cache


def errors(cache: KVCache, exact: KVCache) -> Tensor:
    """Largest error of each token's keys and values per layer: (L, S)."""
    pairs = ((cache.keys, exact.keys), (cache.values, exact.values))
    stacked = ([torch.stack(x)[..., :LENGTH, :].cpu().double() for x in pair] for pair in pairs)
    found = [ours - theirs for ours, theirs in stacked]
    return torch.cat(found, dim=-1).abs().amax(dim=(1, 2, 4))


def test_an_fp32_prefill_equals_the_cpu(seed: int) -> None:
    """Except for tiles with a near tie between two blocks."""
    model = build(seed)
    exact = read(model, "cpu", torch.float32)
    off = errors(read(model, "cuda", torch.float32), exact)
    assert off.quantile(0.9) < 1e-4
    assert off[0].max() < 1e-4


def test_a_bf16_prefill_is_as_exact_as_on_the_cpu(seed: int) -> None:
    """The device's error against fp32 is at most the CPU's."""
    model = build(seed)
    exact = read(model, "cpu", torch.float32)
    mine = errors(read(model, "cuda", torch.bfloat16), exact)
    plain = errors(read(model, "cpu", torch.bfloat16), exact)
    for share in (0.5, 0.9):
        assert mine.quantile(share) < 1.3 * plain.quantile(share)


def test_answers_equal_the_cpu(seed: int) -> None:
    model = build(seed, select_count=None)
    answers = []
    for device in ("cpu", "cuda"):
        cache = read(model, device, torch.float32)
        steps = decode(model, [5, 6, 7], cache, DecodeOptions(max_tokens=40, stop_ids=frozenset()))
        answers.append([(step.id, step.mass.cpu()) for step in steps])
    assert [token for token, _ in answers[0]] == [token for token, _ in answers[1]]
    for (_, expected), (_, mass) in zip(*answers, strict=True):
        torch.testing.assert_close(mass, expected, rtol=1e-3, atol=1e-5)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Impl]:
    """The implementations chosen for attention."""
    found: list[Impl] = []
    choose = api._choose

    def note(*arguments: Any) -> Impl:
        found.append(choose(*arguments))
        return found[-1]

    monkeypatch.setattr(api, "_choose", note)
    return found


def test_the_prefill_uses_the_kernels(chosen: list[Impl], seed: int) -> None:
    read(build(seed, select_count=16), "cuda", torch.bfloat16)
    assert set(chosen) == {Impl.TRITON}
    assert len(chosen) == (2 - 1) * 3  # the last layer only appends


def test_chunks_use_bounded_memory(seed: int) -> None:
    """Memory does not grow with the square of the tokens."""
    model = build(seed).to(device="cuda", dtype=torch.bfloat16)
    peaks = []
    for length in (32768, 131072):
        ids = torch.randint(96, (length,))
        cache = KVCache(model.config, length, dtype=model.dtype, device=model.device)
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        list(generate.prefill(model, ids, cache, chunk_size=16384))
        peaks.append(torch.cuda.max_memory_allocated() - held)
        del cache
    # Summaries are a part of the cache that the prefill computes.
    summaries = 2 * 2 * (131072 - 32768) // 4 * 64 * 2
    assert peaks[1] < peaks[0] + summaries + 2**28
