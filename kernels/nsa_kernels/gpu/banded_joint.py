"""Gradients of attention to a band of keys (`banded.py`), all three by one kernel.

A program holds a tile of keys and passes over the rows that see any of them. It makes the scores
once, for the gradients of keys, values and queries: five matrix products, where two kernels
(`banded_backward.py`) take seven. The gradient of the queries is a sum over tiles of keys in fp32.
They add to it in a fixed order, the last tile of keys first, so that the result is reproducible to
the bit: a counter per tile of queries says how many have added.

The program of a later tile of keys starts earlier, so that a program only waits for programs that
run already or are done. With few tiles of keys the rows are divided into ranges; the gradients of
keys and values of all ranges are summed at the end.

Letters: see `layout.py`; J keys of this band, M rows of a tile.

Source: Yuan et al. 2025, eqs. 7 and 8; Shah et al. 2024, "FlashAttention-3", arXiv 2407.08608.
"""

from __future__ import annotations

from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded_backward import band_constants
from nsa_kernels.gpu.bands import Band, OutputGradient, band_keys
from nsa_kernels.gpu.hopper.support import serves_keys
from nsa_kernels.gpu.layout import Problem, count_visible, find_sequence, row_tiles
from nsa_kernels.gpu.tiles import joint_backward_tile

JOINT: Literal["never", "hopper", "always"] = "hopper"
"""Where one kernel computes the gradients of a band in the backward pass: never, always, or where
the Hopper kernel does. Two kernels (`banded_backward.py`) compute them otherwise."""

ORDERED = True
"""Whether the Hopper kernel adds to the gradient of the queries in a fixed order. Otherwise it does
so only if `torch.use_deterministic_algorithms` asks for it."""

_RANGES = 32
"""Most ranges of rows, without a window."""

_LEAST_RANGE = 128
"""Fewest queries of a range: a multiple of the queries of every tile of rows."""


@triton.jit
def _add_in_order(ptr, at, value, written, turn_ptr, before):
    """Add to stored rows once `before` programs have."""
    while tl.atomic_add(turn_ptr, 0, sem="acquire") < before:
        pass
    value += tl.load(ptr + at, mask=written, other=0.0)
    tl.store(ptr + at, value, mask=written)
    tl.debug_barrier()
    tl.atomic_add(turn_ptr, 1, sem="release")


