"""Causal attention to a band of keys: the compression branch, the window, and dense attention.

A key represents `key_block` tokens, the first at `key_stride` times its index (both are 1 for
tokens). It is visible to the queries at or after its last token; a window limits their distance.
The rows of a tile are queries times the query heads of one group, so that a group's keys are
loaded once for all its heads.

Letters: see `layout.py`; J keys of this band, M rows of a tile, J_b keys of a tile.

Source: Yuan et al. 2025, eqs. 7 and 8; Dao 2023, "FlashAttention-2", arXiv 2307.08691.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.bands import Addend, Band, band_keys
from nsa_kernels.gpu.hopper.support import serves_band
from nsa_kernels.gpu.launches import launch, refuse
from nsa_kernels.gpu.layout import (
    Problem,
    count_visible,
    empty_rows,
    find_sequence,
    key_tiles,
    number_strides,
    pad,
)
from nsa_kernels.gpu.tiles import forward_tile

NO_SCORE = tl.constexpr(-1.0e30)
"""A finite number below any score, so that differences are finite."""


@triton.jit
def row_queries(row, first, queries, HEADS: tl.constexpr, R: tl.constexpr, STRIDE: tl.constexpr):
    """Head, query and position of each row, and whether the query exists.

    `first` is the position of the first query. Rows are ordered by head, then by query.
    """
    head = row % HEADS
    scored = (first + STRIDE - 1) // STRIDE * STRIDE
    position = scored + row // HEADS * STRIDE
    query = position - first
    return head, query, position, (query < queries) & (head < R)


@triton.jit
def load_keys(
    tiles, batch, first, g, SIZE: tl.constexpr, DEPTH: tl.constexpr
):  # fmt: skip
    """Keys or values of one group from `first` on, padded with zeros: [SIZE, DEPTH]."""
    return tl.reshape(tiles.load([batch, first, g, 0]), [SIZE, DEPTH])


@triton.jit
def _attend_to(
    q, k_tiles, v_tiles, acc, top, total, low, high, begin, end, scale, batch, n_first, g,
    D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Add the keys from `begin` to `end` to a running softmax."""
    column = tl.arange(0, BLOCK_N)
    for start in tl.range(begin, end, BLOCK_N):
        k = load_keys(k_tiles, batch, n_first + start, g, BLOCK_N, D_PAD)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, BLOCK_N]
        if MASKED:
            index = start + column
            seen = (index[None, :] >= low[:, None]) & (index[None, :] < high[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1) * scale)
        probs = tl.exp2(scores * scale - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(probs, axis=1)
        top = new_top
        if VALUES:
            v = load_keys(v_tiles, batch, n_first + start, g, BLOCK_N, DV_PAD)
            acc = acc * shrink[:, None]
            acc = tl.dot(probs.to(v.dtype), v, acc, input_precision="ieee")
    return acc, top, total


@triton.jit(do_not_specialize=["queries", "seq_len", "keys", "window"])
def _banded_forward_kernel(
    q_ptr, k_tiles, v_tiles, out_ptr, lse_ptr, grad_ptr, dots_ptr,
    other_ptr, gate_ptr, other_gate_ptr, kept_ptr,
    cu_q_ptr, cu_k_ptr, cu_n_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_ob, stride_oh, stride_ot,
    stride_gb, stride_gh, stride_gt,
    stride_lb, stride_lh, stride_lt,
    stride_wb, stride_wh, stride_wt,
    queries, seq_len, keys, window, scale,
    R: tl.constexpr, KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr,
    QUERY_STRIDE: tl.constexpr, WINDOWED: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    VALUES: tl.constexpr, DOTS: tl.constexpr, GATED: tl.constexpr, KEPT: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    # The longest rows of a causal band come first, so that no long tile runs alone at the end.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    n_first, keys = find_sequence(cu_n_ptr, b, keys, PACKED)
    offset = seq_len - queries
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    head, query, position, valid = row_queries(row, offset, queries, R, R, QUERY_STRIDE)
    if (tl.min(query) >= queries) | (queries <= 0):
        return
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    head = head + g * R
    at = (q_first + query).to(tl.int64)
    q = tl.load(
        q_ptr + b * stride_qb + (head * stride_qh + at * stride_qt)[:, None] + depth,
        mask=valid[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_M, D_PAD]
    batch = 0 if PACKED else tl.program_id(2)
    group = tl.program_id(1)
    n_first = n_first.to(tl.int32)

    high = tl.minimum(count_visible(position, KEY_BLOCK, KEY_STRIDE), keys)
    low = tl.zeros_like(position)
    if WINDOWED:
        low = tl.maximum(position + 1 - window, 0)
    end = tl.max(tl.where(valid, high, 0))
    begin = tl.min(low) // BLOCK_N * BLOCK_N
    # Between `whole` and `ragged` every row sees every key.
    whole = tl.minimum(tl.cdiv(tl.max(low), BLOCK_N) * BLOCK_N, tl.cdiv(end, BLOCK_N) * BLOCK_N)
    ragged = tl.maximum(tl.min(high) // BLOCK_N * BLOCK_N, whole)

    acc = tl.zeros([BLOCK_M, DV_PAD], tl.float32)
    top = tl.full([BLOCK_M], NO_SCORE, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    if WINDOWED:
        acc, top, total = _attend_to(
            q, k_tiles, v_tiles, acc, top, total, low, high, begin, whole, scale,
            batch, n_first, group, D_PAD, DV_PAD, BLOCK_N, True, VALUES,
        )  # fmt: skip
    acc, top, total = _attend_to(
        q, k_tiles, v_tiles, acc, top, total, low, high, whole, ragged, scale,
        batch, n_first, group, D_PAD, DV_PAD, BLOCK_N, False, VALUES,
    )  # fmt: skip
    acc, top, total = _attend_to(
        q, k_tiles, v_tiles, acc, top, total, low, high, ragged, end, scale,
        batch, n_first, group, D_PAD, DV_PAD, BLOCK_N, True, VALUES,
    )  # fmt: skip

    seen = total > 0
    acc = acc / tl.where(seen, total, 1.0)[:, None]
    written = valid[:, None] & (value_depth < DV)
    if VALUES and not DOTS:
        out_at = b * stride_ob + (head * stride_oh + at * stride_ot)[:, None] + value_depth
        if KEPT:
            tl.store(kept_ptr + out_at, acc.to(out_ptr.dtype.element_ty), mask=written)
        if GATED:
            gate_at = b * stride_wb + head * stride_wh + at * stride_wt
            gate = tl.load(gate_ptr + gate_at, mask=valid, other=0.0).to(tl.float32)
            acc *= gate[:, None]
            gate = tl.load(other_gate_ptr + gate_at, mask=valid, other=0.0).to(tl.float32)
            other = tl.load(other_ptr + out_at, mask=written, other=0.0)
            acc += other.to(tl.float32) * gate[:, None]
        tl.store(out_ptr + out_at, acc.to(out_ptr.dtype.element_ty), mask=written)
    if DOTS:
        grad_at = (head * stride_gh + at * stride_gt)[:, None] + value_depth
        grad = tl.load(grad_ptr + b * stride_gb + grad_at, mask=written, other=0.0)
        dots = tl.sum(acc * grad.to(tl.float32), axis=1)
        tl.store(dots_ptr + b * stride_lb + head * stride_lh + at * stride_lt, dots, mask=valid)
    else:
        # A row that sees nothing gets +inf, so that its probabilities are zero.
        lse = tl.where(seen, top + tl.log2(tl.where(seen, total, 1.0)), float("inf"))
        tl.store(lse_ptr + b * stride_lb + head * stride_lh + at * stride_lt, lse, mask=valid)


def banded_forward(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    values: bool = True,
    addend: Addend | None = None,
) -> tuple[Tensor | None, Tensor]:
    """Attend to a band of keys.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv); ignored without `values`.
        values: Whether to compute the output besides the log-sum-exp.
        addend: Another branch to add with its gate, or None.

    Returns:
        Output (B, H, T, Dv), zeros for queries that see no key, or None without `values`; and the
        base-2 log-sum-exp of the scaled scores (B, H, T), +inf for queries that see no key.
        Queries skipped by the band's `query_stride` are not written.
    """
    out = empty_rows(q, problem.value_dim) if values else None
    lse = problem.per_query(q)
    _launch(problem, band, q, k, v, out=out, lse=lse, addend=addend)
    return out, lse


def banded_dots(
    problem: Problem, band: Band, q: Tensor, k: Tensor, v: Tensor, grad: Tensor
) -> Tensor:
    """Dot product of a band's recomputed output with a gradient (B, H, T, Dv): (B, H, T)."""
    dots = problem.per_query(q)
    _launch(problem, band, q, k, v, grad=grad, lse=dots)
    return dots


def _launch(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lse: Tensor,
    out: Tensor | None = None,
    grad: Tensor | None = None,
    addend: Addend | None = None,
) -> None:
    """Launch the forward kernel for an output, for the log-sum-exp alone, or for dot products."""
    keys, cu_keys = band_keys(problem, band)
    first = problem.offset // band.query_stride * band.query_stride
    scored = (problem.offset + problem.queries - 1 - first) // band.query_stride + 1
    if keys == 0:
        assert addend is None
        refuse("no key to attend to")
        lse.fill_(float("inf") if grad is None else 0.0)
        if out is not None:
            out.zero_()
        return
    gates = (None, None) if addend is None else (addend.gate, addend.other_gate)
    assert addend is None or addend.gate.stride() == addend.other_gate.stride()
    kept = None if addend is None else addend.kept
    assert kept is None or (out is not None and kept.stride() == out.stride())
    if band.query_stride == 1 and (out is None) != (grad is None) and serves_band(problem, q):
        from nsa_kernels.gpu.hopper.banded import launch_banded

        launch_banded(problem, band, q, k, v, numbers=lse, out=out, grad=grad, addend=addend)
        return
    tile = forward_tile(problem, values=out is not None or grad is not None)
    k_tiles, v_tiles = key_tiles(k, tile["BLOCK_N"]), key_tiles(v, tile["BLOCK_N"])
    like = q if out is None else out
    grad_strides = (0, 0, 0) if grad is None else grad.stride()[:3]
    grid = (triton.cdiv(scored * problem.repeat, tile["BLOCK_M"]), problem.groups, problem.batch)
    launch(
        _banded_forward_kernel, grid,
        q, k_tiles, v_tiles, like, lse, q if grad is None else grad, lse,
        like if addend is None else addend.other, *(lse if x is None else x for x in gates),
        like if kept is None else kept,
        problem.cu_queries, problem.cu_keys, cu_keys,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        problem.batch_stride(like), like.stride(1), like.stride(2),
        0 if problem.packing else grad_strides[0], grad_strides[1], grad_strides[2],
        *number_strides(problem, lse), *number_strides(problem, gates[0]),
        problem.queries, problem.seq_len, keys, band.window or 0, problem.scale,
        R=problem.repeat,
        KEY_BLOCK=band.key_block,
        KEY_STRIDE=band.key_stride,
        QUERY_STRIDE=band.query_stride,
        WINDOWED=band.window is not None,
        D=problem.dim,
        DV=problem.value_dim,
        D_PAD=pad(problem.dim),
        DV_PAD=pad(problem.value_dim),
        VALUES=out is not None or grad is not None,
        DOTS=grad is not None,
        GATED=addend is not None,
        KEPT=kept is not None,
        PACKED=problem.packing is not None,
        **tile,
    )  # fmt: skip
