"""Gradients of selected keys and values, warp-specialized; see `selected_backward.py`.

A program processes a piece of a block's list of queries. One warp loads the queries and output
gradients of 64 rows at a time, query by query, with their numbers. One warpgroup holds the block
and the gradients of its keys and values in registers. Two programs share a multiprocessor.

Rows of 128 numbers are loaded as two halves, so that the rows of a query are adjacent in shared
memory.

Letters: see `layout.py`; R heads of a group.
"""

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import _aggregate as aggregate

from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.hopper.pipeline import ROWS, new_barriers, new_ring, tiles_of
from nsa_kernels.gpu.inverse import Choosers
from nsa_kernels.gpu.layout import Problem

HALF = gl.constexpr(64)
"""Numbers of half a row: the most that one swizzled line of shared memory holds."""

_STAGES = 2
"""Tiles of rows in shared memory."""


@aggregate
class Rows:
    """A ring of tiles of rows: queries and output gradients in halves, and numbers of each row."""

    q: gl.shared_memory_descriptor
    grad: gl.shared_memory_descriptor
    lse: gl.shared_memory_descriptor
    dots: gl.shared_memory_descriptor
    position: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor
    free: gl.shared_memory_descriptor
    SIZE: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, q, grad, lse, dots, position, full, free, SIZE):
        self.q = q
        self.grad = grad
        self.lse = lse
        self.dots = dots
        self.position = position
        self.full = full
        self.free = free
        self.SIZE = gl.constexpr(SIZE)


