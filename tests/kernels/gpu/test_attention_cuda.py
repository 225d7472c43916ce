"""Native Sparse Attention with Triton on a CUDA device, in half precision.

`exactness.py` defines the comparison. Two small models are trained too; one of them is interpreted
and tests the code of the other.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
import triton
from exactness import (
    DEVICE,
    assert_same_choice,
    assert_the_same_twice,
    by_reference,
    by_triton,
    check,
    draw,
    gpu,
    last,
    pack,
    usual_memory,
)
from layouts import LAYOUTS, as_projected
from torch import Tensor

from nsa_kernels import api
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.gpu import (
    attention,
    banded,
    banded_backward,
    merge,
    merged,
    merged_backward,
    phi,
    selected,
    selected_backward,
    selection,
)
from nsa_kernels.gpu.hopper import support
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache import kv_cache
from nsa_models.configuration.config import NSAConfig
from nsa_models.transformers_model import NSAForCausalLM

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

TRAINED = NSAConfig(
    vocab_size=128,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=64,
    combine="gated",
    compress_block=32,
    compress_stride=16,
    select_count=4,
    select_tile=1,
    score_stride=1,
    window=128,
)


def train(
    config: NSAConfig,
    impl: Impl,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    *,
    steps: int,
    length: int,
    batch: int,
    seed: int,
) -> Tensor:
    """Losses of training a random model with one implementation of attention: (steps,).

    Each token follows from the one before it by a random permutation; one token in ten is random.
    """
    asked = []

    def forced(*arguments: Any, **options: Any) -> Any:
        asked.append(impl)
        return nsa_attention(*arguments, **options, impl=impl)

    monkeypatch.setattr(kv_cache, "nsa_attention", forced)
    torch.manual_seed(seed)
    model = NSAForCausalLM(config).to(DEVICE, dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data = torch.Generator().manual_seed(seed)
    follows = torch.randperm(config.vocab_size, generator=data)
    losses = []
    for _ in range(steps):
        ids = torch.randint(config.vocab_size, (batch, length), generator=data)
        kept = torch.rand(batch, length, generator=data) > 0.1
        for t in range(1, length):
            ids[:, t] = torch.where(kept[:, t], follows[ids[:, t - 1]], ids[:, t])
        ids = ids.to(DEVICE)
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().double())
    assert len(asked) == steps * config.num_hidden_layers
    return torch.stack(losses).cpu()


def test_training_follows_the_reference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = NSAConfig.from_dict(
        {
            **TRAINED.to_dict(),
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "compress_block": 8,
            "compress_stride": 4,
            "select_block": 16,
            "select_tile": 16,
            "window": 24,
        }
    )
    of = {"steps": 2, "length": 40, "batch": 1, "seed": seed}
    with usual_memory():
        got = train(config, Impl.TRITON, torch.float32, monkeypatch, **of)
        expected = train(config, Impl.REFERENCE, torch.float32, monkeypatch, **of)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert got[0] != got[1]


LARGE = AttentionSettings(combine="gated", select_count=8, window=256)
READING = AttentionSettings(
    compress_block=4, compress_stride=4, select_tile=64, score_stride=4, select_count=8, window=256
)
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


CUDA_CASES = pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        (LARGE, {"dtype": BF16, "dim": 128, "groups": 1, "repeat": 16}),
        (READING, {"dtype": FP16, "dim": 64, "groups": 2, "repeat": 7}),
    ],
    ids=["gated", "union"],
)


@gpu
@CUDA_CASES
@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 65, 1000, 4097])
def test_lengths_on_cuda(
    settings: AttentionSettings, drawn: dict[str, Any], length: int, seed: int
) -> None:
    torch.manual_seed(seed)
    check(draw(settings, length, **drawn, summaries=True), settings)


@gpu
@pytest.mark.parametrize(
    ("changes", "drawn"),
    [
        ({"compress_block": 4, "compress_stride": 4}, (FP16, 64, 64, 1)),
        (
            {"combine": "union", "compress_block": 8, "compress_stride": 8, "select_tile": 64},
            (BF16, 96, 96, 3),
        ),
        (
            {"compress_block": 16, "compress_stride": 16, "select_tile": 64, "score_stride": 4},
            (BF16, 192, 128, 6),
        ),
        ({"combine": "union", "compress_block": 12, "compress_stride": 4}, (FP16, 128, 128, 7)),
        (
            {"compress_block": 12, "compress_stride": 4, "select_tile": 64, "score_stride": 4},
            (BF16, 64, 64, 32),
        ),
        ({"combine": "union", "select_tile": 64, "score_stride": 4}, (BF16, 128, 128, 2)),
        ({"combine": "union"}, (FP16, 192, 128, 16)),
        ({"compress_block": 8, "compress_stride": 8}, (FP16, 96, 96, 16)),
        ({}, (FP32, 64, 64, 2)),
        ({"combine": "union", "compress_block": 4, "compress_stride": 4}, (FP32, 128, 128, 1)),
    ],
)
def test_dims_groups_and_summaries_on_cuda(
    changes: dict[str, Any], drawn: tuple[torch.dtype, int, int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(LARGE, **changes)
    dtype, dim, value_dim, repeat = drawn
    of = {"dtype": dtype, "dim": dim, "value_dim": value_dim, "repeat": repeat, "summaries": True}
    check(draw(settings, 1000, batch=2 if repeat < 16 else 1, **of), settings)
    check(draw(settings, 77, 700, **of), settings)


@gpu
@CUDA_CASES
def test_sixty_five_thousand_tokens_on_cuda(
    settings: AttentionSettings, drawn: dict[str, Any], seed: int
) -> None:
    torch.manual_seed(seed)
    length = 65537
    queries = 64 + (length - 64) % settings.select_tile
    tensors = draw(settings, length, **drawn, summaries=True)
    grad = torch.randn_like(tensors["q"])
    grad[:, :, :-queries] = 0.0
    got = check(tensors, settings, grad=grad, parts=[last(queries, length, settings)])
    assert not got["dq"][:, :, :-queries].any()
    few = {name: x[:, :, -queries:] if name in ("q", "gates") else x for name, x in tensors.items()}
    check(few, settings)


@gpu
@CUDA_CASES
def test_a_million_tokens_on_cuda(
    settings: AttentionSettings, drawn: dict[str, Any], seed: int
) -> None:
    """Compare the last queries of a million tokens with the reference."""
    torch.manual_seed(seed)
    length, queries = 1_000_001, 65
    one = {**drawn, "groups": 1, "repeat": 2}
    tensors = draw(settings, length, **one, summaries=True)
    of_query = {name: x for name, x in tensors.items() if name in ("q", "gates")}
    few = {**tensors, **{name: x[:, :, -queries:] for name, x in of_query.items()}}
    got, blocks = by_triton(few, settings)
    _, (own, importances) = by_reference(
        {name: x.double() for name, x in few.items()}, settings, blocks, None
    )
    assert_same_choice(blocks, own, importances, terms=2 * 64 * 8)
    with torch.no_grad():
        out, all_blocks = attention.triton_attention(**tensors, settings=settings)
    assert torch.equal(all_blocks[:, :, -blocks.shape[2] :], blocks)
    assert torch.equal(out[:, :, -queries:], got["out"])


@gpu
@CUDA_CASES
@pytest.mark.parametrize("given", [False, True])
def test_packed_sequences_on_cuda(
    settings: AttentionSettings, drawn: dict[str, Any], given: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    lengths = [(1, 1), (1000, 1000), (5, 700), (0, 0), (1, 333), (64, 64), (33, 2000), (31, 31)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys, **drawn)
    if given:
        total = parts[-1].summaries.stop
        for name in ["summary_k", "summary_v"][: 2 if settings.combine == "gated" else 1]:
            like = tensors[name[-1]]
            tensors[name] = torch.randn_like(like[:, :, :1].expand(-1, -1, total, -1))
        check(tensors, settings, packing=packing, parts=parts)
        return
    # In half precision a mean that rounds differently is another summary. Other tests compare the
    # means; this one compares with the same sequences in separate calls, which other kernels may
    # take. An element is a sum of terms that may cancel out: its rounding is that of its row.
    grad = torch.randn_like(tensors["q"])
    packed, blocks = by_triton(tensors, settings, grad, packing)
    for part in parts:
        one = part.of(tensors)
        if one["q"].shape[2]:
            alone, chosen = by_triton(one, settings, grad[:, :, part.queries])
            assert torch.equal(chosen, blocks[:, :, part.tiles])
            for name, x in part.of(packed).items():
                row = alone[name].abs().amax(dim=-1, keepdim=True)
                assert ((x - alone[name]).abs() <= 2e-2 * (1 + row)).all(), name


@gpu
@CUDA_CASES
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "gates" not in name])
def test_layouts_on_cuda(
    settings: AttentionSettings, drawn: dict[str, Any], layout: str, seed: int
) -> None:
    torch.manual_seed(seed)
    tensors = draw(settings, 333, **drawn, batch=2, summaries=True)
    tensors |= LAYOUTS[layout](tensors)
    if settings.combine == "gated":
        tensors |= LAYOUTS["gates"](tensors)
    check(tensors, settings)
    check(tensors, settings, drawn_grad=False)
    dim = tensors["v"].shape[3]
    grad = torch.randn(dim, device=DEVICE).to(drawn["dtype"]).expand(*tensors["q"].shape[:3], dim)
    check(tensors, settings, grad=grad)


@gpu
@CUDA_CASES
def test_results_are_deterministic_on_cuda(
    settings: AttentionSettings, drawn: dict[str, Any], seed: int
) -> None:
    torch.manual_seed(seed)
    assert_the_same_twice(draw(settings, 4097, **drawn), settings)


@gpu
@CUDA_CASES
@torch.no_grad()
def test_a_graph_computes_what_calls_do(
    settings: AttentionSettings, drawn: dict[str, Any], seed: int
) -> None:
    """To the bit, with inputs that changed after the capture; the window has its own stream."""
    torch.manual_seed(seed)
    tensors = draw(settings, 4097, **drawn)
    others = [draw(settings, 4097, **drawn) for _ in range(3)]
    with usual_memory():
        eager = [nsa_attention(**each, settings=settings, impl=Impl.TRITON).out for each in others]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = nsa_attention(**tensors, settings=settings, impl=Impl.TRITON).out
        for drawn_next, want in zip(others, eager, strict=True):
            for name, x in drawn_next.items():
                tensors[name].copy_(x)
            graph.replay()
            assert torch.equal(out, want)


@gpu
@CUDA_CASES
def test_equal_importances_on_cuda(settings: AttentionSettings, drawn: dict[str, Any]) -> None:
    tensors = draw(settings, 2000, **drawn, batch=2)
    tensors["k"].fill_(0.5)
    _, blocks = by_triton(tensors, settings)
    per_block = settings.select_block // settings.select_tile
    for tile, chosen in enumerate(blocks[1, -1].tolist()):
        current = tile // per_block
        end = current + 1 if settings.combine == "gated" else max(current - 4, 0)
        forced = [n for n in range(end) if n == 0 or n > current - 2]
        rest = [n for n in range(end) if n not in forced]
        assert chosen == (forced + rest + [-1] * 8)[:8]


@gpu
def test_triton_is_the_default_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(api, "_by_blocks")
    monkeypatch.delattr(api, "nsa_reference")
    tensors = draw(LARGE, 100, dtype=BF16, dim=128, groups=1, repeat=16)
    assert nsa_attention(**tensors, settings=LARGE).out.isfinite().all()


def kernels() -> dict[str, Any]:
    """The package's Triton kernels by name."""
    modules = [attention, banded, banded_backward, phi, selected, selected_backward, selection]
    modules += [merge, merged, merged_backward]
    if torch.cuda.get_device_capability()[0] == 9 and support.has_gluon():
        rooms = ("banded", "importance", "keys_backward", "lists", "merged")
        modules += [import_module(f"nsa_kernels.gpu.hopper.{name}") for name in rooms]
    every = {name: x for module in modules for name, x in vars(module).items()}
    return {name: x for name, x in every.items() if isinstance(x, triton.JITFunction)}


