"""Gradients of attention to selected blocks (`selected.py`).

The kernel for keys and values takes one block at a time and the queries that selected it
(`inverse.py`). The kernel for queries takes one tile at a time and the blocks that it selected.
Where adjacent tiles select mostly the same blocks, `merged_backward.py` computes the gradient of
the queries, and this kernel returns at once.

Letters: see `layout.py`; n blocks of a tile's list, M rows of a program.

Source: Yuan et al. 2025, eqs. 11 and 12.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import load_keys
from nsa_kernels.gpu.banded_backward import (
    add_rows,
    keys_step,
    load_rows,
)
from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.hopper.support import serves_merged, serves_rows, serves_selected_keys
from nsa_kernels.gpu.inverse import Choosers
from nsa_kernels.gpu.layout import Problem, find_sequence, key_tiles, pad, tile_rows
from nsa_kernels.gpu.merge import merge
from nsa_kernels.gpu.merged_backward import merged_rows_backward
from nsa_kernels.gpu.selected import find_part, selected_grid
from nsa_kernels.gpu.tiles import selected_keys_backward_tile


@triton.jit
def _find_list(
    name, cu_blocks_ptr, sequence_ptr, blocks, groups, PACKED: tl.constexpr
):  # fmt: skip
    """Sequence, group and block of a list."""
    block = name % blocks
    g = name // blocks % groups
    b = name // blocks // groups
    if PACKED:
        b = tl.load(sequence_ptr + block)
        block -= tl.load(cu_blocks_ptr + b)
    return b.to(tl.int64), g.to(tl.int64), block


@triton.jit(do_not_specialize=["queries", "seq_len", "lists", "piece", "blocks", "groups"])
def _selected_keys_backward_kernel(
    q_ptr, k_ptr, v_ptr, grad_ptr, lse_ptr, dots_ptr, dk_ptr, dv_ptr,
    tiles_ptr, starts_ptr, first_pieces_ptr, list_of_piece_ptr,
    cu_blocks_ptr, sequence_ptr, cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_kb, stride_kg, stride_kn,
    stride_vb, stride_vg, stride_vn,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    queries, seq_len, lists, piece, blocks, groups, scale, plain_scale,
    R: tl.constexpr, HEADS: tl.constexpr, TILE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    name = tl.load(list_of_piece_ptr + program)
    if name >= lists:
        return
    b, g, block = _find_list(name, cu_blocks_ptr, sequence_ptr, blocks, groups, PACKED)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    k_first, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    u_first = find_sequence(cu_u_ptr, b, 0, PACKED)[0].to(tl.int32)
    offset = seq_len - queries
    begin = tl.load(starts_ptr + name)
    begin += (program - tl.load(first_pieces_ptr + name)) * piece
    members = tl.minimum(tl.load(starts_ptr + name + 1) - begin, piece)
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    column = tl.arange(0, SELECT_BLOCK)
    index = block * SELECT_BLOCK + column
    there = (index < seq_len)[:, None]
    key = (k_first + index).to(tl.int64)[:, None]
    k = tl.load(
        k_ptr + b * stride_kb + g * stride_kg + key * stride_kn + depth,
        mask=there & (depth < D),
        other=0.0,
    )  # [SELECT_BLOCK, D_PAD]
    v = tl.load(
        v_ptr + b * stride_vb + g * stride_vg + key * stride_vn + value_depth,
        mask=there & (value_depth < DV),
        other=0.0,
    )  # [SELECT_BLOCK, DV_PAD]
    dk = tl.zeros([SELECT_BLOCK, D_PAD], tl.float32)
    dv = tl.zeros([SELECT_BLOCK, DV_PAD], tl.float32)
    slot = tl.arange(0, BLOCK_M // HEADS)
    head = tl.arange(0, HEADS)
    q_ptr += b * stride_qb + g * R * stride_qh
    grad_ptr += b * stride_ob + g * R * stride_oh
    lse_ptr += b * stride_lb + g * R * stride_lh
    dots_ptr += b * stride_lb + g * R * stride_lh
    for start in tl.range(0, members * TILE, BLOCK_M // HEADS):
        listed = start + slot < members * TILE
        at = begin + (start + slot) // TILE
        tile = tl.load(tiles_ptr + at, mask=listed, other=0) - u_first
        position = (offset // TILE + tile) * TILE + (start + slot) % TILE
        query = position - offset
        listed = listed & (query >= 0) & (query < queries)
        at = (q_first + query).to(tl.int64)
        valid = listed[:, None] & (head < R)  # [BLOCK_M // HEADS, HEADS]
        q_at = (at * stride_qt)[:, None, None] + (head * stride_qh)[:, None] + depth
        q = tl.load(q_ptr + q_at, mask=valid[:, :, None] & (depth < D), other=0.0)
        grad_at = (at * stride_ot)[:, None, None] + (head * stride_oh)[:, None] + value_depth
        grad = tl.load(grad_ptr + grad_at, mask=valid[:, :, None] & (value_depth < DV), other=0.0)
        number_at = (at * stride_lt)[:, None] + head * stride_lh
        lse = tl.load(lse_ptr + number_at, mask=valid, other=float("inf"))
        dots = tl.load(dots_ptr + number_at, mask=valid, other=0.0)
        position = tl.broadcast_to(position[:, None], [BLOCK_M // HEADS, HEADS])
        seen = index[:, None] <= tl.reshape(position, [BLOCK_M])[None, :]
        dk, dv = keys_step(
            dk, dv, k, v,
            tl.reshape(q, [BLOCK_M, D_PAD]), tl.reshape(grad, [BLOCK_M, DV_PAD]),
            tl.reshape(lse, [BLOCK_M]), tl.reshape(dots, [BLOCK_M]), seen & there, scale,
        )  # fmt: skip
    to = (program.to(tl.int64) * SELECT_BLOCK + column)[:, None]
    tl.store(dk_ptr + to * D + depth, dk * plain_scale, mask=(depth < D)[None, :])
    tl.store(dv_ptr + to * DV + value_depth, dv, mask=(value_depth < DV)[None, :])


@triton.jit(do_not_specialize=["seq_len", "blocks", "groups"])
def _sum_pieces_kernel(
    part_ptr, extra_ptr, out_ptr, first_pieces_ptr, cu_blocks_ptr, sequence_ptr, cu_k_ptr,
    stride_eb, stride_eg, stride_en,
    stride_ob, stride_og, stride_on,
    seq_len, blocks, groups, batch,
    SELECT_BLOCK: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr,
    EXTRA: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    name = tl.program_id(0)
    if PACKED:
        if tl.load(sequence_ptr + name % blocks) >= batch:
            return
    b, g, block = _find_list(name, cu_blocks_ptr, sequence_ptr, blocks, groups, PACKED)
    k_first, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    column = tl.arange(0, SELECT_BLOCK)
    depth = tl.arange(0, D_PAD)
    index = block * SELECT_BLOCK + column
    key = (k_first + index).to(tl.int64)[:, None]
    mask = (index < seq_len)[:, None] & (depth < D)
    total = tl.zeros([SELECT_BLOCK, D_PAD], tl.float32)
    if EXTRA:
        at = b * stride_eb + g * stride_eg + key * stride_en + depth
        total += tl.load(extra_ptr + at, mask=mask, other=0.0)
    first = tl.load(first_pieces_ptr + name)
    part_ptr += first.to(tl.int64) * (SELECT_BLOCK * D)
    part_at = column[:, None] * D + depth
    for _ in tl.range(first, tl.load(first_pieces_ptr + name + 1)):
        total += tl.load(part_ptr + part_at, mask=(depth < D)[None, :], other=0.0)
        part_ptr += SELECT_BLOCK * D
    at = b * stride_ob + g * stride_og + key * stride_on + depth
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["queries", "seq_len", "stride_sb", "stride_sg", "stride_su"])
def _selected_rows_backward_kernel(
    q_ptr, k_tiles, v_tiles, blocks_ptr, margin_ptr, grad_ptr, lse_ptr, dots_ptr, dq_ptr, sums_ptr,
    cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_sb, stride_sg, stride_su,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    stride_db, stride_dh, stride_dt,
    queries, seq_len, scale, plain_scale,
    COUNT: tl.constexpr, R: tl.constexpr, TILE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, PARTS: tl.constexpr,
    SUMS: tl.constexpr, ADDS: tl.constexpr, PACKED: tl.constexpr, MERGED: tl.constexpr,
    EACH: tl.constexpr,
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
        q, grad, lse, dots = load_rows(
            q_ptr + b * stride_qb, grad_ptr + b * stride_ob, lse_ptr + b * stride_lb,
            dots_ptr + b * stride_lb, head, at, valid,
            stride_qh, stride_qt, stride_oh, stride_ot, stride_lh, stride_lt,
            D, DV, D_PAD, DV_PAD,
        )  # fmt: skip
        listed = blocks_ptr + tile * stride_su
        dq = tl.zeros([BLOCK_M, D_PAD], tl.float32)
        sums = tl.zeros([BLOCK_M], tl.float32)
        for i in tl.range(0, COUNT):
            block = tl.load(listed + i)
            first = tl.where(block < 0, seq_len, block * SELECT_BLOCK)
            index = first + column
            k = load_keys(k_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, D_PAD)
            v = load_keys(v_tiles, batch, k_first + first, tl.program_id(1), SELECT_BLOCK, DV_PAD)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee")  # [BLOCK_M, SELECT_BLOCK]
            dprobs = tl.dot(grad, tl.trans(v), input_precision="ieee")  # [BLOCK_M, SELECT_BLOCK]
            seen = index[None, :] <= tl.minimum(position, seq_len - 1)[:, None]
            probs = tl.where(seen, tl.exp2(scores * scale - lse[:, None]), 0.0)
            if SUMS:
                sums += tl.sum(probs * dprobs, axis=1)
            dscores = probs * (dprobs - dots[:, None])
            dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision="ieee")
        dq_at = (head * stride_dh + at * stride_dt)[:, None] + depth
        written = valid[:, None] & (depth < D)
        add_rows(dq_ptr + b * stride_db, dq_at, dq * plain_scale, written, ADDS)
        if SUMS:
            tl.store(sums_ptr + b * stride_lb + head * stride_lh + at * stride_lt, sums, mask=valid)


def selected_rows_backward(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    *,
    adds: bool,
    sums: Tensor | None = None,
) -> None:
    """Write the gradient of the queries, or add it to `dq`.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        blocks: (B, G, U, n) int32, -1 for none.
        grad: The gradient of the output.
        dq: (B, H, T, D), written.
        adds: Whether to add to what `dq` holds.
        sums: (B, H, T), in the memory order of `grad.lse`, written if given: the dot product of
            the gradient and the branch's gated output.
    """
    margin = _rows_of_merged(problem, q, k, v, blocks, grad, dq, adds=adds, sums=sums)
    grid, tile = selected_grid(problem, merged=margin is not None)
    _selected_rows_backward_kernel[grid](
        q, key_tiles(k, tile["SELECT_BLOCK"]), key_tiles(v, tile["SELECT_BLOCK"]), blocks,
        margin,
        grad.out, grad.lse, grad.dots, dq, grad.lse if sums is None else sums,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        problem.batch_stride(blocks), blocks.stride(1), blocks.stride(2),
        *grad.strides(problem),
        problem.batch_stride(dq), dq.stride(1), dq.stride(2),
        problem.queries, problem.seq_len, problem.scale, problem.plain_scale,
        COUNT=blocks.shape[3],
        SUMS=sums is not None,
        ADDS=adds,
        **tile,
    )  # fmt: skip


def _rows_of_merged(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    *,
    adds: bool,
    sums: Tensor | None,
) -> Tensor | None:
    """Launch the kernel for merged lists if it supports the call; its margin as in `selected`."""
    served = serves_rows(problem, q) and serves_merged(problem, q, blocks.shape[3])
    if served and adds and sums is not None:
        from nsa_kernels.gpu.hopper.merged_rows import launch_merged_rows

        return launch_merged_rows(problem, q, k, v, blocks, grad, dq, sums)
    lists = merge(problem, blocks)
    if lists is None:
        return None
    merged_rows_backward(problem, q, k, v, lists, grad, dq, adds=adds, sums=sums)
    return lists.margin


def selected_keys_backward(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    choosers: Choosers,
    grad: OutputGradient,
    extra: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of keys (B, G, S, D) and values (B, G, S, Dv).

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        choosers: The tiles that selected each block.
        grad: The gradient of the output.
        extra: Gradients in fp32 to add, such as the window's.
    """
    shape = (choosers.pieces, problem.settings.select_block)
    parts = (
        torch.empty(*shape, k.shape[3], dtype=torch.float32, device=k.device),
        torch.empty(*shape, v.shape[3], dtype=torch.float32, device=v.device),
    )
    if serves_selected_keys(problem, q):
        from nsa_kernels.gpu.hopper.selected_keys import launch_selected_keys

        launch_selected_keys(problem, q, k, v, choosers, grad, parts)
    else:
        _launch_keys(problem, q, k, v, choosers, grad, parts)
    extras = extra or (None, None)
    dk, dv = (
        _sum_pieces(problem, choosers, part, more, like)
        for part, more, like in zip(parts, extras, (k, v), strict=True)
    )
    return dk, dv


