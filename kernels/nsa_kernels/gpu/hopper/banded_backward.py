"""All gradients of a band by one kernel, warp-specialized; see `banded_joint.py`.

A program processes a tile of keys. Each of two warpgroups holds 64 keys and the gradients of keys
and values in registers, as in `keys_backward.py`. They exchange the gradients of the scores through
shared memory. Each multiplies them by half of the columns of all 128 keys, one step later, so that
neither waits for the other, and adds the result to the gradient of the queries. One warp loads
queries and output gradients.

A warpgroup adds a tile of rows when the next tile of keys, and so all later ones, have. It
announces its own additions steps later, when they have long arrived.

Letters: see `layout.py`; W a warpgroup, R heads of a group, J keys of this band.

Source: Shah et al. 2024, "FlashAttention-3", arXiv 2407.08608.
"""

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate

from nsa_kernels.gpu.bands import Band, OutputGradient, band_keys
from nsa_kernels.gpu.hopper.keys_backward import Shared, load_tiles, numbers, store_keys
from nsa_kernels.gpu.hopper.pipeline import (
    ROWS,
    Ring,
    matrix,
    new_barriers,
    new_buffers,
    new_ring,
    numbers_of,
    tiles_of,
)
from nsa_kernels.gpu.layout import Problem

GROUPS = gl.constexpr(2)
"""Warpgroups that hold keys."""

_STAGES = 3
"""Tiles of queries, and of output gradients, in shared memory."""

EVERY = gl.constexpr(2)
"""Tiles of rows from one announcement of additions to the next."""

_SLOTS = gl.constexpr(2)
"""Tiles of gradients of the scores in shared memory, of each warpgroup."""


