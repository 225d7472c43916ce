"""Inputs, the fp64 reference and the tolerance of the Triton attention tests.

A kernel's error against fp64 is at most the error of the reference in the kernel's precision, plus
an epsilon that grows with the square root of the number of summed terms. Selections are compared
separately, with the reference's fp64 importances, so that a near tie does not count as an error.
The reference then attends to the blocks that the kernel selected, so that every query is compared.

Letters: B batch, T query tokens, S key tokens, H query heads, G key/value groups, R = H / G,
D head dim, C summaries, N selection blocks, n selected blocks, U tiles of queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.gpu.attention import triton_attention
from nsa_kernels.gpu.bands import Band
from nsa_kernels.gpu.layout import Packing
from nsa_kernels.settings import AttentionSettings

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"

Tensors = dict[str, Tensor]

SMALL = AttentionSettings(
    combine="gated",
    compress_block=8,
    compress_stride=4,
    select_block=16,
    select_count=4,
    select_tile=16,
    window=24,
)
"""Sizes with many blocks in a hundred tokens."""


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that is too large for the interpreter.

    The first matrix product of a process in autograd's own thread may find no current context:
    cuBLAS sets it and warns once. Triton sets it without a warning, so the order of tests decides.
    """
    known = "ignore:Attempting to run cuBLAS, but there was no current CUDA context"
    test = pytest.mark.filterwarnings(known)(test)
    return pytest.mark.gpu(pytest.mark.skipif(not CUDA, reason="no CUDA device")(test))


