"""Merged block lists: the union of the blocks that adjacent tiles of queries selected.

Adjacent queries select mostly the same blocks. A merged tile is the rows of several adjacent tiles
of queries. Its list names each block once, with a bit for every tile that selected it. The
kernels of `merged.py` load a block once for all of these tiles.

Where adjacent tiles select different blocks, merging saves nothing, and the kernels for one tile at
a time are faster. `MergedLists.margin` decides on the device between the two. The host launches
both without waiting for the margin; the kernel that is not needed returns at once.

Letters: see `layout.py`; n blocks of a tile's list, P tiles of a merged tile, V merged tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.launches import empty, launch, zeros
from nsa_kernels.gpu.layout import Problem, find_sequence
from nsa_kernels.gpu.tiles import merged_members

BLOCK_MASK = tl.constexpr(0xFFFF)
"""Bits of an entry that hold the block's number; the 16 above say which tiles selected it."""

_MERGED_COST = tl.constexpr(2)
"""Cost of one block of a merged list, in units of the cost of one block of a single list.

Measured on an H200: 1.3 to 1.9 with random lists. A merged list has 0.5 to 0.8 of the length of its
tiles' lists together with random selections, and 0.17 to 0.36 with a trained model's selections.
"""


@dataclass(frozen=True, kw_only=True)
class MergedLists:
    """The blocks of every merged tile.

    A packed sequence's lists begin at `its first tile // members + its index`; lists between two
    sequences may be unwritten.

    Attributes:
        entries: (B, G, V, P * n) int32, each the number of a block, and from bit 16 on a bit for
            each of the P tiles that selected it.
        counts: (B, G, V) int32, the entries of each list.
        margin: (1,) int32, above zero where one tile at a time is faster.
        members: P.
    """

    entries: Tensor
    counts: Tensor
    margin: Tensor
    members: int


