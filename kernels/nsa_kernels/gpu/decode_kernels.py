"""The kernels of a decode step, four or more: one new token for each sequence of a batch.

1. scan: appends the token to the cache, completes its summary, and scores all summaries in
   splits; in `gated` mode it also attends to them.
2. importance: sums the pooled probabilities of the splits over the heads of a group. Each
   program ranks a part of the blocks and keeps the best n. A long cache gives many lists of n,
   which narrow merges repeatedly until few are left.
3. attend: selection and window. Each program of the selection ranks the kept blocks to find its
   share of them, while the programs of the window keep the memory busy.
4. merge: merges the partial outputs, applies the gates, and advances the lengths.

Buffers between kernels are stored so that they stay in the L2 cache, while the summaries stream
past it. Each kernel may be launched before its predecessor has ended (`OVERLAP`);
it then waits before it reads its predecessor's output. The scan and the attention allow it late,
since waiting programs would occupy the multiprocessors.

Letters: B batch, G key/value groups, R query heads of a group, D and DV head dims of keys and
values, C summaries, N selection blocks, T tokens of the cache, n selected blocks. Splits of the
summaries S, programs of the window W and of the selection Z; P = W + Z + S partial outputs.

Source: Yuan et al. 2025, eqs. 5 to 12; the splits are those of Flash-Decoding (Dao et al. 2023).
"""

from __future__ import annotations

import triton
import triton.language as tl

from nsa_kernels.gpu.layout import count_visible

_INFINITY_BITS = tl.constexpr(0x7F800000)
"""The bits of infinity: as an integer, greater than the bits of any importance."""

_LAST_BLOCK = tl.constexpr(0x7FFFFFFF)
"""Upper bound of block indices."""

_LAST_KEY = tl.constexpr((1 << 63) - 1)
"""Upper bound of block keys; its negative is the lower bound."""


@triton.jit
def _mean_token(cache_ptr, new, position, depth, L: tl.constexpr, DIM: tl.constexpr):
    """Mean of the last L tokens, of which the newest is not yet in the cache: [BLOCK], fp32."""
    PAD: tl.constexpr = triton.next_power_of_2(L)
    back = tl.arange(0, PAD)
    rows = tl.load(
        cache_ptr + (position - back).to(tl.int64)[:, None] * DIM + depth,
        mask=((back > 0) & (back < L) & (back <= position))[:, None] & (depth < DIM),
        other=0.0,
    )  # [PAD, BLOCK]
    return (tl.sum(rows.to(tl.float32), axis=0) + new) / L


@triton.jit
def _softmax_step(scores, highest, total):
    """Add a tile of scores [BLOCK_R, BLOCK] to a running base-2 softmax.

    Returns the tile's unnormalized probabilities, the factor that rescales the previous sums, and
    the new highest score and total. A row that has seen no key keeps a total of zero.
    """
    top = tl.maximum(highest, tl.max(scores, axis=1))
    safe = tl.where(top == float("-inf"), 0.0, top)
    probs = tl.exp2(scores - safe[:, None])
    shrink = tl.exp2(highest - safe)
    return probs, shrink, top, total * shrink + tl.sum(probs, axis=1)


@triton.jit(do_not_specialize=["token_capacity", "summary_capacity", "block_capacity", "splits",
                               "parts", "tiles"])  # fmt: skip
