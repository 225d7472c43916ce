"""Causal attention to a band of keys: the compression branch, the window, and dense attention.

A key stands for `key_block` tokens from `key_stride` times its index on (both 1 for tokens), and
is visible to the queries at or after its last token; with a window, only to the queries within
so many tokens of it. The rows of a tile are queries times the query heads of one group, so that
a group's keys are loaded once for all its heads.

Letters: see `layout.py`; J keys of this band, M rows of a tile, J_b keys of a tile.

Source: Yuan et al. 2025, eqs. 7 and 8; Dao 2023, "FlashAttention-2", arXiv 2307.08691.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.layout import Problem, count_visible, empty_rows, find_sequence, pad

NO_SCORE = tl.constexpr(-1.0e30)
"""Less than any score, yet finite, so that differences are numbers."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Which keys a query sees.

    Attributes:
        key_block: Tokens that one key stands for.
        key_stride: Tokens from one key's first token to the next's.
        window: Last tokens that are seen; None for all.
        query_stride: Only queries at positions that this divides attend.
    """

    key_block: int = 1
    key_stride: int = 1
    window: int | None = None
    query_stride: int = 1


@triton.jit
def row_queries(row, first, queries, HEADS: tl.constexpr, R: tl.constexpr, STRIDE: tl.constexpr):
    """Head, query and position of each row, and whether there is such a query.

    `first` is the position of the first query; rows go head by head, then query by query.
    """
    head = row % HEADS
    scored = (first + STRIDE - 1) // STRIDE * STRIDE
    position = scored + row // HEADS * STRIDE
    query = position - first
    return head, query, position, (query < queries) & (head < R)


@triton.jit
def _attend_to(
    q, k_ptr, v_ptr, acc, top, total, low, high, begin, end, keys, scale,
    stride_kn, stride_vn,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    """Take the keys from `begin` to `end` into a running softmax."""
    column = tl.arange(0, BLOCK_N)
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    for start in tl.range(begin, end, BLOCK_N):
        index = start + column
        at = index.to(tl.int64)[:, None]
        if MASKED:
            k = tl.load(
                k_ptr + at * stride_kn + depth,
                mask=(index < keys)[:, None] & (depth < D),
                other=0.0,
            )  # [BLOCK_N, D_PAD]
        elif D == D_PAD:
            k = tl.load(k_ptr + at * stride_kn + depth)
        else:
            k = tl.load(k_ptr + at * stride_kn + depth, mask=(depth < D)[None, :], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, BLOCK_N]
        if MASKED:
            seen = (index[None, :] >= low[:, None]) & (index[None, :] < high[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1) * scale)
        probs = tl.exp2(scores * scale - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(probs, axis=1)
        top = new_top
        if VALUES:
            if MASKED:
                v = tl.load(
                    v_ptr + at * stride_vn + value_depth,
                    mask=(index < keys)[:, None] & (value_depth < DV),
                    other=0.0,
                )  # [BLOCK_N, DV_PAD]
            elif DV == DV_PAD:
                v = tl.load(v_ptr + at * stride_vn + value_depth)
            else:
                v = tl.load(
                    v_ptr + at * stride_vn + value_depth,
                    mask=(value_depth < DV)[None, :],
                    other=0.0,
                )
            acc = acc * shrink[:, None]
            acc = tl.dot(probs.to(v.dtype), v, acc, input_precision="ieee")
    return acc, top, total


@triton.jit(do_not_specialize=["queries", "seq_len", "keys", "window"])
def _banded_forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, grad_ptr, dots_ptr,
    cu_q_ptr, cu_k_ptr, cu_n_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_kb, stride_kg, stride_kn,
    stride_vb, stride_vg, stride_vn,
    stride_ob, stride_oh, stride_ot,
    stride_gb, stride_gh, stride_gt,
    stride_lb, stride_lh,
    queries, seq_len, keys, window, scale,
    R: tl.constexpr, KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr,
    QUERY_STRIDE: tl.constexpr, WINDOWED: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    VALUES: tl.constexpr, DOTS: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    # The longest rows of a causal band come first, so that none is left alone at the end.
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
    k_ptr += b * stride_kb + g * stride_kg + n_first * stride_kn
    v_ptr += b * stride_vb + g * stride_vg + n_first * stride_vn

    high = count_visible(position, KEY_BLOCK, KEY_STRIDE)
    low = tl.zeros_like(position)
    if WINDOWED:
        low = tl.maximum(position + 1 - window, 0)
    least_high = tl.min(high)
    end = tl.minimum(tl.max(tl.where(valid, high, 0)), keys)
    begin = tl.min(low) // BLOCK_N * BLOCK_N
    # Between `whole` and `ragged` every row sees every key.
    whole = tl.minimum(tl.cdiv(tl.max(low), BLOCK_N) * BLOCK_N, tl.cdiv(end, BLOCK_N) * BLOCK_N)
    ragged = tl.maximum(tl.minimum(least_high, keys) // BLOCK_N * BLOCK_N, whole)

    acc = tl.zeros([BLOCK_M, DV_PAD], tl.float32)
    top = tl.full([BLOCK_M], NO_SCORE, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    if WINDOWED:
        acc, top, total = _attend_to(
            q, k_ptr, v_ptr, acc, top, total, low, high, begin, whole, keys, scale,
            stride_kn, stride_vn, D, DV, D_PAD, DV_PAD, BLOCK_N, True, VALUES,
        )  # fmt: skip
    acc, top, total = _attend_to(
        q, k_ptr, v_ptr, acc, top, total, low, high, whole, ragged, keys, scale,
        stride_kn, stride_vn, D, DV, D_PAD, DV_PAD, BLOCK_N, False, VALUES,
    )  # fmt: skip
    acc, top, total = _attend_to(
        q, k_ptr, v_ptr, acc, top, total, low, high, ragged, end, keys, scale,
        stride_kn, stride_vn, D, DV, D_PAD, DV_PAD, BLOCK_N, True, VALUES,
    )  # fmt: skip

    seen = total > 0
    acc = acc / tl.where(seen, total, 1.0)[:, None]
    written = valid[:, None] & (value_depth < DV)
    if VALUES and not DOTS:
        out_at = (head * stride_oh + at * stride_ot)[:, None] + value_depth
        tl.store(out_ptr + b * stride_ob + out_at, acc.to(out_ptr.dtype.element_ty), mask=written)
    if DOTS:
        grad_at = (head * stride_gh + at * stride_gt)[:, None] + value_depth
        grad = tl.load(grad_ptr + b * stride_gb + grad_at, mask=written, other=0.0)
        dots = tl.sum(acc * grad.to(tl.float32), axis=1)
        tl.store(dots_ptr + b * stride_lb + head * stride_lh + at, dots, mask=valid)
    else:
        # A row that sees nothing gets +inf, so that its probabilities come out as zero.
        lse = tl.where(seen, top + tl.log2(tl.where(seen, total, 1.0)), float("inf"))
        tl.store(lse_ptr + b * stride_lb + head * stride_lh + at, lse, mask=valid)


def banded_forward(
    problem: Problem, band: Band, q: Tensor, k: Tensor, v: Tensor, *, values: bool = True
) -> tuple[Tensor | None, Tensor]:
    """Attend to a band of keys.

    Args:
        problem: The sizes.
        band: Which keys are seen.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv); not looked at without `values`.
        values: Whether the output is wanted, or the log-sum-exp alone.

    Returns:
        Output (B, H, T, Dv) or None, zeros where nothing is seen; and the log-sum-exp of the
        scaled scores to the base of two (B, H, T), +inf where nothing is seen. Queries that the
        band's `query_stride` leaves out are not written.
    """
    out = empty_rows(q, problem.value_dim) if values else None
    lse = problem.per_query(q)
    _launch(problem, band, q, k, v, out=out, lse=lse)
    return out, lse


def banded_dots(
    problem: Problem, band: Band, q: Tensor, k: Tensor, v: Tensor, grad: Tensor
) -> Tensor:
    """Inner product of a band's output, made anew, with a gradient (B, H, T, Dv): (B, H, T)."""
    dots = problem.per_query(q)
    _launch(problem, band, q, k, v, grad=grad, lse=dots)
    return dots


