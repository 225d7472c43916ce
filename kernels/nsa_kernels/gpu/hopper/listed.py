"""Attention of tiles of queries to the lists of `union` mode, warp-specialized.

The queries of a tile share a list: the selected blocks, then the tile's own block and those of its
window. One program per multiprocessor takes parts of tiles, 128 rows each. One warp loads the
queries of a part and the blocks of its list. Two warpgroups of 64 rows compute: the scores of the
next block while the probabilities of the last one are multiplied with its values. No row of a tile
skips a block, so that lists need not be merged. The tile's own block, the only one that its rows
see in part, comes first.

How many blocks a list holds follows from the tile's position. Programs read no counts and no -1.

Letters: see `layout.py`; W a warpgroup, R heads of a group, n blocks of a tile's list.

Source: Yuan et al. 2025, eqs. 11 and 12; Shah et al. 2024, "FlashAttention-3", arXiv 2407.08608.
"""

import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate

from nsa_kernels.gpu.hopper.pipeline import (
    NO_SCORE,
    ROWS,
    Shared,
    matrix,
    new_ring,
    processors,
    rows_of,
    softmax_step,
    tiles_of,
)
from nsa_kernels.gpu.hopper.support import pad_heads
from nsa_kernels.gpu.launches import launch
from nsa_kernels.gpu.layout import Problem, number_strides

GROUPS = gl.constexpr(2)
"""Warpgroups that compute."""

_STAGES = 3
"""Blocks of keys, and of values, in shared memory."""