def _scan_kernel(
    q_ptr, new_k_ptr, new_v_ptr, k_ptr, v_ptr, summary_k_ptr, summary_v_ptr, lengths_ptr,
    pooled_ptr, tile_max_ptr, tile_spill_ptr, lse_ptr, partial_ptr,
    stride_qb, stride_qh, stride_kb, stride_kg, stride_vb, stride_vg,
    token_capacity, summary_capacity, block_capacity, splits, parts, tiles, scale,
    G: tl.constexpr, R: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_C: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    GATED: tl.constexpr, MEAN: tl.constexpr, STAGES: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    STEP: tl.constexpr = SELECT_BLOCK // KEY_STRIDE
    SPAN: tl.constexpr = KEY_BLOCK // KEY_STRIDE
    BLOCKS: tl.constexpr = BLOCK_C // STEP
    group = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    b = group // G
    g = group % G
    head = tl.arange(0, BLOCK_R)
    depth = tl.arange(0, BLOCK_D)
    value_depth = tl.arange(0, BLOCK_DV)
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
    position = tl.minimum(tl.load(lengths_ptr + b), token_capacity - 1)
    k_ptr += group * token_capacity * D
    v_ptr += group * token_capacity * DV
    summary_k_ptr += group * summary_capacity * D
    summary_v_ptr += group * summary_capacity * DV
    new_k_ptr += b * stride_kb + g * stride_kg
    new_v_ptr += b * stride_vb + g * stride_vg

    if split == 0:
        # Programs of this kernel read the token at `position` from the input, not from the cache.
        at = position.to(tl.int64)
        new_k = tl.load(new_k_ptr + depth, mask=depth < D)
        tl.store(k_ptr + at * D + depth, new_k, mask=depth < D)
        new_v = tl.load(new_v_ptr + value_depth, mask=value_depth < DV)
        tl.store(v_ptr + at * DV + value_depth, new_v, mask=value_depth < DV)

    # Programs divide the summaries at each step, in whole tiles.
    visible = tl.minimum(count_visible(position, KEY_BLOCK, KEY_STRIDE), summary_capacity)
    chunk = tl.cdiv(tl.cdiv(visible, splits), BLOCK_C) * BLOCK_C
    first = split * chunk
    end = tl.minimum(first + chunk, visible)
    row = group * parts + parts - splits + split
    if first >= end:
        tl.store(lse_ptr + row * R + head, tl.full([BLOCK_R], float("-inf"), tl.float32), head < R)
        return

    q = tl.load(
        q_ptr + b * stride_qb + (g * R + head)[:, None] * stride_qh + depth,
        mask=(head < R)[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_R, BLOCK_D]

    # This program computes the summary that the token completes if it is the program's last.
    ended = position + 1 - KEY_BLOCK
    fresh = tl.where(MEAN & (ended % KEY_STRIDE == 0) & (end == visible), visible - 1, -1)
    fresh_score = tl.full([BLOCK_R], float("-inf"), tl.float32)
    stored = end
    if fresh >= 0:
        stored = fresh
        new_k = tl.load(new_k_ptr + depth, mask=depth < D, other=0.0).to(tl.float32)
        mean_k = _mean_token(k_ptr, new_k, position, depth, KEY_BLOCK, D).to(q.dtype)  # [BLOCK_D]
        tl.store(summary_k_ptr + fresh.to(tl.int64) * D + depth, mean_k, mask=depth < D)
        fresh_score = tl.sum(q.to(tl.float32) * mean_k.to(tl.float32), axis=1) * scale

    column = tl.arange(0, BLOCK_C)
    within = column % STEP
    own_weight = tl.minimum(SPAN, STEP - within).to(tl.float32)
    spill_weight = SPAN - own_weight
    inner = tl.arange(0, BLOCKS)
    before = tl.broadcast_to(tl.maximum(inner - 1, 0)[None, :], [BLOCK_R, BLOCKS])
    pooled_ptr += group * R * block_capacity
    tile_max_ptr += group * tiles * R
    tile_spill_ptr += group * tiles * R
    highest = tl.full([BLOCK_R], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    out = tl.zeros([BLOCK_R, BLOCK_DV], tl.float32)
    for start in tl.range(first, end, BLOCK_C, num_stages=STAGES):
        index = start + column
        at = index.to(tl.int64)[:, None]
        k = tl.load(
            summary_k_ptr + at * D + depth,
            mask=(index < stored)[:, None] & (depth < D),
            other=0.0,
        )  # [BLOCK_C, BLOCK_D]
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_R, BLOCK_C]
        scores = tl.where(index < stored, scores, float("-inf"))
        scores = tl.where(index == fresh, fresh_score[:, None], scores)
        probs, shrink, highest, total = _softmax_step(scores, highest, total)
        if GATED:
            v = tl.load(
                summary_v_ptr + at * DV + value_depth,
                mask=(index < stored)[:, None] & (value_depth < DV),
                other=0.0,
            )  # [BLOCK_C, BLOCK_DV]
            out = tl.dot(probs.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
        tile = start // BLOCK_C
        pooled = tl.sum(tl.reshape(probs * own_weight, [BLOCK_R, BLOCKS, STEP]), axis=2)
        if SPAN > 1:
            spill = tl.sum(tl.reshape(probs * spill_weight, [BLOCK_R, BLOCKS, STEP]), axis=2)
            pooled += tl.where(inner > 0, tl.gather(spill, before, axis=1), 0.0)
            spill = tl.sum(tl.where(inner == BLOCKS - 1, spill, 0.0), axis=1)
            tl.store(tile_spill_ptr + tile * R + head, spill, mask=head < R)
        block = tile * BLOCKS + inner
        tl.store(
            pooled_ptr + block * R + head[:, None],
            pooled,
            mask=(head < R)[:, None] & (block < block_capacity),
            eviction_policy="evict_last",
        )
        tl.store(tile_max_ptr + tile * R + head, highest, mask=head < R)

    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
    tl.store(lse_ptr + row * R + head, highest + tl.log2(total), mask=head < R)
    if GATED:
        if fresh >= 0:
            new_v = tl.load(new_v_ptr + value_depth, mask=value_depth < DV, other=0.0)
            mean_v = _mean_token(
                v_ptr, new_v.to(tl.float32), position, value_depth, KEY_BLOCK, DV
            ).to(summary_v_ptr.dtype.element_ty)  # [BLOCK_DV]
            to = summary_v_ptr + fresh.to(tl.int64) * DV + value_depth
            tl.store(to, mean_v, mask=value_depth < DV)
            out += tl.exp2(fresh_score - highest)[:, None] * mean_v.to(tl.float32)
        tl.store(
            partial_ptr + (row * R + head[:, None]) * DV + value_depth,
            out / total[:, None],
            mask=(head < R)[:, None] & (value_depth < DV),
            eviction_policy="evict_last",
        )


@triton.jit
def _ranks(key, SIZE: tl.constexpr):
    """Number of keys greater than each key: [SIZE]."""
    PART: tl.constexpr = min(SIZE, 128)
    rows = tl.reshape(key, [SIZE // PART, PART])
    row = tl.arange(0, SIZE // PART)[:, None]
    rank = tl.zeros([SIZE], tl.int32)
    for i in range(SIZE // PART):
        some = tl.sum(tl.where(row == i, rows, 0), axis=0)  # [PART]
        rank += tl.sum((some[:, None] > key[None, :]).to(tl.int32), axis=0)
    return rank


@triton.jit
def _candidates(position, SELECT_BLOCK: tl.constexpr, WINDOW: tl.constexpr, GATED: tl.constexpr):
    """Number of candidate blocks, and the first token of the window after them."""
    current = position // SELECT_BLOCK
    if GATED:
        candidates = current + 1
        oldest = tl.maximum(position + 1 - WINDOW, 0)
    else:
        candidates = tl.maximum(current - WINDOW // SELECT_BLOCK, 0)
        oldest = candidates * SELECT_BLOCK
    return candidates, oldest


@triton.jit(do_not_specialize=["token_capacity", "summary_capacity", "block_capacity", "splits",
                               "parts", "tiles"])  # fmt: skip
def _importance_kernel(
    lengths_ptr, pooled_ptr, tile_max_ptr, tile_spill_ptr, lse_ptr, best_ptr,
    token_capacity, summary_capacity, block_capacity, splits, parts, tiles,
    G: tl.constexpr, R: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, KEEP: tl.constexpr,
    KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr, SELECT_BLOCK: tl.constexpr,
    INIT: tl.constexpr, LOCAL: tl.constexpr, WINDOW: tl.constexpr, GATED: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = BLOCK_C // (SELECT_BLOCK // KEY_STRIDE)
    group = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    position = tl.minimum(tl.load(lengths_ptr + group // G), token_capacity - 1)
    current = position // SELECT_BLOCK
    if part * BLOCK_N > current:
        return
    candidates, _ = _candidates(position, SELECT_BLOCK, WINDOW, GATED)
    visible = tl.minimum(count_visible(position, KEY_BLOCK, KEY_STRIDE), summary_capacity)
    head = tl.arange(0, BLOCK_R)
    split = tl.arange(0, BLOCK_S)
    block = part * BLOCK_N + tl.arange(0, BLOCK_N)
    tile = block // BLOCKS
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()

    pooled_ptr += group * block_capacity * R
    tile_max_ptr += group * tiles * R
    tile_spill_ptr += group * tiles * R
    seen = ((tile * BLOCK_C < visible) & (block < block_capacity))[:, None] & (head < R)
    pooled = tl.load(
        pooled_ptr + block[:, None] * R + head, mask=seen, other=0.0
    )  # [BLOCK_N, BLOCK_R]
    at = tile[:, None] * R + head
    top = tl.load(tile_max_ptr + at, mask=seen, other=float("-inf"))
    lse = tl.load(
        lse_ptr + (group * parts + parts - splits + split)[:, None] * R + head,
        mask=(split < splits)[:, None] & (head < R),
        other=float("-inf"),
    )  # [BLOCK_S, BLOCK_R]
    if KEY_BLOCK > KEY_STRIDE:
        # The last summaries of a tile overlap the first block of the next tile.
        reached = (block % BLOCKS == 0) & (tile > 0) & ((tile - 1) * BLOCK_C < visible)
        reached = reached[:, None] & (head < R)
        spill = tl.load(tile_spill_ptr + at - R, mask=reached, other=0.0)
        top_before = tl.load(tile_max_ptr + at - R, mask=reached, other=float("-inf"))
    # Issue all of these loads before waiting for the first.
    tl.debug_barrier()
    highest = tl.max(lse, axis=0)
    highest = tl.where(highest == float("-inf"), 0.0, highest)
    total = tl.sum(tl.exp2(lse - highest), axis=0)
    lse = highest + tl.log2(tl.where(total > 0, total, 1.0))  # [BLOCK_R]
    if KEY_BLOCK > KEY_STRIDE:
        # Relative to the higher of the two, so that equal summaries give equal importances.
        higher = tl.maximum(top, top_before)
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        pooled = pooled * tl.exp2(top - safe) + spill * tl.exp2(top_before - safe)
        top = higher
    importance = tl.sum(pooled * tl.exp2(top - lse), axis=1)

    # Importances are not negative, so their bits have the same order. Clear the sign of a NaN.
    key = importance.to(tl.int32, bitcast=True) & _LAST_BLOCK
    key = tl.where((block < INIT) | (block > current - LOCAL), _INFINITY_BITS, key)
    # Of equally important blocks the earlier ranks first.
    key = (key.to(tl.int64) << 32) | (_LAST_BLOCK - block)
    key = tl.where(block < candidates, key, -1 - block)
    rank = _ranks(key, BLOCK_N)
    lists = tl.num_programs(1)
    tl.store(best_ptr + (group * lists + part) * KEEP + rank, key, mask=rank < KEEP)


@triton.jit(do_not_specialize=["token_capacity", "lists", "joined"])
def _narrow_kernel(
    lengths_ptr, lists_ptr, joined_ptr,
    token_capacity, lists, joined,
    G: tl.constexpr, BLOCK_M: tl.constexpr, LISTS: tl.constexpr, KEEP: tl.constexpr,
    KEPT: tl.constexpr, SPAN: tl.constexpr, SELECT_BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    position = tl.minimum(tl.load(lengths_ptr + group // G), token_capacity - 1)
    filled = tl.cdiv(position // SELECT_BLOCK + 1, SPAN)
    if part * LISTS >= filled:
        return
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    index = tl.arange(0, BLOCK_M)
    mine = tl.minimum(filled - part * LISTS, LISTS) * KEEP
    key = tl.load(
        lists_ptr + (group * lists + part * LISTS) * KEEP + index, mask=index < mine, other=0
    )
    # Padding keys are distinct and below those of blocks, so that each has a distinct rank.
    key = tl.where(index < mine, key, index.to(tl.int64) - _LAST_KEY)
    rank = _ranks(key, BLOCK_M)
    tl.store(joined_ptr + (group * joined + part) * KEPT + rank, key, mask=rank < KEPT)


@triton.jit(do_not_specialize=["token_capacity", "lists", "parts", "own", "window_parts",
                               "window_rows", "window_first"])  # fmt: skip
def _attend_kernel(
    q_ptr, k_ptr, v_ptr, window_k_ptr, window_v_ptr, lengths_ptr, best_ptr, selected_ptr, lse_ptr,
    partial_ptr, stride_qb, stride_qh,
    token_capacity, lists, parts, own, window_parts, window_rows, window_first, scale,
    G: tl.constexpr, R: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_M: tl.constexpr, KEEP: tl.constexpr, SPAN: tl.constexpr,
    SELECT_BLOCK: tl.constexpr, COUNT: tl.constexpr, WINDOW: tl.constexpr, GATED: tl.constexpr,
    SEPARATE: tl.constexpr, STAGES: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    SUB: tl.constexpr = SELECT_BLOCK // BLOCK_T
    SLOTS: tl.constexpr = triton.next_power_of_2(COUNT)
    group = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    b = group // G
    head = tl.arange(0, BLOCK_R)
    depth = tl.arange(0, BLOCK_D)
    value_depth = tl.arange(0, BLOCK_DV)
    position = tl.minimum(tl.load(lengths_ptr + b), token_capacity - 1)
    q = tl.load(
        q_ptr + b * stride_qb + ((group % G) * R + head)[:, None] * stride_qh + depth,
        mask=(head < R)[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_R, BLOCK_D]
    k_ptr += group * token_capacity * D
    v_ptr += group * token_capacity * DV
    selected_ptr += group * COUNT
    candidates, oldest = _candidates(position, SELECT_BLOCK, WINDOW, GATED)
    if OVERLAP:
        tl.extra.cuda.gdc_wait()

    # The programs of the window come first, so that their loads overlap the selection.
    chooses = part >= window_parts
    if chooses:
        rank_first = (part - window_parts) * own
        rank_end = tl.minimum(rank_first + own, COUNT)
        count = tl.cdiv(position // SELECT_BLOCK + 1, SPAN) * KEEP
        index = tl.arange(0, BLOCK_M)
        key = tl.load(best_ptr + group * lists * KEEP + index, mask=index < count, other=-_LAST_KEY)
        rank = _ranks(key, BLOCK_M)
        block = tl.where(key >= 0, _LAST_BLOCK - (key & _LAST_BLOCK).to(tl.int32), -1)
        mine = (rank >= rank_first) & (rank < rank_end) & (block >= 0)
        tl.store(selected_ptr + rank, block, mask=mine)
        slot = tl.arange(0, SLOTS)
        none = (slot >= tl.maximum(rank_first, candidates)) & (slot < rank_end)
        tl.store(selected_ptr + slot, tl.full([SLOTS], -1, tl.int32), mask=none)
        first = rank_first * SUB
        end = tl.minimum(rank_end, candidates) * SUB
    else:
        block = tl.zeros([BLOCK_M], tl.int32)
        rank = tl.zeros([BLOCK_M], tl.int32)
        tiles = tl.cdiv(position + 1 - oldest, BLOCK_T)
        each = tl.cdiv(tiles, window_parts)
        first = part * each
        end = tl.minimum(first + each, tiles)

    row_zero = 0
    if SEPARATE:
        # The window has separate keys and values, whose first row is a later token.
        k_ptr = tl.where(chooses, k_ptr, window_k_ptr + group * window_rows * D)
        v_ptr = tl.where(chooses, v_ptr, window_v_ptr + group * window_rows * DV)
        row_zero = tl.where(chooses, 0, window_first)
    highest = tl.full([BLOCK_R], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    out = tl.zeros([BLOCK_R, BLOCK_DV], tl.float32)
    for item in tl.range(first, end, num_stages=STAGES):
        chosen = tl.sum(tl.where(rank == item // SUB, block, 0), axis=0)
        start = chosen * SELECT_BLOCK + (item % SUB) * BLOCK_T
        start = tl.where(chooses, start, oldest + item * BLOCK_T)
        key_index = start + tl.arange(0, BLOCK_T)
        seen = key_index <= position
        at = (key_index - row_zero).to(tl.int64)[:, None]
        k = tl.load(
            k_ptr + at * D + depth, mask=seen[:, None] & (depth < D), other=0.0
        )  # [BLOCK_T, BLOCK_D]
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_R, BLOCK_T]
        scores = tl.where(seen, scores, float("-inf"))
        probs, shrink, highest, total = _softmax_step(scores, highest, total)
        v = tl.load(
            v_ptr + at * DV + value_depth, mask=seen[:, None] & (value_depth < DV), other=0.0
        )  # [BLOCK_T, BLOCK_DV]
        out = tl.dot(probs.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")

    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
    row = group * parts + part
    # A program that saw no key stores -inf, and the merge skips it.
    some = total > 0
    total = tl.where(some, total, 1.0)
    lse = tl.where(some, highest + tl.log2(total), float("-inf"))
    tl.store(lse_ptr + row * R + head, lse, mask=head < R)
    tl.store(
        partial_ptr + (row * R + head[:, None]) * DV + value_depth,
        out / total[:, None],
        mask=(head < R)[:, None] & (value_depth < DV),
    )


@triton.jit
def _branch_weights(lse, inside):
    """Weight of each partial output of one branch: its share of the branch's softmax."""
    lse = tl.where(inside, lse, float("-inf"))
    top = tl.max(lse, axis=0)
    share = tl.exp2(lse - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(share, axis=0)
    return share / tl.where(total > 0, total, 1.0)


@triton.jit(do_not_specialize=["token_capacity", "parts", "window_parts", "splits"])
def _merge_kernel(
    lse_ptr, partial_ptr, gates_ptr, out_ptr, lengths_ptr,
    stride_gb, stride_gh, stride_gc,
    token_capacity, parts, window_parts, splits,
    G: tl.constexpr, R: tl.constexpr, DV: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_DV: tl.constexpr, GATED: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    b = group // G
    g = group % G
    part = tl.arange(0, BLOCK_P)
    value_depth = tl.arange(0, BLOCK_DV)
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    # In `union` mode the summaries have no partial outputs.
    last = parts if GATED else parts - splits
    row = (group * parts + part) * R + head
    lse = tl.load(lse_ptr + row, mask=part < last, other=float("-inf"))
    partial = tl.load(
        partial_ptr + row[:, None] * DV + value_depth,
        mask=(part < last)[:, None] & (value_depth < DV),
        other=0.0,
    )  # [BLOCK_P, BLOCK_DV]
    is_window = part < window_parts
    is_summary = part >= parts - splits
    if GATED:
        gate_ptr = gates_ptr + b * stride_gb + (g * R + head) * stride_gh
        compression = tl.load(gate_ptr).to(tl.float32)
        selection = tl.load(gate_ptr + stride_gc).to(tl.float32)
        window = tl.load(gate_ptr + 2 * stride_gc).to(tl.float32)
        weight = compression * _branch_weights(lse, is_summary)
        weight += selection * _branch_weights(lse, (part >= window_parts) & (part < parts - splits))
        weight += window * _branch_weights(lse, is_window)
    else:
        weight = _branch_weights(lse, part < last)
    # The partial output of a program that saw no key is uninitialized.
    partial = tl.where((lse > float("-inf"))[:, None], partial, 0.0)
    out = tl.sum(partial * weight[:, None], axis=0)
    tl.store(
        out_ptr + (group * R + head) * DV + value_depth,
        out.to(out_ptr.dtype.element_ty),
        mask=value_depth < DV,
    )
    if (g == 0) & (head == 0):
        # No other program of this kernel reads the lengths.
        length = tl.load(lengths_ptr + b)
        tl.store(lengths_ptr + b, tl.minimum(length + 1, token_capacity))