def band_keys(problem: Problem, band: Band) -> tuple[int, Tensor | None]:
    """How many keys the band's longest sequence has, and where packed ones begin."""
    if band.key_block == band.key_stride == 1:
        return problem.seq_len, problem.cu_keys
    return problem.summaries, problem.cu_summaries


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
) -> None:
    """Run the forward kernel for an output, for a log-sum-exp alone, or for inner products."""
    keys, cu_keys = band_keys(problem, band)
    first = problem.offset // band.query_stride * band.query_stride
    scored = (problem.offset + problem.queries - 1 - first) // band.query_stride + 1
    tile = _tile(problem, values=out is not None or grad is not None)
    like = q if out is None else out
    grad_strides = (0, 0, 0) if grad is None else grad.stride()[:3]
    grid = (triton.cdiv(scored * problem.repeat, tile["BLOCK_M"]), problem.groups, problem.batch)
    _banded_forward_kernel[grid](
        q, k, v, like, lse, q if grad is None else grad, lse,
        problem.cu_queries, problem.cu_keys, cu_keys,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        problem.batch_stride(k), k.stride(1), k.stride(2),
        problem.batch_stride(v), v.stride(1), v.stride(2),
        problem.batch_stride(like), like.stride(1), like.stride(2),
        0 if problem.packing else grad_strides[0], grad_strides[1], grad_strides[2],
        problem.batch_stride(lse), lse.stride(1),
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
        PACKED=problem.packing is not None,
        **tile,
    )  # fmt: skip


def _tile(problem: Problem, *, values: bool) -> dict[str, int]:
    """Rows and keys of a tile, warps and pipeline stages, as measured on an H200."""
    if problem.dim > 128:
        return {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 2}
    if not values:
        return {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8, "num_stages": 3}
    return {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8, "num_stages": 2}
