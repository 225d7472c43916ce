"""Gradients of a band's keys and values, warp-specialized; see `banded_backward.py`.

A program processes a tile of keys. Each of two warpgroups holds 64 keys and the gradients of keys
and values in registers. One warp loads a ring of queries and output gradients, with their
log-sum-exp and dot products. Matrices are keys by rows, so that probabilities stay in registers.

Letters: see `layout.py`; W a warpgroup, R heads of a group, J keys of this band.

Source: Shah et al. 2024, "FlashAttention-3", arXiv 2407.08608.
"""

import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate

from nsa_kernels.gpu.bands import Band, OutputGradient, band_keys
from nsa_kernels.gpu.hopper.pipeline import ROWS, Ring, new_buffers, new_ring, numbers_of, tiles_of
from nsa_kernels.gpu.layout import Problem

GROUPS = gl.constexpr(2)
"""Warpgroups that compute."""

_STAGES = 3
"""Tiles of queries, and of output gradients, in shared memory."""


@aggregate
class Shared:
    """Each warpgroup's keys and values, and rings of rows with one number per row."""

    k: Ring
    v: Ring
    q: Ring
    grad: Ring
    lse: gl.shared_memory_descriptor
    dots: gl.shared_memory_descriptor

    @gluon.constexpr_function
    def __init__(self, k, v, q, grad, lse, dots):
        self.k = k
        self.v = v
        self.q = q
        self.grad = grad
        self.lse = lse
        self.dots = dots


@gluon.jit
def _producer(shared, descs, place, R: gl.constexpr):
    """Load the tile's keys and values, and the rows that see any of its keys."""
    q_desc, k_desc, v_desc, grad_desc, lse_desc, dots_desc = descs
    b, g, _, first_key, first, count = place
    BLOCK_T: gl.constexpr = ROWS // R
    for w in gl.static_range(GROUPS):
        shared.k.load(k_desc, [b, first_key + w * ROWS, g, 0], w)
        shared.v.load(v_desc, [b, first_key + w * ROWS, g, 0], w)
    for i in range(count):
        at = [b, first + i * BLOCK_T, g * R]
        shared.q.load_with(q_desc, shared.lse, lse_desc, at, i)
        shared.grad.load_with(grad_desc, shared.dots, dots_desc, at, i)


@gluon.jit
def _numbers(buffers, index, SIZE: gl.constexpr, LAYOUT: gl.constexpr):
    """One number per row of a tile: [ROWS]."""
    flat: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    buffer = buffers.index(index % SIZE)._reinterpret(gl.float32, [ROWS], flat)
    return buffer.load(LAYOUT)


@gluon.jit
def _pass(shared, from_tile, to_tile):
    """Release tiles of rows that see none of this warpgroup's keys."""
    for i in range(from_tile, to_tile):
        shared.q.wait(i)
        shared.q.release(i)
        shared.grad.wait(i)
        shared.grad.release(i)


