"""Attention of merged tiles to their lists of blocks; see `merge.py`.

A program attends with the rows of all tiles of a merged tile. A row whose tile did not select a
block gives its keys no probability.

Letters: see `layout.py`; P tiles of a merged tile, M rows of a program.

Source: Yuan et al. 2025, eqs. 5, 11 and 12.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import NO_SCORE, load_keys
from nsa_kernels.gpu.launches import launch
from nsa_kernels.gpu.layout import (
    Problem,
    find_sequence,
    key_tiles,
    number_strides,
    pad,
    tile_rows,
)
from nsa_kernels.gpu.merge import BLOCK_MASK, MergedLists, list_strides, merged_row
from nsa_kernels.gpu.tiles import merged_tile


@triton.jit
def load_entry(entries_ptr, i, member):
    """Number of a block of a list, and whether each row's tile selected it."""
    entry = tl.load(entries_ptr + i)
    return entry & BLOCK_MASK, ((entry >> 16 >> member) & 1) != 0


@triton.jit(
    do_not_specialize=["queries", "seq_len", "stride_eb", "stride_eg", "stride_cb", "stride_cg"]
)
def _merged_forward_kernel(
    q_ptr, k_tiles, v_tiles, entries_ptr, counts_ptr, margin_ptr, out_ptr, lse_ptr, gate_ptr,
    cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_eb, stride_eg, stride_ev,
    stride_cb, stride_cg,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    stride_gb, stride_gh, stride_gt,
    queries, seq_len, scale,
    MEMBERS: tl.constexpr, R: tl.constexpr, TILE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, GATED: tl.constexpr, PACKED: tl.constexpr,
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
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    column = tl.arange(0, SELECT_BLOCK)
    q = tl.load(
        q_ptr + b * stride_qb + (head * stride_qh + at * stride_qt)[:, None] + depth,
        mask=valid[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_M, D_PAD]
    batch = 0 if PACKED else tl.program_id(2)
    k_first = k_first.to(tl.int32)
    row = merged_row(u_first, b, merged, MEMBERS, PACKED)
    count = tl.load(counts_ptr + b * stride_cb + g * stride_cg + row)
    entries_ptr += b * stride_eb + g * stride_eg + row * stride_ev

    acc = tl.zeros([BLOCK_M, DV_PAD], tl.float32)
    top = tl.full([BLOCK_M], NO_SCORE, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    # Every row sees the keys below `whole`.
    whole = tl.min(position) + 1
    for i in tl.range(0, count):
        block, chosen = load_entry(entries_ptr, i, member)
        first = block * SELECT_BLOCK
        index = first + column
        k = load_keys(k_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, D_PAD)
        v = load_keys(v_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, DV_PAD)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, SELECT_BLOCK]
        if first + SELECT_BLOCK > whole:
            scores = tl.where(index[None, :] <= position[:, None], scores, float("-inf"))
        new_top = tl.where(chosen, tl.maximum(top, tl.max(scores, axis=1) * scale), top)
        # Subtracting infinity makes the probabilities of a block that was not selected zero.
        probs = tl.exp2(scores * scale - tl.where(chosen, new_top, float("inf"))[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(probs, axis=1)
        acc = acc * shrink[:, None]
        acc = tl.dot(probs.to(v.dtype), v, acc, input_precision="ieee")
        top = new_top

    # Every query's own block is in its list, so only invalid rows have a total of zero.
    total = tl.where(total > 0, total, 1.0)
    acc = acc / total[:, None]
    written = valid[:, None] & (value_depth < DV)
    at_out = b * stride_ob + (head * stride_oh + at * stride_ot)[:, None] + value_depth
    if GATED:
        gate_at = b * stride_gb + head * stride_gh + at * stride_gt
        gate = tl.load(gate_ptr + gate_at, mask=valid, other=0.0).to(tl.float32)
        acc *= gate[:, None]
        acc += tl.load(out_ptr + at_out, mask=written, other=0.0).to(tl.float32)
    tl.store(out_ptr + at_out, acc.to(out_ptr.dtype.element_ty), mask=written)
    lse = top + tl.log2(total)
    tl.store(lse_ptr + b * stride_lb + head * stride_lh + at * stride_lt, lse, mask=valid)


def merged_forward(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lists: MergedLists,
    out: Tensor,
    lse: Tensor,
    gate: Tensor | None,
) -> None:
    """Attend to merged lists, unless `lists.margin` is above zero.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        lists: The blocks of every merged tile.
        out: (B, H, T, Dv), written. With a gate it holds the sum of the other branches, and this
            branch is added to it.
        lse: (B, H, T), written: the base-2 log-sum-exp of the scaled scores.
        gate: (B, H, T), the selection's gate in `gated` mode.
    """
    grid, tile = merged_grid(problem, lists, backward=False)
    block = problem.settings.select_block
    launch(
        _merged_forward_kernel, grid,
        q, key_tiles(k, block), key_tiles(v, block),
        lists.entries, lists.counts, lists.margin,
        out, lse, lse if gate is None else gate,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        *list_strides(problem, lists.entries, lists.counts),
        problem.batch_stride(out), out.stride(1), out.stride(2),
        problem.batch_stride(lse), lse.stride(1), lse.stride(2),
        *number_strides(problem, gate),
        problem.queries, problem.seq_len, problem.scale,
        GATED=gate is not None,
        **tile,
    )  # fmt: skip


def merged_grid(
    problem: Problem, lists: MergedLists, *, backward: bool
) -> tuple[tuple[int, int, int], dict[str, int | bool]]:
    """The grid of a kernel over merged tiles, and its constants."""
    s = problem.settings
    constants = {
        "MEMBERS": lists.members,
        "R": problem.repeat,
        "TILE": s.select_tile,
        "SELECT_BLOCK": s.select_block,
        "D": problem.dim,
        "DV": problem.value_dim,
        "D_PAD": pad(problem.dim),
        "DV_PAD": pad(problem.value_dim),
        "PACKED": problem.packing is not None,
        **merged_tile(problem, backward=backward),
    }
    return (triton.cdiv(problem.tiles, lists.members), problem.groups, problem.batch), constants
