"""Importance of the selection blocks, and selection of the best blocks.

The importance kernel recomputes the scores against the summaries with their known log-sum-exp. It
sums the probabilities over heads, over the queries of a tile, and over the summaries of a block.
It writes one number per tile and block, for a limited number of tiles at a time, which keeps the
buffers small. The share of a summary that overlaps the next block goes to a second buffer
(`spill`), so that blocks are independent of each other.

Letters: see `layout.py`; n selected blocks, M rows of a tile.

Source: Yuan et al. 2025, eqs. 8 to 12.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.banded import banded_forward, load_keys, row_queries
from nsa_kernels.gpu.bands import Band
from nsa_kernels.gpu.hopper.support import serves_importance
from nsa_kernels.gpu.launches import empty, launch
from nsa_kernels.gpu.layout import Problem, count_visible, find_sequence, key_tiles, pad
from nsa_kernels.gpu.tiles import importance_tile
from nsa_kernels.settings import AttentionSettings

_ROOM = 2**25
"""Importances per buffer: 128 MB in each of two buffers."""

_FORCED = tl.constexpr(0x7F800000)
"""The bits of infinity: greater than the bits of any importance."""

_UNKNOWN = tl.constexpr(-2)
"""Marks a class whose next block has not been searched yet."""

_NO_BLOCK = tl.constexpr(0x7FFFFFFF)
"""Greater than any block's number."""


