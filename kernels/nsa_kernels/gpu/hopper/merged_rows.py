"""Gradient of the queries of attention to merged lists, warp-specialized; see `merged.py`.

One program per multiprocessor takes tiles of queries. One warp loads their queries, gradients and
the union of their blocks. Three warpgroups of 64 rows each compute, and each skips the blocks that
none of its queries selected.

Letters: see `layout.py`; W a warpgroup, R heads of a group, E queries of a warpgroup.

Source: Yuan et al. 2025, eqs. 11 and 12; Dao 2023, "FlashAttention-2", arXiv 2307.08691.
"""

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
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.core import _aggregate as aggregate

from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.hopper.lists import BLOCK_BITS, QUERY_BITS, ROW, warpgroup_lists
from nsa_kernels.gpu.hopper.merged import find_tile, list_number, skip_blocks
from nsa_kernels.gpu.hopper.pipeline import (
    ROWS,
    Ring,
    matrix,
    new_ring,
    plain_layout,
    processors,
    rows_of,
    tiles_of,
)
from nsa_kernels.gpu.hopper.support import pad_heads
from nsa_kernels.gpu.layout import Problem, number_strides

GROUPS = gl.constexpr(3)
"""Warpgroups that compute."""

_STAGES = 2
"""Blocks of keys, and of values, in shared memory."""

_LISTS = 3
"""Lists in shared memory."""


@aggregate
class Shared:
    """Rings that all warps of a program use.

    Queries, gradients and outputs have one buffer per warpgroup. The rows that an output is added
    to are loaded into the output's buffer.
    """

    q: Ring
    grad: Ring
    k: Ring
    v: Ring
    lists: Ring
    out: Ring

    @gluon.constexpr_function
    def __init__(self, q, grad, k, v, lists, out):
        self.q = q
        self.grad = grad
        self.k = k
        self.v = v
        self.lists = lists
        self.out = out


