"""All gradients of a band by one kernel, warp-specialized; see `banded_joint.py`.

A program processes a tile of keys. Each of two warpgroups holds 64 keys and the gradients of keys
and values in registers, as in `keys_backward.py`. They write the gradients of the scores into
shared memory, where a third warpgroup multiplies them by the keys and adds the result to the
gradient of the queries. One more warp loads queries and output gradients.

The third warpgroup adds a tile of rows when the next tile of keys, and so all later ones, have. It
announces its own additions steps later, when they have long arrived, so that it does not wait.

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
    `later`-th on. `KEY_BLOCK`, `KEY_STRIDE` and `WINDOWED` are the band's, `R` the heads of a group.
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
    def span(self, W: gl.constexpr):
        """Tiles of rows that see any of a warpgroup's keys: from, and up to.

        First come tiles that see keys of the first warpgroup alone, then of both, then of the
        second alone.
        """
        BLOCK_T: gl.constexpr = ROWS // self.R
        position = self.offset + self.first * BLOCK_T
        gone = self.count
        if self.WINDOWED:
            after = self.first_key + ROWS - 1 + self.window
            gone = gl.minimum(gl.cdiv(gl.maximum(after - position, 0), BLOCK_T), gone)
        seen = (self.first_key + ROWS) * self.KEY_STRIDE + self.KEY_BLOCK - 1
        seen = gl.minimum(gl.maximum(seen - position, 0) // BLOCK_T, gone)
        if W == 0:
            return seen * 0, gone
        return seen, self.count

    @gluon.jit
    def inside(self, W: gl.constexpr):
        """Tiles of rows that see all keys of a warpgroup: from, and up to."""
        BLOCK_T: gl.constexpr = ROWS // self.R
        seen, gone = self.span(W)
        first_key = self.first_key + W * ROWS
        position = self.offset + self.first * BLOCK_T
        last_key = (first_key + ROWS - 1) * self.KEY_STRIDE + self.KEY_BLOCK - 1
        whole = gl.cdiv(gl.maximum(last_key - position, 0), BLOCK_T)
        whole = gl.minimum(gl.maximum(whole, seen), gone)
        ragged = gone
        if self.WINDOWED:
            ragged = gl.maximum(first_key + self.window - position, 0) // BLOCK_T
            ragged = gl.maximum(gl.minimum(ragged, gone), whole)
        return whole, ragged


@gluon.jit
def _producer(task, shared, descs):
    """Load the tile's keys and values, and the rows that see any of its keys."""
    BLOCK_T: gl.constexpr = ROWS // task.R
    place = (task.b, task.g, task.first_key, task.first * BLOCK_T, task.count)
    load_tiles(shared, descs, place, task.R)


