"""Gradient of the queries of a band of keys, warp-specialized.

One program per multiprocessor takes tiles of rows, the longest first. One warp loads queries,
gradients, keys and values. Three warpgroups of 64 rows each compute, so that the exponentials of
one overlap the matrix products of the others. They share the keys and values of a tile.

Letters: see `layout.py`; W a warpgroup, R heads of a group, J_b keys of a tile.

Source: Dao 2023, "FlashAttention-2", arXiv 2307.08691; Shah et al. 2024, "FlashAttention-3", arXiv
2407.08608.
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

from nsa_kernels.gpu.bands import Band, OutputGradient, band_keys
from nsa_kernels.gpu.hopper.pipeline import (
    ROWS,
    Ring,
    Work,
    matrix,
    new_ring,
    processors,
    rows_of,
    tiles_of,
)
from nsa_kernels.gpu.hopper.support import pad_heads
from nsa_kernels.gpu.layout import Problem

GROUPS = gl.constexpr(3)
"""Warpgroups that compute."""

_BLOCK_N = 64
"""Keys of a tile."""

_STAGES = 2
"""Tiles of keys, and of values, in shared memory."""


@aggregate
class Shared:
    """Rings that all warps of a program use; rows have one buffer per warpgroup."""

    q: Ring
    grad: Ring
    k: Ring
    v: Ring
    out: Ring

    @gluon.constexpr_function
    def __init__(self, q, grad, k, v, out):
        self.q = q
        self.grad = grad
        self.k = k
        self.v = v
        self.out = out


@gluon.jit
def _producer(work, shared, q_desc, grad_desc, k_desc, v_desc, out_desc, ADDS: gl.constexpr):
    """Load the rows, keys and values of every tile, and the rows that its gradient is added to."""
    W_QUERIES: gl.constexpr = work.QUERIES // GROUPS
    done = 0
    turn = 0
    for index in range(gl.program_id(0), work.tiles(), gl.num_programs(0)):
        b, g, first, begin, count = work.at(index)
        # Load the first keys before waiting for the rows' buffers, which are freed later.
        at = [b, begin + (count - 1) * work.BLOCK_N, g, 0]
        shared.k.load(k_desc, at, done)
        shared.v.load(v_desc, at, done)
        shared.q.load_each(q_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        shared.grad.load_each(grad_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        done += 1
        for i in range(1, count):
            at = [b, begin + (count - 1 - i) * work.BLOCK_N, g, 0]
            shared.k.load(k_desc, at, done)
            shared.v.load(v_desc, at, done)
            done += 1
        if ADDS:
            shared.out.load_each(out_desc, b, g, first, W_QUERIES, turn & 1, False)
        turn += 1


@gluon.jit
def _score_gradient(scores, dprobs, lse, dots, low, high, first, scale, MASKED: gl.constexpr):
    """Gradient of the scores of a tile: [ROWS, BLOCK_N]."""
    S_LAYOUT: gl.constexpr = scores.type.layout
    probs = gl.exp2(scores * scale - lse[:, None])
    if MASKED:
        key = first + gl.arange(0, scores.shape[1], gl.SliceLayout(0, S_LAYOUT))
        seen = (key[None, :] >= low[:, None]) & (key[None, :] < high[:, None])
        probs = gl.where(seen, probs, 0.0)
    return probs * (dprobs - dots[:, None])


@gluon.jit
def _attend(
    q, grad, shared, dq, lse, dots, low, high, done, begin, from_tile, to_tile, scale,
    MASKED: gl.constexpr,
):  # fmt: skip
    """Add the key tiles below `from_tile` down to `to_tile` to the gradient."""
    O_LAYOUT: gl.constexpr = dq.type.layout
    S_LAYOUT: gl.constexpr = lse.type.layout.parent
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    dtype: gl.constexpr = shared.k.buffers.dtype
    for i in range(from_tile - to_tile):
        k = shared.k.wait(done)
        v = shared.v.wait(done)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        dprobs = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        dprobs = warpgroup_mma(grad, v.permute((1, 0)), dprobs, use_acc=False, is_async=True)
        scores, dprobs = warpgroup_mma_wait(0, deps=[scores, dprobs])
        shared.v.release(done)
        first = begin + (from_tile - 1 - i) * BLOCK_N
        ds = _score_gradient(scores, dprobs, lse, dots, low, high, first, scale, MASKED)
        ds = gl.convert_layout(ds.to(dtype), P_LAYOUT, assert_trivial=True)
        dq = warpgroup_mma(ds, k, dq, is_async=True)
        dq = warpgroup_mma_wait(0, deps=[dq])
        shared.k.release(done)
        done += 1
    return dq, done


@gluon.jit
def _consumer(
    work, shared, out_desc, ptrs, strides, scale, plain_scale,
    W: gl.constexpr, ADDS: gl.constexpr,
):  # fmt: skip
    """Compute the gradient of the `W`-th 64 rows of every tile."""
    lse_ptr, dots_ptr = ptrs
    stride_lb, stride_lh, stride_lt = strides
    R: gl.constexpr = work.R
    W_QUERIES: gl.constexpr = work.QUERIES // GROUPS
    HEADS: gl.constexpr = ROWS // W_QUERIES
    BLOCK_N: gl.constexpr = work.BLOCK_N
    D: gl.constexpr = shared.k.buffers.shape[4]
    dtype: gl.constexpr = shared.q.buffers.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    S_ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    q_buffer = matrix(shared.q.buffers.index(W))
    grad_buffer = matrix(shared.grad.buffers.index(W))
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
        at = b.to(gl.int64) * stride_lb + head * stride_lh + query.to(gl.int64) * stride_lt
        lse = gl.load(lse_ptr + at, mask=valid, other=float("inf"))
        dots = gl.load(dots_ptr + at, mask=valid, other=0.0)
        # Between the tiles `whole` and `ragged` every row sees every key.
        whole = gl.minimum(gl.cdiv(work.low(first + W_QUERIES - 1) - begin, BLOCK_N), count)
        ragged = gl.minimum(gl.maximum(work.high(first) - begin, 0) // BLOCK_N, count)
        ragged = gl.maximum(ragged, whole)
        dq = gl.zeros([ROWS, D], gl.float32, O_LAYOUT)
        mbarrier.wait(shared.q.full.index(W), turn & 1)
        mbarrier.wait(shared.grad.full.index(W), turn & 1)
        q = q_buffer
        grad = grad_buffer
        if ADDS:
            # The previous gradient has left its buffer, which may now be filled.
            tma.store_wait(0)
            shared.out.release(W)
        dq, done = _attend(
            q, grad, shared, dq, lse, dots, low, high, done, begin, count, ragged, scale, True
        )
        dq, done = _attend(
            q, grad, shared, dq, lse, dots, low, high, done, begin, ragged, whole, scale, False
        )
        if work.WINDOWED:
            dq, done = _attend(
                q, grad, shared, dq, lse, dots, low, high, done, begin, whole, 0, scale, True
            )
        shared.q.release(W)
        shared.grad.release(W)
        dq *= plain_scale
        if ADDS:
            mbarrier.wait(shared.out.full.index(W), turn & 1)
            dq += out.load(O_LAYOUT).to(gl.float32)
        else:
            # The previous gradient has left its buffer.
            tma.store_wait(0)
        out.store(dq.to(dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(out_desc, [b, first, g, 0, 0], shared.out.buffers.index(W))
        turn += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["queries", "offset", "keys", "window", "groups", "pairs"])
def _hopper_rows_kernel(
    q_desc, grad_desc, k_desc, v_desc, out_desc, lse_ptr, dots_ptr,
    stride_lb, stride_lh, stride_lt,
    queries, offset, keys, window, groups, pairs, scale, plain_scale,
    R: gl.constexpr, HEADS: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr,
    WINDOWED: gl.constexpr, STAGES: gl.constexpr, ADDS: gl.constexpr,
):  # fmt: skip
    work = Work(
        queries, offset, keys, window, groups, pairs,
        R, KEY_BLOCK, KEY_STRIDE, WINDOWED, GROUPS * ROWS // HEADS, k_desc.block_type.shape[1],
    )  # fmt: skip
    shared = Shared(
        new_ring(q_desc, GROUPS, 1), new_ring(grad_desc, GROUPS, 1),
        new_ring(k_desc, STAGES, GROUPS), new_ring(v_desc, STAGES, GROUPS),
        new_ring(out_desc, GROUPS, 1),
    )  # fmt: skip
    ptrs, strides = (lse_ptr, dots_ptr), (stride_lb, stride_lh, stride_lt)
    gl.warp_specialize(
        [
            (_consumer, (work, shared, out_desc, ptrs, strides, scale, plain_scale, 0, ADDS)),
            (_consumer, (work, shared, out_desc, ptrs, strides, scale, plain_scale, 1, ADDS)),
            (_consumer, (work, shared, out_desc, ptrs, strides, scale, plain_scale, 2, ADDS)),
            (_producer, (work, shared, q_desc, grad_desc, k_desc, v_desc, out_desc, ADDS)),
        ],
        [4, 4, 1],
        [160, 160, 32],
    )


def launch_rows_backward(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    *,
    adds: bool,
) -> None:
    """Write the gradient of the queries of a band of at least one key, or add it to `dq`.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv).
        grad: The gradient of the output.
        dq: (B, H, T, D), written.
        adds: Whether to add to what `dq` holds.
    """
    keys, _ = band_keys(problem, band)
    heads = pad_heads(problem.repeat)
    per_tile = ROWS.value // heads
    pairs = problem.groups * problem.batch
    tiles = triton.cdiv(problem.queries, GROUPS.value * per_tile) * pairs
    assert grad.lse.stride() == grad.dots.stride()
    _hopper_rows_kernel[(min(processors(q.device), tiles),)](
        rows_of(q, problem.groups, per_tile), rows_of(grad.out, problem.groups, per_tile),
        tiles_of(k, _BLOCK_N, 1), tiles_of(v, _BLOCK_N, 1), rows_of(dq, problem.groups, per_tile),
        grad.lse, grad.dots, *grad.lse.stride(),
        problem.queries, problem.offset, keys, band.window or 0, problem.groups, pairs,
        problem.scale, problem.plain_scale,
        R=problem.repeat,
        HEADS=heads,
        KEY_BLOCK=band.key_block,
        KEY_STRIDE=band.key_stride,
        WINDOWED=band.window is not None,
        STAGES=_STAGES,
        ADDS=adds,
        num_warps=4,
        maxnreg=128,
    )  # fmt: skip