@triton.jit(do_not_specialize=["queries", "seq_len", "keys", "window", "tiles", "per_range"])
def _banded_joint_backward_kernel(
    q_rows, k_ptr, v_ptr, grad_rows, lse_ptr, dots_ptr, dq_ptr, dk_ptr, dv_ptr, turns_ptr,
    cu_q_ptr, cu_k_ptr, cu_n_ptr,
    stride_kb, stride_kg, stride_kn,
    stride_vb, stride_vg, stride_vn,
    stride_lb, stride_lh, stride_lt,
    stride_qb, stride_qh, stride_qt,
    stride_ds, stride_db, stride_dg, stride_dn,
    stride_es, stride_eb, stride_eg, stride_en,
    stride_cb, stride_cg,
    queries, seq_len, keys, window, tiles, per_range, scale, plain_scale,
    R: tl.constexpr, HEADS: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, WINDOWED: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    # A program waits for later tiles of keys of its range: they have lower numbers.
    tile = tiles - 1 - tl.program_id(0) % tiles
    part = tl.num_programs(0) // tiles - 1 - tl.program_id(0) // tiles
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    n_first, keys = find_sequence(cu_n_ptr, b, keys, PACKED)
    offset = seq_len - queries
    index = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    if tile * BLOCK_N >= tl.maximum(keys, 1):
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
    # The tiles of rows of this range that see any of these keys.
    BLOCK_T: tl.constexpr = BLOCK_M // HEADS
    first = tl.maximum(tile * BLOCK_N * KEY_STRIDE + KEY_BLOCK - 1 - offset, 0)
    first = tl.maximum(first, part * per_range)
    last = tl.minimum(queries, (part + 1) * per_range)
    if WINDOWED:
        last = tl.minimum(last, tile * BLOCK_N + BLOCK_N - 1 + window - offset)
    row = tl.arange(0, BLOCK_M)
    head = row % HEADS
    head_at = b * stride_lb + (head + g * R) * stride_lh
    dq_ptr += b * stride_qb
    turns_ptr += b * stride_cb + g * stride_cg
    batch = 0 if PACKED else tl.program_id(2)
    dk = tl.zeros([BLOCK_N, D_PAD], tl.float32)
    dv = tl.zeros([BLOCK_N, DV_PAD], tl.float32)
    for i in tl.range(first // BLOCK_T, tl.cdiv(last, BLOCK_T)):
        query = i * BLOCK_T + row // HEADS
        valid = (query < queries) & (head < R)
        at = (q_first + query).to(tl.int64)
        row_at = [batch, q_first.to(tl.int32) + i * BLOCK_T, tl.program_id(1) * R, 0]
        q = tl.reshape(q_rows.load(row_at), [BLOCK_M, D_PAD])
        grad = tl.reshape(grad_rows.load(row_at), [BLOCK_M, DV_PAD])
        lse = tl.load(lse_ptr + head_at + at * stride_lt, mask=valid, other=float("inf"))
        dots = tl.load(dots_ptr + head_at + at * stride_lt, mask=valid, other=0.0)
        position = query + offset
        high = tl.minimum(count_visible(position, KEY_BLOCK, KEY_STRIDE), keys)
        seen = index[:, None] < high[None, :]
        if WINDOWED:
            seen = seen & (index[:, None] > position[None, :] - window)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
        dprobs = tl.dot(v, tl.trans(grad), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
        probs = tl.where(seen, tl.exp2(scores * scale - lse[None, :]), 0.0)
        dv = tl.dot(probs.to(grad.dtype), grad, dv, input_precision="ieee")
        dscores = (probs * (dprobs - dots[None, :])).to(q.dtype)
        dk = tl.dot(dscores, q, dk, input_precision="ieee")
        dq = tl.dot(tl.trans(dscores), k, input_precision="ieee")  # [BLOCK_M, D_PAD]
        dq_at = ((head + g * R) * stride_qh + at * stride_qt)[:, None] + depth
        written = valid[:, None] & (depth < D)
        before = (tl.max(high) - 1) // BLOCK_N - tile
        _add_in_order(dq_ptr, dq_at, dq * plain_scale, written, turns_ptr + i, before)
    to = b * stride_db + part * stride_ds + g * stride_dg + key * stride_dn + depth
    tl.store(dk_ptr + to, dk * plain_scale, mask=there & (depth < D))
    to = b * stride_eb + part * stride_es + g * stride_eg + key * stride_en + value_depth
    tl.store(dv_ptr + to, dv, mask=there & (value_depth < DV))


def banded_backward(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dq: Tensor,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of the queries to `dq`; the gradients of keys and values.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv).
        grad: The gradient of the output.
        dq: (B, H, T, D), fp32, of `zero_sums`, added to.

    Returns:
        Gradients of keys (B, G, J, D) and of values (B, G, J, Dv), fp32.
    """
    assert dq.dtype == torch.float32
    keys, _ = band_keys(problem, band)
    per_range, ranges = _divide(problem, band)
    dk = torch.empty(ranges, *k.shape, dtype=torch.float32, device=k.device)
    dv = torch.empty(ranges, *v.shape, dtype=torch.float32, device=v.device)
    if keys == 0:
        return dk.sum(dim=0), dv.sum(dim=0)
    of = (problem, band, q, k, v, grad, dq, dk, dv)
    if serves_keys(problem, q):
        from nsa_kernels.gpu.hopper.banded_backward import launch_banded_backward

        ordered = ORDERED or torch.are_deterministic_algorithms_enabled()
        launch_banded_backward(*of, ordered=ordered, per_range=per_range)
    else:
        _launch(*of, per_range=per_range)
    return (dk[0], dv[0]) if ranges == 1 else (dk.sum(dim=0), dv.sum(dim=0))


def serves_joint(problem: Problem, q: Tensor) -> bool:
    """Whether one kernel computes the gradients of a band."""
    return JOINT == "always" or (JOINT == "hopper" and serves_keys(problem, q))


def zero_sums(q: Tensor) -> Tensor:
    """Zeros for the sum of the gradients of the queries: (B, H, T, D) fp32.

    The tokens of a sequence are padded to whole tiles of rows, which the Hopper kernel adds to.
    """
    batch, heads, queries, dim = q.shape
    padded = triton.cdiv(queries, _LEAST_RANGE) * _LEAST_RANGE
    shape = (batch, padded, heads, dim)
    rows = torch.zeros(shape, dtype=torch.float32, device=q.device)
    return rows.transpose(1, 2)[:, :, :queries]


def _divide(problem: Problem, band: Band) -> tuple[int, int]:
    """Queries of a range of rows, and the number of ranges."""
    if band.window is not None:
        return triton.cdiv(problem.queries, _LEAST_RANGE) * _LEAST_RANGE, 1
    wanted = triton.cdiv(problem.queries, _RANGES)
    per_range = triton.cdiv(wanted, _LEAST_RANGE) * _LEAST_RANGE
    return per_range, triton.cdiv(problem.queries, per_range)


def _launch(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    *,
    per_range: int,
) -> None:
    """Launch the Triton kernel; `dk` and `dv` have the ranges first."""
    keys, cu_keys = band_keys(problem, band)
    heads, ranges = triton.next_power_of_2(problem.repeat), dk.shape[0]
    tile = joint_backward_tile(problem, heads)
    block_t = tile["BLOCK_M"] // heads
    tiles = triton.cdiv(keys, tile["BLOCK_N"])
    turns = _new_turns(problem, q, block_t)
    _banded_joint_backward_kernel[(tiles * ranges, problem.groups, problem.batch)](
        row_tiles(q, block_t, heads), k, v, row_tiles(grad.out, block_t, heads),
        grad.lse, grad.dots, dq, dk, dv, turns,
        problem.cu_queries, problem.cu_keys, cu_keys,
        problem.batch_stride(k), k.stride(1), k.stride(2),
        problem.batch_stride(v), v.stride(1), v.stride(2),
        *grad.number_strides(problem),
        problem.batch_stride(dq), dq.stride(1), dq.stride(2),
        dk.stride(0), problem.batch_stride(dk[0]), dk.stride(2), dk.stride(3),
        dv.stride(0), problem.batch_stride(dv[0]), dv.stride(2), dv.stride(3),
        turns.stride(0), turns.stride(1),
        problem.queries, problem.seq_len, keys, band.window or 0, tiles, per_range,
        problem.scale, problem.plain_scale,
        **band_constants(problem, band),
        HEADS=heads,
        **tile,
    )  # fmt: skip


def _new_turns(problem: Problem, like: Tensor, queries: int) -> Tensor:
    """How many tiles of keys have added to each tile of `queries` queries: (B, G, ...) int32."""
    shape = (problem.batch, problem.groups, triton.cdiv(problem.queries, queries))
    return torch.zeros(shape, dtype=torch.int32, device=like.device)