@gluon.jit
def _pass(shared, slopes, from_tile, to_tile):
    """Release tiles of rows that see none of this warpgroup's keys."""
    for i in range(from_tile, to_tile):
        slot = i % _SLOTS
        shared.q.wait(i)
        shared.q.release(i)
        shared.grad.wait(i)
        shared.grad.release(i)
        mbarrier.wait(slopes.free.index(slot), (i // _SLOTS & 1) ^ 1)
        mbarrier.arrive(slopes.full.index(slot), count=1)
        mbarrier.arrive(slopes.free.index(slot), count=1)


@gluon.jit
def _step(
    task, shared, slopes, k, v, dk, dv, from_tile, to_tile, scale,
    W: gl.constexpr, MASKED: gl.constexpr,
):  # fmt: skip
    """Add tiles of rows to the gradients of keys and values: [ROWS, D] each."""
    dtype: gl.constexpr = shared.q.buffers.dtype
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, ROWS, 16])
    LEFT_V: gl.constexpr = gl.DotOperandLayout(0, dv.type.layout, 2)
    COLUMNS: gl.constexpr = gl.SliceLayout(0, LAYOUT)
    SIZE: gl.constexpr = shared.q.SIZE
    for i in range(from_tile, to_tile):
        q = shared.q.wait(i)
        grad = shared.grad.wait(i)
        scores = gl.zeros([ROWS, ROWS], gl.float32, LAYOUT)
        scores = warpgroup_mma(k, q.permute((1, 0)), scores, use_acc=False, is_async=True)
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
        dprobs = warpgroup_mma_wait(0, deps=[dprobs])
        dots = numbers(shared.dots, i, SIZE, COLUMNS)
        dscores = (probs * (dprobs - dots[None, :])).to(dtype)
        left = gl.convert_layout(probs.to(dtype), LEFT_V, assert_trivial=True)
        dv = warpgroup_mma(left, grad, dv, is_async=True)
        # The third warpgroup reads them from shared memory, too.
        slot = i % _SLOTS
        mbarrier.wait(slopes.free.index(slot), (i // _SLOTS & 1) ^ 1)
        slopes.buffers.index(slot * GROUPS + W).store(dscores)
        fence_async_shared()
        gl.thread_barrier()
        mbarrier.arrive(slopes.full.index(slot), count=1)
        dk = warpgroup_mma(slopes.buffers.index(slot * GROUPS + W), q, dk, is_async=True)
        dv, left = warpgroup_mma_wait(1, deps=[dv, left])
        shared.grad.release(i)
        dk = warpgroup_mma_wait(0, deps=[dk])
        shared.q.release(i)
        mbarrier.arrive(slopes.free.index(slot), count=1)
    return dk, dv


@gluon.jit
def _consumer(task, shared, slopes, outputs, scales, W: gl.constexpr):
    """Compute the gradients of the `W`-th 64 keys."""
    _, _, dk_ptr, dv_ptr, _, dk_strides, dv_strides = outputs
    scale, plain_scale = scales
    D: gl.constexpr = shared.k.buffers.shape[4]
    DV: gl.constexpr = shared.v.buffers.shape[4]
    K_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    V_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    seen, gone = task.span(W)
    whole, ragged = task.inside(W)
    dk = gl.zeros([ROWS, D], gl.float32, K_LAYOUT)
    dv = gl.zeros([ROWS, DV], gl.float32, V_LAYOUT)
    k = shared.k.wait(W)
    v = shared.v.wait(W)
    if W == 1:
        _pass(shared, slopes, 0, seen)
    dk, dv = _step(task, shared, slopes, k, v, dk, dv, seen, whole, scale, W, True)
    dk, dv = _step(task, shared, slopes, k, v, dk, dv, whole, ragged, scale, W, False)
    if task.WINDOWED:
        dk, dv = _step(task, shared, slopes, k, v, dk, dv, ragged, gone, scale, W, True)
        if W == 0:
            _pass(shared, slopes, gone, task.count)
    first_key = task.first_key + W * ROWS
    place = (task.b, task.g, task.part, first_key, task.keys)
    store_keys(dk_ptr, dk_strides, dk * plain_scale, place)
    store_keys(dv_ptr, dv_strides, dv, place)


@gluon.jit
def _add(
    task, slopes, k_0, k_1, ptr, step, turns, from_tile, to_tile, scale,
    FIRST: gl.constexpr, SECOND: gl.constexpr, ORDERED: gl.constexpr,
):  # fmt: skip
    """Add tiles of rows, to which the first, the second or both warpgroups contribute."""
    turn_ptr, later_ptr, known, announced = turns
    LAYOUT: gl.constexpr = ptr.type.layout
    WIDTH: gl.constexpr = ptr.shape[1]
    HALVES: gl.constexpr = k_0.shape[1] // WIDTH
    for i in range(from_tile, to_tile):
        slot = i % _SLOTS
        mbarrier.wait(slopes.full.index(slot), i // _SLOTS & 1)
        left_0 = slopes.buffers.index(slot * GROUPS).permute((1, 0))
        left_1 = slopes.buffers.index(slot * GROUPS + 1).permute((1, 0))
        rows = ptr + i.to(gl.int64) * step
        for half in gl.static_range(HALVES):
            acc = gl.zeros([ROWS, WIDTH], gl.float32, LAYOUT)
            if FIRST:
                right = k_0.slice(half * WIDTH, WIDTH, dim=1)
                acc = warpgroup_mma(left_0, right, acc, use_acc=False, is_async=True)
            if SECOND:
                right = k_1.slice(half * WIDTH, WIDTH, dim=1)
                acc = warpgroup_mma(left_1, right, acc, use_acc=FIRST, is_async=True)
            if ORDERED and half == 0:
                while known < i - task.later + 1:
                    known = gl.atomic_add(later_ptr, 0, sem="acquire")
            acc = warpgroup_mma_wait(0, deps=[acc])
            if half == HALVES - 1:
                mbarrier.arrive(slopes.free.index(slot), count=1)
            if ORDERED and half == 0:
                if i % EVERY == 0:
                    # The additions of earlier steps have arrived by now.
                    gl.thread_barrier()
                    gl.atomic_add(turn_ptr, i - announced, sem="release")
                    announced = i
            gl.atomic_add(rows + half * WIDTH, acc * scale, sem="relaxed")
    return turn_ptr, later_ptr, known, announced


@gluon.jit
def _adder(task, shared, slopes, outputs, scales, HALVES: gl.constexpr, ORDERED: gl.constexpr):
    """Add the products of the scores' gradients and the keys to the gradient of the queries."""
    dq_ptr, turns_ptr, _, _, dq_strides, _, _ = outputs
    stride_qb, stride_qh, stride_qt, pairs = dq_strides
    R: gl.constexpr = task.R
    WIDTH: gl.constexpr = shared.k.buffers.shape[4] // HALVES
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    row = gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
    depth = gl.arange(0, WIDTH, gl.SliceLayout(0, LAYOUT))
    ptr = dq_ptr + task.b.to(gl.int64) * stride_qb + (task.g * R).to(gl.int64) * stride_qh
    ptr += (task.first * (ROWS // R)).to(gl.int64) * stride_qt
    # Offsets of 64 bits let the compiler use one address for all columns of a row.
    at = (row % R).to(gl.int64) * stride_qh + (row // R).to(gl.int64) * stride_qt
    ptr = ptr + at[:, None] + depth.to(gl.int64)[None, :]
    step = (ROWS // R) * stride_qt.to(gl.int64)
    scale = scales[1]
    turn_ptr = turns_ptr + gl.program_id(0)
    turns = (turn_ptr, turn_ptr - pairs, task.count * 0, task.count * 0)
    k_0 = shared.k.wait(0)
    k_1 = shared.k.wait(1)
    both, _ = task.span(1)
    _, alone = task.span(0)
    turns = _add(
        task, slopes, k_0, k_1, ptr, step, turns, 0, both, scale, True, False, ORDERED
    )  # fmt: skip
    turns = _add(
        task, slopes, k_0, k_1, ptr, step, turns, both, alone, scale, True, True, ORDERED
    )  # fmt: skip
    if task.WINDOWED:
        turns = _add(
            task, slopes, k_0, k_1, ptr, step, turns, alone, task.count, scale,
            False, True, ORDERED,
        )  # fmt: skip
    if ORDERED:
        gl.thread_barrier()
        gl.atomic_add(turn_ptr, task.count - turns[3], sem="release")


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
    STAGES: gl.constexpr, HALVES: gl.constexpr, ORDERED: gl.constexpr,
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
        new_barriers(_SLOTS, GROUPS), new_barriers(_SLOTS, GROUPS + 1), _SLOTS,
    )  # fmt: skip
    descs = (q_desc, k_desc, v_desc, grad_desc, lse_desc, dots_desc)
    outputs = (
        dq_ptr, turns_ptr, dk_ptr, dv_ptr, (stride_qb, stride_qh, stride_qt, pairs),
        (stride_ds, stride_db, stride_dg, stride_dn), (stride_es, stride_eb, stride_eg, stride_en),
    )  # fmt: skip
    scales = (scale, plain_scale)
    gl.warp_specialize(
        [
            (_consumer, (task, shared, slopes, outputs, scales, 0)),
            (_consumer, (task, shared, slopes, outputs, scales, 1)),
            (_adder, (task, shared, slopes, outputs, scales, HALVES, ORDERED)),
            (_producer, (task, shared, descs)),
        ],
        [4, 4, 1],
        [208, 72, 24],
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
    _hopper_joint_kernel[grid](
        tiles_of(q, queries, repeat), tiles_of(k, rows, 1), tiles_of(v, rows, 1),
        tiles_of(grad.out, queries, repeat),
        numbers_of(grad.lse, queries, repeat), numbers_of(grad.dots, queries, repeat),
        dq, dk, dv, torch.zeros(grid, dtype=torch.int32, device=dq.device), *dq.stride()[:3],
        *dk.stride()[:4], *dv.stride()[:4],
        problem.queries, problem.offset, keys, band.window or 0, problem.groups, pairs, per_range,
        problem.scale, problem.plain_scale,
        R=repeat,
        KEY_BLOCK=band.key_block,
        KEY_STRIDE=band.key_stride,
        WINDOWED=band.window is not None,
        STAGES=_STAGES,
        HALVES=2,
        ORDERED=ordered,
        num_warps=4,
        maxnreg=128,
    )  # fmt: skip
