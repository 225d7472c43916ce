"""Gradient of the queries of attention to merged lists of blocks (`merged.py`).

Letters: see `layout.py`; P tiles of a merged tile, M rows of a program.

Source: Yuan et al. 2025, eqs. 11 and 12.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import load_keys
from nsa_kernels.gpu.banded_backward import (
    add_rows,
    load_rows,
)
from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.layout import Problem, find_sequence, key_tiles, tile_rows
from nsa_kernels.gpu.merge import MergedLists, list_strides, merged_row
from nsa_kernels.gpu.merged import load_entry, merged_grid


@triton.jit(
    do_not_specialize=["queries", "seq_len", "stride_eb", "stride_eg", "stride_cb", "stride_cg"]
)
def _merged_rows_backward_kernel(
    q_ptr, k_tiles, v_tiles, entries_ptr, counts_ptr, margin_ptr,
    grad_ptr, lse_ptr, dots_ptr, dq_ptr, sums_ptr,
    cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_eb, stride_eg, stride_ev,
    stride_cb, stride_cg,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    stride_db, stride_dh, stride_dt,
    queries, seq_len, scale, plain_scale,
    MEMBERS: tl.constexpr, R: tl.constexpr, TILE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, SUMS: tl.constexpr, ADDS: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    merged = tl.program_id(0)
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    k_first, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    u_first = find_sequence(cu_u_ptr, b, 0, PACKED)[0]
    offset = seq_len - queries
    start = (offset // TILE + merged * MEMBERS) * TILE
    if (start >= seq_len) | (queries <= 0) | (tl.load(margin_ptr) > 0):
        return
    head, query, position, valid = tile_rows(start, 0, offset, queries, R, MEMBERS * TILE, BLOCK_M)
    member = tl.arange(0, BLOCK_M) // (R * TILE)
    head = head + g * R
    at = (q_first + query).to(tl.int64)
    q, grad, lse, dots = load_rows(
        q_ptr + b * stride_qb, grad_ptr + b * stride_ob, lse_ptr + b * stride_lb,
        dots_ptr + b * stride_lb, head, at, valid,
        stride_qh, stride_qt, stride_oh, stride_ot, stride_lh, stride_lt,
        D, DV, D_PAD, DV_PAD,
    )  # fmt: skip
    depth = tl.arange(0, D_PAD)
    column = tl.arange(0, SELECT_BLOCK)
    batch = 0 if PACKED else tl.program_id(2)
    k_first = k_first.to(tl.int32)
    row = merged_row(u_first, b, merged, MEMBERS, PACKED)
    count = tl.load(counts_ptr + b * stride_cb + g * stride_cg + row)
    entries_ptr += b * stride_eb + g * stride_eg + row * stride_ev
    dq = tl.zeros([BLOCK_M, D_PAD], tl.float32)
    sums = tl.zeros([BLOCK_M], tl.float32)
    # Every row sees the keys below `whole`.
    whole = tl.min(position) + 1
    for i in tl.range(0, count):
        block, chosen = load_entry(entries_ptr, i, member)
        first = block * SELECT_BLOCK
        index = first + column
        k = load_keys(k_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, D_PAD)
        v = load_keys(v_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, DV_PAD)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, SELECT_BLOCK]
        dprobs = tl.dot(grad, tl.trans(v), input_precision="ieee")  # [BLOCK_M, SELECT_BLOCK]
        # Subtracting infinity makes the probabilities of a block that was not selected zero.
        probs = tl.exp2(scores * scale - tl.where(chosen, lse, float("inf"))[:, None])
        if first + SELECT_BLOCK > whole:
            probs = tl.where(index[None, :] <= position[:, None], probs, 0.0)
        if SUMS:
            sums += tl.sum(probs * dprobs, axis=1)
        dscores = probs * (dprobs - dots[:, None])
        dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision="ieee")
    dq_at = (head * stride_dh + at * stride_dt)[:, None] + depth
    written = valid[:, None] & (depth < D)
    add_rows(dq_ptr + b * stride_db, dq_at, dq * plain_scale, written, ADDS)
    if SUMS:
        tl.store(sums_ptr + b * stride_lb + head * stride_lh + at * stride_lt, sums, mask=valid)


def merged_rows_backward(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lists: MergedLists,
    grad: OutputGradient,
    dq: Tensor,
    *,
    adds: bool,
    sums: Tensor | None,
) -> None:
    """Write the gradient of the queries or add to it, unless `lists.margin` is above zero.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        lists: The blocks of every merged tile.
        grad: The gradient of the output.
        dq: (B, H, T, D), written.
        adds: Whether to add to what `dq` holds.
        sums: (B, H, T), in the memory order of `grad.lse`, written if given: the dot product of
            the gradient and the branch's gated output.
    """
    grid, tile = merged_grid(problem, lists, backward=True)
    block = problem.settings.select_block
    _merged_rows_backward_kernel[grid](
        q, key_tiles(k, block), key_tiles(v, block),
        lists.entries, lists.counts, lists.margin,
        grad.out, grad.lse, grad.dots, dq, grad.lse if sums is None else sums,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        *list_strides(problem, lists.entries, lists.counts),
        *grad.strides(problem),
        problem.batch_stride(dq), dq.stride(1), dq.stride(2),
        problem.queries, problem.seq_len, problem.scale, problem.plain_scale,
        SUMS=sums is not None,
        ADDS=adds,
        **tile,
    )  # fmt: skip
