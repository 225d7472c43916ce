"""Rings of tiles in shared memory, for the warp-specialized kernels.

A ring is an array of buffers. Each buffer has a barrier for "full" and one for "free". One warp
fills the buffers in turn with the tensor memory engine, and warpgroups read them in that order.

Letters: see `layout.py`; R heads of a group.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.core import _aggregate as aggregate

from nsa_kernels.gpu.hopper.support import pad_heads

ROWS = gl.constexpr(64)
"""Rows of a warpgroup: the rows of one matrix instruction."""

NO_SCORE = gl.constexpr(-1.0e30)
"""A finite number below any score, so that differences are finite."""


@aggregate
class Work:
    """The sizes of a call, from which a program finds its tiles of rows.

    `keys` counts keys of `KEY_BLOCK` tokens, one every `KEY_STRIDE` tokens. A query sees its last
    `window` keys. `pairs` counts pairs of a sequence and a group. A tile of rows holds `QUERIES`
    queries, a tile of keys `BLOCK_N` keys.
    """

    queries: gl.tensor
    offset: gl.tensor
    keys: gl.tensor
    window: gl.tensor
    groups: gl.tensor
    pairs: gl.tensor
    R: gl.constexpr
    KEY_BLOCK: gl.constexpr
    KEY_STRIDE: gl.constexpr
    WINDOWED: gl.constexpr
    QUERIES: gl.constexpr
    BLOCK_N: gl.constexpr

    @gluon.constexpr_function
    def __init__(
        self, queries, offset, keys, window, groups, pairs,
        R, KEY_BLOCK, KEY_STRIDE, WINDOWED, QUERIES, BLOCK_N,
    ):  # fmt: skip
        self.queries = queries
        self.offset = offset
        self.keys = keys
        self.window = window
        self.groups = groups
        self.pairs = pairs
        self.R = gl.constexpr(R)
        self.KEY_BLOCK = gl.constexpr(KEY_BLOCK)
        self.KEY_STRIDE = gl.constexpr(KEY_STRIDE)
        self.WINDOWED = gl.constexpr(WINDOWED)
        self.QUERIES = gl.constexpr(QUERIES)
        self.BLOCK_N = gl.constexpr(BLOCK_N)

    @gluon.jit
    def tiles(self):
        """Number of tiles of rows."""
        return gl.cdiv(self.queries, self.QUERIES) * self.pairs

    @gluon.jit
    def high(self, query):
        """One past the last key that a query sees."""
        seen = self.offset + query + 1 - self.KEY_BLOCK + self.KEY_STRIDE
        return gl.minimum(gl.maximum(seen, 0) // self.KEY_STRIDE, self.keys)

    @gluon.jit
    def low(self, query):
        """The first key that a query sees."""
        if self.WINDOWED:
            return gl.maximum(self.offset + query + 1 - self.window, 0)
        return query * 0

    @gluon.jit
    def at(self, index):
        """Sequence, group, first query, first key and number of key tiles of a tile of rows.

        The longest tiles come first, so that no long tile runs alone at the end. Every tile of
        rows has at least one key tile.
        """
        pair = index % self.pairs
        tile = gl.cdiv(self.queries, self.QUERIES) - 1 - index // self.pairs
        first = tile * self.QUERIES
        last = gl.minimum(first + self.QUERIES, self.queries) - 1
        begin = self.low(first)
        count = gl.maximum(gl.cdiv(self.high(last) - begin, self.BLOCK_N), 1)
        return pair // self.groups, pair % self.groups, first, begin, count


@aggregate
class Ring:
    """Buffers, each with a barrier that completes when it is full and one when it is free."""

    buffers: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor
    free: gl.shared_memory_descriptor
    SIZE: gl.constexpr

    @gluon.constexpr_function
    def __init__(self, buffers, full, free, SIZE):
        self.buffers = buffers
        self.full = full
        self.free = free
        self.SIZE = gl.constexpr(SIZE)

    @gluon.jit
    def load(self, desc, coordinates, index):
        """Start to load tile number `index` once its buffer is free."""
        slot = index % self.SIZE
        mbarrier.wait(self.free.index(slot), (index // self.SIZE & 1) ^ 1)
        mbarrier.expect(self.full.index(slot), desc.block_type.nbytes)
        tma.async_copy_global_to_shared(
            desc, coordinates, self.full.index(slot), self.buffers.index(slot)
        )

    @gluon.jit
    def load_with(self, desc, numbers, numbers_desc, at, index):
        """Start to load tile number `index`, and one number per row into a second buffer."""
        slot = index % self.SIZE
        full = self.full.index(slot)
        mbarrier.wait(self.free.index(slot), (index // self.SIZE & 1) ^ 1)
        mbarrier.expect(full, desc.block_type.nbytes + numbers_desc.block_type.nbytes)
        rows_at = [at[0], at[1], at[2], 0]
        tma.async_copy_global_to_shared(desc, rows_at, full, self.buffers.index(slot))
        tma.async_copy_global_to_shared(numbers_desc, at, full, numbers.index(slot))

    @gluon.jit
    def load_each(self, desc, b, g, token, step, parity, BY_HEAD: gl.constexpr):
        """Start to load all buffers, one per warpgroup, once they are free.

        The tiles begin `step` tokens apart. With `BY_HEAD` the descriptor has heads before tokens.
        """
        for i in gl.static_range(self.SIZE):
            mbarrier.wait(self.free.index(i), parity)
            mbarrier.expect(self.full.index(i), desc.block_type.nbytes)
            first = token + i * step
            at = [b, g, 0, first, 0] if BY_HEAD else [b, first, g, 0, 0]
            tma.async_copy_global_to_shared(desc, at, self.full.index(i), self.buffers.index(i))

    @gluon.jit
    def wait(self, index):
        """Wait for tile number `index`; the tile as a matrix [rows, D]."""
        slot = index % self.SIZE
        mbarrier.wait(self.full.index(slot), index // self.SIZE & 1)
        return matrix(self.buffers.index(slot))

    @gluon.jit
    def release(self, index):
        """Signal that this warpgroup no longer needs tile number `index`."""
        mbarrier.arrive(self.free.index(index % self.SIZE), count=1)


@aggregate
class Shared:
    """Rings that all warps of a program use; queries and outputs have one buffer per warpgroup.

    Rows that an output is added to, or multiplied by, are loaded into the output's buffer.
    """

    q: Ring
    k: Ring
    v: Ring
    out: Ring

    @gluon.constexpr_function
    def __init__(self, q, k, v, out):
        self.q = q
        self.k = k
        self.v = v
        self.out = out


@gluon.jit
def new_ring(desc, SIZE: gl.constexpr, READERS: gl.constexpr):
    """A ring of tiles of a descriptor; `READERS` warpgroups release each tile."""
    return Ring(new_buffers(desc, SIZE), new_barriers(SIZE, 1), new_barriers(SIZE, READERS), SIZE)


@gluon.jit
def new_buffers(desc, SIZE: gl.constexpr):
    """Buffers for `SIZE` tiles of a descriptor."""
    return gl.allocate_shared_memory(desc.dtype, [SIZE] + desc.block_type.shape, desc.layout)


@gluon.jit
def new_barriers(SIZE: gl.constexpr, COUNT: gl.constexpr):
    """Barriers that complete after `COUNT` arrivals."""
    bars = gl.allocate_shared_memory(gl.int64, [SIZE, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(SIZE):
        mbarrier.init(bars.index(i), count=COUNT)
    return bars


@gluon.jit
def matrix(buffer):
    """A tile [1, ., ., D] or [1, ., ., ., D] as a matrix [rows, D]."""
    RANK: gl.constexpr = len(buffer.shape)
    INNER: gl.constexpr = buffer.shape[2] * (buffer.shape[3] if RANK == 5 else 1)
    ROW_COUNT: gl.constexpr = buffer.shape[1] * INNER
    DEPTH: gl.constexpr = buffer.shape[RANK - 1]
    layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([ROW_COUNT, DEPTH], buffer.dtype)
    return buffer._reinterpret(buffer.dtype, [ROW_COUNT, DEPTH], layout)


@gluon.jit
def softmax_step(scores, top, total, scale):
    """Probabilities of a tile, the factor of what came before, and the new maximum and total."""
    new_top = gl.maximum(top, gl.max(scores, axis=1) * scale)
    probs = gl.exp2(scores * scale - new_top[:, None])
    shrink = gl.exp2(top - new_top)
    return probs, shrink, new_top, total * shrink + gl.sum(probs, axis=1)


def rows_of(x: Tensor, groups: int, rows: int, *, by_head: bool = False) -> TensorDescriptor:
    """Tiles of `rows` tokens by the heads of one group of (B, H, T, D).

    The descriptor has an axis for groups and one for the heads of a group. Where a tile has more
    heads than a group, the engine loads zeros and stores nothing.

    Args:
        x: (B, H, T, D), of strides that the engine can load.
        groups: G.
        rows: Tokens of a tile.
        by_head: Whether a tile's rows go head by head, rather than token by token.
    """
    repeat = x.shape[1] // groups
    x = x.unflatten(1, (groups, repeat)).permute((0, 1, 2, 3, 4) if by_head else (0, 3, 1, 2, 4))
    unit = 16 // x.element_size()
    strides = [x.stride(i) if x.shape[i] > 1 else unit for i in range(4)] + [1]
    inner = [1, pad_heads(repeat), rows] if by_head else [rows, 1, pad_heads(repeat)]
    tile = [1, *inner, x.shape[4]]
    return TensorDescriptor(x, list(x.shape), strides, tile, _layout(tuple(tile), x.dtype))


@cache
def _layout(tile: tuple[int, ...], dtype: torch.dtype) -> Any:
    """Layout of a tile in shared memory; cached, since building one is slow."""
    of = gl.bfloat16 if dtype == torch.bfloat16 else gl.float16
    return gl.NVMMASharedLayout.get_default_for(list(tile), of)


@cache
def plain_layout(rank: int) -> Any:
    """Layout of a tile of 32-bit numbers in shared memory."""
    return gl.NVMMASharedLayout(swizzle_byte_width=0, element_bitwidth=32, rank=rank)


def tiles_of(x: Tensor, rows: int, heads: int, depth: int | None = None) -> TensorDescriptor:
    """Tiles of (B, H, T, D) for the tensor memory engine, token by token.

    Args:
        x: (B, H, T, D), of strides that it can load.
        rows: Tokens of a tile.
        heads: Heads of a tile.
        depth: Columns of a tile; all when None.
    """
    x = x.permute(0, 2, 1, 3)
    unit = 16 // x.element_size()
    strides = [x.stride(i) if x.shape[i] > 1 else unit for i in range(3)] + [1]
    tile = [1, rows, heads, x.shape[3] if depth is None else depth]
    return TensorDescriptor(x, list(x.shape), strides, tile, _layout(tuple(tile), x.dtype))


def numbers_of(x: Tensor, queries: int, heads: int) -> TensorDescriptor:
    """Tiles of `queries` by `heads` numbers of (B, H, T), for the tensor memory engine.

    The heads of a token are adjacent in memory, as in `Problem.per_query`.
    """
    x = x.transpose(1, 2)
    assert x.stride(2) == 1, x.stride()
    strides = [x.stride(i) if x.shape[i] > 1 else 4 for i in range(2)] + [1]
    return TensorDescriptor(x, list(x.shape), strides, [1, queries, heads], plain_layout(3))


@cache
def processors(device: torch.device) -> int:
    """Number of multiprocessors of a GPU."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
