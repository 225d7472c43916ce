"""Importance of the selection blocks, warp-specialized; `selection.py` defines it.

One program per multiprocessor takes tiles of queries, the longest first. Scores are a matrix of
keys by rows, and the rows of a warpgroup go head by head. One thread then holds the scores of all
heads of a query and sums them alone. Shuffles only sum over the summaries of a block.

Letters: see `layout.py`; W a warpgroup, R heads of a group, J_b summaries of a tile, E queries of
a warpgroup.
"""

from __future__ import annotations

import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from nsa_kernels.gpu.hopper.pipeline import Work, matrix, new_ring, processors, rows_of, tiles_of
from nsa_kernels.gpu.hopper.support import (
    pad_heads,
)
from nsa_kernels.gpu.launches import launch
from nsa_kernels.gpu.layout import Problem

BLOCK_N = gl.constexpr(64)
"""Summaries of a tile."""

GROUPS = gl.constexpr(3)
"""Warpgroups that compute."""

CELLS = gl.constexpr(128)
"""Rows of a warpgroup: queries times heads."""

_STAGES = 4
"""Tiles of summaries in shared memory."""


@gluon.jit
def _producer(work, q, k, q_desc, k_desc):
    """Load the queries and summaries of every tile."""
    W_QUERIES: gl.constexpr = work.QUERIES // GROUPS
    done = 0
    turn = 0
    for index in range(gl.program_id(0), work.tiles(), gl.num_programs(0)):
        b, g, first, _, count = work.at(index)
        k.load(k_desc, [b, 0, g, 0], done)
        q.load_each(q_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, True)
        for i in range(1, count):
            k.load(k_desc, [b, i * BLOCK_N, g, 0], done + i)
        done += count
        turn += 1


@gluon.jit
def _store(ptr, shared, weight, n, stride_iu, query, work, PER_BLOCK: gl.constexpr):
    """Sum the probabilities [J_b, E] over blocks, with weights, and store the sums."""
    BLOCKS: gl.constexpr = BLOCK_N // PER_BLOCK
    sums = gl.reshape(shared * weight[:, None], [BLOCKS, PER_BLOCK, shared.shape[1]])
    sums = gl.sum(sums, axis=1)  # [BLOCKS, E]
    LAYOUT: gl.constexpr = sums.type.layout
    block = n // PER_BLOCK + gl.arange(0, BLOCKS, gl.SliceLayout(1, LAYOUT))
    query = query + gl.arange(0, shared.shape[1], gl.SliceLayout(0, LAYOUT))
    to = (query.to(gl.int64) * stride_iu)[None, :] + block[:, None]
    written = (query < work.queries)[None, :] & (block < stride_iu)[:, None]
    gl.store(ptr + to, sums, mask=written)


