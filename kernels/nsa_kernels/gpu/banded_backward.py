"""Gradients of attention to a band of keys (`banded.py`).

One kernel runs over rows, for the queries, and one over keys, for keys and values. Both recompute
the scores, so that no sum is atomic and the result is deterministic. Where many rows see few keys,
the rows are split into shares, which are summed at the end.

Letters: see `layout.py`; J keys of this band, M rows of a tile.

Source: Yuan et al. 2025, eqs. 7 and 8; Dao 2023, "FlashAttention-2", arXiv 2307.08691.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import load_keys, row_queries
from nsa_kernels.gpu.bands import Band, OutputGradient, band_keys
from nsa_kernels.gpu.hopper.support import serves_keys, serves_rows
from nsa_kernels.gpu.layout import (
    Problem,
    count_visible,
    find_sequence,
    key_tiles,
    pad,
    row_tiles,
)
from nsa_kernels.gpu.tiles import keys_backward_tile, rows_backward_tile

_SHARES = 8
"""Shares into which the rows of a key tile are split, without a window."""


@triton.jit
def load_rows(
    q_ptr, grad_ptr, lse_ptr, dots_ptr, head, at, valid,
    stride_qh, stride_qt, stride_oh, stride_ot, stride_lh, stride_lt,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
):  # fmt: skip
    """Queries, output gradients, log-sum-exp and dot products of rows.

    Invalid rows have a log-sum-exp of +inf, so that their probabilities are zero.
    """
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    q = tl.load(
        q_ptr + (head * stride_qh + at * stride_qt)[:, None] + depth,
        mask=valid[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_M, D_PAD]
    grad = tl.load(
        grad_ptr + (head * stride_oh + at * stride_ot)[:, None] + value_depth,
        mask=valid[:, None] & (value_depth < DV),
        other=0.0,
    )  # [BLOCK_M, DV_PAD]
    lse = tl.load(lse_ptr + head * stride_lh + at * stride_lt, mask=valid, other=float("inf"))
    dots = tl.load(dots_ptr + head * stride_lh + at * stride_lt, mask=valid, other=0.0)
    return q, grad, lse, dots


@triton.jit
def add_rows(ptr, at, value, written, ADDS: tl.constexpr):
    """Store rows, or add them to the stored rows."""
    if ADDS:
        value += tl.load(ptr + at, mask=written, other=0.0).to(tl.float32)
    tl.store(ptr + at, value.to(ptr.dtype.element_ty), mask=written)


@triton.jit(do_not_specialize=["queries", "seq_len", "keys", "window"])
def _banded_rows_backward_kernel(
    q_ptr, k_tiles, v_tiles, grad_ptr, lse_ptr, dots_ptr, dq_ptr,
    cu_q_ptr, cu_k_ptr, cu_n_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    stride_db, stride_dh, stride_dt,
    queries, seq_len, keys, window, scale, plain_scale,
    R: tl.constexpr, KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, WINDOWED: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    ADDS: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    n_first, keys = find_sequence(cu_n_ptr, b, keys, PACKED)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    head, query, position, valid = row_queries(row, seq_len - queries, queries, R, R, 1)
    if tl.min(query) >= queries:
        return
    head = head + g * R
    at = (q_first + query).to(tl.int64)
    q, grad, lse, dots = load_rows(
        q_ptr + b * stride_qb, grad_ptr + b * stride_ob, lse_ptr + b * stride_lb,
        dots_ptr + b * stride_lb, head, at, valid,
        stride_qh, stride_qt, stride_oh, stride_ot, stride_lh, stride_lt,
        D, DV, D_PAD, DV_PAD,
    )  # fmt: skip
    batch = 0 if PACKED else tl.program_id(2)
    n_first = n_first.to(tl.int32)
    depth = tl.arange(0, D_PAD)
    column = tl.arange(0, BLOCK_N)
    high = tl.minimum(count_visible(position, KEY_BLOCK, KEY_STRIDE), keys)
    low = tl.zeros_like(position)
    if WINDOWED:
        low = tl.maximum(position + 1 - window, 0)
    end = tl.max(tl.where(valid, high, 0))
    # Every row sees the keys from `whole` to `ragged`.
    whole, ragged = tl.max(low), tl.min(high)
    dq = tl.zeros([BLOCK_M, D_PAD], tl.float32)
    for start in tl.range(tl.min(low) // BLOCK_N * BLOCK_N, end, BLOCK_N):
        index = start + column
        k = load_keys(k_tiles, batch, n_first + start, tl.program_id(1), BLOCK_N, D_PAD)
        v = load_keys(v_tiles, batch, n_first + start, tl.program_id(1), BLOCK_N, DV_PAD)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, BLOCK_N]
        dprobs = tl.dot(grad, tl.trans(v), input_precision="ieee")  # [BLOCK_M, BLOCK_N]
        probs = tl.exp2(scores * scale - lse[:, None])
        if (start < whole) | (start + BLOCK_N > ragged):
            seen = (index[None, :] >= low[:, None]) & (index[None, :] < high[:, None])
            probs = tl.where(seen, probs, 0.0)
        dscores = probs * (dprobs - dots[:, None])
        dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision="ieee")
    dq_at = (head * stride_dh + at * stride_dt)[:, None] + depth
    written = valid[:, None] & (depth < D)
    add_rows(dq_ptr + b * stride_db, dq_at, dq * plain_scale, written, ADDS)


@triton.jit
def keys_step(dk, dv, k, v, q, grad, lse, dots, seen, scale):
    """Add a tile of rows to the gradients of a tile of keys and values.

    Matrices are transposed, keys by rows, so that the products' left sides stay in registers.
    """
    scores = tl.dot(k, tl.trans(q), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
    dprobs = tl.dot(v, tl.trans(grad), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
    probs = tl.where(seen, tl.exp2(scores * scale - lse[None, :]), 0.0)
    dv = tl.dot(probs.to(grad.dtype), grad, dv, input_precision="ieee")
    dscores = probs * (dprobs - dots[None, :])
    dk = tl.dot(dscores.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@triton.jit(do_not_specialize=["queries", "seq_len", "keys", "window"])
def _banded_keys_backward_kernel(
    q_rows, k_ptr, v_ptr, grad_rows, lse_ptr, dots_ptr, dk_ptr, dv_ptr,
    cu_q_ptr, cu_k_ptr, cu_n_ptr,
    stride_kb, stride_kg, stride_kn,
    stride_vb, stride_vg, stride_vn,
    stride_lb, stride_lh, stride_lt,
    stride_ds, stride_db, stride_dg, stride_dn,
    stride_es, stride_eb, stride_eg, stride_en,
    queries, seq_len, keys, window, scale, plain_scale,
    R: tl.constexpr, HEADS: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, WINDOWED: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SHARES: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0) // SHARES
    share = tl.program_id(0) % SHARES
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    n_first, keys = find_sequence(cu_n_ptr, b, keys, PACKED)
    offset = seq_len - queries
    index = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    if tile * BLOCK_N >= keys:
        return
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    there = (index < keys)[:, None]
    key = (n_first + index).to(tl.int64)[:, None]
    k = tl.load(
        k_ptr + b * stride_kb + g * stride_kg + key * stride_kn + depth,
        mask=there & (depth < D),
        other=0.0,
    )  # [BLOCK_N, D_PAD]
    v = tl.load(
        v_ptr + b * stride_vb + g * stride_vg + key * stride_vn + value_depth,
        mask=there & (value_depth < DV),
        other=0.0,
    )  # [BLOCK_N, DV_PAD]
    # The queries that see any of these keys, split into equal shares.
    BLOCK_T: tl.constexpr = BLOCK_M // HEADS
    first = tl.maximum(tile * BLOCK_N * KEY_STRIDE + KEY_BLOCK - 1 - offset, 0)
    last = queries
    if WINDOWED:
        last = tl.minimum(last, tile * BLOCK_N + BLOCK_N - 1 + window - offset)
    per_share = tl.cdiv(tl.cdiv(tl.maximum(last - first, 0), BLOCK_T), SHARES) * BLOCK_T
    begin = first + share * per_share
    end = tl.minimum(begin + per_share, last)
    row = tl.arange(0, BLOCK_M)
    head = row % HEADS
    head_at = b * stride_lb + (head + g * R) * stride_lh
    batch = 0 if PACKED else tl.program_id(2)
    dk = tl.zeros([BLOCK_N, D_PAD], tl.float32)
    dv = tl.zeros([BLOCK_N, DV_PAD], tl.float32)
    for start in tl.range(begin, end, BLOCK_T):
        query = start + row // HEADS
        valid = (query < end) & (head < R)
        at = (q_first + query).to(tl.int64)
        row_at = [batch, q_first.to(tl.int32) + start, tl.program_id(1) * R, 0]
        q = tl.reshape(q_rows.load(row_at), [BLOCK_M, D_PAD])
        grad = tl.reshape(grad_rows.load(row_at), [BLOCK_M, DV_PAD])
        lse = tl.load(lse_ptr + head_at + at * stride_lt, mask=valid, other=float("inf"))
        dots = tl.load(dots_ptr + head_at + at * stride_lt, mask=valid, other=0.0)
        position = query + offset
        seen = index[:, None] < count_visible(position, KEY_BLOCK, KEY_STRIDE)[None, :]
        if WINDOWED:
            seen = seen & (index[:, None] > position[None, :] - window)
        dk, dv = keys_step(dk, dv, k, v, q, grad, lse, dots, seen, scale)
    to = b * stride_db + share * stride_ds + g * stride_dg + key * stride_dn + depth
    tl.store(dk_ptr + to, dk * plain_scale, mask=there & (depth < D))
    to = b * stride_eb + share * stride_es + g * stride_eg + key * stride_en + value_depth
    tl.store(dv_ptr + to, dv, mask=there & (value_depth < DV))


def banded_rows_backward(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    *,
    adds: bool,
) -> None:
    """Write the gradient of the queries, or add it to `dq`.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv).
        grad: The gradient of the output.
        dq: (B, H, T, D), written.
        adds: Whether to add to what `dq` holds.
    """
    keys, cu_keys = band_keys(problem, band)
    if keys == 0:
        if not adds:
            dq.zero_()
        return
    if serves_rows(problem, q):
        from nsa_kernels.gpu.hopper.rows_backward import launch_rows_backward

        launch_rows_backward(problem, band, q, k, v, grad, dq, adds=adds)
        return
    tile = rows_backward_tile(problem)
    grid = (
        triton.cdiv(problem.queries * problem.repeat, tile["BLOCK_M"]),
        problem.groups,
        problem.batch,
    )
    _banded_rows_backward_kernel[grid](
        q, key_tiles(k, tile["BLOCK_N"]), key_tiles(v, tile["BLOCK_N"]),
        grad.out, grad.lse, grad.dots, dq,
        problem.cu_queries, problem.cu_keys, cu_keys,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        *grad.strides(problem),
        problem.batch_stride(dq), dq.stride(1), dq.stride(2),
        problem.queries, problem.seq_len, keys, band.window or 0,
        problem.scale, problem.plain_scale,
        **band_constants(problem, band),
        ADDS=adds,
        **tile,
    )  # fmt: skip


def banded_keys_backward(
    problem: Problem, band: Band, q: Tensor, k: Tensor, v: Tensor, grad: OutputGradient
) -> tuple[Tensor, Tensor]:
    """Gradients of keys (B, G, J, D) and values (B, G, J, Dv), fp32; arguments as above."""
    keys, _ = band_keys(problem, band)
    shares = _SHARES if band.window is None else 1
    # No program writes the gradients of spare summaries, see `Packing.total_keys`.
    spare = problem.packing is not None and problem.packing.total_keys is not None
    allocate = torch.zeros if spare else torch.empty
    dk = allocate(shares, *k.shape, dtype=torch.float32, device=k.device)
    dv = allocate(shares, *v.shape, dtype=torch.float32, device=v.device)
    if keys and serves_keys(problem, q):
        from nsa_kernels.gpu.hopper.keys_backward import launch_keys_backward

        launch_keys_backward(problem, band, q, k, v, grad, dk, dv)
    elif keys:
        _launch_keys(problem, band, q, k, v, grad, dk, dv)
    return (dk[0], dv[0]) if shares == 1 else (dk.sum(dim=0), dv.sum(dim=0))


def _launch_keys(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dk: Tensor,
    dv: Tensor,
) -> None:
    """Write the shares of both gradients: (shares, B, G, J, D) and (shares, B, G, J, Dv)."""
    keys, cu_keys = band_keys(problem, band)
    heads, shares = triton.next_power_of_2(problem.repeat), dk.shape[0]
    tile = keys_backward_tile(problem, heads, windowed=band.window is not None)
    block_t = tile["BLOCK_M"] // heads
    grid = (triton.cdiv(keys, tile["BLOCK_N"]) * shares, problem.groups, problem.batch)
    _banded_keys_backward_kernel[grid](
        row_tiles(q, block_t, heads), k, v, row_tiles(grad.out, block_t, heads),
        grad.lse, grad.dots, dk, dv,
        problem.cu_queries, problem.cu_keys, cu_keys,
        problem.batch_stride(k), k.stride(1), k.stride(2),
        problem.batch_stride(v), v.stride(1), v.stride(2),
        *grad.number_strides(problem),
        dk.stride(0), problem.batch_stride(dk[0]), dk.stride(2), dk.stride(3),
        dv.stride(0), problem.batch_stride(dv[0]), dv.stride(2), dv.stride(3),
        problem.queries, problem.seq_len, keys, band.window or 0,
        problem.scale, problem.plain_scale,
        **band_constants(problem, band),
        HEADS=heads,
        SHARES=shares,
        **tile,
    )  # fmt: skip


def band_constants(problem: Problem, band: Band) -> dict[str, int | bool]:
    """The constants of both kernels."""
    return {
        "R": problem.repeat,
        "KEY_BLOCK": band.key_block,
        "KEY_STRIDE": band.key_stride,
        "WINDOWED": band.window is not None,
        "D": problem.dim,
        "DV": problem.value_dim,
        "D_PAD": pad(problem.dim),
        "DV_PAD": pad(problem.value_dim),
        "PACKED": problem.packing is not None,
    }