@contextmanager
def usual_memory() -> Iterator[None]:
    """Run PyTorch with defaults: nondeterministic, and without NaN in new tensors."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def summary_count(seq_len: int, settings: AttentionSettings) -> int:
    """C, the number of complete compression blocks."""
    return len(range(0, seq_len - settings.compress_block + 1, settings.compress_stride))


def tile_count(queries: int, seq_len: int, settings: AttentionSettings) -> int:
    """U, the number of tiles of the last `queries` of `seq_len` tokens."""
    tiles = {p // settings.select_tile for p in range(seq_len - queries, seq_len)}
    return len(tiles)


def draw(
    settings: AttentionSettings,
    queries: int,
    seq_len: int | None = None,
    *,
    batch: int = 1,
    groups: int = 2,
    repeat: int = 2,
    dim: int = 16,
    value_dim: int | None = None,
    dtype: torch.dtype = torch.float32,
    summaries: bool = False,
    window: int | None = None,
) -> Tensors:
    """Random q, k and v, gates in `gated` mode, and summaries if requested.

    With `window` the window has separate keys and values for so many last positions.
    """
    seq_len = queries if seq_len is None else seq_len
    value_dim = dim if value_dim is None else value_dim
    heads = groups * repeat

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=DEVICE).to(dtype)

    drawn = {
        "q": normal(batch, heads, queries, dim) * 2,
        "k": normal(batch, groups, seq_len, dim),
        "v": normal(batch, groups, seq_len, value_dim),
    }
    if summaries:
        count = summary_count(seq_len, settings)
        drawn["summary_k"] = normal(batch, groups, count, dim)
        if settings.combine == "gated":
            drawn["summary_v"] = normal(batch, groups, count, value_dim)
    if window is not None:
        drawn["window_k"] = normal(batch, groups, window, dim)
        drawn["window_v"] = normal(batch, groups, window, value_dim)
    if settings.combine == "gated":
        drawn["gates"] = torch.rand(batch, heads, queries, 3, device=DEVICE).to(dtype)
    return drawn


def masked_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Masked softmax attention: output (B, H, T, Dv) and base-2 log-sum-exp (B, H, T).

    `seen` broadcasts to (B, G, T, J). A query that sees no key gets zeros and +inf.
    """
    repeat = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
    seen = seen.expand(q.shape[0], k.shape[1] // repeat, -1, -1).repeat_interleave(repeat, dim=1)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~seen, float("-inf"))
    any_seen = seen.any(dim=-1)
    lse = scores.logsumexp(dim=-1).detach() / math.log(2)
    probs = scores.masked_fill(~any_seen[..., None], 0.0).softmax(dim=-1).masked_fill(~seen, 0.0)
    return probs @ v, lse.masked_fill(~any_seen, float("inf"))


def seen_by(band: Band, queries: int, seq_len: int, keys: int) -> Tensor:
    """Mask of the keys of a band that each query sees: (T, J)."""
    position = torch.arange(seq_len - queries, seq_len, device=DEVICE)[:, None]
    end = torch.arange(keys, device=DEVICE) * band.key_stride + band.key_block - 1
    seen = end <= position
    return seen if band.window is None else seen & (end > position - band.window)


def assert_as_exact(
    name: str, got: Tensor, exact: Tensor, eager: Tensor, *, terms: int, unit: float
) -> None:
    """Assert the tolerance, for the largest error and for the norm of each head's error.

    Args:
        name: Name of the compared tensor.
        got: The kernel's result.
        exact: The reference in fp64.
        eager: The reference in the kernel's precision.
        terms: Number of products summed for one element.
        unit: Magnitude of an element before cancellation. Its rounding error, in one row of a head,
            is always allowed.
    """
    assert got.shape == exact.shape, name
    assert got.dtype == eager.dtype, name
    if not exact.numel():
        return
    single = torch.finfo(torch.float32).eps
    eps = torch.finfo(got.dtype).eps + single * terms**0.5
    measures: dict[str, Callable[[Tensor], Tensor]] = {
        "largest": lambda x: x.abs().max(),
        "norm": lambda x: x.flatten(2).norm(dim=2),
    }
    got, exact, eager = got.detach().double(), exact.detach(), eager.detach().double()
    for measure, of in measures.items():
        row = unit if measure == "largest" else unit * exact.shape[-1] ** 0.5
        error, allowed = of(got - exact), of(eager - exact) + eps * (of(exact) + row)
        assert (error <= allowed).all(), (name, measure, error.max(), allowed.max())


def assert_same_choice(got: Tensor, own: Tensor, importances: Tensor, *, terms: int) -> None:
    """Assert that blocks are the reference's, except at near ties.

    Place by place, the importance of the selected block equals that of the reference's block, up to
    the rounding of its sum. Where the gap is wider, the blocks are equal.

    Args:
        got: (B, G, U, n), the kernel's blocks.
        own: (B, G, U, at most n), the reference's blocks.
        importances: (B, G, U, N), the reference's importances in fp64.
        terms: Number of terms summed for one importance.
    """
    count = own.shape[-1]
    assert got.dtype == torch.int32
    assert (got[..., count:] == -1).all()
    got = got[..., :count].long()
    assert torch.equal(got < 0, own < 0), (got, own)
    mine, theirs = (importances.gather(-1, x.clamp(min=0)) for x in (got, own))
    rounding = 16 * torch.finfo(torch.float32).eps * terms**0.5 * torch.maximum(mine, theirs)
    near = ((mine - theirs).abs() <= rounding) & (theirs > 0)
    assert (near | (got == own)).all(), (got, own)
    ordered = got.sort().values
    assert not ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a call that the reference can compute separately, as slices of the tensors."""

    queries: slice
    keys: slice
    summaries: slice
    tiles: slice

    def of(self, tensors: Tensors) -> Tensors:
        """Slice each tensor or gradient to the part."""
        axes = {
            "summary": self.summaries,
            "k": self.keys,
            "v": self.keys,
            "window": self.keys,
        }
        return {
            name: x[:, :, axes.get(name.split("_")[0].removeprefix("d"), self.queries)]
            for name, x in tensors.items()
        }


WHOLE = Part(queries=slice(None), keys=slice(None), summaries=slice(None), tiles=slice(None))


def last(queries: int, seq_len: int, settings: AttentionSettings) -> Part:
    """The last queries of a call, from the start of a tile."""
    assert (seq_len - queries) % settings.select_tile == 0
    tiles = tile_count(queries, seq_len, settings)
    return Part(
        queries=slice(-queries, None),
        keys=slice(None),
        summaries=slice(None),
        tiles=slice(-tiles, None),
    )


def pack(lengths: list[tuple[int, int]], settings: AttentionSettings) -> tuple[Packing, list[Part]]:
    """Concatenate sequences with the given numbers of queries and keys; return their parts."""
    parts = []
    ends = [0, 0, 0, 0]
    cu: list[list[int]] = [[0], [0]]
    for queries, seq_len in lengths:
        begins = ends
        sizes = (
            queries,
            seq_len,
            summary_count(seq_len, settings),
            tile_count(queries, seq_len, settings),
        )
        ends = [begin + size for begin, size in zip(begins, sizes, strict=True)]
        at = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]
        parts.append(Part(queries=at[0], keys=at[1], summaries=at[2], tiles=at[3]))
        cu[0].append(ends[0])
        cu[1].append(ends[1])
    cu_queries, cu_keys = (torch.tensor(x, dtype=torch.int32, device=DEVICE) for x in cu)
    packing = Packing(
        cu_queries=cu_queries,
        cu_keys=cu_keys,
        max_queries=max(queries for queries, _ in lengths),
        max_keys=max(seq_len for _, seq_len in lengths),
    )
    return packing, parts


def differentiate(
    call: Callable[..., tuple[Tensor, Any]], tensors: Tensors, grad: Tensor | None
) -> tuple[Tensors, Any]:
    """Output, gradients of all inputs, and the call's second result.

    The inputs keep their memory layout. The output's gradient is that of its sum when None.
    """
    leaves = {name: x.detach().requires_grad_() for name, x in tensors.items()}
    out, also = call(**leaves)
    if grad is None:
        grad = torch.ones((), dtype=out.dtype, device=out.device).expand_as(out)
    else:
        grad = grad.to(out.dtype)
    gradients = torch.autograd.grad(
        out, list(leaves.values()), grad, allow_unused=True, materialize_grads=True
    )
    return {"out": out, **{f"d{n}": x for n, x in zip(leaves, gradients, strict=True)}}, also


def by_reference(
    tensors: Tensors, settings: AttentionSettings, blocks: Tensor, grad: Tensor | None
) -> tuple[Tensors, tuple[Tensor, Tensor]]:
    """The reference's output and gradients with attention to `blocks`.

    Also returns the blocks that the reference selects, and their importances.
    """
    choose = reference.select
    seen: list[tuple[Tensor, Tensor]] = []

    def instead(importances: Tensor, position: Tensor, settings: AttentionSettings) -> Tensor:
        seen.append((choose(importances, position, settings), importances.detach()))
        return blocks.long()

    def call(**leaves: Tensor) -> tuple[Tensor, None]:
        return reference.nsa_reference(**leaves, settings=settings)[0], None

    with usual_memory(), patch.object(reference, "select", instead):
        results, _ = differentiate(call, tensors, grad)
    return results, seen[0]


def by_triton(
    tensors: Tensors,
    settings: AttentionSettings,
    grad: Tensor | None = None,
    packing: Packing | None = None,
) -> tuple[Tensors, Tensor]:
    """The kernels' output, gradients and selected blocks."""

    def call(**leaves: Tensor) -> tuple[Tensor, Tensor]:
        return triton_attention(**leaves, settings=settings, packing=packing)

    results, blocks = differentiate(call, tensors, grad)
    return results, blocks


def units(tensors: Tensors) -> dict[str, float]:
    """Magnitude of each result with a single key; see `assert_as_exact`.

    Gradients assume an output gradient of unit variance. Keys and values sum it over the heads of a
    group. If a query sees one key, each branch's contribution to the query's gradient cancels up to
    the rounding of its output, which differs between branches.
    """
    branches = 3 if "gates" in tensors else 1
    largest = {name: float(x.detach().abs().max()) for name, x in tensors.items() if x.numel()}
    heads = (tensors["q"].shape[1] / tensors["k"].shape[1]) ** 0.5
    return {
        "out": max(largest["v"], largest.get("window_v", 0.0)),
        "dq": max(largest["k"], largest.get("window_k", 0.0)) * branches**0.5,
        "dk": largest["q"] * heads,
        "dsummary_k": largest["q"] * heads,
        "dv": heads,
        "dsummary_v": heads,
        "dwindow_k": largest["q"] * heads,
        "dwindow_v": heads,
        "dgates": tensors["v"].shape[3] ** 0.5,
    }


def check(
    tensors: Tensors,
    settings: AttentionSettings,
    *,
    grad: Tensor | None = None,
    drawn_grad: bool = True,
    packing: Packing | None = None,
    parts: list[Part] | None = None,
    least_terms: int = 0,
) -> Tensors:
    """Compare output, selection and gradients with the reference; return the kernels' results.

    Args:
        tensors: The arguments of `triton_attention`.
        settings: Block sizes and budgets.
        grad: The output's gradient; random when None.
        drawn_grad: Whether to draw a random gradient; False uses the gradient of the sum.
        packing: Offsets of packed sequences, or None.
        parts: Parts to compare; all when None. The output's gradient is zero elsewhere.
        least_terms: Minimum number of terms in the tolerance.
    """
    q, k, v = (tensors[name] for name in "qkv")
    if grad is None and drawn_grad:
        grad = torch.randn(*q.shape[:3], v.shape[3], device=q.device).to(q.dtype)
    got, blocks = by_triton(tensors, settings, grad, packing)
    repeat = q.shape[1] // k.shape[1]
    scored = repeat * settings.select_tile // settings.score_stride
    overlap = settings.compress_block // settings.compress_stride
    for part in parts or [WHOLE]:
        of_part, chosen = part.of(tensors), blocks[:, :, part.tiles]
        slope = None if grad is None else grad[:, :, part.queries]
        if not of_part["q"].shape[2]:
            continue
        double = {name: x.detach().double() for name, x in of_part.items()}
        exact, (own, importances) = by_reference(double, settings, chosen, slope)
        eager, _ = by_reference(of_part, settings, chosen, slope)
        assert_same_choice(chosen, own, importances, terms=q.shape[3] + scored * overlap)
        terms = max(q.shape[3] + repeat * of_part["k"].shape[2], least_terms)
        for name, x in part.of(got).items():
            assert_as_exact(
                name, x, exact[name], eager[name], terms=terms, unit=units(of_part)[name]
            )
    return got


def random_blocks(
    settings: AttentionSettings,
    queries: int,
    seq_len: int,
    *,
    count: int,
    batch: int = 1,
    groups: int = 2,
) -> Tensor:
    """Each tile's own block and random earlier blocks, shuffled, padded with -1: (B, G, U, n)."""
    tiles = tile_count(queries, seq_len, settings)
    first = (seq_len - queries) // settings.select_tile
    start = (torch.arange(tiles, device=DEVICE) + first) * settings.select_tile
    own = (start // settings.select_block)[:, None]
    blocks = seq_len // settings.select_block + count
    scores = torch.rand(batch, groups, tiles, blocks, device=DEVICE)
    number = torch.arange(blocks, device=DEVICE)
    scores = scores.masked_fill(number == own, 2.0).masked_fill(number > own, -1.0)
    chosen = scores.topk(count)
    order = torch.rand(chosen.values.shape, device=DEVICE).masked_fill(chosen.values < 0, 2.0)
    picked = chosen.indices.masked_fill(chosen.values < 0, -1).gather(-1, order.argsort(dim=-1))
    return picked.to(torch.int32)


def union_blocks(
    settings: AttentionSettings, queries: int, seq_len: int, *, batch: int = 1, groups: int = 2
) -> Tensor:
    """Lists of `union` mode with random selected blocks, as `select_blocks` returns them.

    Returns:
        (B, G, U, n) int32: selected blocks before the window, padded with -1, then each tile's own
        block and those of its window, latest first.
    """
    assert settings.select_count is not None
    first = (seq_len - queries) // settings.select_tile
    tile = torch.arange(tile_count(queries, seq_len, settings), device=DEVICE) + first
    own = (tile * settings.select_tile // settings.select_block)[:, None]
    number = torch.arange(seq_len // settings.select_block + settings.select_count, device=DEVICE)
    scores = torch.rand(batch, groups, len(tile), len(number), device=DEVICE)
    chosen = scores.masked_fill(number >= own - settings.window_blocks, -1.0).topk(
        settings.select_count
    )
    selected = chosen.indices.masked_fill(chosen.values < 0, -1)
    back = torch.arange(settings.window_blocks + 1, device=DEVICE)
    recent = (own - back).clamp(min=-1).expand(batch, groups, -1, -1)
    return torch.cat([selected, recent], dim=-1).to(torch.int32)


def seen_in(blocks: Tensor, queries: int, seq_len: int, settings: AttentionSettings) -> Tensor:
    """Mask of the keys that each query sees in its tile's blocks: (B, G, T, S)."""
    position = torch.arange(seq_len - queries, seq_len, device=DEVICE)
    tile = position // settings.select_tile - position[0] // settings.select_tile
    key = torch.arange(seq_len, device=DEVICE)
    chosen = blocks[:, :, tile, :, None] == key // settings.select_block
    return chosen.any(dim=3) & (key <= position[:, None])


def assert_the_same_twice(tensors: Tensors, settings: AttentionSettings) -> None:
    grad = torch.randn(*tensors["q"].shape[:3], tensors["v"].shape[3], device=DEVICE)
    first, blocks = by_triton(tensors, settings, grad)
    second, again = by_triton(tensors, settings, grad)
    assert torch.equal(blocks, again)
    for name, x in first.items():
        assert torch.equal(x, second[name]), name