@gluon.jit
def _sum_up(
    scores, lse, high, n, own_ptr, spill_ptr, stride_iu, first, work, scale,
    PER_BLOCK: gl.constexpr, MASKED: gl.constexpr,
):  # fmt: skip
    """Store the importance that a tile of scores [J_b, CELLS] adds to blocks."""
    LAYOUT: gl.constexpr = scores.type.layout
    W_QUERIES: gl.constexpr = work.QUERIES // GROUPS
    OVERLAP: gl.constexpr = work.KEY_BLOCK // work.KEY_STRIDE
    probs = gl.exp2(scores * scale - lse[None, :])
    if MASKED:
        key = n + gl.arange(0, BLOCK_N, gl.SliceLayout(1, LAYOUT))
        probs = gl.where(key[:, None] < high[None, :], probs, 0.0)
    shared = gl.sum(gl.reshape(probs, [BLOCK_N, CELLS // W_QUERIES, W_QUERIES]), axis=1)  # [J_b, E]
    within = gl.arange(0, BLOCK_N, gl.SliceLayout(1, shared.type.layout)) % PER_BLOCK
    weight = gl.minimum(OVERLAP, PER_BLOCK - within)
    _store(own_ptr, shared, weight, n, stride_iu, first, work, PER_BLOCK)
    if OVERLAP > 1:
        over = OVERLAP - weight
        _store(spill_ptr, shared, over, n, stride_iu, first, work, PER_BLOCK)


@gluon.jit
def _consumer(work, q_ring, k_ring, ptrs, strides, scale, W: gl.constexpr, PER_BLOCK: gl.constexpr):
    """Compute the importances for the `W`-th queries of every tile."""
    lse_ptr, own_ptr, spill_ptr = ptrs
    stride_lb, stride_lh, stride_lt, stride_ib, stride_ig, stride_iu = strides
    R: gl.constexpr = work.R
    W_QUERIES: gl.constexpr = work.QUERIES // GROUPS
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, CELLS, 16])
    q = matrix(q_ring.buffers.index(W))
    cell = gl.arange(0, CELLS, gl.SliceLayout(0, LAYOUT))
    done = 0
    turn = 0
    for index in range(gl.program_id(0), work.tiles(), gl.num_programs(0)):
        b, g, tile_first, _, count = work.at(index)
        first = tile_first + W * W_QUERIES
        query = first + cell % W_QUERIES
        high = work.high(query)
        head = (g * R + cell // W_QUERIES).to(gl.int64)
        valid = (query < work.queries) & (cell // W_QUERIES < R)
        at = b.to(gl.int64) * stride_lb + head * stride_lh + query.to(gl.int64) * stride_lt
        lse = gl.load(lse_ptr + at, mask=valid, other=float("inf"))
        to = b.to(gl.int64) * stride_ib + g.to(gl.int64) * stride_ig
        # Below the tile `ragged` every query sees every summary.
        ragged = gl.minimum(work.high(first) // BLOCK_N, count)
        mbarrier.wait(q_ring.full.index(W), turn & 1)
        for i in range(count):
            k = k_ring.wait(done)
            scores = gl.zeros([BLOCK_N, CELLS], gl.float32, LAYOUT)
            scores = warpgroup_mma(k, q.permute((1, 0)), scores, use_acc=False, is_async=True)
            scores = warpgroup_mma_wait(0, deps=[scores])
            k_ring.release(done)
            done += 1
            n = i * BLOCK_N
            if i < ragged:
                _sum_up(
                    scores, lse, high, n, own_ptr + to, spill_ptr + to, stride_iu, first, work,
                    scale, PER_BLOCK, False,
                )  # fmt: skip
            else:
                _sum_up(
                    scores, lse, high, n, own_ptr + to, spill_ptr + to, stride_iu, first, work,
                    scale, PER_BLOCK, True,
                )  # fmt: skip
        q_ring.release(W)
        turn += 1


@gluon.jit(do_not_specialize=["queries", "offset", "keys", "groups", "pairs"])
def _hopper_importance_kernel(
    q_desc, k_desc, lse_ptr, own_ptr, spill_ptr,
    stride_lb, stride_lh, stride_lt, stride_ib, stride_ig, stride_iu,
    queries, offset, keys, groups, pairs, scale,
    R: gl.constexpr, HEADS: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr,
    PER_BLOCK: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    work = Work(
        queries, offset, keys, keys, groups, pairs,
        R, KEY_BLOCK, KEY_STRIDE, False, GROUPS * CELLS // HEADS, BLOCK_N,
    )  # fmt: skip
    q = new_ring(q_desc, GROUPS, 1)
    k = new_ring(k_desc, STAGES, GROUPS)
    ptrs = (lse_ptr, own_ptr, spill_ptr)
    strides = (stride_lb, stride_lh, stride_lt, stride_ib, stride_ig, stride_iu)
    gl.warp_specialize(
        [
            (_consumer, (work, q, k, ptrs, strides, scale, 0, PER_BLOCK)),
            (_consumer, (work, q, k, ptrs, strides, scale, 1, PER_BLOCK)),
            (_consumer, (work, q, k, ptrs, strides, scale, 2, PER_BLOCK)),
            (_producer, (work, q, k, q_desc, k_desc)),
        ],
        [4, 4, 1],
        [160, 160, 32],
    )


def launch_importance(
    problem: Problem,
    q: Tensor,
    summary_k: Tensor,
    lse: Tensor,
    own: Tensor,
    spill: Tensor,
    first: int,
    queries: int,
) -> None:
    """Write the importances for consecutive queries, each with a separate selection.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        summary_k: (B, G, C, D).
        lse: (B, H, T).
        own: (B, G, at least `queries`, N), written.
        spill: The same shape, written: the share of the next block.
        first: The first query.
        queries: Number of queries.
    """
    s = problem.settings
    q, lse = (x[:, :, first : first + queries] for x in (q, lse))
    heads = pad_heads(problem.repeat)
    per_group = CELLS.value // heads
    pairs = problem.groups * problem.batch
    tiles = triton.cdiv(queries, GROUPS.value * per_group) * pairs
    launch(
        _hopper_importance_kernel, (min(processors(q.device), tiles),),
        rows_of(q, problem.groups, per_group, by_head=True),
        tiles_of(summary_k, BLOCK_N.value, 1), lse, own, spill,
        *lse.stride(), own.stride(0), own.stride(1), own.stride(2),
        queries, problem.offset + first, problem.summaries, problem.groups, pairs, problem.scale,
        R=problem.repeat,
        HEADS=heads,
        KEY_BLOCK=s.compress_block,
        KEY_STRIDE=s.compress_stride,
        PER_BLOCK=s.select_block // s.compress_stride,
        STAGES=_STAGES,
        num_warps=4,
        maxnreg=128,
    )  # fmt: skip