@gluon.jit
def _step(
    shared, k, v, dk, dv, band, first_key, first, from_tile, to_tile, scale,
    R: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr, WINDOWED: gl.constexpr,
    MASKED: gl.constexpr,
):  # fmt: skip
    """Add tiles of rows to the gradients of keys and values: [ROWS, D] each."""
    offset, keys, window = band
    dtype: gl.constexpr = shared.q.buffers.dtype
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, ROWS, 16])
    LEFT_K: gl.constexpr = gl.DotOperandLayout(0, dk.type.layout, 2)
    LEFT_V: gl.constexpr = gl.DotOperandLayout(0, dv.type.layout, 2)
    COLUMNS: gl.constexpr = gl.SliceLayout(0, LAYOUT)
    SIZE: gl.constexpr = shared.q.SIZE
    for i in range(from_tile, to_tile):
        q = shared.q.wait(i)
        scores = gl.zeros([ROWS, ROWS], gl.float32, LAYOUT)
        scores = warpgroup_mma(k, q.permute((1, 0)), scores, use_acc=False, is_async=True)
        grad = shared.grad.wait(i)
        dprobs = gl.zeros([ROWS, ROWS], gl.float32, LAYOUT)
        dprobs = warpgroup_mma(v, grad.permute((1, 0)), dprobs, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(1, deps=[scores])
        lse = _numbers(shared.lse, i, SIZE, COLUMNS)
        probs = gl.exp2(scores * scale - lse[None, :])
        if MASKED:
            query = first + i * (ROWS // R) + gl.arange(0, ROWS, COLUMNS) // R
            key = first_key + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
            high = (offset + query + 1 - KEY_BLOCK + KEY_STRIDE) // KEY_STRIDE
            seen = key[:, None] < gl.minimum(high, keys)[None, :]
            if WINDOWED:
                seen = seen & (key[:, None] > (offset + query - window)[None, :])
            probs = gl.where(seen, probs, 0.0)
        left = gl.convert_layout(probs.to(dtype), LEFT_V, assert_trivial=True)
        dv = warpgroup_mma(left, grad, dv, is_async=True)
        dprobs = warpgroup_mma_wait(1, deps=[dprobs])
        dscores = probs * (dprobs - _numbers(shared.dots, i, SIZE, COLUMNS)[None, :])
        right = gl.convert_layout(dscores.to(dtype), LEFT_K, assert_trivial=True)
        dk = warpgroup_mma(right, q, dk, is_async=True)
        dv, left = warpgroup_mma_wait(1, deps=[dv, left])
        shared.grad.release(i)
        dk, right = warpgroup_mma_wait(0, deps=[dk, right])
        shared.q.release(i)
    return dk, dv


@gluon.jit
def _consumer(
    shared, band, outputs, place, scales,
    W: gl.constexpr, R: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr,
    WINDOWED: gl.constexpr,
):  # fmt: skip
    """Compute the gradients of the `W`-th 64 keys."""
    dk_ptr, dv_ptr, dk_strides, dv_strides = outputs
    b, g, share, tile_key, first, count = place
    scale, plain_scale = scales
    offset, keys, window = band
    D: gl.constexpr = shared.k.buffers.shape[4]
    DV: gl.constexpr = shared.v.buffers.shape[4]
    BLOCK_T: gl.constexpr = ROWS // R
    K_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    V_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    first_key = tile_key + W * ROWS
    last_key = first_key + ROWS - 1
    # Tiles of rows below `seen` or from `gone` on see none of these keys. Between `whole` and
    # `ragged` every row sees every key.
    position = offset + first
    seen = gl.maximum(first_key * KEY_STRIDE + KEY_BLOCK - 1 - position, 0) // BLOCK_T
    whole = gl.cdiv(gl.maximum(last_key * KEY_STRIDE + KEY_BLOCK - 1 - position, 0), BLOCK_T)
    seen = gl.minimum(seen, count)
    whole = gl.minimum(gl.maximum(whole, seen), count)
    gone = count
    ragged = count
    if WINDOWED:
        gone = gl.cdiv(gl.maximum(last_key + window - position, 0), BLOCK_T)
        gone = gl.maximum(gl.minimum(gone, count), whole)
        ragged = gl.maximum(first_key + window - position, 0) // BLOCK_T
        ragged = gl.maximum(gl.minimum(ragged, gone), whole)
    dk = gl.zeros([ROWS, D], gl.float32, K_LAYOUT)
    dv = gl.zeros([ROWS, DV], gl.float32, V_LAYOUT)
    k = shared.k.wait(W)
    v = shared.v.wait(W)
    _pass(shared, 0, seen)
    dk, dv = _step(
        shared, k, v, dk, dv, band, first_key, first, seen, whole, scale,
        R, KEY_BLOCK, KEY_STRIDE, WINDOWED, True,
    )  # fmt: skip
    dk, dv = _step(
        shared, k, v, dk, dv, band, first_key, first, whole, ragged, scale,
        R, KEY_BLOCK, KEY_STRIDE, WINDOWED, False,
    )  # fmt: skip
    if WINDOWED:
        dk, dv = _step(
            shared, k, v, dk, dv, band, first_key, first, ragged, gone, scale,
            R, KEY_BLOCK, KEY_STRIDE, WINDOWED, True,
        )  # fmt: skip
        _pass(shared, gone, count)
    _store(dk_ptr, dk_strides, dk * plain_scale, b, g, share, first_key, keys)
    _store(dv_ptr, dv_strides, dv, b, g, share, first_key, keys)


@gluon.jit
def _store(ptr, strides, x, b, g, share, first_key, keys):
    """Store a gradient [ROWS, D] of the keys that exist."""
    stride_s, stride_b, stride_g, stride_n = strides
    LAYOUT: gl.constexpr = x.type.layout
    key = first_key + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
    depth = gl.arange(0, x.shape[1], gl.SliceLayout(0, LAYOUT))
    ptr += share.to(gl.int64) * stride_s + b.to(gl.int64) * stride_b + g.to(gl.int64) * stride_g
    at = key.to(gl.int64)[:, None] * stride_n + depth[None, :]
    gl.store(ptr + at, x, mask=(key < keys)[:, None])


@gluon.jit(do_not_specialize=["queries", "offset", "keys", "window", "groups", "pairs"])
def _hopper_keys_kernel(
    q_desc, k_desc, v_desc, grad_desc, lse_desc, dots_desc, dk_ptr, dv_ptr,
    stride_ds, stride_db, stride_dg, stride_dn, stride_es, stride_eb, stride_eg, stride_en,
    queries, offset, keys, window, groups, pairs, scale, plain_scale,
    R: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr, WINDOWED: gl.constexpr,
    SHARES: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    BLOCK_T: gl.constexpr = ROWS // R
    BLOCK_N: gl.constexpr = GROUPS * ROWS
    pair = gl.program_id(0) % pairs
    share = gl.program_id(0) // pairs % SHARES
    tile_key = gl.program_id(0) // pairs // SHARES * BLOCK_N
    b = pair // groups
    g = pair % groups
    # The queries that see any of these keys, split into equal shares of whole tiles.
    first = gl.maximum(tile_key * KEY_STRIDE + KEY_BLOCK - 1 - offset, 0)
    last = queries
    if WINDOWED:
        last = gl.minimum(last, tile_key + BLOCK_N - 1 + window - offset)
    tiles = gl.cdiv(gl.maximum(last - first, 0), BLOCK_T)
    per_share = gl.cdiv(tiles, SHARES)
    first += share * per_share * BLOCK_T
    count = gl.minimum(gl.maximum(tiles - share * per_share, 0), per_share)

    shared = Shared(
        new_ring(k_desc, GROUPS, 1), new_ring(v_desc, GROUPS, 1),
        new_ring(q_desc, STAGES, GROUPS), new_ring(grad_desc, STAGES, GROUPS),
        new_buffers(lse_desc, STAGES), new_buffers(dots_desc, STAGES),
    )  # fmt: skip
    descs = (q_desc, k_desc, v_desc, grad_desc, lse_desc, dots_desc)
    outputs = (
        dk_ptr, dv_ptr,
        (stride_ds, stride_db, stride_dg, stride_dn), (stride_es, stride_eb, stride_eg, stride_en),
    )  # fmt: skip
    band = (offset, keys, window)
    place = (b, g, share, tile_key, first, count)
    scales = (scale, plain_scale)
    gl.warp_specialize(
        [
            (
                _consumer,
                (shared, band, outputs, place, scales, 0, R, KEY_BLOCK, KEY_STRIDE, WINDOWED),
            ),
            (
                _consumer,
                (shared, band, outputs, place, scales, 1, R, KEY_BLOCK, KEY_STRIDE, WINDOWED),
            ),
            (_producer, (shared, descs, place, R)),
        ],
        [4, 1],
        [240, 24],
    )


def launch_keys_backward(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dk: Tensor,
    dv: Tensor,
) -> None:
    """Write the gradients of keys and values.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv).
        grad: The gradient of the output.
        dk: (shares, B, G, J, D), fp32, written.
        dv: (shares, B, G, J, Dv), fp32, written.
    """
    keys, _ = band_keys(problem, band)
    repeat, rows = problem.repeat, ROWS.value
    queries = rows // repeat
    pairs = problem.groups * problem.batch
    shares = dk.shape[0]
    grid = (triton.cdiv(keys, GROUPS.value * rows) * shares * pairs,)
    _hopper_keys_kernel[grid](
        tiles_of(q, queries, repeat), tiles_of(k, rows, 1), tiles_of(v, rows, 1),
        tiles_of(grad.out, queries, repeat),
        numbers_of(grad.lse, queries, repeat), numbers_of(grad.dots, queries, repeat),
        dk, dv, *dk.stride()[:4], *dv.stride()[:4],
        problem.queries, problem.offset, keys, band.window or 0, problem.groups, pairs,
        problem.scale, problem.plain_scale,
        R=repeat,
        KEY_BLOCK=band.key_block,
        KEY_STRIDE=band.key_stride,
        WINDOWED=band.window is not None,
        SHARES=shares,
        STAGES=_STAGES,
        num_warps=4,
        maxnreg=168,
    )  # fmt: skip