@triton.jit
def _scored_rows(
    q_ptr, lse_ptr, stride_qh, stride_qt, stride_lh, stride_lt, first_row, start, offset, seq_len,
    R: tl.constexpr, R_PAD: tl.constexpr, SCORE_STRIDE: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Queries of some rows, their log-sum-exp, and the number of keys each sees.

    Heads are padded to a power of two, so that a reshape can sum rows. Padded rows have a
    log-sum-exp of +inf.
    """
    row = first_row + tl.arange(0, BLOCK_M)
    depth = tl.arange(0, D_PAD)
    head, _, position, valid = row_queries(row, start, seq_len - start, R_PAD, R, SCORE_STRIDE)
    valid = valid & (position >= offset)
    at = (position - offset).to(tl.int64)
    q = tl.load(
        q_ptr + (head * stride_qh + at * stride_qt)[:, None] + depth,
        mask=valid[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_M, D_PAD]
    lse = tl.load(lse_ptr + head * stride_lh + at * stride_lt, mask=valid, other=float("inf"))
    return q, lse, count_visible(position, KEY_BLOCK, KEY_STRIDE)


@triton.jit
def _sum_heads(probs, member, FOLD: tl.constexpr):
    """Sum keys by rows over the rows of each tile: [BLOCK_N, BLOCK_M] to [BLOCK_N, COLUMNS].

    One thread first sums the `FOLD` rows it holds, which are eight apart. The matrix units sum the
    rest, with a matrix of ones where a row belongs to a tile. Each sum is split into two bf16
    numbers, which hold 16 bits: no less exact than the scores.
    """
    KEYS: tl.constexpr = probs.shape[0]
    ROWS: tl.constexpr = probs.shape[1]
    if FOLD > 1:
        probs = tl.sum(tl.reshape(probs, [KEYS, ROWS // (8 * FOLD), FOLD, 8]), axis=2)
        probs = tl.reshape(probs, [KEYS, ROWS // FOLD])
    if member.dtype == tl.float32:
        summed = tl.dot(probs, member, input_precision="ieee")
    else:
        high = probs.to(tl.bfloat16)
        low = (probs - high.to(tl.float32)).to(tl.bfloat16)
        summed = tl.dot(low, member, tl.dot(high, member))
    return summed


@triton.jit
def _sum_blocks(x, BLOCKS: tl.constexpr, PER_BLOCK: tl.constexpr, COLUMNS: tl.constexpr):
    """Sum keys over their blocks: [BLOCKS * PER_BLOCK, COLUMNS] to [BLOCKS, COLUMNS]."""
    return tl.sum(tl.reshape(x, [BLOCKS, PER_BLOCK, COLUMNS]), axis=1)


@triton.jit(
    do_not_specialize=[
        "queries", "seq_len", "keys", "first_tile", "tiles", "stride_ib", "stride_ig", "stride_iu"
    ]
)  # fmt: skip
def _importance_kernel(
    q_ptr, k_tiles, lse_ptr, own_ptr, spill_ptr,
    cu_q_ptr, cu_k_ptr, cu_n_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_lb, stride_lh, stride_lt,
    stride_ib, stride_ig, stride_iu,
    queries, seq_len, keys, first_tile, tiles, scale,
    R: tl.constexpr, R_PAD: tl.constexpr, TILE: tl.constexpr, SCORE_STRIDE: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    WINDOW_BLOCKS: tl.constexpr,
    D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILES: tl.constexpr, PARTS: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    PER_BLOCK: tl.constexpr = SELECT_BLOCK // KEY_STRIDE
    BLOCKS: tl.constexpr = BLOCK_N // PER_BLOCK
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    g = tl.program_id(1).to(tl.int64)
    b = tl.program_id(2).to(tl.int64)
    q_first, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    n_first, keys = find_sequence(cu_n_ptr, b, keys, PACKED)
    offset = seq_len - queries
    # Tiles are cut at absolute positions; `tile` counts them from the call's first.
    tile = first_tile + program * TILES
    start = (offset // TILE + tile) * TILE
    if (start >= seq_len) | (queries <= 0):
        return
    column = tl.arange(0, BLOCK_N)
    batch = 0 if PACKED else tl.program_id(2)
    n_first = n_first.to(tl.int32)
    q_ptr += b * stride_qb + g * R * stride_qh + q_first * stride_qt
    lse_ptr += b * stride_lb + g * R * stride_lh + q_first * stride_lt
    q, lse, seen = _scored_rows(
        q_ptr, lse_ptr, stride_qh, stride_qt, stride_lh, stride_lt, 0, start, offset,
        seq_len, R, R_PAD, SCORE_STRIDE, KEY_BLOCK, KEY_STRIDE, D, D_PAD, BLOCK_M,
    )  # fmt: skip

    last = tl.minimum(start + TILES * TILE, seq_len) - 1
    candidates = last // SELECT_BLOCK + 1 - WINDOW_BLOCKS
    end = tl.minimum(count_visible(last, KEY_BLOCK, KEY_STRIDE), keys)
    end = tl.minimum(end, candidates * PER_BLOCK)
    within = column % PER_BLOCK
    weight = tl.minimum(KEY_BLOCK // KEY_STRIDE, PER_BLOCK - within)
    over = KEY_BLOCK // KEY_STRIDE - weight

    # A row belongs to one tile; matrix units need at least eight columns.
    COLUMNS: tl.constexpr = max(TILES, 8)
    PER_TILE: tl.constexpr = BLOCK_M // TILES
    FOLD: tl.constexpr = max(min(PER_TILE // 8, BLOCK_M // 16), 1)
    owner = tl.arange(0, BLOCK_M // FOLD) // (PER_TILE // FOLD)
    member = (owner[:, None] == tl.arange(0, COLUMNS)[None, :]).to(tl.float32)
    if q.dtype != tl.float32:
        member = member.to(tl.bfloat16)  # [BLOCK_M // FOLD, COLUMNS]

    for n in tl.range(0, end, BLOCK_N):
        index = n + column
        k = load_keys(k_tiles, batch, n_first + n, tl.program_id(1), BLOCK_N, D_PAD)
        own = tl.zeros([BLOCKS, COLUMNS], tl.float32)
        spill = tl.zeros([BLOCKS, COLUMNS], tl.float32)
        for part in tl.static_range(PARTS):
            if PARTS > 1:
                q, lse, seen = _scored_rows(
                    q_ptr, lse_ptr, stride_qh, stride_qt, stride_lh, stride_lt,
                    part * BLOCK_M, start, offset, seq_len,
                    R, R_PAD, SCORE_STRIDE, KEY_BLOCK, KEY_STRIDE, D, D_PAD, BLOCK_M,
                )  # fmt: skip
            scores = tl.dot(k, tl.trans(q), input_precision="ieee")  # [BLOCK_N, BLOCK_M]
            probs = tl.exp2(scores * scale - lse[None, :])
            if (n + BLOCK_N > tl.min(seen)) | (n + BLOCK_N > keys):
                there = (index < keys)[:, None] & (index[:, None] < seen[None, :])
                probs = tl.where(there, probs, 0.0)
            shared = _sum_heads(probs, member, FOLD)  # [BLOCK_N, COLUMNS]
            own += _sum_blocks(shared * weight[:, None], BLOCKS, PER_BLOCK, COLUMNS)
            if KEY_BLOCK > KEY_STRIDE:
                spill += _sum_blocks(shared * over[:, None], BLOCKS, PER_BLOCK, COLUMNS)
        tile_at = tl.arange(0, COLUMNS)
        written = program * TILES + tile_at
        block = n // PER_BLOCK + tl.arange(0, BLOCKS)
        to = (
            b * stride_ib
            + g * stride_ig
            + (written.to(tl.int64) * stride_iu)[None, :]
            + block[:, None]
        )
        mask = ((written < tiles) & (tile_at < TILES))[None, :] & (block < stride_iu)[:, None]
        tl.store(own_ptr + to, own, mask=mask)
        if KEY_BLOCK > KEY_STRIDE:
            tl.store(spill_ptr + to, spill, mask=mask)


@triton.jit
def _importance_bits(
    own_ptr, spill_ptr, block, scored, candidates, current,
    SPILLS: tl.constexpr, INIT: tl.constexpr, LOCAL: tl.constexpr,
):  # fmt: skip
    """A block's importance as an integer of the same order; -1 if it is not a candidate."""
    importance = tl.load(own_ptr + block, mask=block < scored, other=0.0)
    if SPILLS:
        before = (block > 0) & (block <= scored)
        importance += tl.load(spill_ptr + block - 1, mask=before, other=0.0)
    bits = importance.to(tl.int32, bitcast=True)
    bits = tl.where((block < INIT) | (block > current - LOCAL), _FORCED, bits)
    return tl.where(block < candidates, bits, -1)


@triton.jit(
    do_not_specialize=[
        "queries", "seq_len", "first_tile", "stride_ib", "stride_ig", "stride_iu"
    ]
)  # fmt: skip
def _best_blocks_kernel(
    own_ptr, spill_ptr, blocks_ptr,
    cu_q_ptr, cu_k_ptr, cu_u_ptr,
    stride_ib, stride_ig, stride_iu,
    stride_bb, stride_bg, stride_bu,
    queries, seq_len, first_tile,
    COUNT: tl.constexpr, TILE: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    INIT: tl.constexpr, LOCAL: tl.constexpr,
    WINDOW_BLOCKS: tl.constexpr, RECENT: tl.constexpr,
    CLASSES: tl.constexpr, MEMBERS: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    SPILLS: tl.constexpr = KEY_BLOCK > KEY_STRIDE
    PER_BLOCK: tl.constexpr = SELECT_BLOCK // KEY_STRIDE
    b = tl.program_id(2).to(tl.int64)
    g = tl.program_id(1).to(tl.int64)
    _, queries = find_sequence(cu_q_ptr, b, queries, PACKED)
    _, seq_len = find_sequence(cu_k_ptr, b, seq_len, PACKED)
    u_first = find_sequence(cu_u_ptr, b, 0, PACKED)[0]
    tile = first_tile + tl.program_id(0)
    start = ((seq_len - queries) // TILE + tile) * TILE
    if (start >= seq_len) | (queries <= 0):
        return
    current = start // SELECT_BLOCK
    candidates = current + 1
    if RECENT > 0:
        candidates = tl.maximum(current - WINDOW_BLOCKS, 0)
    last = tl.minimum(start + TILE, seq_len) - 1
    scored = tl.cdiv(count_visible(last, KEY_BLOCK, KEY_STRIDE), PER_BLOCK)
    at = b * stride_ib + g * stride_ig + tl.program_id(0).to(tl.int64) * stride_iu
    own_ptr += at
    spill_ptr += at
    # Keep the two best blocks of each residue class. Once both are taken, search the class again
    # for the best of the blocks that rank below the last one taken. Of equally important blocks
    # the earlier one ranks first.
    residue = tl.arange(0, CLASSES)
    member = tl.arange(0, MEMBERS)
    bits = tl.full([CLASSES], -1, tl.int32)
    block = residue
    next_bits = bits
    next_block = residue
    for first in tl.range(0, candidates, CLASSES):
        found = first + residue
        found_bits = _importance_bits(
            own_ptr, spill_ptr, found, scored, candidates, current, SPILLS, INIT, LOCAL
        )
        best = found_bits > bits
        second = found_bits > next_bits
        next_block = tl.where(best, block, tl.where(second, found, next_block))
        next_bits = tl.where(best, bits, tl.where(second, found_bits, next_bits))
        block = tl.where(best, found, block)
        bits = tl.where(best, found_bits, bits)
    out = blocks_ptr + b * stride_bb + g * stride_bg + (u_first + tile).to(tl.int64) * stride_bu
    for i in tl.range(0, COUNT):
        highest = tl.max(bits, axis=0)
        taken = tl.min(tl.where(bits == highest, block, _NO_BLOCK), axis=0)
        tl.store(out + i, tl.where(highest >= 0, taken, -1))
        own = (residue == taken % CLASSES) & (highest >= 0)
        block = tl.where(own, next_block, block)
        bits = tl.where(own, next_bits, bits)
        next_bits = tl.where(own, _UNKNOWN, next_bits)
        lost = tl.max(tl.where(bits == _UNKNOWN, 1, 0), axis=0)
        for first in tl.range(0, tl.cdiv(candidates, CLASSES) * lost, MEMBERS):
            found = (first + member) * CLASSES + taken % CLASSES
            found_bits = _importance_bits(
                own_ptr, spill_ptr, found, scored, candidates, current, SPILLS, INIT, LOCAL
            )
            after = (found_bits < highest) | ((found_bits == highest) & (found > taken))
            found_bits = tl.where(after, found_bits, -1)
            top = tl.max(found_bits, axis=0)
            earliest = tl.min(tl.where(found_bits == top, found, _NO_BLOCK), axis=0)
            better = own & (top > bits)
            block = tl.where(better, earliest, block)
            bits = tl.where(better, top, bits)
        bits = tl.where(bits == _UNKNOWN, -1, bits)
    for i in tl.range(0, RECENT):
        tl.store(out + COUNT + i, tl.maximum(current - i, -1))


def recent_blocks(settings: AttentionSettings) -> int:
    """Number of window blocks that follow the selected ones in a tile's list in `union` mode."""
    return settings.window_blocks + 1 if settings.combine == "union" else 0


def select_blocks(problem: Problem, q: Tensor, summary_k: Tensor, lse: Tensor | None) -> Tensor:
    """Select the blocks of every tile.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        summary_k: (B, G, C, D).
        lse: (B, H, T) from the compression branch; computed here when None.

    Returns:
        (B, G, U, n), int32, most important first, padded with -1. In `union` mode the blocks of
        the window and the tile's own follow, latest first. Packed tiles are in the order of the
        sequences.
    """
    s = problem.settings
    assert s.select_count is not None
    recent = recent_blocks(s)
    total = problem.tiles
    if problem.packing:
        # An upper bound: only the device knows the exact total.
        total = q.shape[2] // s.select_tile + 2 * problem.batch if s.select_tile > 1 else q.shape[2]
    rows = 1 if problem.packing else problem.batch
    shape = (rows, problem.groups, total, s.select_count + recent)
    blocks = empty(*shape, dtype=torch.int32, device=q.device)
    if problem.packing:
        # The spare tiles of a packed batch select no block.
        blocks.fill_(-1)
    if lse is None:
        band = Band(
            key_block=s.compress_block, key_stride=s.compress_stride, query_stride=s.score_stride
        )
        lse = banded_forward(problem, band, q, summary_k, summary_k, values=False)[1]
    per_tile = problem.batch * problem.groups * problem.blocks
    at_once = max(1, min(problem.tiles, _ROOM // per_tile))
    shape = (problem.batch, problem.groups, at_once, problem.blocks)
    own = empty(*shape, dtype=torch.float32, device=q.device)
    overlapping = s.compress_block > s.compress_stride
    spill = empty(*shape, dtype=torch.float32, device=q.device) if overlapping else own
    for first in range(0, problem.tiles, at_once):
        tiles = min(at_once, problem.tiles - first)
        _importance(problem, q, summary_k, lse, own, spill, first, tiles)
        _best_blocks(problem, own, spill, blocks, first, tiles)
    return blocks


def _importance(
    problem: Problem,
    q: Tensor,
    summary_k: Tensor,
    lse: Tensor,
    own: Tensor,
    spill: Tensor,
    first: int,
    tiles: int,
) -> None:
    """Write the importances (B, G, tiles, N) for the tiles from `first` on."""
    if problem.summaries == 0:
        return
    if serves_importance(problem, q):
        from nsa_kernels.gpu.hopper.importance import launch_importance

        launch_importance(problem, q, summary_k, lse, own, spill, first, tiles)
        return
    s = problem.settings
    heads = triton.next_power_of_2(problem.repeat)
    rows = heads * s.select_tile // s.score_stride
    tile = importance_tile(problem, rows)
    block_m = tile["BLOCK_M"]
    per_program = max(1, block_m // rows)
    per_block = s.select_block // s.compress_stride
    block_n = max(per_block, tile.pop("BLOCK_N"))
    grid = (triton.cdiv(tiles, per_program), problem.groups, problem.batch)
    launch(
        _importance_kernel, grid,
        q, key_tiles(summary_k, block_n), lse, own, spill,
        problem.cu_queries, problem.cu_keys, problem.cu_summaries,
        problem.batch_stride(q), q.stride(1), q.stride(2),
        problem.batch_stride(lse), lse.stride(1), lse.stride(2),
        own.stride(0), own.stride(1), own.stride(2),
        problem.queries, problem.seq_len, problem.summaries, first, tiles, problem.scale,
        R=problem.repeat,
        R_PAD=heads,
        TILE=s.select_tile,
        SCORE_STRIDE=s.score_stride,
        KEY_BLOCK=s.compress_block,
        KEY_STRIDE=s.compress_stride,
        SELECT_BLOCK=s.select_block,
        WINDOW_BLOCKS=max(recent_blocks(s) - 1, 0),
        D=problem.dim,
        D_PAD=pad(problem.dim),
        BLOCK_N=block_n,
        TILES=per_program,
        PARTS=max(1, rows // block_m),
        PACKED=problem.packing is not None,
        **tile,
    )  # fmt: skip


def _best_blocks(
    problem: Problem,
    own: Tensor,
    spill: Tensor,
    blocks: Tensor,
    first: int,
    tiles: int,
) -> None:
    """Write the best blocks of the tiles from `first` on, and the blocks of the window."""
    s = problem.settings
    assert s.select_count is not None
    launch(
        _best_blocks_kernel, (tiles, problem.groups, problem.batch),
        own, spill, blocks,
        problem.cu_queries, problem.cu_keys, problem.cu_tiles,
        own.stride(0), own.stride(1), own.stride(2),
        problem.batch_stride(blocks), blocks.stride(1), blocks.stride(2),
        problem.queries, problem.seq_len, first,
        COUNT=s.select_count,
        TILE=s.select_tile,
        KEY_BLOCK=s.compress_block,
        KEY_STRIDE=s.compress_stride,
        SELECT_BLOCK=s.select_block,
        INIT=s.init_blocks,
        LOCAL=s.local_blocks,
        WINDOW_BLOCKS=s.window_blocks,
        RECENT=recent_blocks(s),
        CLASSES=32 if problem.blocks <= 2048 else 128,
        MEMBERS=32,
        PACKED=problem.packing is not None,
        num_warps=1,
        num_stages=1,
    )  # fmt: skip
