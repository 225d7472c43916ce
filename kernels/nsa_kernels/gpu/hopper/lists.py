"""Merged block lists for the warpgroups of a program; see `merge.py`.

A program of `hopper/merged.py` loads the union of the blocks of its warpgroups' queries. Each
warpgroup has a list of the blocks that any of its queries selected, each with its place in the
union, so that the warpgroup knows how many loaded blocks to skip.

A list is one row of int32: the block numbers of the union, the entries of each warpgroup, and
their counts. Blocks that a query of the program sees only in part come last, in the union and in
the entries of each warpgroup.

Letters: see `layout.py`; n blocks of a query's list, E queries of a warpgroup, V programs' tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.launches import empty, launch, zeros
from nsa_kernels.gpu.layout import Problem
from nsa_kernels.gpu.merge import add_margin, find_choosers, load_lists

BLOCK_BITS = tl.constexpr(15)
"""Low bits of a warpgroup's entry, which hold the block's number."""

QUERY_BITS = tl.constexpr(8)
"""The next bits, one per query of the warpgroup; the rest hold the place in the union."""

ROW = 256
"""Numbers of a row that the tensor memory engine loads at a time."""


@dataclass(frozen=True, kw_only=True)
class WarpgroupLists:
    """The blocks of every program's tile of queries.

    Attributes:
        rows: (B * G * V * size // 256, 256) int32, in tiles of `size` numbers.
        margin: (1,) int32, above zero where one query at a time is faster.
        tiles: V.
        w_queries: E.
        room: Capacity of a warpgroup's list, in entries.
        size: Numbers of a list.
    """

    rows: Tensor
    margin: Tensor
    tiles: int
    w_queries: int
    room: int
    size: int


@triton.jit
def _counter(taken, whole, BITS: tl.constexpr):
    """Increments of two packed counters, the second above the first's `BITS` bits: [SIZE] int64."""
    one = tl.where(whole, 1, 1 << BITS).to(tl.int64)
    return tl.where(taken, one, 0)


@triton.jit
def _find_places(running, total, whole, SHIFT: tl.constexpr, BITS: tl.constexpr):
    """Places from the running counters at bit `SHIFT`; number of all and of whole blocks."""
    full = ((total >> SHIFT) & ((1 << BITS) - 1)).to(tl.int32)
    rest = ((total >> (SHIFT + BITS)) & 3).to(tl.int32)
    at_full = ((running >> SHIFT) & ((1 << BITS) - 1)).to(tl.int32)
    at_rest = ((running >> (SHIFT + BITS)) & 3).to(tl.int32)
    return tl.where(whole, at_full, full + at_rest) - 1, full + rest, full


@triton.jit(do_not_specialize=["queries", "offset", "stride_sb", "stride_sg", "stride_su"])
def _warpgroup_lists_kernel(
    blocks_ptr, rows_ptr, margin_ptr,
    stride_sb, stride_sg, stride_su,
    queries, offset,
    COUNT: tl.constexpr, COUNT_PAD: tl.constexpr, SIZE: tl.constexpr,
    W_QUERIES: tl.constexpr, TILE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    ROOM: tl.constexpr, LIST: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    first_query = tile * (GROUPS * W_QUERIES)
    tiles = tl.minimum(queries - first_query, GROUPS * W_QUERIES)
    blocks_ptr += b * stride_sb + g * stride_sg
    # Queries of a tile, cut at absolute positions, share a list.
    before = offset % TILE
    block, member = load_lists(
        blocks_ptr, stride_su, first_query, tiles, before, COUNT, SIZE, TILE
    )  # fmt: skip
    choosers = find_choosers(
        block, blocks_ptr, stride_su, first_query, tiles, before,
        COUNT, COUNT_PAD, GROUPS * W_QUERIES, TILE,
    )  # fmt: skip
    new = (block >= 0) & ((choosers & ((1 << member) - 1)) == 0)
    add_margin(margin_ptr, block, new)
    whole = block * SELECT_BLOCK + SELECT_BLOCK - 1 <= offset + first_query
    list_index = (b * tl.num_programs(1) + g) * tl.num_programs(0) + tile
    rows_ptr += list_index * LIST
    # One running sum of packed counters gives all places. The queries of a program lie in at most
    # two blocks, so at most two blocks are seen in part.
    UNION: tl.constexpr = 9
    OWN: tl.constexpr = 8
    packed = _counter(new, whole, UNION)
    for w in tl.static_range(GROUPS):
        own = (choosers >> (w * W_QUERIES)) & ((1 << W_QUERIES) - 1)
        packed += _counter(new & (own != 0), whole, OWN) << (UNION + 2 + w * (OWN + 2))
    running = tl.cumsum(packed, axis=0)
    total = tl.sum(packed, axis=0)
    place, count, _ = _find_places(running, total, whole, 0, UNION)
    tl.store(rows_ptr + place, block, mask=new)
    tl.store(rows_ptr + 2 * GROUPS * ROOM, count)
    for w in tl.static_range(GROUPS):
        own = (choosers >> (w * W_QUERIES)) & ((1 << W_QUERIES) - 1)
        at, mine, full = _find_places(running, total, whole, UNION + 2 + w * (OWN + 2), OWN)
        entry = block | (own << BLOCK_BITS) | (place << (BLOCK_BITS + QUERY_BITS))
        tl.store(rows_ptr + (GROUPS + w) * ROOM + at, entry, mask=new & (own != 0))
        tl.store(rows_ptr + 2 * GROUPS * ROOM + 1 + w, mine)
        tl.store(rows_ptr + 2 * GROUPS * ROOM + 1 + GROUPS + w, full)


def warpgroup_lists(
    problem: Problem, blocks: Tensor, w_queries: int, groups: int
) -> WarpgroupLists:
    """List the blocks of every program's warpgroups.

    Args:
        problem: The sizes.
        blocks: (B, G, U, n) int32, padded with -1; each list holds at least one block.
        w_queries: E.
        groups: Warpgroups of a program.
    """
    count = blocks.shape[3]
    queries = groups * w_queries
    tiles = triton.cdiv(problem.queries, queries)
    room = list_room(w_queries, count)
    size = triton.next_power_of_2(2 * groups * room + 1 + 2 * groups)
    shape = (problem.batch * problem.groups * tiles * (size // ROW), ROW)
    rows = empty(*shape, dtype=blocks.dtype, device=blocks.device)
    margin = zeros(1, dtype=torch.int32, device=blocks.device)
    launch(
        _warpgroup_lists_kernel, (tiles, problem.groups, problem.batch),
        blocks, rows, margin,
        *blocks.stride()[:3],
        problem.queries, problem.offset,
        COUNT=count,
        COUNT_PAD=triton.next_power_of_2(count),
        SIZE=triton.next_power_of_2(queries * count),
        W_QUERIES=w_queries,
        TILE=problem.settings.select_tile,
        SELECT_BLOCK=problem.settings.select_block,
        ROOM=room,
        LIST=size,
        GROUPS=groups,
        num_warps=2,
    )  # fmt: skip
    return WarpgroupLists(
        rows=rows, margin=margin, tiles=tiles, w_queries=w_queries, room=room, size=size
    )


def list_room(w_queries: int, count: int) -> int:
    """Capacity of a warpgroup's list, in entries."""
    return max(64, int(triton.next_power_of_2(w_queries * count)))