@gluon.jit
def _producer(
    shared, q_desc, grad_desc, k_desc, v_desc, list_desc, out_desc, sizes,
    HEADS: gl.constexpr, ROOM: gl.constexpr,
):  # fmt: skip
    """Load the list, queries and blocks of every tile, and the rows its output is added to."""
    tiles, total_tiles, groups, _, _ = sizes
    W_QUERIES: gl.constexpr = ROWS // HEADS
    BLOCK_N: gl.constexpr = k_desc.block_type.shape[1]
    LINES: gl.constexpr = list_desc.block_type.shape[0]
    lists = shared.lists
    done = 0
    turn = 0
    lists.load(list_desc, [gl.program_id(0) * LINES, 0], 0)
    for index in range(gl.program_id(0), total_tiles, gl.num_programs(0)):
        b, g, tile = find_tile(index, tiles, groups)
        first = tile * (GROUPS * W_QUERIES)
        # The next list is loaded ahead. Past the end, the engine loads zeros.
        lists.load(list_desc, [(index + gl.num_programs(0)) * LINES, 0], turn + 1)
        mbarrier.wait(lists.full.index(turn % lists.SIZE), turn // lists.SIZE & 1)
        buffer = lists.buffers.index(turn % lists.SIZE)
        count = list_number(buffer, 2 * GROUPS * ROOM, 1)
        # Load the first keys before waiting for the queries' buffer, which is freed later.
        key = list_number(buffer, 0, 1) * BLOCK_N
        shared.k.load(k_desc, [b, key, g, 0], done)
        shared.v.load(v_desc, [b, key, g, 0], done)
        shared.q.load_each(q_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        shared.grad.load_each(grad_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        done += 1
        for i in range(1, count):
            key = list_number(buffer, i, 1) * BLOCK_N
            shared.k.load(k_desc, [b, key, g, 0], done)
            shared.v.load(v_desc, [b, key, g, 0], done)
            done += 1
        shared.out.load_each(out_desc, b, g, first, W_QUERIES, turn & 1, False)
        turn += 1
    # Wait for the list past the end: the program must not end during a load.
    mbarrier.wait(lists.full.index(turn % lists.SIZE), turn // lists.SIZE & 1)


@gluon.jit
def _attend(
    q, grad, shared, buffer, dq, sums, lse, dots, begin, done, from_entry, to_entry, position,
    member, scale, FIRST: gl.constexpr, MASKED: gl.constexpr,
):  # fmt: skip
    """Add entries of this warpgroup's list to the gradient."""
    O_LAYOUT: gl.constexpr = dq.type.layout
    S_LAYOUT: gl.constexpr = lse.type.layout.parent
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    dtype: gl.constexpr = shared.k.buffers.dtype
    for i in range(from_entry, to_entry):
        entry = list_number(buffer, FIRST + i, 4)
        place = begin + ((entry >> (BLOCK_BITS + QUERY_BITS)) & 511)
        skip_blocks(shared, done, place)
        done = place
        chosen = ((entry >> (BLOCK_BITS + member)) & 1) != 0
        k = shared.k.wait(done)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        v = shared.v.wait(done)
        dprobs = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        dprobs = warpgroup_mma(grad, v.permute((1, 0)), dprobs, use_acc=False, is_async=True)
        scores, dprobs = warpgroup_mma_wait(0, deps=[scores, dprobs])
        shared.v.release(done)
        # Subtracting infinity makes the probabilities of a block that was not selected zero.
        probs = gl.exp2(scores * scale - gl.where(chosen, lse, float("inf"))[:, None])
        if MASKED:
            key = (entry & ((1 << BLOCK_BITS) - 1)) * BLOCK_N
            key += gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
            probs = gl.where(key[None, :] <= position[:, None], probs, 0.0)
        sums += gl.sum(probs * dprobs, axis=1)
        ds = probs * (dprobs - dots[:, None])
        ds = gl.convert_layout(ds.to(dtype), P_LAYOUT, assert_trivial=True)
        dq = warpgroup_mma(ds, k, dq, is_async=True)
        dq = warpgroup_mma_wait(0, deps=[dq])
        shared.k.release(done)
        done += 1
    return dq, sums, done


@gluon.jit
def _consumer(
    shared, out_desc, ends, sizes, scale, plain_scale,
    W: gl.constexpr, R: gl.constexpr, HEADS: gl.constexpr, ROOM: gl.constexpr,
):  # fmt: skip
    """Compute the gradient of the `W`-th 64 rows of every tile."""
    tiles, total_tiles, groups, queries, offset = sizes
    lse_ptr, dots_ptr, sums_ptr, strides = ends
    stride_lb, stride_lh, stride_lt = strides
    W_QUERIES: gl.constexpr = ROWS // HEADS
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    D: gl.constexpr = shared.k.buffers.shape[4]
    FIRST: gl.constexpr = (GROUPS + W) * ROOM
    COUNTS: gl.constexpr = 2 * GROUPS * ROOM
    dtype: gl.constexpr = shared.q.buffers.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    S_ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    lists = shared.lists
    q = matrix(shared.q.buffers.index(W))
    grad = matrix(shared.grad.buffers.index(W))
    out = matrix(shared.out.buffers.index(W))
    row = gl.arange(0, ROWS, S_ROWS)
    member = row // HEADS
    begin = 0
    turn = 0
    for index in range(gl.program_id(0), total_tiles, gl.num_programs(0)):
        b, g, tile = find_tile(index, tiles, groups)
        first = (tile * GROUPS + W) * W_QUERIES
        query = first + member
        position = offset + query
        valid = (query < queries) & (row % HEADS < R)
        head = (g * R + row % HEADS).to(gl.int64)
        at = b.to(gl.int64) * stride_lb + head * stride_lh + query.to(gl.int64) * stride_lt
        lse = gl.load(lse_ptr + at, mask=valid, other=float("inf"))
        dots = gl.load(dots_ptr + at, mask=valid, other=0.0)
        dq = gl.zeros([ROWS, D], gl.float32, O_LAYOUT)
        sums = gl.zeros([ROWS], gl.float32, S_ROWS)
        mbarrier.wait(lists.full.index(turn % lists.SIZE), turn // lists.SIZE & 1)
        buffer = lists.buffers.index(turn % lists.SIZE)
        count = list_number(buffer, COUNTS, 4)
        own = list_number(buffer, COUNTS + 1 + W, 4)
        whole = list_number(buffer, COUNTS + 1 + GROUPS + W, 4)
        mbarrier.wait(shared.q.full.index(W), turn & 1)
        mbarrier.wait(shared.grad.full.index(W), turn & 1)
        # The previous gradient has left its buffer, which may now be filled.
        tma.store_wait(0)
        shared.out.release(W)
        dq, sums, done = _attend(
            q, grad, shared, buffer, dq, sums, lse, dots, begin, begin, 0, whole, position,
            member, scale, FIRST, False,
        )  # fmt: skip
        dq, sums, done = _attend(
            q, grad, shared, buffer, dq, sums, lse, dots, begin, done, whole, own, position,
            member, scale, FIRST, True,
        )  # fmt: skip
        skip_blocks(shared, done, begin + count)
        begin += count
        lists.release(turn)
        shared.q.release(W)
        shared.grad.release(W)
        gl.store(sums_ptr + at, sums, mask=valid)
        mbarrier.wait(shared.out.full.index(W), turn & 1)
        dq = dq * plain_scale + out.load(O_LAYOUT).to(gl.float32)
        out.store(dq.to(dtype))
        fence_async_shared()
        at_rows = [b, first, g, 0, 0]
        tma.async_copy_shared_to_global(out_desc, at_rows, shared.out.buffers.index(W))
        turn += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["queries", "offset", "tiles", "total_tiles", "groups"])
def _hopper_merged_rows_kernel(
    q_desc, grad_desc, k_desc, v_desc, out_desc, list_desc, margin_ptr, lse_ptr, dots_ptr, sums_ptr,
    stride_lb, stride_lh, stride_lt,
    queries, offset, tiles, total_tiles, groups, scale, plain_scale,
    R: gl.constexpr, HEADS: gl.constexpr, ROOM: gl.constexpr, STAGES: gl.constexpr,
    LISTS: gl.constexpr,
):  # fmt: skip
    # This kernel does nothing where one query at a time is faster.
    total_tiles = gl.where(gl.load(margin_ptr) > 0, 0, total_tiles)
    shared = Shared(
        new_ring(q_desc, GROUPS, 1), new_ring(grad_desc, GROUPS, 1),
        new_ring(k_desc, STAGES, GROUPS), new_ring(v_desc, STAGES, GROUPS),
        new_ring(list_desc, LISTS, GROUPS), new_ring(out_desc, GROUPS, 1),
    )  # fmt: skip
    ends = (lse_ptr, dots_ptr, sums_ptr, (stride_lb, stride_lh, stride_lt))
    sizes = (tiles, total_tiles, groups, queries, offset)
    gl.warp_specialize(
        [
            (_consumer, (shared, out_desc, ends, sizes, scale, plain_scale, 0, R, HEADS, ROOM)),
            (_consumer, (shared, out_desc, ends, sizes, scale, plain_scale, 1, R, HEADS, ROOM)),
            (_consumer, (shared, out_desc, ends, sizes, scale, plain_scale, 2, R, HEADS, ROOM)),
            (
                _producer,
                (
                    shared,
                    q_desc,
                    grad_desc,
                    k_desc,
                    v_desc,
                    list_desc,
                    out_desc,
                    sizes,
                    HEADS,
                    ROOM,
                ),
            ),
        ],
        [4, 4, 1],
        [160, 160, 32],
    )


def launch_merged_rows(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    grad: OutputGradient,
    dq: Tensor,
    sums: Tensor,
) -> Tensor:
    """Merge the lists and add to the gradient of the queries, unless the margin is above zero.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        blocks: (B, G, U, n) int32, -1 for none.
        grad: The gradient of the output.
        dq: (B, H, T, D), added to.
        sums: (B, H, T), in the memory order of `grad.lse`, written: the dot product of the
            gradient and the branch's gated output.

    Returns:
        (1,) int32, the lists' margin: above zero if the kernel for one tile at a time must compute
        the gradient.
    """
    block, heads = problem.settings.select_block, pad_heads(problem.repeat)
    queries = ROWS.value // heads
    lists = warpgroup_lists(problem, blocks, queries, GROUPS.value)
    total = problem.batch * problem.groups * lists.tiles
    rows, tile = lists.rows, [lists.size // ROW, ROW]
    list_tiles = TensorDescriptor(
        rows, list(rows.shape), list(rows.stride()), tile, plain_layout(2)
    )
    assert sums.stride() == grad.lse.stride() == grad.dots.stride()
    _hopper_merged_rows_kernel[(min(processors(q.device), total),)](
        rows_of(q, problem.groups, queries), rows_of(grad.out, problem.groups, queries),
        tiles_of(k, block, 1), tiles_of(v, block, 1),
        rows_of(dq, problem.groups, queries), list_tiles, lists.margin,
        grad.lse, grad.dots, sums, *number_strides(problem, grad.lse),
        problem.queries, problem.offset, lists.tiles, total, problem.groups,
        problem.scale, problem.plain_scale,
        R=problem.repeat,
        HEADS=heads,
        ROOM=lists.room,
        STAGES=_STAGES,
        LISTS=_LISTS,
        num_warps=4,
        maxnreg=128,
    )  # fmt: skip
    return lists.margin