def variants() -> Counter[str]:
    """Number of compiled variants of each kernel."""
    return Counter(
        {
            name: sum(len(cached[0]) for cached in kernel.device_caches.values())
            for name, kernel in kernels().items()
        }
    )


@gpu
@CUDA_CASES
def test_no_kernel_is_compiled_per_length(
    settings: AttentionSettings, drawn: dict[str, Any]
) -> None:
    """A kernel may have a second variant, for strides not divisible by 16, but no third."""
    settings = replace(settings, select_count=16)

    def at(length: int) -> Counter[str]:
        """Variants compiled for a length."""
        before = variants()
        tensors = draw(settings, length, **drawn)
        if "gates" in tensors:
            tensors["gates"] = as_projected(tensors["gates"])
        by_triton(tensors, settings, torch.randn_like(tensors["q"]))
        return variants() - before

    for kernel in kernels().values():
        kernel.device_caches.clear()
    first = at(999)
    assert len(first) >= 8
    later = at(1024)
    for length in (1000, 1001, 1024, 3000):
        later += at(length)
    assert not later - first, (later - first, first)
    assert not at(1999)
    assert not at(2048)


@gpu
def test_training_on_cuda_follows_the_reference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss curve deviates from the reference no more than bf16 itself does.

    The steep part is not compared: its start depends on the last bits in any bf16 run.
    """
    of = {"steps": 50, "length": 1024, "batch": 2, "seed": seed}
    with usual_memory():
        exact = train(TRAINED, Impl.REFERENCE, FP32, monkeypatch, **of)
        eager = train(TRAINED, Impl.REFERENCE, BF16, monkeypatch, **of)
        got = train(TRAINED, Impl.TRITON, BF16, monkeypatch, **of)
    assert exact[-1] < 0.7 * math.log(TRAINED.vocab_size)
    found, noise = ((run - exact)[:12].abs() for run in (got, eager))
    assert found.mean() <= 2 * noise.mean() + 1e-3, (got, eager, exact)
    assert found.max() <= 3 * noise.max() + 1e-3, (got, eager, exact)
    assert abs(got[-10:].mean() / exact[-10:].mean() - 1) < 0.05, (got, eager, exact)
