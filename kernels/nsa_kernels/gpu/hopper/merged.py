"""Attention of merged queries to their lists of blocks, warp-specialized; see `merged.py`.

One program per multiprocessor takes tiles of queries. One warp loads their queries and the union
of their blocks. Three warpgroups of 64 rows each compute, and each skips the blocks that none of
its queries selected. A warpgroup's list says how many blocks to skip (`lists.py`). With Triton 3.6
a matrix product inside an `if` that depends on data reads outside of shared memory. A loop whose
length depends on data is compiled correctly.

Letters: see `layout.py`; W a warpgroup, R heads of a group, E queries of a warpgroup.

Source: Yuan et al. 2025, eqs. 5, 11 and 12; Shah et al. 2024, "FlashAttention-3", arXiv
2407.08608.
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

from nsa_kernels.gpu.hopper.lists import BLOCK_BITS, QUERY_BITS, ROW, WarpgroupLists
from nsa_kernels.gpu.hopper.pipeline import (
    NO_SCORE,
    ROWS,
    Ring,
    matrix,
    new_ring,
    plain_layout,
    processors,
    rows_of,
    tiles_of,
)
from nsa_kernels.gpu.hopper.support import (
    pad_heads,
)
from nsa_kernels.gpu.launches import launch
from nsa_kernels.gpu.layout import Problem, number_strides

GROUPS = gl.constexpr(3)
"""Warpgroups that compute."""

_STAGES = 3
"""Blocks of keys, and of values, in shared memory."""

_LISTS = 3
"""Lists in shared memory."""


@aggregate
class Shared:
    """Rings that all warps of a program use.

    Queries and outputs have one buffer per warpgroup. The rows that an output is added to are
    loaded into the output's buffer.
    """

    q: Ring
    k: Ring
    v: Ring
    lists: Ring
    out: Ring

    @gluon.constexpr_function
    def __init__(self, q, k, v, lists, out):
        self.q = q
        self.k = k
        self.v = v
        self.lists = lists
        self.out = out


@gluon.jit
def find_tile(index, tiles, groups):
    """Sequence, group and number of a tile of queries."""
    pair = index // tiles
    return pair // groups, pair % groups, index % tiles


@gluon.jit
def list_number(buffer, i, WARPS: gl.constexpr):
    """One number of a list."""
    SIZE: gl.constexpr = buffer.shape[0] * buffer.shape[1]
    flat: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    x = buffer._reinterpret(gl.int32, [SIZE, 1], flat).index(i).load(layout)
    return gl.max(x, axis=0)


@gluon.jit
def _producer(
    shared, q_desc, k_desc, v_desc, list_desc, out_desc, sizes,
    HEADS: gl.constexpr, ROOM: gl.constexpr, GATED: gl.constexpr,
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
        shared.q.load_each(q_desc, b, g, first, W_QUERIES, (turn & 1) ^ 1, False)
        shared.v.load(v_desc, [b, key, g, 0], done)
        done += 1
        for i in range(1, count):
            key = list_number(buffer, i, 1) * BLOCK_N
            shared.k.load(k_desc, [b, key, g, 0], done)
            shared.v.load(v_desc, [b, key, g, 0], done)
            done += 1
        if GATED:
            shared.out.load_each(out_desc, b, g, first, W_QUERIES, turn & 1, False)
        turn += 1
    # Wait for the list past the end: the program must not end during a load.
    mbarrier.wait(lists.full.index(turn % lists.SIZE), turn // lists.SIZE & 1)


@gluon.jit
def skip_blocks(shared, from_block, to_block):
    """Release loaded blocks that none of this warpgroup's queries selected."""
    for i in range(from_block, to_block):
        shared.k.wait(i)
        shared.k.release(i)
        shared.v.wait(i)
        shared.v.release(i)