@aggregate
class Piece:
    """The queries of a piece: `members` tiles of queries from entry `begin` of the lists on."""

    b: gl.tensor
    g: gl.tensor
    begin: gl.tensor
    members: gl.tensor
    queries: gl.tensor
    offset: gl.tensor
    TILE: gl.constexpr
    R: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, b, g, begin, members, queries, offset, TILE, R):
        self.b = b
        self.g = g
        self.begin = begin
        self.members = members
        self.queries = queries
        self.offset = offset
        self.TILE = gl.constexpr(TILE)
        self.R = gl.constexpr(R)

    @gluon.jit
    def steps(self):
        """Tiles of rows."""
        return gl.cdiv(self.members * self.TILE * self.R, ROWS)

    @gluon.jit
    def query(self, tiles_ptr, index):
        """The `index`-th query of the piece."""
        tile = gl.load(tiles_ptr + self.begin + index // self.TILE)
        return (self.offset // self.TILE + tile) * self.TILE + index % self.TILE - self.offset


@gluon.jit
def _new_numbers(dtype: gl.constexpr, SIZE: gl.constexpr):
    """Buffers for one number per row."""
    return gl.allocate_shared_memory(dtype, [SIZE, ROWS], gl.SwizzledSharedLayout(1, 1, 1, [0]))


@gluon.jit
def _new_rows(desc, SIZE: gl.constexpr):
    """Buffers for `SIZE` tiles of rows, each of two halves [ROWS, HALF]."""
    layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([ROWS, HALF], desc.dtype)
    return gl.allocate_shared_memory(desc.dtype, [2 * SIZE, ROWS, HALF], layout)


@gluon.jit
def _load_query(desc, buffers, full, piece, query, slot, j):
    """Start to load the rows of one query into the `j`-th part of both halves of a tile."""
    PARTS: gl.constexpr = ROWS // piece.R
    shape: gl.constexpr = [buffers.shape[0] * PARTS] + desc.block_type.shape
    parts = buffers._reinterpret(buffers.dtype, shape, desc.layout)
    for half in gl.static_range(2):
        at = [piece.b, query, piece.g * piece.R, half * HALF]
        to = parts.index((2 * slot + half) * PARTS + j)
        tma.async_copy_global_to_shared(desc, at, full, to)


@gluon.jit
def _producer(k, v, rows, piece, descs, numbers, first_key):
    """Load the block, and the rows of all queries of the piece."""
    k_desc, v_desc, q_desc, grad_desc = descs
    tiles_ptr, lse_ptr, dots_ptr, strides = numbers
    stride_lb, stride_lh, stride_lt = strides
    R: gl.constexpr = piece.R
    PARTS: gl.constexpr = ROWS // R
    # A tile of queries and one of gradients.
    BYTES: gl.constexpr = 2 * PARTS * 2 * q_desc.block_type.nbytes
    for half in gl.static_range(2):
        k.load(k_desc, [piece.b, first_key, piece.g, half * HALF], half)
        v.load(v_desc, [piece.b, first_key, piece.g, half * HALF], half)
    row = gl.arange(0, ROWS, gl.BlockedLayout([2], [32], [1], [0]))
    listed = piece.members * piece.TILE
    head = (piece.g * R + row % R).to(gl.int64)
    for i in range(piece.steps()):
        slot = i % rows.SIZE
        index = i * PARTS + row // R
        query = piece.query(tiles_ptr, gl.minimum(index, listed - 1))
        valid = (index < listed) & (query >= 0) & (query < piece.queries)
        at = piece.b.to(gl.int64) * stride_lb + query.to(gl.int64) * stride_lt + head * stride_lh
        # Rows that are not valid have no probabilities.
        lse = gl.load(lse_ptr + at, mask=valid, other=float("inf"))
        dots = gl.load(dots_ptr + at, mask=valid, other=0.0)
        mbarrier.wait(rows.free.index(slot), (i // rows.SIZE & 1) ^ 1)
        rows.lse.index(slot).store(lse)
        rows.dots.index(slot).store(dots)
        rows.position.index(slot).store(query + piece.offset)
        gl.thread_barrier()
        full = rows.full.index(slot)
        mbarrier.expect(full, BYTES)
        for j in gl.static_range(PARTS):
            one = piece.query(tiles_ptr, gl.minimum(i * PARTS + j, listed - 1))
            one = gl.minimum(gl.maximum(one, 0), piece.queries - 1)
            _load_query(q_desc, rows.q, full, piece, one, slot, j)
            _load_query(grad_desc, rows.grad, full, piece, one, slot, j)


@gluon.jit
def _step(rows, block, sums, first_key, from_tile, to_tile, scale, MASKED: gl.constexpr):
    """Add tiles of rows to the gradients of the block's keys and values, in halves."""
    k0, k1, v0, v1 = block
    dk0, dk1, dv0, dv1 = sums
    dtype: gl.constexpr = rows.q.dtype
    LAYOUT: gl.constexpr = dk0.type.layout
    LEFT: gl.constexpr = gl.DotOperandLayout(0, LAYOUT, 2)
    COLUMNS: gl.constexpr = gl.SliceLayout(0, LAYOUT)
    for i in range(from_tile, to_tile):
        slot = i % rows.SIZE
        mbarrier.wait(rows.full.index(slot), i // rows.SIZE & 1)
        q0, q1 = rows.q.index(2 * slot), rows.q.index(2 * slot + 1)
        g0, g1 = rows.grad.index(2 * slot), rows.grad.index(2 * slot + 1)
        scores = gl.zeros([ROWS, ROWS], gl.float32, LAYOUT)
        scores = warpgroup_mma(k0, q0.permute((1, 0)), scores, use_acc=False, is_async=True)
        scores = warpgroup_mma(k1, q1.permute((1, 0)), scores, is_async=True)
        dprobs = gl.zeros([ROWS, ROWS], gl.float32, LAYOUT)
        dprobs = warpgroup_mma(v0, g0.permute((1, 0)), dprobs, use_acc=False, is_async=True)
        dprobs = warpgroup_mma(v1, g1.permute((1, 0)), dprobs, is_async=True)
        scores = warpgroup_mma_wait(2, deps=[scores])
        probs = gl.exp2(scores * scale - rows.lse.index(slot).load(COLUMNS)[None, :])
        if MASKED:
            key = first_key + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
            position = rows.position.index(slot).load(COLUMNS)
            probs = gl.where(key[:, None] <= position[None, :], probs, 0.0)
        left = gl.convert_layout(probs.to(dtype), LEFT, assert_trivial=True)
        dv0 = warpgroup_mma(left, g0, dv0, is_async=True)
        dv1 = warpgroup_mma(left, g1, dv1, is_async=True)
        dprobs = warpgroup_mma_wait(2, deps=[dprobs])
        slopes = probs * (dprobs - rows.dots.index(slot).load(COLUMNS)[None, :])
        right = gl.convert_layout(slopes.to(dtype), LEFT, assert_trivial=True)
        dk0 = warpgroup_mma(right, q0, dk0, is_async=True)
        dk1 = warpgroup_mma(right, q1, dk1, is_async=True)
        dv0, dv1, left = warpgroup_mma_wait(2, deps=[dv0, dv1, left])
        dk0, dk1, right = warpgroup_mma_wait(0, deps=[dk0, dk1, right])
        mbarrier.arrive(rows.free.index(slot), count=1)
    return dk0, dk1, dv0, dv1


@gluon.jit
def _store(ptr, low, high, number, written):
    """Store both halves of a gradient [ROWS, D] of piece number `number`."""
    LAYOUT: gl.constexpr = low.type.layout
    key = number.to(gl.int64) * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
    depth = gl.arange(0, HALF, gl.SliceLayout(0, LAYOUT))
    at = key[:, None] * (2 * HALF) + depth[None, :]
    mask = ((key >= 0) & written)[:, None]
    gl.store(ptr + at, low, mask=mask)
    gl.store(ptr + at + HALF, high, mask=mask)


@gluon.jit
def _consumer(k, v, rows, piece, outputs, scales, first_key, masked):
    """Compute the gradients of the block's keys and values."""
    dk_ptr, dv_ptr, number = outputs
    scale, plain_scale = scales
    LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, HALF, 16])
    steps = piece.steps()
    zeros = gl.zeros([ROWS, HALF], gl.float32, LAYOUT)
    sums = (zeros, zeros, zeros, zeros)
    block = (k.wait(0), k.wait(1), v.wait(0), v.wait(1))
    sums = _step(rows, block, sums, first_key, 0, masked, scale, True)
    dk0, dk1, dv0, dv1 = _step(rows, block, sums, first_key, masked, steps, scale, False)
    # Nothing reads a piece without queries.
    _store(dk_ptr, dk0 * plain_scale, dk1 * plain_scale, number, steps > 0)
    _store(dv_ptr, dv0, dv1, number, steps > 0)


@gluon.jit(do_not_specialize=["queries", "offset", "lists", "length", "blocks", "groups"])
def _hopper_selected_keys_kernel(
    k_desc, v_desc, q_desc, grad_desc, lse_ptr, dots_ptr, dk_ptr, dv_ptr,
    tiles_ptr, starts_ptr, first_pieces_ptr, list_of_piece_ptr,
    stride_lb, stride_lh, stride_lt,
    queries, offset, lists, length, blocks, groups, scale, plain_scale,
    R: gl.constexpr, TILE: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    program = gl.program_id(0)
    name = gl.load(list_of_piece_ptr + program)
    used = name < lists
    name = gl.minimum(name, lists - 1)
    block = name % blocks
    g = name // blocks % groups
    b = name // blocks // groups
    begin = gl.load(starts_ptr + name)
    before = (program - gl.load(first_pieces_ptr + name)) * length
    members = gl.minimum(gl.load(starts_ptr + name + 1) - begin - before, length)
    members = gl.where(used, members, 0)
    piece = Piece(b, g, begin + before, members, queries, offset, TILE, R)
    # Lists are in the order of queries: those that see the block in part are the list's first.
    first_tile = gl.load(tiles_ptr + gl.where(members > 0, begin + before, 0))
    near = (offset // TILE + first_tile) * TILE < (block + 1) * ROWS
    masked = gl.minimum(piece.steps(), (TILE if TILE > ROWS else ROWS) * R // ROWS)
    masked = gl.where(near, masked, 0)
    k, v = new_ring(k_desc, 2, 1), new_ring(v_desc, 2, 1)
    rows = Rows(
        _new_rows(q_desc, STAGES), _new_rows(grad_desc, STAGES),
        _new_numbers(gl.float32, STAGES), _new_numbers(gl.float32, STAGES),
        _new_numbers(gl.int32, STAGES),
        new_barriers(STAGES, 1), new_barriers(STAGES, 1), STAGES,
    )  # fmt: skip
    descs = (k_desc, v_desc, q_desc, grad_desc)
    numbers = (tiles_ptr, lse_ptr, dots_ptr, (stride_lb, stride_lh, stride_lt))
    outputs, scales = (dk_ptr, dv_ptr, program), (scale, plain_scale)
    first_key = block * ROWS
    gl.warp_specialize(
        [
            (_consumer, (k, v, rows, piece, outputs, scales, first_key, masked)),
            (_producer, (k, v, rows, piece, descs, numbers, first_key)),
        ],
        [1],
        [24],
    )


def launch_selected_keys(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    choosers: Choosers,
    grad: OutputGradient,
    parts: tuple[Tensor, Tensor],
) -> None:
    """Write the gradients of keys and values of every piece.

    Args:
        problem: The sizes.
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, D).
        choosers: The tiles that selected each block.
        grad: The gradient of the output.
        parts: (P, select_block, D) each, fp32, written: of keys and of values.
    """
    half, repeat = HALF.value, problem.repeat
    _hopper_selected_keys_kernel[(choosers.pieces,)](
        tiles_of(k, ROWS.value, 1, half), tiles_of(v, ROWS.value, 1, half),
        tiles_of(q, 1, repeat, half), tiles_of(grad.out, 1, repeat, half),
        grad.lse, grad.dots, *parts,
        choosers.tiles, choosers.starts, choosers.first_pieces, choosers.list_of_piece,
        *grad.number_strides(problem),
        problem.queries, problem.offset, choosers.lists, choosers.piece, choosers.blocks,
        problem.groups, problem.scale, problem.plain_scale,
        R=repeat,
        TILE=problem.settings.select_tile,
        STAGES=_STAGES,
        num_warps=4,
        maxnreg=128,
    )  # fmt: skip
