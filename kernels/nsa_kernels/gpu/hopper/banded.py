"""Causal attention to a band of keys, warp-specialized: the output, or its dot products.

One program per multiprocessor takes tiles of rows, the longest first. One warp loads queries, keys
and values. Three or four warpgroups of 64 rows each compute, so that the exponentials of one
overlap the matrix products of the others.

Letters: see `layout.py`; W a warpgroup, R heads of a group, J_b keys of a tile.

Source: Shah et al. 2024, "FlashAttention-3", arXiv 2407.08608.
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

from nsa_kernels.gpu.bands import Addend, Band, band_keys
from nsa_kernels.gpu.hopper.pipeline import (
    NO_SCORE,
    ROWS,
    Shared,
    Work,
    matrix,
    new_ring,
    processors,
    rows_of,
    softmax_step,
    tiles_of,
)
from nsa_kernels.gpu.hopper.support import (
    pad_heads,
)
from nsa_kernels.gpu.launches import launch
from nsa_kernels.gpu.layout import Problem, number_strides

_STAGES = 3
"""Tiles of keys, and of values, in shared memory."""


@gluon.jit
def _producer(work, shared, q_desc, k_desc, v_desc, other_desc, WITH_ROWS: gl.constexpr):
    """Load the queries, keys and values of every tile, and the rows combined with its output."""
    W_QUERIES: gl.constexpr = work.QUERIES // shared.q.SIZE
    done = 0
    turn = 0
    for index in range(gl.program_id(0), work.tiles(), gl.num_programs(0)):
        b, g, first, begin, count = work.at(index)
        # Load the first keys before waiting for the queries' buffer, which is freed later.
        at = [b, begin + (count - 1) * work.BLOCK_N, g, 0]
        shared.k.load(k_desc, at, done)
        shared.q.load_each(q_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        shared.v.load(v_desc, at, done)
        done += 1
        for i in range(1, count):
            at = [b, begin + (count - 1 - i) * work.BLOCK_N, g, 0]
            shared.k.load(k_desc, at, done)
            shared.v.load(v_desc, at, done)
            done += 1
        if WITH_ROWS:
            shared.out.load_each(other_desc, b, g, first, W_QUERIES, turn & 1, False)
        turn += 1


@gluon.jit
def _probabilities(
    scores, top, total, low, high, first, scale, MASKED: gl.constexpr, BLOCK_N: gl.constexpr
):
    """Probabilities of a tile, the factor of what came before, and the new maximum and total."""
    S_LAYOUT: gl.constexpr = top.type.layout.parent
    if MASKED:
        key = first + gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
        seen = (key[None, :] >= low[:, None]) & (key[None, :] < high[:, None])
        scores = gl.where(seen, scores, float("-inf"))
    return softmax_step(scores, top, total, scale)


@gluon.jit
def _attend(
    q, shared, acc, top, total, low, high, done, begin, from_tile, to_tile, scale,
    MASKED: gl.constexpr,
):  # fmt: skip
    """Add the key tiles below `from_tile` down to `to_tile` to a running softmax."""
    O_LAYOUT: gl.constexpr = acc.type.layout
    S_LAYOUT: gl.constexpr = top.type.layout.parent
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    for i in range(from_tile - to_tile):
        k = shared.k.wait(done)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[scores])
        shared.k.release(done)
        first = begin + (from_tile - 1 - i) * BLOCK_N
        probs, shrink, top, total = _probabilities(
            scores, top, total, low, high, first, scale, MASKED, BLOCK_N
        )
        acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, O_LAYOUT))[:, None]
        probs = gl.convert_layout(probs.to(q.dtype), P_LAYOUT, assert_trivial=True)
        acc = warpgroup_mma(probs, shared.v.wait(done), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        shared.v.release(done)
        done += 1
    return acc, top, total, done


@gluon.jit
def _attend_ahead(
    q, shared, acc, top, total, low, high, done, begin, from_tile, to_tile, scale,
    MASKED: gl.constexpr,
):  # fmt: skip
    """Do what `_attend` does, one tile ahead.

    The scores of the next tile are computed before a tile's values are multiplied, so that the
    softmax of one overlaps the product of the other. The first and the last turn are loops of at
    most one turn, since a matrix product must not depend on an `if`.
    """
    O_LAYOUT: gl.constexpr = acc.type.layout
    S_LAYOUT: gl.constexpr = top.type.layout.parent
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    O_ROWS: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    dtype: gl.constexpr = shared.k.buffers.dtype
    count = from_tile - to_tile
    some = gl.minimum(count, 1)
    p = gl.zeros([ROWS, BLOCK_N], dtype, P_LAYOUT)
    for _ in range(some):
        k = shared.k.wait(done)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[scores])
        shared.k.release(done)
        first = begin + (from_tile - 1) * BLOCK_N
        probs, shrink, top, total = _probabilities(
            scores, top, total, low, high, first, scale, MASKED, BLOCK_N
        )
        acc = acc * gl.convert_layout(shrink, O_ROWS)[:, None]
        p = gl.convert_layout(probs.to(dtype), P_LAYOUT, assert_trivial=True)
    for i in range(1, count):
        k = shared.k.wait(done + 1)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        v = shared.v.wait(done)
        flying = warpgroup_mma(p, v, acc, is_async=True)
        scores = warpgroup_mma_wait(1, deps=[scores])
        shared.k.release(done + 1)
        first = begin + (from_tile - 1 - i) * BLOCK_N
        probs, shrink, top, total = _probabilities(
            scores, top, total, low, high, first, scale, MASKED, BLOCK_N
        )
        acc, p = warpgroup_mma_wait(0, deps=[flying, p])
        shared.v.release(done)
        acc = acc * gl.convert_layout(shrink, O_ROWS)[:, None]
        p = gl.convert_layout(probs.to(dtype), P_LAYOUT, assert_trivial=True)
        done += 1
    for _ in range(some):
        acc = warpgroup_mma(p, shared.v.wait(done), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        shared.v.release(done)
        done += 1
    return acc, top, total, done


@gluon.jit
def _consumer(
    work, shared, out_desc, kept_desc, ends, scale,
    W: gl.constexpr, GATED: gl.constexpr, DOTS: gl.constexpr, KEPT: gl.constexpr,
):  # fmt: skip
    """Compute the output of the `W`-th 64 rows of every tile."""
    numbers_ptr, gate_ptr, other_gate_ptr, strides, gate_strides = ends
    stride_lb, stride_lh, stride_lt = strides
    stride_wb, stride_wh, stride_wt = gate_strides
    R: gl.constexpr = work.R
    W_QUERIES: gl.constexpr = work.QUERIES // shared.q.SIZE
    HEADS: gl.constexpr = ROWS // W_QUERIES
    BLOCK_N: gl.constexpr = work.BLOCK_N
    # Measured: a window is too short, and short rows leave too little to overlap.
    AHEAD: gl.constexpr = not work.WINDOWED and shared.v.buffers.shape[4] == 128
    DV: gl.constexpr = shared.v.buffers.shape[4]
    dtype: gl.constexpr = shared.q.buffers.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    S_ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    O_ROWS: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    q = matrix(shared.q.buffers.index(W))
    out = matrix(shared.out.buffers.index(W))
    row = gl.arange(0, ROWS, S_ROWS)
    done = 0
    turn = 0
    for index in range(gl.program_id(0), work.tiles(), gl.num_programs(0)):
        b, g, tile_first, begin, count = work.at(index)
        first = tile_first + W * W_QUERIES
        query = first + row // HEADS
        low, high = work.low(query), work.high(query)
        valid = (query < work.queries) & (row % HEADS < R)
        head = (g * R + row % HEADS).to(gl.int64)
        at_query = query.to(gl.int64)
        if GATED:
            at = b.to(gl.int64) * stride_wb + head * stride_wh + at_query * stride_wt
            gate = gl.load(gate_ptr + at, mask=valid, other=0.0)
            other_gate = gl.load(other_gate_ptr + at, mask=valid, other=0.0)
        # Between the tiles `whole` and `ragged` every row sees every key.
        whole = gl.minimum(gl.cdiv(work.low(first + W_QUERIES - 1) - begin, BLOCK_N), count)
        ragged = gl.minimum(gl.maximum(work.high(first) - begin, 0) // BLOCK_N, count)
        ragged = gl.maximum(ragged, whole)

        acc = gl.zeros([ROWS, DV], gl.float32, O_LAYOUT)
        top = gl.full([ROWS], NO_SCORE, gl.float32, S_ROWS)
        total = gl.zeros([ROWS], gl.float32, S_ROWS)
        mbarrier.wait(shared.q.full.index(W), turn & 1)
        if GATED or DOTS:
            # The previous output has left its buffer, which may now be filled.
            tma.store_wait(0)
            shared.out.release(W)
        if AHEAD:
            acc, top, total, done = _attend_ahead(
                q, shared, acc, top, total, low, high, done, begin, count, ragged, scale, True
            )
            acc, top, total, done = _attend_ahead(
                q, shared, acc, top, total, low, high, done, begin, ragged, whole, scale, False
            )
        else:
            acc, top, total, done = _attend(
                q, shared, acc, top, total, low, high, done, begin, count, ragged, scale, True
            )
            acc, top, total, done = _attend(
                q, shared, acc, top, total, low, high, done, begin, ragged, whole, scale, False
            )
            if work.WINDOWED:
                acc, top, total, done = _attend(
                    q, shared, acc, top, total, low, high, done, begin, whole, 0, scale, True
                )
        shared.q.release(W)

        seen = total > 0
        norm = 1.0 / gl.where(seen, total, 1.0)
        at = b.to(gl.int64) * stride_lb + head * stride_lh + at_query * stride_lt
        if DOTS:
            mbarrier.wait(shared.out.full.index(W), turn & 1)
            dots = gl.sum(acc * out.load(O_LAYOUT).to(gl.float32), axis=1)
            dots = gl.convert_layout(dots, S_ROWS) * norm
            gl.store(numbers_ptr + at, dots, mask=valid)
        else:
            # A row that sees nothing gets +inf, so that its probabilities are zero.
            lse = gl.where(seen, top + gl.log2(gl.where(seen, total, 1.0)), float("inf"))
            gl.store(numbers_ptr + at, lse, mask=valid)
            acc = acc * gl.convert_layout(norm, O_ROWS)[:, None]
            at_rows = [b, first, g, 0, 0]
            if GATED:
                mbarrier.wait(shared.out.full.index(W), turn & 1)
                other = out.load(O_LAYOUT)
                if KEPT:
                    out.store(acc.to(dtype))
                    fence_async_shared()
                    buffer = shared.out.buffers.index(W)
                    tma.async_copy_shared_to_global(kept_desc, at_rows, buffer)
                gate = gl.convert_layout(gate.to(gl.float32), O_ROWS)
                other_gate = gl.convert_layout(other_gate.to(gl.float32), O_ROWS)
                acc = acc * gate[:, None] + other.to(gl.float32) * other_gate[:, None]
            if KEPT or not GATED:
                # The previous output has left its buffer.
                tma.store_wait(0)
            out.store(acc.to(dtype))
            fence_async_shared()
            tma.async_copy_shared_to_global(out_desc, at_rows, shared.out.buffers.index(W))
        turn += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["queries", "offset", "keys", "window", "groups", "pairs"])
def _hopper_banded_kernel(
    q_desc, k_desc, v_desc, out_desc, other_desc, kept_desc, numbers_ptr, gate_ptr, other_gate_ptr,
    stride_lb, stride_lh, stride_lt, stride_wb, stride_wh, stride_wt,
    queries, offset, keys, window, groups, pairs, scale,
    R: gl.constexpr, HEADS: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr,
    WINDOWED: gl.constexpr, STAGES: gl.constexpr, GATED: gl.constexpr, DOTS: gl.constexpr,
    KEPT: gl.constexpr, GROUPS: gl.constexpr,
):  # fmt: skip
    work = Work(
        queries, offset, keys, window, groups, pairs,
        R, KEY_BLOCK, KEY_STRIDE, WINDOWED, GROUPS * ROWS // HEADS, k_desc.block_type.shape[1],
    )  # fmt: skip
    shared = Shared(
        new_ring(q_desc, GROUPS, 1), new_ring(k_desc, STAGES, GROUPS),
        new_ring(v_desc, STAGES, GROUPS), new_ring(out_desc, GROUPS, 1),
    )  # fmt: skip
    strides, gate_strides = (stride_lb, stride_lh, stride_lt), (stride_wb, stride_wh, stride_wt)
    ends = (numbers_ptr, gate_ptr, other_gate_ptr, strides, gate_strides)
    if GROUPS == 4:
        gl.warp_specialize(
            [
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 0, GATED, DOTS, KEPT)),
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 1, GATED, DOTS, KEPT)),
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 2, GATED, DOTS, KEPT)),
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 3, GATED, DOTS, KEPT)),
                (_producer, (work, shared, q_desc, k_desc, v_desc, other_desc, GATED or DOTS)),
            ],
            [4, 4, 4, 1],
            [112, 112, 112, 32],
        )
    else:
        gl.warp_specialize(
            [
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 0, GATED, DOTS, KEPT)),
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 1, GATED, DOTS, KEPT)),
                (_consumer, (work, shared, out_desc, kept_desc, ends, scale, 2, GATED, DOTS, KEPT)),
                (_producer, (work, shared, q_desc, k_desc, v_desc, other_desc, GATED or DOTS)),
            ],
            [4, 4, 1],
            [160, 160, 32],
        )


_TILE_KEYS = 64
"""Keys of a tile."""


def _warpgroups(problem: Problem) -> int:
    """Warpgroups that compute: short rows leave registers for four of them."""
    return 4 if problem.dim == 64 else 3


def launch_banded(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    numbers: Tensor,
    out: Tensor | None = None,
    grad: Tensor | None = None,
    addend: Addend | None = None,
) -> None:
    """Attend to a band of at least one key.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv).
        numbers: (B, H, T), written: the log-sum-exp, or with `grad` the dot products.
        out: (B, H, T, Dv), written; None with `grad`.
        grad: (B, H, T, Dv); the dot product of each row with the output is computed.
        addend: Another branch, added with its gate.
    """
    keys, _ = band_keys(problem, band)
    assert keys > 0
    assert band.query_stride == 1
    rows, groups, block_n = ROWS.value, _warpgroups(problem), _TILE_KEYS
    heads = pad_heads(problem.repeat)
    per_tile = rows // heads
    gates = (None, None) if addend is None else (addend.gate, addend.other_gate)
    rows_out = grad if out is None else out
    assert rows_out is not None
    out_tiles = rows_of(rows_out, problem.groups, per_tile)
    other_tiles = out_tiles
    if addend is not None:
        other_tiles = rows_of(addend.other, problem.groups, per_tile)
    kept_tiles = out_tiles
    if addend is not None and addend.kept is not None:
        kept_tiles = rows_of(addend.kept, problem.groups, per_tile)
    pairs = problem.groups * problem.batch
    tiles = triton.cdiv(problem.queries, groups * per_tile) * pairs
    launch(
        _hopper_banded_kernel, (min(processors(q.device), tiles),),
        rows_of(q, problem.groups, per_tile), tiles_of(k, block_n, 1), tiles_of(v, block_n, 1),
        out_tiles, other_tiles, kept_tiles, numbers, *(numbers if x is None else x for x in gates),
        *number_strides(problem, numbers), *number_strides(problem, gates[0]),
        problem.queries, problem.offset, keys, band.window or 0, problem.groups, pairs,
        problem.scale,
        R=problem.repeat,
        HEADS=heads,
        KEY_BLOCK=band.key_block,
        KEY_STRIDE=band.key_stride,
        WINDOWED=band.window is not None,
        STAGES=_STAGES,
        GATED=addend is not None,
        DOTS=grad is not None,
        KEPT=addend is not None and addend.kept is not None,
        GROUPS=groups,
        num_warps=4,
        maxnreg=128 if groups == 3 else 96,
    )  # fmt: skip
