"""Attention to selected blocks, block by block.

Query by query, each would read its own blocks: 32 KB of keys and values for 8 KB of queries and
outputs, and the level-2 cache is the limit. So here a block is loaded once for all the queries
that chose it, and what they attend to in it is written apart, with its log-sum-exp, and summed at
the end. The blocks that every query has, the first and the nearest, are a band of keys, done for
neighbouring queries together. All this goes chunk by chunk of queries, so that the room for the
parts stays small.

Letters: see `layout.py`; n selected blocks, f of them forced, n - f + 1 parts of a query's sum.

Source: Yuan et al. 2025, eqs. 11 and 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import NO_SCORE, load_keys
from nsa_kernels.gpu.inverse import invert
from nsa_kernels.gpu.layout import (
    Problem,
    empty_rows,
    find_list,
    find_sequence,
    key_tiles,
    number_strides,
    pad,
)
from nsa_kernels.gpu.tiles import by_block_tile, combine_tile, forced_tile

_ROOM = 2**29
"""Bytes of the parts that are held at a time."""

_LEAST_QUERIES = 1024
"""Fewer queries are not worth the sorting."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Queries that are done together: some groups, and a stretch of the queries of each.

    Attributes:
        number: Its place among the chunks.
        first_group: The first group, counted through the sequences (b * G + g).
        groups: How many.
        first: The first query.
        queries: How many, at most.
    """

    number: int
    first_group: int
    groups: int
    first: int
    queries: int


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """How the queries of a call are dealt into chunks, all of one size."""

    all_groups: int
    all_queries: int
    groups: int
    queries: int

    @classmethod
    def of(cls, problem: Problem, groups: int, queries: int) -> Chunks:
        """Chunks whose parts take no more than the room for them.

        Args:
            problem: The sizes.
            groups: B * G, G of a packed batch.
            queries: U, of all sequences together where they are packed.
        """
        row = problem.repeat * problem.value_dim * problem.itemsize
        most = max(1, _ROOM // (row * parts(problem)))
        together = max(1, min(groups, most // queries))
        return cls(
            all_groups=groups, all_queries=queries, groups=together, queries=min(queries, most)
        )

    @property
    def along(self) -> int:
        """Chunks that one group's queries make."""
        return -(-self.all_queries // self.queries)

    def __len__(self) -> int:
        return -(-self.all_groups // self.groups) * self.along

    def __getitem__(self, number: int) -> Chunk:
        if not 0 <= number < len(self):
            raise IndexError(number)
        across, along = divmod(number, self.along)
        return Chunk(
            number=number,
            first_group=across * self.groups,
            groups=min(self.groups, self.all_groups - across * self.groups),
            first=along * self.queries,
            queries=min(self.queries, self.all_queries - along * self.queries),
        )

    def numbers(self, device: torch.device) -> Tensor:
        """The chunk of each group and query: (B * G, U), int64."""
        group = torch.arange(self.all_groups, device=device)[:, None] // self.groups
        return group * self.along + torch.arange(self.all_queries, device=device) // self.queries


def forced_blocks(problem: Problem) -> int:
    """f: blocks at the head of each list that every query has, where there are that many."""
    s = problem.settings
    return s.init_blocks + (s.local_blocks if s.combine == "gated" else 0)


def parts(problem: Problem) -> int:
    """Parts of a query's sum: its free blocks, and the forced ones together."""
    assert problem.settings.select_count is not None
    return problem.settings.select_count - forced_blocks(problem) + 1


def goes_by_block(problem: Problem) -> bool:
    """Whether going by block is possible and pays: many queries, each with blocks of its own."""
    s = problem.settings
    assert s.select_count is not None
    near = s.combine == "union" or s.local_blocks > 0
    free = s.select_count - forced_blocks(problem)
    return (
        s.select_tile == 1
        and near
        and free > 0
        and problem.queries >= _LEAST_QUERIES
        and problem.queries * free >= 8 * problem.blocks
    )


@triton.jit
def _in_chunk(x, PARTS: tl.constexpr, part, R: tl.constexpr):
    """First row of a part of a query, counted from the chunk's first."""
    return (x * PARTS + part).to(tl.int64) * R


@triton.jit(do_not_specialize=["seq_len", "lists", "piece", "blocks", "groups", "tiles", "first_list", "first_group", "first_query", "chunk_queries"])  # fmt: skip
def _by_block_forward_kernel(
    q_ptr, k_tiles, v_tiles, parts_ptr, lse_ptr,
    pairs_ptr, starts_ptr, first_pieces_ptr, list_of_piece_ptr, cu_blocks_ptr, sequence_ptr,
    cu_k_ptr,
    stride_qb, stride_qh, stride_qt,
    seq_len, lists, piece, blocks, groups, tiles, first_list,
    first_group, first_query, chunk_queries, scale,
    COUNT: tl.constexpr, R: tl.constexpr, HEADS: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    first_piece = tl.load(first_pieces_ptr + first_list)
    program = first_piece + tl.program_id(0)
    if program >= tl.load(first_pieces_ptr + first_list + lists):
        return
    full_name = tl.load(list_of_piece_ptr + program)
    b, g, block = find_list(
        full_name - first_list, cu_blocks_ptr, sequence_ptr, blocks, groups, PACKED
    )
    k_first, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    batch = 0 if PACKED else b.to(tl.int32)
    key = k_first.to(tl.int32) + block * SELECT_BLOCK
    k = load_keys(k_tiles, batch, key, g.to(tl.int32), SELECT_BLOCK, D_PAD)
    v = load_keys(v_tiles, batch, key, g.to(tl.int32), SELECT_BLOCK, DV_PAD)
    begin = tl.load(starts_ptr + full_name)
    begin += (program - tl.load(first_pieces_ptr + full_name)) * piece
    members = tl.minimum(tl.load(starts_ptr + full_name + 1) - begin, piece)

    slot = tl.arange(0, BLOCK_M // HEADS)
    head = tl.arange(0, HEADS)
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    q_ptr += (0 if PACKED else b) * stride_qb + g * R * stride_qh
    for start in tl.range(0, members, BLOCK_M // HEADS):
        listed = start + slot < members
        pair = tl.load(pairs_ptr + begin + start + slot, mask=listed, other=0)
        query = pair // COUNT % tiles
        valid = listed[:, None] & (head < R)  # [BLOCK_M // HEADS, HEADS]
        q_at = (query.to(tl.int64) * stride_qt)[:, None, None] + (head * stride_qh)[:, None] + depth
        q = tl.load(q_ptr + q_at, mask=valid[:, :, None] & (depth < D), other=0.0)
        q = tl.reshape(q, [BLOCK_M, D_PAD])
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_M, SELECT_BLOCK]
        top = tl.max(scores, axis=1)
        probs = tl.exp2(scores - top[:, None])
        total = tl.sum(probs, axis=1)
        out = tl.dot(probs.to(v.dtype), v, input_precision="ieee") / total[:, None]
        x = (pair // COUNT // tiles - first_group) * chunk_queries + query - first_query
        row = _in_chunk(x, COUNT + 1, pair % COUNT, R)[:, None] + head
        lse = tl.reshape(top + tl.log2(total), [BLOCK_M // HEADS, HEADS])
        tl.store(lse_ptr + row, lse, mask=valid)
        out = tl.reshape(out.to(parts_ptr.dtype.element_ty), [BLOCK_M // HEADS, HEADS, DV_PAD])
        to = parts_ptr + row[:, :, None] * DV + value_depth
        tl.store(to, out, mask=valid[:, :, None] & (value_depth < DV))


@triton.jit
def _near_step(
    q, k, v, acc, top, total, index, low, high, scale
):  # fmt: skip
    """Take a tile of keys into a running softmax."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_M, BLOCK_N]
    seen = (index[None, :] >= low[:, None]) & (index[None, :] < high[:, None])
    scores = tl.where(seen, scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, axis=1))
    probs = tl.exp2(scores - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(probs, axis=1)
    acc = tl.dot(probs.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
    return acc, new_top, total


@triton.jit(do_not_specialize=["queries", "seq_len", "groups", "first_group", "first_query", "chunk_queries", "first_tile"])  # fmt: skip
def _forced_forward_kernel(
    q_ptr, k_tiles, v_tiles, parts_ptr, lse_ptr,
    cu_q_ptr, cu_k_ptr,
    stride_qb, stride_qh, stride_qt,
    queries, seq_len, groups, first_group, first_query, chunk_queries, first_tile, scale,
    COUNT: tl.constexpr, R: tl.constexpr, HEADS: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    INIT: tl.constexpr, BACK: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, D_PAD: tl.constexpr, DV_PAD: tl.constexpr,
    BLOCK_M: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    group = first_group + tl.program_id(1)
    g = (group % groups).to(tl.int64)
    b = (tl.program_id(2) if PACKED else group // groups).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    k_first, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    row = tl.arange(0, BLOCK_M)
    head = row % HEADS
    query = (first_tile + tl.program_id(0)) * (BLOCK_M // HEADS) + row // HEADS
    at = (q_first + query).to(tl.int64)
    x = at - first_query
    inside = (query < queries) & (x >= 0) & (x < chunk_queries)
    if tl.max(inside.to(tl.int32)) == 0:
        return
    valid = inside & (head < R)
    depth = tl.arange(0, D_PAD)
    value_depth = tl.arange(0, DV_PAD)
    q = tl.load(
        q_ptr + (0 if PACKED else b) * stride_qb
        + ((head + g * R) * stride_qh + at * stride_qt)[:, None] + depth,
        mask=valid[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_M, D_PAD]
    batch = 0 if PACKED else b.to(tl.int32)
    k_first = k_first.to(tl.int32)
    column = tl.arange(0, SELECT_BLOCK)
    position = tl.minimum(query + seq_len - queries, seq_len - 1)
    low = tl.maximum(position // SELECT_BLOCK - BACK, INIT) * SELECT_BLOCK
    acc = tl.zeros([BLOCK_M, DV_PAD], tl.float32)
    top = tl.full([BLOCK_M], NO_SCORE, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    for i in tl.static_range(INIT):
        index = i * SELECT_BLOCK + column
        key = k_first + i * SELECT_BLOCK
        k = load_keys(k_tiles, batch, key, g.to(tl.int32), SELECT_BLOCK, D_PAD)
        v = load_keys(v_tiles, batch, key, g.to(tl.int32), SELECT_BLOCK, DV_PAD)
        acc, top, total = _near_step(
            q, k, v, acc, top, total, index, position * 0, position + 1, scale
        )
    for start in tl.range(tl.min(low), tl.max(position) + 1, SELECT_BLOCK):
        k = load_keys(k_tiles, batch, k_first + start, g.to(tl.int32), SELECT_BLOCK, D_PAD)
        v = load_keys(v_tiles, batch, k_first + start, g.to(tl.int32), SELECT_BLOCK, DV_PAD)
        acc, top, total = _near_step(
            q, k, v, acc, top, total, start + column, low, position + 1, scale
        )
    total = tl.where(total > 0, total, 1.0)
    x += tl.program_id(1).to(tl.int64) * chunk_queries
    to = _in_chunk(x, COUNT + 1, COUNT, R) + head
    tl.store(lse_ptr + to, top + tl.log2(total), mask=valid)
    out = (acc / total[:, None]).to(parts_ptr.dtype.element_ty)
    written = valid[:, None] & (value_depth < DV)
    tl.store(parts_ptr + to[:, None] * DV + value_depth, out, mask=written)


@triton.jit(do_not_specialize=["groups", "first_group", "first_query", "chunk_queries"])
def _combine_kernel(
    parts_ptr, part_lse_ptr, blocks_ptr, out_ptr, lse_ptr, gate_ptr,
    stride_sb, stride_sg, stride_su,
    stride_ob, stride_oh, stride_ot,
    stride_lb, stride_lh, stride_lt,
    stride_gb, stride_gh, stride_gt,
    groups, first_group, first_query, chunk_queries,
    FORCED: tl.constexpr, COUNT: tl.constexpr, COUNT_PAD: tl.constexpr,
    R: tl.constexpr, HEADS: tl.constexpr,
    DV: tl.constexpr, DV_PAD: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0)
    group = first_group + tl.program_id(1)
    g = (group % groups).to(tl.int64)
    b = (group // groups).to(tl.int64)
    at = (first_query + x).to(tl.int64)
    first = _in_chunk(x + tl.program_id(1) * chunk_queries, COUNT + 1, 0, R)
    blocks_ptr += b * stride_sb + g * stride_sg + at * stride_su + FORCED
    head = tl.arange(0, HEADS)
    part = tl.arange(0, COUNT_PAD)
    block = tl.load(blocks_ptr + part, mask=part < COUNT, other=-1)
    there = ((block >= 0) | (part == COUNT))[:, None] & (head < R)
    lse = tl.load(
        part_lse_ptr + first + part[:, None] * R + head, mask=there, other=float("-inf")
    )  # [COUNT_PAD, HEADS]
    top = tl.max(lse, axis=0)
    top = tl.where(head < R, top, 0.0)
    total = tl.sum(tl.exp2(lse - top[None, :]), axis=0)
    lse = top + tl.log2(tl.where(head < R, total, 1.0))
    value_depth = tl.arange(0, DV_PAD)
    written = (head < R)[:, None] & (value_depth < DV)
    acc = tl.zeros([HEADS, DV_PAD], tl.float32)
    for i in tl.static_range(COUNT + 1):
        there = head < R
        if i < COUNT:
            there = there & (tl.load(blocks_ptr + i + head * 0) >= 0)
        row = first + i * R + head
        share = tl.load(part_lse_ptr + row, mask=there, other=float("-inf"))
        share = tl.exp2(share - lse)
        value_at = parts_ptr + row[:, None] * DV + value_depth
        value = tl.load(value_at, mask=there[:, None] & (value_depth < DV), other=0.0)
        acc += share[:, None] * value.to(tl.float32)
    head_at = g * R + head
    to = b * stride_ob + (head_at * stride_oh + at * stride_ot)[:, None] + value_depth
    if GATED:
        gate_at = b * stride_gb + head_at * stride_gh + at * stride_gt
        acc *= tl.load(gate_ptr + gate_at, mask=head < R, other=0.0).to(tl.float32)[:, None]
        acc += tl.load(out_ptr + to, mask=written, other=0.0).to(tl.float32)
    tl.store(out_ptr + to, acc.to(out_ptr.dtype.element_ty), mask=written)
    tl.store(lse_ptr + b * stride_lb + head_at * stride_lh + at * stride_lt, lse, mask=head < R)


def by_block_forward(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    *,
    gate: Tensor | None = None,
    others: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attend to chosen blocks, like `selected_forward`, where `goes_by_block` says so.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        blocks: (B, G, U, n) int32, -1 for none, the forced blocks first.
        gate: (B, H, T), the selection's gate in `gated` mode.
        others: (B, H, T, Dv), the sum of the other branches in `gated` mode, which this one is
            added to in place.

    Returns:
        Output (B, H, T, Dv), and the log-sum-exp of the scaled scores to the base of two
        (B, H, T).
    """
    s = problem.settings
    assert s.select_count is not None
    out = empty_rows(q, problem.value_dim) if others is None else others
    lse = problem.per_query(q)
    batch, groups, tiles, _ = blocks.shape
    forced, count = forced_blocks(problem), parts(problem) - 1
    heads = triton.next_power_of_2(problem.repeat)
    chunks = Chunks.of(problem, batch * groups, tiles)
    free = blocks[..., forced : s.select_count]
    choosers = invert(problem, free, k.shape[2], chunks.numbers(q.device), len(chunks))
    lists = choosers.lists // len(chunks)
    rows = chunks.groups * chunks.queries * (count + 1) * problem.repeat
    room = torch.empty(rows, problem.value_dim, dtype=q.dtype, device=q.device)
    room_lse = torch.empty(rows, dtype=torch.float32, device=q.device)
    packed = problem.packing is not None
    shape = {
        "COUNT": count,
        "R": problem.repeat,
        "HEADS": heads,
        "DV": problem.value_dim,
        "DV_PAD": pad(problem.value_dim),
    }
    keyed = {
        "SELECT_BLOCK": s.select_block,
        "D": problem.dim,
        "D_PAD": pad(problem.dim),
        "PACKED": packed,
        **shape,
    }
    block_tile, near_tile = by_block_tile(problem, heads), forced_tile(problem, heads)
    k_tiles, v_tiles = key_tiles(k, s.select_block), key_tiles(v, s.select_block)
    strides = (problem.batch_stride(q), q.stride(1), q.stride(2))
    per_tile = near_tile["BLOCK_M"] // heads
    near = s.local_blocks - 1 if s.combine == "gated" else s.window_blocks
    for chunk in chunks:
        where = (chunk.first_group, chunk.first, chunk.queries)
        most = lists + chunk.groups * chunk.queries * count // choosers.piece
        _by_block_forward_kernel[(min(most, choosers.pieces),)](
            q, k_tiles, v_tiles, room, room_lse,
            choosers.pairs, choosers.starts, choosers.first_pieces, choosers.list_of_piece,
            choosers.cu_blocks, choosers.sequence_of_block,
            problem.cu_keys,
            *strides,
            problem.seq_len, lists, choosers.piece, choosers.blocks, groups, tiles,
            chunk.number * lists, *where, problem.scale,
            **keyed,
            **block_tile,
        )  # fmt: skip
        first_tile = 0 if packed else chunk.first // per_tile
        last_tile = problem.queries if packed else chunk.first + chunk.queries
        grid = (
            triton.cdiv(last_tile, per_tile) - first_tile,
            chunk.groups,
            problem.batch if packed else 1,
        )
        _forced_forward_kernel[grid](
            q, k_tiles, v_tiles, room, room_lse,
            problem.cu_queries, problem.cu_keys,
            *strides,
            problem.queries, problem.seq_len, groups, *where, first_tile, problem.scale,
            INIT=s.init_blocks,
            BACK=near,
            **keyed,
            **near_tile,
        )  # fmt: skip
        _combine_kernel[(chunk.queries, chunk.groups)](
            room, room_lse, blocks, out, lse, lse if gate is None else gate,
            *blocks.stride()[:3],
            out.stride(0), out.stride(1), out.stride(2),
            lse.stride(0), lse.stride(1), lse.stride(2),
            *((0, 0, 0) if gate is None else gate.stride()),
            groups, *where,
            FORCED=forced,
            COUNT_PAD=triton.next_power_of_2(count + 1),
            GATED=gate is not None,
            **shape,
            **combine_tile(problem),
        )  # fmt: skip
    return out, lse