@aggregate
class Lists:
    """The lists, and the sizes from which a program finds its parts of tiles.

    `pairs` counts pairs of a sequence and a group. A part holds `QUERIES` queries of one tile. A
    list has room for `SELECTED` selected blocks, and for `COUNT` in all.
    """

    ptr: gl.tensor
    stride_b: gl.tensor
    stride_g: gl.tensor
    stride_u: gl.tensor
    offset: gl.tensor
    queries: gl.tensor
    groups: gl.tensor
    pairs: gl.tensor
    SELECTED: gl.constexpr
    COUNT: gl.constexpr
    TILE: gl.constexpr
    QUERIES: gl.constexpr
    BLOCK: gl.constexpr

    @gluon.constexpr_function
    def __init__(
        self, ptr, stride_b, stride_g, stride_u, offset, queries, groups, pairs,
        SELECTED, COUNT, TILE, QUERIES, BLOCK,
    ):  # fmt: skip
        self.ptr = ptr
        self.stride_b = stride_b
        self.stride_g = stride_g
        self.stride_u = stride_u
        self.offset = offset
        self.queries = queries
        self.groups = groups
        self.pairs = pairs
        self.SELECTED = gl.constexpr(SELECTED)
        self.COUNT = gl.constexpr(COUNT)
        self.TILE = gl.constexpr(TILE)
        self.QUERIES = gl.constexpr(QUERIES)
        self.BLOCK = gl.constexpr(BLOCK)

    @gluon.jit
    def total(self):
        """Number of parts."""
        return gl.cdiv(self.queries, self.QUERIES) * self.pairs

    @gluon.jit
    def at(self, index):
        """Sequence, group, first query, list and tile of a part; the last parts come first."""
        pair = index % self.pairs
        first = (gl.cdiv(self.queries, self.QUERIES) - 1 - index // self.pairs) * self.QUERIES
        position = self.offset + first
        b, g = pair // self.groups, pair % self.groups
        current = position // self.TILE
        tile = current - self.offset // self.TILE
        listed = self.ptr + b.to(gl.int64) * self.stride_b + g.to(gl.int64) * self.stride_g
        return b, g, first, listed + tile.to(gl.int64) * self.stride_u, current

    @gluon.jit
    def counts(self, tile):
        """Number of blocks of a tile: of selected ones, and of the window with the tile itself."""
        RECENT: gl.constexpr = self.COUNT - self.SELECTED
        current = tile * self.TILE // self.BLOCK
        candidates = gl.maximum(current - (RECENT - 1), 0)
        return gl.minimum(candidates, self.SELECTED), gl.minimum(current + 1, RECENT)

    @gluon.jit
    def entry(self, listed, i, selected):
        """Number of the i-th block to attend to: a tile's own, its selected ones, its window's.

        Past the end of the list it is the last one.
        """
        place = gl.where(i == 0, self.SELECTED, i - 1)
        place = gl.where(i > selected, i - selected + self.SELECTED, place)
        return gl.load(listed + gl.minimum(place, self.COUNT - 1))


@gluon.jit
def _producer(lists, shared, q_desc, k_desc, v_desc):
    """Load the queries and blocks of every part."""
    W_QUERIES: gl.constexpr = lists.QUERIES // GROUPS
    BLOCK_N: gl.constexpr = k_desc.block_type.shape[1]
    done = 0
    turn = 0
    for index in range(gl.program_id(0), lists.total(), gl.num_programs(0)):
        b, g, first, listed, tile = lists.at(index)
        selected, recent = lists.counts(tile)
        block = lists.entry(listed, 0, selected)
        key = block * BLOCK_N
        shared.k.load(k_desc, [b, key, g, 0], done)
        shared.q.load_each(q_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        shared.v.load(v_desc, [b, key, g, 0], done)
        done += 1
        block = lists.entry(listed, 1, selected)
        for i in range(1, selected + recent):
            key = block * BLOCK_N
            block = lists.entry(listed, i + 1, selected)
            shared.k.load(k_desc, [b, key, g, 0], done)
            shared.v.load(v_desc, [b, key, g, 0], done)
            done += 1
        turn += 1


@gluon.jit
def _consumer(
    lists, shared, out_desc, lse_ptr, strides, queries, scale, W: gl.constexpr, R: gl.constexpr
):
    """Compute the output of the `W`-th 64 rows of every part."""
    stride_lb, stride_lh, stride_lt = strides
    W_QUERIES: gl.constexpr = lists.QUERIES // GROUPS
    HEADS: gl.constexpr = ROWS // W_QUERIES
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    DV: gl.constexpr = shared.v.buffers.shape[4]
    dtype: gl.constexpr = shared.q.buffers.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    S_ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    O_ROWS: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    q_buffer = matrix(shared.q.buffers.index(W))
    out = matrix(shared.out.buffers.index(W))
    row = gl.arange(0, ROWS, S_ROWS)
    done = 0
    turn = 0
    for index in range(gl.program_id(0), lists.total(), gl.num_programs(0)):
        b, g, tile_first, listed, tile = lists.at(index)
        selected, recent = lists.counts(tile)
        own = lists.entry(listed, 0, selected)
        first = tile_first + W * W_QUERIES
        query = first + row // HEADS
        acc = gl.zeros([ROWS, DV], gl.float32, O_LAYOUT)
        mbarrier.wait(shared.q.full.index(W), turn & 1)
        # In registers, queries leave the bandwidth of shared memory to the blocks.
        q = q_buffer.load(gl.DotOperandLayout(0, S_LAYOUT, 2))
        shared.q.release(W)

        k = shared.k.wait(done)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[scores])
        shared.k.release(done)
        key = own * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
        position = lists.offset + query
        scores = gl.where(key[None, :] <= position[:, None], scores, float("-inf"))
        top = gl.full([ROWS], NO_SCORE, gl.float32, S_ROWS)
        total = gl.zeros([ROWS], gl.float32, S_ROWS)
        probs, shrink, top, total = softmax_step(scores, top, total, scale)
        p = gl.convert_layout(probs.to(dtype), P_LAYOUT, assert_trivial=True)
        for _ in range(1, selected + recent):
            k = shared.k.wait(done + 1)
            scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
            scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
            flying = warpgroup_mma(p, shared.v.wait(done), acc, is_async=True)
            scores = warpgroup_mma_wait(1, deps=[scores])
            shared.k.release(done + 1)
            probs, shrink, top, total = softmax_step(scores, top, total, scale)
            acc, p = warpgroup_mma_wait(0, deps=[flying, p])
            shared.v.release(done)
            acc = acc * gl.convert_layout(shrink, O_ROWS)[:, None]
            p = gl.convert_layout(probs.to(dtype), P_LAYOUT, assert_trivial=True)
            done += 1
        acc = warpgroup_mma(p, shared.v.wait(done), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        shared.v.release(done)
        done += 1

        # Every row sees its own key, so that no total is zero.
        head = (g * R + row % HEADS).to(gl.int64)
        at = b.to(gl.int64) * stride_lb + head * stride_lh + query.to(gl.int64) * stride_lt
        valid = (query < queries) & (row % HEADS < R)
        gl.store(lse_ptr + at, top + gl.log2(total), mask=valid)
        acc = acc * gl.convert_layout(1.0 / total, O_ROWS)[:, None]
        # The previous output has left its buffer.
        tma.store_wait(0)
        out.store(acc.to(dtype))
        fence_async_shared()
        at_rows = [b, first, g, 0, 0]
        tma.async_copy_shared_to_global(out_desc, at_rows, shared.out.buffers.index(W))
        turn += 1
    tma.store_wait(0)


@gluon.jit(
    do_not_specialize=[
        "stride_sb", "stride_sg", "stride_su", "queries", "offset", "groups", "pairs"
    ]
)  # fmt: skip
def _hopper_listed_kernel(
    q_desc, k_desc, v_desc, out_desc, blocks_ptr, lse_ptr,
    stride_sb, stride_sg, stride_su, stride_lb, stride_lh, stride_lt,
    queries, offset, groups, pairs, scale,
    R: gl.constexpr, HEADS: gl.constexpr, SELECTED: gl.constexpr, COUNT: gl.constexpr,
    TILE: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    lists = Lists(
        blocks_ptr, stride_sb, stride_sg, stride_su, offset, queries, groups, pairs,
        SELECTED, COUNT, TILE, GROUPS * ROWS // HEADS, k_desc.block_type.shape[1],
    )  # fmt: skip
    shared = Shared(
        new_ring(q_desc, GROUPS, 1), new_ring(k_desc, STAGES, GROUPS),
        new_ring(v_desc, STAGES, GROUPS), new_ring(out_desc, GROUPS, 1),
    )  # fmt: skip
    strides = (stride_lb, stride_lh, stride_lt)
    gl.warp_specialize(
        [
            (_consumer, (lists, shared, out_desc, lse_ptr, strides, queries, scale, 0, R)),
            (_consumer, (lists, shared, out_desc, lse_ptr, strides, queries, scale, 1, R)),
            (_producer, (lists, shared, q_desc, k_desc, v_desc)),
        ],
        [4, 1],
        [240, 24],
    )


def launch_listed(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, out: Tensor, lse: Tensor
) -> None:
    """Attend to the blocks of the lists of `union` mode.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        blocks: (B, G, U, n) int32, as `select_blocks` returns them: as many selected blocks as
            lie before a tile's window, at most `select_count`; at index `select_count` the tile's
            own block, and behind it those of the window.
        out: (B, H, T, Dv), written.
        lse: (B, H, T), written: the base-2 log-sum-exp of the scaled scores.
    """
    s = problem.settings
    heads = pad_heads(problem.repeat)
    per_tile = ROWS.value // heads
    pairs = problem.groups * problem.batch
    total = triton.cdiv(problem.queries, GROUPS.value * per_tile) * pairs
    launch(
        _hopper_listed_kernel, (min(processors(q.device), total),),
        rows_of(q, problem.groups, per_tile), tiles_of(k, s.select_block, 1),
        tiles_of(v, s.select_block, 1), rows_of(out, problem.groups, per_tile), blocks, lse,
        *blocks.stride()[:3], *number_strides(problem, lse),
        problem.queries, problem.offset, problem.groups, pairs, problem.scale,
        R=problem.repeat,
        HEADS=heads,
        SELECTED=s.select_count,
        COUNT=blocks.shape[3],
        TILE=s.select_tile,
        STAGES=_STAGES,
        num_warps=4,
        maxnreg=168,
    )  # fmt: skip