@triton.jit
def load_lists(
    blocks_ptr, stride_su, first, lists, before, COUNT: tl.constexpr, SIZE: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """The blocks of adjacent members, member after member, and the members: [SIZE] both.

    The `lists` members begin at `first`; the remaining blocks are -1. `TILE` members share a list,
    and the first member is number `before` of its list.
    """
    place = tl.arange(0, SIZE)
    member = place // COUNT
    at = ((before + first + member) // TILE).to(tl.int64) * stride_su + place % COUNT
    return tl.load(blocks_ptr + at, mask=member < lists, other=-1), member


@triton.jit
def find_choosers(
    block, blocks_ptr, stride_su, first, lists, before,
    COUNT: tl.constexpr, COUNT_PAD: tl.constexpr, MEMBERS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """A bit for each member from `first` on whose list names a block: [SIZE]."""
    column = tl.arange(0, COUNT_PAD)
    choosers = tl.zeros_like(block)
    # Load all lists before the first is needed.
    for member in tl.static_range(MEMBERS):
        at = ((before + first + member) // TILE).to(tl.int64) * stride_su + column
        listed = tl.load(
            blocks_ptr + at, mask=column < tl.where(lists > member, COUNT, 0), other=-2
        )
        differs = (listed[:, None] ^ block[None, :]).to(tl.uint32)  # [COUNT_PAD, SIZE]
        choosers |= (tl.min(differs, axis=0) == 0).to(tl.int32) << member
    return choosers


@triton.jit
def add_margin(margin_ptr, block, new):
    """Add the excess cost of one merged tile over its single tiles to the margin."""
    merged = tl.sum(new.to(tl.int32), axis=0)
    single = tl.sum((block >= 0).to(tl.int32), axis=0)
    tl.atomic_add(margin_ptr, merged * _MERGED_COST - single, sem="relaxed")


@triton.jit(
    do_not_specialize=[
        "queries", "seq_len", "stride_sb", "stride_sg", "stride_su",
        "stride_eb", "stride_eg", "stride_cb", "stride_cg",
    ]
)  # fmt: skip
def _merge_lists_kernel(
    blocks_ptr, entries_ptr, counts_ptr, margin_ptr,
    cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_sb, stride_sg, stride_su,
    stride_eb, stride_eg, stride_ev,
    stride_cb, stride_cg,
    queries, seq_len,
    COUNT: tl.constexpr, COUNT_PAD: tl.constexpr, SIZE: tl.constexpr,
    MEMBERS: tl.constexpr, TILE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    merged = tl.program_id(0)
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    _, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    u_first = find_sequence(cu_u_ptr, b, 0, PACKED)[0]
    first_tile = merged * MEMBERS
    start = ((seq_len - queries) // TILE + first_tile) * TILE
    if (start >= seq_len) | (queries <= 0):
        return
    tiles = tl.minimum(tl.cdiv(seq_len - start, TILE), MEMBERS)
    blocks_ptr += b * stride_sb + g * stride_sg + u_first * stride_su
    block, member = load_lists(blocks_ptr, stride_su, first_tile, tiles, 0, COUNT, SIZE, 1)
    choosers = find_choosers(
        block, blocks_ptr, stride_su, first_tile, tiles, 0, COUNT, COUNT_PAD, MEMBERS, 1
    )  # fmt: skip
    # The first tile that selected a block writes its entry.
    new = (block >= 0) & ((choosers & ((1 << member) - 1)) == 0)
    at = tl.cumsum(new.to(tl.int32), axis=0) - 1
    row = merged_row(u_first, b, merged, MEMBERS, PACKED)
    to = b * stride_eb + g * stride_eg + row * stride_ev
    tl.store(entries_ptr + to + at, block | (choosers << 16), mask=new)
    count = tl.sum(new.to(tl.int32), axis=0)
    tl.store(counts_ptr + b * stride_cb + g * stride_cg + row, count)
    add_margin(margin_ptr, block, new)


@triton.jit
def merged_row(u_first, b, merged, MEMBERS: tl.constexpr, PACKED: tl.constexpr):
    """Index of the list of a merged tile of a sequence; see `MergedLists`."""
    row = merged.to(tl.int64)
    if PACKED:
        row += u_first // MEMBERS + b
    return row


def list_strides(problem: Problem, entries: Tensor, counts: Tensor) -> tuple[int, ...]:
    """Strides of a list's entries and count, for a kernel."""
    of_entries = (problem.batch_stride(entries), entries.stride(1), entries.stride(2))
    return (*of_entries, problem.batch_stride(counts), counts.stride(1))


def merge(problem: Problem, blocks: Tensor) -> MergedLists | None:
    """Merge the lists of adjacent tiles; None for a single query or if a tile fills a program.

    Args:
        problem: The sizes.
        blocks: (B, G, U, n) int32, -1 for none.
    """
    members = merged_members(problem)
    if members < 2 or problem.queries == 1 or problem.blocks > BLOCK_MASK.value + 1:
        return None
    batch, groups, tiles, count = blocks.shape
    rows = triton.cdiv(tiles, members) + (problem.batch if problem.packing else 0)
    size = triton.next_power_of_2(members * count)
    columns = triton.next_power_of_2(count)
    like: dict[str, Any] = {"dtype": blocks.dtype, "device": blocks.device}
    entries = empty(batch, groups, rows, members * count, **like)
    counts = empty(batch, groups, rows, **like)
    margin = zeros(1, **like)
    grid = (triton.cdiv(problem.tiles, members), groups, problem.batch)
    launch(
        _merge_lists_kernel, grid,
        blocks, entries, counts, margin,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        problem.batch_stride(blocks), blocks.stride(1), blocks.stride(2),
        *list_strides(problem, entries, counts),
        problem.queries, problem.seq_len,
        COUNT=count,
        COUNT_PAD=columns,
        SIZE=size,
        MEMBERS=members,
        TILE=problem.settings.select_tile,
        PACKED=problem.packing is not None,
        num_warps=max(1, size // 256),
    )  # fmt: skip
    return MergedLists(entries=entries, counts=counts, margin=margin, members=members)