def _launch_keys(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    choosers: Choosers,
    grad: OutputGradient,
    parts: tuple[Tensor, Tensor],
) -> None:
    """Write the gradients of every piece: (P, select_block, D) and (P, select_block, Dv)."""
    block = problem.settings.select_block
    heads = triton.next_power_of_2(problem.repeat)
    tile = selected_keys_backward_tile(problem, heads)
    _selected_keys_backward_kernel[(choosers.pieces,)](
        q, k, v, grad.out, grad.lse, grad.dots, *parts,
        choosers.tiles, choosers.starts, choosers.first_pieces, choosers.list_of_piece,
        choosers.cu_blocks, choosers.sequence_of_block,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        problem.batch_stride(k), k.stride(1), k.stride(2),
        problem.batch_stride(v), v.stride(1), v.stride(2),
        *grad.strides(problem),
        problem.queries, problem.seq_len, choosers.lists, choosers.piece, choosers.blocks,
        problem.groups, problem.scale, problem.plain_scale,
        R=problem.repeat,
        HEADS=heads,
        TILE=problem.settings.select_tile,
        SELECT_BLOCK=block,
        D=problem.dim,
        DV=problem.value_dim,
        D_PAD=pad(problem.dim),
        DV_PAD=pad(problem.value_dim),
        PACKED=problem.packing is not None,
        **tile,
    )  # fmt: skip


def _sum_pieces(
    problem: Problem, choosers: Choosers, part: Tensor, extra: Tensor | None, like: Tensor
) -> Tensor:
    """Sum the pieces of each block's list and `extra`: (B, G, S, D) like `like`."""
    out = torch.empty_like(like)
    added = part if extra is None else extra
    strides = (0, 0, 0)
    if extra is not None:
        strides = (problem.batch_stride(extra), extra.stride(1), extra.stride(2))
    _sum_pieces_kernel[(choosers.lists,)](
        part, added, out, choosers.first_pieces, choosers.cu_blocks, choosers.sequence_of_block,
        problem.cu_keys,
        *strides,
        problem.batch_stride(out), out.stride(1), out.stride(2),
        problem.seq_len, choosers.blocks, problem.groups, problem.batch,
        SELECT_BLOCK=problem.settings.select_block,
        D=like.shape[3],
        D_PAD=pad(like.shape[3]),
        EXTRA=extra is not None,
        PACKED=problem.packing is not None,
        num_warps=4,
    )  # fmt: skip
    return out