@aggregate
class Task:
    """What a program does: a tile of keys and the tiles of rows that see any of them.

    `first` is the first of `count` tiles of rows; the next tile of keys sees those from the
    `later`-th on. `KEY_BLOCK`, `KEY_STRIDE` and `WINDOWED` are the band's. `R` counts the heads of
    a group.
    """

    queries: gl.tensor
    offset: gl.tensor
    keys: gl.tensor
    window: gl.tensor
    b: gl.tensor
    g: gl.tensor
    part: gl.tensor
    first_key: gl.tensor
    first: gl.tensor
    count: gl.tensor
    later: gl.tensor
    R: gl.constexpr
    KEY_BLOCK: gl.constexpr
    KEY_STRIDE: gl.constexpr
    WINDOWED: gl.constexpr

    @gluon.constexpr_function
    def __init__(
        self, queries, offset, keys, window, b, g, part, first_key, first, count, later,
        R, KEY_BLOCK, KEY_STRIDE, WINDOWED,
    ):  # fmt: skip
        self.queries = queries
        self.offset = offset
        self.keys = keys
        self.window = window
        self.b = b
        self.g = g
        self.part = part
        self.first_key = first_key
        self.first = first
        self.count = count
        self.later = later
        self.R = gl.constexpr(R)
        self.KEY_BLOCK = gl.constexpr(KEY_BLOCK)
        self.KEY_STRIDE = gl.constexpr(KEY_STRIDE)
        self.WINDOWED = gl.constexpr(WINDOWED)

    @gluon.jit
    def high(self, query):
        """One past the last key that a query sees."""
        seen = self.offset + query + 1 - self.KEY_BLOCK + self.KEY_STRIDE
        return gl.minimum(gl.maximum(seen, 0) // self.KEY_STRIDE, self.keys)

    @gluon.jit
    def inside(self, W: gl.constexpr):
        """Tiles of rows that see all keys of a warpgroup: from, and up to."""
        BLOCK_T: gl.constexpr = ROWS // self.R
        first_key = self.first_key + W * ROWS
        position = self.offset + self.first * BLOCK_T
        last_key = (first_key + ROWS - 1) * self.KEY_STRIDE + self.KEY_BLOCK - 1
        whole = gl.minimum(gl.cdiv(gl.maximum(last_key - position, 0), BLOCK_T), self.count)
        ragged = self.count
        if self.WINDOWED:
            ragged = gl.maximum(first_key + self.window - position, 0) // BLOCK_T
            ragged = gl.maximum(gl.minimum(ragged, self.count), whole)
        return whole, ragged


@gluon.jit
def _producer(task, shared, descs):
    """Load the tile's keys and values, and the rows that see any of its keys."""
    BLOCK_T: gl.constexpr = ROWS // task.R
    place = (task.b, task.g, task.first_key, task.first * BLOCK_T, task.count)
    load_tiles(shared, descs, place, task.R)


@gluon.jit
def _send(slopes, use, value, W: gl.constexpr):
    """Write gradients of scores, the `use`-th, for both warpgroups."""
    slot = use % _SLOTS
    mbarrier.wait(slopes.free.index(slot), (use // _SLOTS & 1) ^ 1)
    slopes.buffers.index(slot * GROUPS + W).store(value)
    fence_async_shared()
    gl.thread_barrier()
    mbarrier.arrive(slopes.full.index(slot), count=1)


@gluon.jit
def _multiply(shared, slopes, use, W: gl.constexpr):
    """Start the product of the `use`-th gradients of scores and a half of the keys' columns."""
    WIDTH: gl.constexpr = shared.k.buffers.shape[4] // GROUPS
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    slot = use % _SLOTS
    mbarrier.wait(slopes.full.index(slot), use // _SLOTS & 1)
    acc = gl.zeros([ROWS, WIDTH], gl.float32, LAYOUT)
    for w in gl.static_range(GROUPS):
        left = slopes.buffers.index(slot * GROUPS + w).permute((1, 0))
        right = matrix(shared.k.buffers.index(w)).slice(W * WIDTH, WIDTH, dim=1)
        acc = warpgroup_mma(left, right, acc, use_acc=w > 0, is_async=True)
    return acc


@gluon.jit
def _add(task, acc, ptr, step, turns, i, scale, ORDERED: gl.constexpr):
    """Add the product of the `i`-th tile of rows in its turn."""
    turn_ptr, later_ptr, known, announced = turns
    if ORDERED:
        while known < i - task.later + 1:
            known = gl.atomic_add(later_ptr, 0, sem="acquire")
        if i % EVERY == 0:
            # The additions of earlier steps have arrived by now.
            gl.thread_barrier()
            gl.atomic_add(turn_ptr, i - announced, sem="release")
            announced = i
    gl.atomic_add(ptr + i.to(gl.int64) * step, acc * scale, sem="relaxed")
    return turn_ptr, later_ptr, known, announced


@gluon.jit
def _step(
    task, shared, slopes, k, v, dk, dv, ptr, step, turns, from_tile, to_tile, scales,
    W: gl.constexpr, MASKED: gl.constexpr, ORDERED: gl.constexpr,
):  # fmt: skip
    """Add tiles of rows to the gradients of keys and values: [ROWS, D] each.

    The tile of rows before each is added to the gradient of the queries.
    """
    scale, plain_scale = scales
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
        lse = numbers(shared.lse, i, SIZE, COLUMNS)
        probs = gl.exp2(scores * scale - lse[None, :])
        if MASKED:
            query = (task.first + i) * (ROWS // task.R) + gl.arange(0, ROWS, COLUMNS) // task.R
            key = task.first_key + W * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
            seen = key[:, None] < task.high(query)[None, :]
            if task.WINDOWED:
                seen = seen & (key[:, None] > (task.offset + query - task.window)[None, :])
            probs = gl.where(seen, probs, 0.0)
        left = gl.convert_layout(probs.to(dtype), LEFT_V, assert_trivial=True)
        dv = warpgroup_mma(left, grad, dv, is_async=True)
        dprobs = warpgroup_mma_wait(1, deps=[dprobs])
        dots = numbers(shared.dots, i, SIZE, COLUMNS)
        dscores = (probs * (dprobs - dots[None, :])).to(dtype)
        right = gl.convert_layout(dscores, LEFT_K, assert_trivial=True)
        dk = warpgroup_mma(right, q, dk, is_async=True)
        _send(slopes, i + 1, dscores, W)
        acc = _multiply(shared, slopes, i, W)
        # Two products of the queries' gradient are under way, too.
        dv, left = warpgroup_mma_wait(3, deps=[dv, left])
        shared.grad.release(i)
        dk, right = warpgroup_mma_wait(2, deps=[dk, right])
        shared.q.release(i)
        acc = warpgroup_mma_wait(0, deps=[acc])
        mbarrier.arrive(slopes.free.index(i % _SLOTS), count=1)
        # The first step adds zeros.
        turns = _add(task, acc, ptr, step, turns, gl.maximum(i - 1, 0), plain_scale, ORDERED)
    return dk, dv, turns


@gluon.jit
def _rows(task, outputs, W: gl.constexpr, D: gl.constexpr):
    """Where a warpgroup's half of the first tile of rows is, and the step to the next tile."""
    dq_ptr, _, _, _, dq_strides, _, _ = outputs
    stride_qb, stride_qh, stride_qt, _ = dq_strides
    R: gl.constexpr = task.R
    WIDTH: gl.constexpr = D // GROUPS
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    row = gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
    depth = W * WIDTH + gl.arange(0, WIDTH, gl.SliceLayout(0, LAYOUT))
    ptr = dq_ptr + task.b.to(gl.int64) * stride_qb + (task.g * R).to(gl.int64) * stride_qh
    ptr += (task.first * (ROWS // R)).to(gl.int64) * stride_qt
    # Offsets of 64 bits let the compiler use one address for all columns of a row.
    at = (row % R).to(gl.int64) * stride_qh + (row // R).to(gl.int64) * stride_qt
    return ptr + at[:, None] + depth.to(gl.int64)[None, :], (ROWS // R) * stride_qt.to(gl.int64)


@gluon.jit
def _consumer(task, shared, slopes, outputs, scales, W: gl.constexpr, ORDERED: gl.constexpr):
    """Compute the gradients of the `W`-th 64 keys, and the `W`-th half of the queries' columns."""
    _, turns_ptr, dk_ptr, dv_ptr, dq_strides, dk_strides, dv_strides = outputs
    _, plain_scale = scales
    pairs = dq_strides[3]
    dtype: gl.constexpr = shared.q.buffers.dtype
    D: gl.constexpr = shared.k.buffers.shape[4]
    DV: gl.constexpr = shared.v.buffers.shape[4]
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, ROWS, 16])
    K_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    V_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    ptr, step = _rows(task, outputs, W, D)
    turn_ptr = turns_ptr + gl.program_id(0) * GROUPS + W
    turns = (turn_ptr, turn_ptr - pairs * GROUPS, task.count * 0, task.count * 0)
    whole, ragged = task.inside(W)
    dk = gl.zeros([ROWS, D], gl.float32, K_LAYOUT)
    dv = gl.zeros([ROWS, DV], gl.float32, V_LAYOUT)
    _send(slopes, 0, gl.zeros([ROWS, ROWS], dtype, LAYOUT), W)
    for w in gl.static_range(GROUPS):
        shared.k.wait(w)
    k = matrix(shared.k.buffers.index(W))
    v = shared.v.wait(W)
    dk, dv, turns = _step(
        task, shared, slopes, k, v, dk, dv, ptr, step, turns, 0, whole, scales, W, True, ORDERED
    )  # fmt: skip
    dk, dv, turns = _step(
        task, shared, slopes, k, v, dk, dv, ptr, step, turns, whole, ragged, scales,
        W, False, ORDERED,
    )  # fmt: skip
    if task.WINDOWED:
        dk, dv, turns = _step(
            task, shared, slopes, k, v, dk, dv, ptr, step, turns, ragged, task.count, scales,
            W, True, ORDERED,
        )  # fmt: skip
    for i in range(gl.maximum(task.count - 1, 0), task.count):
        acc = warpgroup_mma_wait(0, deps=[_multiply(shared, slopes, i + 1, W)])
        turns = _add(task, acc, ptr, step, turns, i, plain_scale, ORDERED)
    if ORDERED:
        gl.thread_barrier()
        gl.atomic_add(turn_ptr, task.count - turns[3], sem="release")
    first_key = task.first_key + W * ROWS
    place = (task.b, task.g, task.part, first_key, task.keys)
    store_keys(dk_ptr, dk_strides, dk * plain_scale, place)
    store_keys(dv_ptr, dv_strides, dv, place)


@gluon.jit
def _first_tile(key, offset, begin, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr,
                BLOCK_T: gl.constexpr):  # fmt: skip
    """The first tile of rows, not before a query `begin`, that sees a key."""
    seen = key * KEY_STRIDE + KEY_BLOCK - 1 - offset
    return gl.maximum(seen, begin) // BLOCK_T


@gluon.jit(do_not_specialize=["queries", "offset", "keys", "window", "groups", "pairs", "span"])
def _hopper_joint_kernel(
    q_desc, k_desc, v_desc, grad_desc, lse_desc, dots_desc, dq_ptr, dk_ptr, dv_ptr, turns_ptr,
    stride_qb, stride_qh, stride_qt,
    stride_ds, stride_db, stride_dg, stride_dn, stride_es, stride_eb, stride_eg, stride_en,
    queries, offset, keys, window, groups, pairs, span, scale, plain_scale,
    R: gl.constexpr, KEY_BLOCK: gl.constexpr, KEY_STRIDE: gl.constexpr, WINDOWED: gl.constexpr,
    STAGES: gl.constexpr, ORDERED: gl.constexpr,
):  # fmt: skip
    BLOCK_T: gl.constexpr = ROWS // R
    BLOCK_N: gl.constexpr = GROUPS * ROWS
    # The program of the next tile of keys, for the same range, is the one `pairs` before.
    tiles = gl.cdiv(keys, BLOCK_N)
    pair = gl.program_id(0) % pairs
    tile = tiles - 1 - gl.program_id(0) // pairs % tiles
    part = gl.num_programs(0) // (pairs * tiles) - 1 - gl.program_id(0) // pairs // tiles
    first_key = tile * BLOCK_N
    begin = part * span
    first = _first_tile(first_key, offset, begin, KEY_BLOCK, KEY_STRIDE, BLOCK_T)
    later = _first_tile(first_key + BLOCK_N, offset, begin, KEY_BLOCK, KEY_STRIDE, BLOCK_T)
    last = gl.minimum(queries, begin + span)
    if WINDOWED:
        last = gl.minimum(last, first_key + BLOCK_N - 1 + window - offset)
    count = gl.maximum(gl.cdiv(last, BLOCK_T) - first, 0)
    later = gl.where(tile == tiles - 1, count, later - first)
    task = Task(
        queries, offset, keys, window, pair // groups, pair % groups, part, first_key, first, count,
        later, R, KEY_BLOCK, KEY_STRIDE, WINDOWED,
    )  # fmt: skip

    shared = Shared(
        new_ring(k_desc, GROUPS, 1), new_ring(v_desc, GROUPS, 1),
        new_ring(q_desc, STAGES, GROUPS), new_ring(grad_desc, STAGES, GROUPS),
        new_buffers(lse_desc, STAGES), new_buffers(dots_desc, STAGES),
    )  # fmt: skip
    layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([ROWS, ROWS], q_desc.dtype)
    shape: gl.constexpr = [_SLOTS * GROUPS, ROWS, ROWS]
    slopes = Ring(
        gl.allocate_shared_memory(q_desc.dtype, shape, layout),
        new_barriers(_SLOTS, GROUPS), new_barriers(_SLOTS, GROUPS), _SLOTS,
    )  # fmt: skip
    descs = (q_desc, k_desc, v_desc, grad_desc, lse_desc, dots_desc)
    outputs = (
        dq_ptr, turns_ptr, dk_ptr, dv_ptr, (stride_qb, stride_qh, stride_qt, pairs),
        (stride_ds, stride_db, stride_dg, stride_dn), (stride_es, stride_eb, stride_eg, stride_en),
    )  # fmt: skip
    scales = (scale, plain_scale)
    gl.warp_specialize(
        [
            (_consumer, (task, shared, slopes, outputs, scales, 0, ORDERED)),
            (_consumer, (task, shared, slopes, outputs, scales, 1, ORDERED)),
            (_producer, (task, shared, descs)),
        ],
        [4, 1],
        [240, 24],
    )


def launch_banded_backward(
    problem: Problem,
    band: Band,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    *,
    ordered: bool,
    per_range: int,
) -> None:
    """Add to the gradient of the queries, and write the gradients of keys and values.

    Args:
        problem: The sizes.
        band: Which keys each query sees.
        q: (B, H, T, D).
        k: (B, G, J, D).
        v: (B, G, J, Dv).
        grad: The gradient of the output.
        dq: (B, H, T, D), fp32, added to.
        dk: (ranges, B, G, J, D), fp32, written.
        dv: (ranges, B, G, J, Dv), fp32, written.
        ordered: Whether to add in a fixed order.
        per_range: Queries of a range.
    """
    keys, _ = band_keys(problem, band)
    repeat, rows = problem.repeat, ROWS.value
    queries = rows // repeat
    pairs = problem.groups * problem.batch
    grid = (triton.cdiv(keys, GROUPS.value * rows) * dk.shape[0] * pairs,)
    turns = torch.zeros(grid[0] * GROUPS.value, dtype=torch.int32, device=dq.device)
    _hopper_joint_kernel[grid](
        tiles_of(q, queries, repeat), tiles_of(k, rows, 1), tiles_of(v, rows, 1),
        tiles_of(grad.out, queries, repeat),
        numbers_of(grad.lse, queries, repeat), numbers_of(grad.dots, queries, repeat),
        dq, dk, dv, turns, *dq.stride()[:3],
        *dk.stride()[:4], *dv.stride()[:4],
        problem.queries, problem.offset, keys, band.window or 0, problem.groups, pairs, per_range,
        problem.scale, problem.plain_scale,
        R=repeat,
        KEY_BLOCK=band.key_block,
        KEY_STRIDE=band.key_stride,
        WINDOWED=band.window is not None,
        STAGES=_STAGES,
        ORDERED=ordered,
        num_warps=4,
        maxnreg=168,
    )  # fmt: skip
