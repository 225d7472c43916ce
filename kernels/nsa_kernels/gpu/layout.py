"""Shapes, packed sequences and memory layouts, for all launchers.

Letters: B sequences, T query tokens, S key tokens, H query heads, G key/value groups, R = H / G
heads of a group, D head dim, C summaries, N selection blocks, U tiles of queries that share a
selection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu import launches
from nsa_kernels.gpu.phi_blocks import summary_offsets
from nsa_kernels.settings import AttentionSettings

LOG2_E = 1.4426950408889634
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@triton.jit
def find_sequence(cu_ptr, index, length, PACKED: tl.constexpr):
    """First row and length of a sequence; in a packed batch, from the cumulative lengths."""
    first = tl.zeros((), tl.int64)
    if PACKED:
        first = tl.load(cu_ptr + index).to(tl.int64)
        length = (tl.load(cu_ptr + index + 1) - first).to(tl.int32)
    return first, length


@triton.jit
def count_visible(position, KEY_BLOCK: tl.constexpr, KEY_STRIDE: tl.constexpr):
    """Number of keys whose block of tokens ends at or before a position."""
    return tl.maximum(position + 1 - KEY_BLOCK + KEY_STRIDE, 0) // KEY_STRIDE


@triton.jit
def tile_rows(
    start, part, offset, queries, R: tl.constexpr, TILE: tl.constexpr, BLOCK_M: tl.constexpr
):  # fmt: skip
    """Head within its group, query, position and validity of each row of a part of a tile.

    Rows are ordered by head, then by query. A row is valid if its query exists.
    """
    row = part * BLOCK_M + tl.arange(0, BLOCK_M)
    position = start + row // R
    query = position - offset
    return row % R, query, position, (query >= 0) & (query < queries) & (row < R * TILE)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Sequences of different lengths, concatenated along the token axis.

    Attributes:
        cu_queries: (B + 1,) int32, offset of each sequence's queries, and their total.
        cu_keys: (B + 1,) int32, the same for keys. A sequence's queries are its last tokens.
        max_queries: The longest T.
        max_keys: The longest S.
        key_lengths: S of each sequence if the host knows them, so that nothing waits for the
            device.
        total_keys: The sum of S if the host knows it without the lengths. The packing then has
            as many summaries as one sequence would have; the last ones may belong to no sequence.
            A CUDA graph replays such a packing with other offsets, also of empty sequences.
    """

    cu_queries: Tensor
    cu_keys: Tensor
    max_queries: int
    max_keys: int
    key_lengths: tuple[int, ...] | None = None
    total_keys: int | None = None

    @property
    def sequences(self) -> int:
        """B, the number of sequences."""
        return len(self.cu_queries) - 1

    def running(self, counts: Tensor) -> Tensor:
        """Cumulative sums of a count per sequence: (B,) to (B + 1,) int32."""
        zero = counts.new_zeros(1)
        return torch.cat([zero, counts.cumsum(0)]).to(torch.int32)

    def cu_summaries(self, settings: AttentionSettings) -> Tensor:
        """Offset of each sequence's summaries, and their total: (B + 1,) int32."""
        return summary_offsets(self.cu_keys, settings)

    def summary_layout(self, settings: AttentionSettings) -> tuple[Tensor, int]:
        """Offsets of the summaries (B + 1,) int32, and their total.

        The total is read from the device once if the host does not know it.
        """
        # The calls of all layers share a packing, and each read would wait for the device.
        layouts: dict[tuple[int, int], tuple[Tensor, int]]
        layouts = self.__dict__.setdefault("_layouts", {})
        kind = (settings.compress_block, settings.compress_stride)
        if kind not in layouts:
            offsets = self.cu_summaries(settings)
            if self.total_keys is not None:
                total = settings.complete_blocks(self.total_keys)
            elif self.key_lengths is not None:
                total = sum(map(settings.complete_blocks, self.key_lengths))
            else:
                total = int(offsets[-1])
            layouts[kind] = (offsets, total)
        return layouts[kind]

    def cu_tiles(self, settings: AttentionSettings) -> Tensor:
        """Offset of each sequence's tiles of queries, and their total: (B + 1,) int32."""
        last, queries = self.cu_keys.diff() - 1, self.cu_queries.diff()
        first = (last + 1 - queries) // settings.select_tile
        return self.running((last // settings.select_tile - first + 1) * (queries > 0))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The sizes of one call, packed or not.

    Attributes:
        settings: Block sizes and budgets.
        batch: B.
        heads: H.
        groups: G.
        dim: D of queries and keys.
        value_dim: D of values.
        itemsize: Bytes of a number.
        queries: T, the longest of a packed batch.
        seq_len: S, the longest of a packed batch.
        packing: Offsets of the sequences of a packed batch, or None.
    """

    settings: AttentionSettings
    batch: int
    heads: int
    groups: int
    dim: int
    value_dim: int
    itemsize: int
    queries: int
    seq_len: int
    packing: Packing | None

    @classmethod
    def of(
        cls, q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings, packing: Packing | None
    ) -> Problem:
        """Read the sizes off the tensors.

        Args:
            q: (B, H, T, D), or (1, H, sum of T, D) packed.
            k: (B, G, S, D), or (1, G, sum of S, D) packed.
            v: (B, G, S, D), or (1, G, sum of S, D) packed.
            settings: Block sizes and budgets.
            packing: Offsets of the sequences of a packed batch, or None.

        Raises:
            UnsupportedError: If the kernels do not support the arguments.
        """
        if not q.dtype == k.dtype == v.dtype:
            raise UnsupportedError(
                "the Triton kernels take q, k and v of one dtype; "
                f"got {q.dtype}, {k.dtype}, {v.dtype}"
            )
        if reason := _refusal(q.dtype, (q.shape[3], v.shape[3]), settings):
            raise UnsupportedError(f"the Triton kernels {reason}")
        if settings.dense_below > (0 if packing else k.shape[2]):
            raise UnsupportedError(
                f"the Triton kernels select blocks; dense_below is {settings.dense_below}, so that "
                f"{k.shape[2]} tokens are attended to whole"
            )
        return cls(
            settings=settings,
            batch=packing.sequences if packing else q.shape[0],
            heads=q.shape[1],
            groups=k.shape[1],
            dim=q.shape[3],
            value_dim=v.shape[3],
            itemsize=q.element_size(),
            queries=packing.max_queries if packing else q.shape[2],
            seq_len=packing.max_keys if packing else k.shape[2],
            packing=packing,
        )

    @property
    def repeat(self) -> int:
        """R, query heads per group."""
        return self.heads // self.groups

    @property
    def offset(self) -> int:
        """Number of keys before the first query; for a packed batch, a lower bound."""
        return 0 if self.packing else self.seq_len - self.queries

    @property
    def summaries(self) -> int:
        """C, summaries of the longest sequence."""
        s = self.settings
        return max(0, self.seq_len - s.compress_block + s.compress_stride) // s.compress_stride

    @property
    def blocks(self) -> int:
        """N, selection blocks of the longest sequence."""
        return (self.seq_len - 1) // self.settings.select_block + 1

    @property
    def tiles(self) -> int:
        """U, tiles of queries; for a packed batch, an upper bound per sequence."""
        tile = self.settings.select_tile
        if self.packing:
            return min(self.queries, (self.queries - 2) // tile + 2) if tile > 1 else self.queries
        return (self.seq_len - 1) // tile - self.offset // tile + 1

    @property
    def scale(self) -> float:
        """Factor of the scores before a base-2 softmax."""
        return self.plain_scale * LOG2_E

    @property
    def plain_scale(self) -> float:
        """Factor of the scores before a softmax: D ** -0.5."""
        return float(self.dim**-0.5)

    @cached_property
    def cu_queries(self) -> Tensor | None:
        """Offset of each packed sequence's queries, or None."""
        return self.packing.cu_queries if self.packing else None

    @cached_property
    def cu_keys(self) -> Tensor | None:
        """Offset of each packed sequence's keys, or None."""
        return self.packing.cu_keys if self.packing else None

    @cached_property
    def cu_summaries(self) -> Tensor | None:
        """Offset of each packed sequence's summaries, or None."""
        return self.packing.cu_summaries(self.settings) if self.packing else None

    @cached_property
    def cu_tiles(self) -> Tensor | None:
        """Offset of each packed sequence's tiles, or None."""
        return self.packing.cu_tiles(self.settings) if self.packing else None

    def batch_stride(self, x: Tensor) -> int:
        """Stride between sequences, in elements; packed sequences are found by their offset."""
        return 0 if self.packing else x.stride(0)

    def per_query(self, like: Tensor) -> Tensor:
        """Allocate one fp32 number per query head and query of `like`: (B, H, T), uninitialized.

        The heads of a query are adjacent in memory.
        """
        batch, heads, queries = like.shape[:3]
        shape = (batch, queries, heads)
        return launches.empty(*shape, dtype=torch.float32, device=like.device).transpose(1, 2)


def _refusal(dtype: torch.dtype, dims: tuple[int, ...], settings: AttentionSettings) -> str | None:
    """Reason why the kernels do not support a call, or None."""
    if dtype not in _DTYPES:
        return f"take bfloat16, float16 and float32; got {dtype}"
    if any(dim * dtype.itemsize % 16 or dim > 256 for dim in dims):
        return f"take head dims of whole 16 bytes, up to 256; they are {dims}"
    if settings.select_count is None:
        return "select a number of blocks; select_count is None, dense attention"
    if settings.score_pooling != "sum" or settings.score_norm > 1:
        return "score blocks by sums of a softmax; see score_pooling and score_norm"
    if settings.select_run is not None:
        return f"rank all blocks together; select_run is {settings.select_run}"
    if settings.window < 1:
        return "have a window; it is 0"
    for name in ("select_block", "select_tile", "score_stride", "compress_stride"):
        value = getattr(settings, name)
        if value & (value - 1):
            return f"need powers of two; {name} is {value}"
    if not 16 <= settings.select_block <= 128:
        return f"take a select_block of 16 to 128; it is {settings.select_block}"
    if settings.compress_block > settings.select_block + settings.compress_stride:
        return (
            "take a compress_block of at most select_block + compress_stride, "
            f"{settings.select_block + settings.compress_stride}; it is {settings.compress_block}"
        )
    return None


def supports(dtype: torch.dtype, dims: tuple[int, ...], settings: AttentionSettings) -> bool:
    """Whether the Triton kernels support a call; `dims` are the head dims of keys and values."""
    return _refusal(dtype, dims, settings) is None


def pad(size: int) -> int:
    """Pad a dimension of a tile to a power of two, at least 16."""
    return max(16, int(triton.next_power_of_2(size)))


def overlaps(device: torch.device | str) -> bool:
    """Return whether a kernel may be launched before its predecessor has ended.

    It then waits before it reads its predecessor's output.
    """
    device = torch.device(device)
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


def loadable(x: Tensor) -> Tensor:
    """`x`, or a copy if the tensor memory engine cannot load its rows."""
    unit = 16 // x.element_size()
    outer = zip(x.shape[:-1], x.stride()[:-1], strict=True)
    fits = x.stride(-1) == 1 and all(
        size == 1 or (step and step % unit == 0) for size, step in outer
    )
    return x if fits and x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.contiguous_format)


def empty_rows(q: Tensor, dim: int) -> Tensor:
    """Allocate an uninitialized (B, H, T, dim) in the memory order (B, T, H, dim)."""
    batch, heads, queries = q.shape[:3]
    rows = launches.empty(batch, queries, heads, dim, dtype=q.dtype, device=q.device)
    return rows.transpose(1, 2)


def row_tiles(x: Tensor, queries: int, heads: int) -> TensorDescriptor:
    """Tiles of `queries` by `heads` rows of (B, H, T, D), for the GPU's tensor memory engine."""
    batch, all_heads, length, dim = x.shape
    unit = 16 // x.element_size()
    strides = [x.stride(i) if x.shape[i] > 1 else unit for i in (0, 2, 1)] + [1]
    shape, tile = [batch, length, all_heads, dim], [1, queries, heads, pad(dim)]
    return TensorDescriptor(x, shape, strides, tile)


def key_tiles(x: Tensor, keys: int) -> TensorDescriptor:
    """Tiles of `keys` rows of one group of (B, G, S, D)."""
    return row_tiles(x, keys, 1)


def number_strides(problem: Problem, x: Tensor | None) -> tuple[int, int, int]:
    """Strides of a (B, H, T) tensor; zeros for None."""
    if x is None:
        return 0, 0, 0
    return problem.batch_stride(x), x.stride(1), x.stride(2)
