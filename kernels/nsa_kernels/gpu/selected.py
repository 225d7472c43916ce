"""Attention to the blocks that each tile of queries selected.

In `union` mode a tile's list includes the blocks of its window, so that one softmax over the list
is the whole attention. In `gated` mode this kernel runs last and adds its gated branch to the sum
of the others.

Where adjacent tiles select mostly the same blocks, `merged.py` computes the output, and this
kernel returns at once. On Hopper, `hopper/listed.py` computes the output of lists that the queries
of a tile share in `union` mode.

Letters: see `layout.py`; n blocks of a list, M rows of a program.

Source: Yuan et al. 2025, eqs. 5, 11 and 12.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import NO_SCORE, load_keys
from nsa_kernels.gpu.hopper.support import pad_heads, serves_listed, serves_merged
from nsa_kernels.gpu.launches import launch
from nsa_kernels.gpu.layout import (
    Problem,
    empty_rows,
    find_sequence,
    key_tiles,
    number_strides,
    pad,
    tile_rows,
)
from nsa_kernels.gpu.merge import merge
from nsa_kernels.gpu.merged import merged_forward
from nsa_kernels.gpu.tiles import row_bytes, selected_tile

_EACH = 4
"""Parts of tiles of a program, where rows are short and lists were merged."""


@triton.jit
def find_part(
    margin_ptr, offset, queries, seq_len,
    TILE: tl.constexpr, PARTS: tl.constexpr, MERGED: tl.constexpr, EACH: tl.constexpr,
):  # fmt: skip
    """A program's first part of a tile and one past its last; none where merged lists are faster.

    A loop over no part stands for an early return. With Triton 3.6 a matrix product of Hopper's
    inside an `if` that depends on data reads outside of shared memory.
    """
    first = tl.program_id(0) * EACH
    tiles = tl.where(queries > 0, (seq_len - 1) // TILE - offset // TILE + 1, 0)
    end = tl.minimum(first + EACH, tiles * PARTS)
    if MERGED:
        end = tl.where(tl.load(margin_ptr) > 0, end, 0)
    return first, end


@triton.jit(do_not_specialize=["queries", "seq_len", "stride_sb", "stride_sg", "stride_su"])
def _selected_forward_kernel(
    q_ptr, k_tiles, v_tiles, blocks_ptr, margin_ptr, out_ptr, lse_ptr, gate_ptr,
    cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_sb, stride_sg, stride_su,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    stride_gb, stride_gh, stride_gt,
    queries, seq_len, scale,
    COUNT: tl.constexpr, R: tl.constexpr, TILE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, PARTS: tl.constexpr, GATED: tl.constexpr, PACKED: tl.constexpr,
    MERGED: tl.constexpr, EACH: tl.constexpr,
):  # fmt: skip
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    k_first, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    u_first = find_sequence(cu_u_ptr, b, 0, PACKED)[0]
    offset = seq_len - queries
    first_part, end_part = find_part(
        margin_ptr, offset, queries, seq_len, TILE, PARTS, MERGED, EACH
    )
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    column = tl.arange(0, SELECT_BLOCK)
    batch = 0 if PACKED else tl.program_id(2)
    k_first = k_first.to(tl.int32)
    blocks_ptr += b * stride_sb + g * stride_sg + u_first * stride_su
    for program in tl.range(first_part, end_part):
        tile = program // PARTS
        start = (offset // TILE + tile) * TILE
        head, query, position, valid = tile_rows(
            start, program % PARTS, offset, queries, R, TILE, BLOCK_M
        )
        head = head + g * R
        at = (q_first + query).to(tl.int64)
        q = tl.load(
            q_ptr + b * stride_qb + (head * stride_qh + at * stride_qt)[:, None] + depth,
            mask=valid[:, None] & (depth < D),
            other=0.0,
        )  # [BLOCK_M, D_PAD]
        listed = blocks_ptr + tile * stride_su

        acc = tl.zeros([BLOCK_M, DV_PAD], tl.float32)
        top = tl.full([BLOCK_M], NO_SCORE, tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        for i in tl.range(0, COUNT):
            block = tl.load(listed + i)
            first = tl.where(block < 0, seq_len, block * SELECT_BLOCK)
            index = first + column
            k = load_keys(k_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, D_PAD)
            v = load_keys(v_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, DV_PAD)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, SELECT_BLOCK]
            seen = index[None, :] <= tl.minimum(position, seq_len - 1)[:, None]
            scores = tl.where(seen, scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, axis=1) * scale)
            probs = tl.exp2(scores * scale - new_top[:, None])
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


def selected_forward(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    *,
    gate: Tensor | None = None,
    others: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend to the selected blocks.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        blocks: (B, G, U, n) int32, padded with -1; each list includes the tile's own block.
        gate: (B, H, T), the selection's gate in `gated` mode.
        others: (B, H, T, Dv), the sum of the other branches in `gated` mode. This branch is added
            to it in place.

    Returns:
        Output (B, H, T, Dv), and the base-2 log-sum-exp of the scaled scores (B, H, T).
    """
    out = empty_rows(q, problem.value_dim) if others is None else others
    lse = problem.per_query(q)
    if gate is None and serves_listed(problem, q):
        from nsa_kernels.gpu.hopper.listed import launch_listed

        launch_listed(problem, q, k, v, blocks, out, lse)
        return out, lse
    margin = _attend_merged(problem, q, k, v, blocks, out, lse, gate)
    grid, tile = selected_grid(problem, merged=margin is not None)
    launch(
        _selected_forward_kernel, grid,
        q, key_tiles(k, tile["SELECT_BLOCK"]), key_tiles(v, tile["SELECT_BLOCK"]), blocks,
        margin,
        out, lse, lse if gate is None else gate,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        problem.batch_stride(blocks), blocks.stride(1), blocks.stride(2),
        problem.batch_stride(out), out.stride(1), out.stride(2),
        problem.batch_stride(lse), lse.stride(1), lse.stride(2),
        *number_strides(problem, gate),
        problem.queries, problem.seq_len, problem.scale,
        COUNT=blocks.shape[3],
        GATED=gate is not None,
        **tile,
    )  # fmt: skip
    return out, lse