@gluon.jit
def _attend(
    q, shared, buffer, acc, top, total, begin, done, from_entry, to_entry, position, member, scale,
    FIRST: gl.constexpr, MASKED: gl.constexpr,
):  # fmt: skip
    """Add entries of this warpgroup's list to a running softmax."""
    O_LAYOUT: gl.constexpr = acc.type.layout
    S_LAYOUT: gl.constexpr = top.type.layout.parent
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, O_LAYOUT, 2)
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    for i in range(from_entry, to_entry):
        entry = list_number(buffer, FIRST + i, 4)
        place = begin + ((entry >> (BLOCK_BITS + QUERY_BITS)) & 511)
        skip_blocks(shared, done, place)
        done = place
        chosen = ((entry >> (BLOCK_BITS + member)) & 1) != 0
        k = shared.k.wait(done)
        scores = gl.zeros([ROWS, BLOCK_N], gl.float32, S_LAYOUT)
        scores = warpgroup_mma(q, k.permute((1, 0)), scores, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[scores])
        shared.k.release(done)
        if MASKED:
            key = (entry & ((1 << BLOCK_BITS) - 1)) * BLOCK_N
            key += gl.arange(0, BLOCK_N, gl.SliceLayout(0, S_LAYOUT))
            scores = gl.where(key[None, :] <= position[:, None], scores, float("-inf"))
        new_top = gl.where(chosen, gl.maximum(top, gl.max(scores, axis=1) * scale), top)
        # Subtracting infinity makes the probabilities of a block that was not selected zero.
        probs = gl.exp2(scores * scale - gl.where(chosen, new_top, float("inf"))[:, None])
        shrink = gl.exp2(top - new_top)
        total = total * shrink + gl.sum(probs, axis=1)
        top = new_top
        acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, O_LAYOUT))[:, None]
        probs = gl.convert_layout(probs.to(shared.k.buffers.dtype), P_LAYOUT, assert_trivial=True)
        acc = warpgroup_mma(probs, shared.v.wait(done), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        shared.v.release(done)
        done += 1
    return acc, top, total, done


@gluon.jit
def _consumer(
    shared, out_desc, ends, sizes, scale,
    W: gl.constexpr, R: gl.constexpr, HEADS: gl.constexpr, ROOM: gl.constexpr,
    GATED: gl.constexpr,
):  # fmt: skip
    """Compute the output of the `W`-th 64 rows of every tile."""
    tiles, total_tiles, groups, queries, offset = sizes
    lse_ptr, gate_ptr, strides, gate_strides = ends
    stride_lb, stride_lh, stride_lt = strides
    stride_wb, stride_wh, stride_wt = gate_strides
    W_QUERIES: gl.constexpr = ROWS // HEADS
    BLOCK_N: gl.constexpr = shared.k.buffers.shape[2]
    DV: gl.constexpr = shared.v.buffers.shape[4]
    FIRST: gl.constexpr = (GROUPS + W) * ROOM
    COUNTS: gl.constexpr = 2 * GROUPS * ROOM
    dtype: gl.constexpr = shared.q.buffers.dtype
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    S_ROWS: gl.constexpr = gl.SliceLayout(1, S_LAYOUT)
    O_ROWS: gl.constexpr = gl.SliceLayout(1, O_LAYOUT)
    lists = shared.lists
    q_buffer = matrix(shared.q.buffers.index(W))
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
        at_query = query.to(gl.int64)
        if GATED:
            at = b.to(gl.int64) * stride_wb + head * stride_wh + at_query * stride_wt
            gate = gl.load(gate_ptr + at, mask=valid, other=0.0)
        acc = gl.zeros([ROWS, DV], gl.float32, O_LAYOUT)
        top = gl.full([ROWS], NO_SCORE, gl.float32, S_ROWS)
        total = gl.zeros([ROWS], gl.float32, S_ROWS)
        mbarrier.wait(lists.full.index(turn % lists.SIZE), turn // lists.SIZE & 1)
        buffer = lists.buffers.index(turn % lists.SIZE)
        count = list_number(buffer, COUNTS, 4)
        own = list_number(buffer, COUNTS + 1 + W, 4)
        whole = list_number(buffer, COUNTS + 1 + GROUPS + W, 4)
        mbarrier.wait(shared.q.full.index(W), turn & 1)
        # In registers, queries leave the bandwidth of shared memory to the blocks.
        q = q_buffer.load(gl.DotOperandLayout(0, S_LAYOUT, 2))
        shared.q.release(W)
        if GATED:
            # The previous output has left its buffer, which may now be filled.
            tma.store_wait(0)
            shared.out.release(W)
        acc, top, total, done = _attend(
            q, shared, buffer, acc, top, total, begin, begin, 0, whole, position, member, scale,
            FIRST, False,
        )  # fmt: skip
        acc, top, total, done = _attend(
            q, shared, buffer, acc, top, total, begin, done, whole, own, position, member, scale,
            FIRST, True,
        )  # fmt: skip
        skip_blocks(shared, done, begin + count)
        begin += count
        lists.release(turn)

        seen = total > 0
        norm = 1.0 / gl.where(seen, total, 1.0)
        at = b.to(gl.int64) * stride_lb + head * stride_lh + at_query * stride_lt
        lse = gl.where(seen, top + gl.log2(gl.where(seen, total, 1.0)), float("inf"))
        gl.store(lse_ptr + at, lse, mask=valid)
        if GATED:
            norm *= gate.to(gl.float32)
        acc = acc * gl.convert_layout(norm, O_ROWS)[:, None]
        if GATED:
            mbarrier.wait(shared.out.full.index(W), turn & 1)
            acc += out.load(O_LAYOUT).to(gl.float32)
        else:
            # The previous output has left its buffer.
            tma.store_wait(0)
        out.store(acc.to(dtype))
        fence_async_shared()
        at_rows = [b, first, g, 0, 0]
        tma.async_copy_shared_to_global(out_desc, at_rows, shared.out.buffers.index(W))
        turn += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["queries", "offset", "tiles", "total_tiles", "groups"])
def _hopper_merged_kernel(
    q_desc, k_desc, v_desc, out_desc, list_desc, margin_ptr, lse_ptr, gate_ptr,
    stride_lb, stride_lh, stride_lt, stride_wb, stride_wh, stride_wt,
    queries, offset, tiles, total_tiles, groups, scale,
    R: gl.constexpr, HEADS: gl.constexpr, ROOM: gl.constexpr, STAGES: gl.constexpr,
    LISTS: gl.constexpr, GATED: gl.constexpr,
):  # fmt: skip
    # This kernel does nothing where one query at a time is faster.
    total_tiles = gl.where(gl.load(margin_ptr) > 0, 0, total_tiles)
    shared = Shared(
        new_ring(q_desc, GROUPS, 1), new_ring(k_desc, STAGES, GROUPS),
        new_ring(v_desc, STAGES, GROUPS), new_ring(list_desc, LISTS, GROUPS),
        new_ring(out_desc, GROUPS, 1),
    )  # fmt: skip
    strides, gate_strides = (stride_lb, stride_lh, stride_lt), (stride_wb, stride_wh, stride_wt)
    ends = (lse_ptr, gate_ptr, strides, gate_strides)
    sizes = (tiles, total_tiles, groups, queries, offset)
    gl.warp_specialize(
        [
            (_consumer, (shared, out_desc, ends, sizes, scale, 0, R, HEADS, ROOM, GATED)),
            (_consumer, (shared, out_desc, ends, sizes, scale, 1, R, HEADS, ROOM, GATED)),
            (_consumer, (shared, out_desc, ends, sizes, scale, 2, R, HEADS, ROOM, GATED)),
            (
                _producer,
                (shared, q_desc, k_desc, v_desc, list_desc, out_desc, sizes, HEADS, ROOM, GATED),
            ),
        ],
        [4, 4, 1],
        [160, 160, 32],
    )


def launch_merged(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lists: WarpgroupLists,
    out: Tensor,
    lse: Tensor,
    gate: Tensor | None,
) -> None:
    """Attend to merged lists, unless `lists.margin` is above zero.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        lists: The blocks of every program's queries.
        out: (B, H, T, Dv), written. With a gate it holds the sum of the other branches, and this
            branch is added to it.
        lse: (B, H, T), written: the base-2 log-sum-exp of the scaled scores.
        gate: (B, H, T), the selection's gate in `gated` mode.
    """
    block, heads = problem.settings.select_block, pad_heads(problem.repeat)
    queries = ROWS.value // heads
    assert lists.w_queries == queries
    total = problem.batch * problem.groups * lists.tiles
    rows, tile = lists.rows, [lists.size // ROW, ROW]
    list_tiles = TensorDescriptor(
        rows, list(rows.shape), list(rows.stride()), tile, plain_layout(2)
    )
    launch(
        _hopper_merged_kernel, (min(processors(q.device), total),),
        rows_of(q, problem.groups, queries), tiles_of(k, block, 1), tiles_of(v, block, 1),
        rows_of(out, problem.groups, queries), list_tiles, lists.margin,
        lse, lse if gate is None else gate,
        *number_strides(problem, lse), *number_strides(problem, gate),
        problem.queries, problem.offset, lists.tiles, total, problem.groups, problem.scale,
        R=problem.repeat,
        HEADS=heads,
        ROOM=lists.room,
        STAGES=_STAGES,
        LISTS=_LISTS,
        GATED=gate is not None,
        num_warps=4,
        maxnreg=128,
    )  # fmt: skip
