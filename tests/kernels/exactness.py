"""What the tests of the Triton attention share: inputs, the fp64 reference, and the tolerance.

A kernel's error against fp64 is at most that of the reference in the kernel's own precision, and
an epsilon that grows with the root of what is summed up. So that a choice between two blocks as
good as equal does not count as an error, the choice is checked apart, against the reference's
importances in fp64, and the reference then attends to the blocks that the kernel chose: every
query is compared, in every precision.

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
"""Sizes of which a hundred tokens hold many blocks."""


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that is too wide for the interpreter."""
    return pytest.mark.gpu(pytest.mark.skipif(not CUDA, reason="no CUDA device")(test))


@contextmanager
def usual_memory() -> Iterator[None]:
    """PyTorch as it comes: the reference need not be deterministic, nor find NaN anywhere."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def summary_count(seq_len: int, settings: AttentionSettings) -> int:
    """C: complete blocks of the compression."""
    return len(range(0, seq_len - settings.compress_block + 1, settings.compress_stride))


def tile_count(queries: int, seq_len: int, settings: AttentionSettings) -> int:
    """U: tiles that the queries, the last of `seq_len` tokens, lie in."""
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
    """Random q, k, v, gates where there are any, and summaries where they are asked for.

    With `window` the window has its own keys and values for so many last positions.
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
    """Softmax attention under a mask: output (B, H, T, Dv), log-sum-exp to the base of two.

    `seen` broadcasts to (B, G, T, J). A query that sees nothing gets zeros, and +inf.
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
    """Which keys of a band each query sees: (T, J)."""
    position = torch.arange(seq_len - queries, seq_len, device=DEVICE)[:, None]
    end = torch.arange(keys, device=DEVICE) * band.key_stride + band.key_block - 1
    seen = end <= position
    return seen if band.window is None else seen & (end > position - band.window)


def assert_as_exact(
    name: str, got: Tensor, exact: Tensor, eager: Tensor, *, terms: int, unit: float
) -> None:
    """Assert the tolerance rule, for the largest error and for the norm of each head's.

    Args:
        name: What is compared.
        got: From the kernel.
        exact: From the reference in fp64.
        eager: From the reference in the kernel's precision.
        terms: Products that are summed up for one element.
        unit: What an element is made of, before anything cancels. Its rounding, in one row of a
            head, is as little an error as can be asked for.
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
    """Assert that blocks are the reference's, but where two are as good as equally important.

    Place by place, the importance of what was chosen is that of the reference's choice, to
    within the rounding of its sum; the blocks are the same wherever the gap is wider.

    Args:
        got: (B, G, U, n), from the kernel.
        own: (B, G, U, at most n), the reference's.
        importances: (B, G, U, N), the reference's in fp64.
        terms: Numbers that are summed up for one importance.
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
    """A part of a call that the reference can do by itself, as slices of the tensors."""

    queries: slice
    keys: slice
    summaries: slice
    tiles: slice

    def of(self, tensors: Tensors) -> Tensors:
        """The part of each tensor, or of its gradient."""
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
    """The last queries of a call, which begin with a tile."""
    assert (seq_len - queries) % settings.select_tile == 0
    tiles = tile_count(queries, seq_len, settings)
    return Part(
        queries=slice(-queries, None),
        keys=slice(None),
        summaries=slice(None),
        tiles=slice(-tiles, None),
    )


def pack(lengths: list[tuple[int, int]], settings: AttentionSettings) -> tuple[Packing, list[Part]]:
    """Sequences of so many queries and keys, one after the other, and where each lies."""
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
    """Output and the gradient of every input, and what else the call returns.

    The inputs keep their place in memory. The output's gradient is that of its sum when None.
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
    """The reference's output and gradients where it attends to `blocks`.

    Also its own choice, and the importances that it follows from.
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
    """The kernels' output and gradients, and the blocks that they chose."""

    def call(**leaves: Tensor) -> tuple[Tensor, Tensor]:
        return triton_attention(**leaves, settings=settings, packing=packing)

    results, blocks = differentiate(call, tensors, grad)
    return results, blocks


def units(tensors: Tensors) -> dict[str, float]:
    """What one key alone would make each result of: see `assert_as_exact`.

    For gradients, of an output gradient of unit variance; keys and values have theirs from all
    heads of a group. Where a query sees one key, each branch takes from a query's gradient what it
    has just added, to within the rounding of its output, which differs from branch to branch.
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
    """Compare output, choice and every gradient with the reference; return the kernels'.

    Args:
        tensors: What `triton_attention` takes.
        settings: What to attend to.
        grad: The output's gradient; drawn when None.
        drawn_grad: Whether to draw it; else it is that of the sum.
        packing: Where packed sequences lie.
        parts: What to compare; everything when None. The output's gradient is zero elsewhere.
        least_terms: The tolerance is that of so many terms at least.
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
    """For each tile its own block and some before it, in any order, then -1: (B, G, U, n)."""
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


def seen_in(blocks: Tensor, queries: int, seq_len: int, settings: AttentionSettings) -> Tensor:
    """Which keys each query sees in its tile's blocks: (B, G, T, S)."""
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