def _attend_merged(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    out: Tensor,
    lse: Tensor,
    gate: Tensor | None,
) -> Tensor | None:
    """Launch the kernel for merged lists if it supports the call.

    Returns:
        (1,) int32, the lists' margin: above zero if the kernel for one tile at a time must compute
        the output. None if lists are not merged.
    """
    if serves_merged(problem, q, blocks.shape[3]):
        from nsa_kernels.gpu.hopper.lists import warpgroup_lists
        from nsa_kernels.gpu.hopper.merged import GROUPS, launch_merged

        own = warpgroup_lists(problem, blocks, 64 // pad_heads(problem.repeat), GROUPS.value)
        launch_merged(problem, q, k, v, own, out, lse, gate)
        return own.margin
    lists = merge(problem, blocks)
    if lists is None:
        return None
    merged_forward(problem, q, k, v, lists, out, lse, gate)
    return lists.margin


def selected_grid(
    problem: Problem, *, merged: bool
) -> tuple[tuple[int, int, int], dict[str, int | bool]]:
    """The grid of a kernel over tiles of queries, and its constants.

    Args:
        problem: The sizes.
        merged: Whether a kernel for merged lists was launched, too.
    """
    s = problem.settings
    rows = problem.repeat * s.select_tile
    tile = selected_tile(problem)
    parts = triton.cdiv(rows, tile["BLOCK_M"])
    # Programs that return at once take time, too; with long rows, many programs are faster.
    each = _EACH if merged and row_bytes(problem) <= 128 else 1
    constants = {
        "R": problem.repeat,
        "TILE": s.select_tile,
        "SELECT_BLOCK": s.select_block,
        "D": problem.dim,
        "DV": problem.value_dim,
        "D_PAD": pad(problem.dim),
        "DV_PAD": pad(problem.value_dim),
        "PARTS": parts,
        "PACKED": problem.packing is not None,
        "MERGED": merged,
        "EACH": each,
        **tile,
    }
    grid = (triton.cdiv(problem.tiles * parts, each), problem.groups, problem.batch)
    return grid, constants
