"""The cache of a decode step, its workspace, and its division of work.

The number of programs per sequence follows from the cache's capacity, since only the device knows
the lengths. At each step the programs divide the actual tokens among themselves.

Letters: see `decode.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import torch
import triton
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode_branches import BranchBuffers
from nsa_kernels.gpu.layout import overlaps, pad
from nsa_kernels.settings import AttentionSettings

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)

_RESIDENT = 3
"""Programs that fit into a multiprocessor's shared memory at once."""

_TILE_BYTES = 32768
"""Bytes of the keys and values of a tile."""

_WIDEST_TILE = 64
"""Most rows of a tile."""

_MOST_SPLITS = 64
"""Most splits; more would only make the merge slower."""

_MOST_RANKED = 512
"""Most keys that one program ranks, by comparing all pairs."""

_MOST_CHOOSERS = 32
"""Most programs of the selection; each repeats the search for its blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """The division of a step's work; it depends on capacities alone.

    Attributes:
        splits: Programs that share the summaries of one key/value group (S).
        window_parts: Programs that share the window (W).
        select_parts: Programs that share the selected blocks (Z).
        own: Selected blocks per program.
        summary_tile: Summaries of a tile.
        token_tile: Tokens of a tile.
        ranked: Selection blocks that one program ranks; it keeps the best n.
        most_ranked: Most keys that one program ranks. While the lists of best blocks hold more,
            each program merges several lists into one.
        overlap: Whether a kernel may be launched before its predecessor has ended
            (programmatic dependent launch, from compute capability 9.0 on).
    """

    splits: int
    window_parts: int
    select_parts: int
    own: int
    summary_tile: int
    token_tile: int
    ranked: int
    most_ranked: int
    overlap: bool

    @property
    def parts(self) -> int:
        """Partial outputs of one key/value group (P)."""
        return self.window_parts + self.select_parts + self.splits

    @classmethod
    def of(
        cls,
        settings: AttentionSettings,
        *,
        groups: int,
        capacity: int,
        row_bytes: int,
        programs: int,
        overlap: bool,
    ) -> DecodePlan:
        """Divide the work of a step.

        Args:
            settings: Block sizes and budgets; `select_count` is not None.
            groups: B * G.
            capacity: T_max.
            row_bytes: Bytes of one key and value, padded.
            programs: Programs that the device holds at once.
            overlap: See the attribute.
        """
        assert settings.select_count is not None
        widest = max(16, min(_WIDEST_TILE, _floor_power(_TILE_BYTES // row_bytes)))
        summary_tile = max(widest, settings.select_block // settings.compress_stride)
        token_tile = min(widest, settings.select_block)
        # At least two tiles, so that one is loaded while the other is used.
        pairs = triton.cdiv(capacity // settings.compress_stride, 2 * summary_tile)
        each = max(2, programs // groups)
        window_tiles = triton.cdiv(settings.window + settings.select_block, token_tile)
        selected_tiles = settings.select_count * settings.select_block // token_tile
        share = round(each * selected_tiles / (selected_tiles + window_tiles))
        own = triton.cdiv(
            settings.select_count, max(1, min(share, settings.select_count, _MOST_CHOOSERS))
        )
        select_parts = triton.cdiv(settings.select_count, own)
        # Programs first rank blocks within parts of the text, then the best blocks of all parts.
        blocks = triton.cdiv(capacity, settings.select_block)
        ranked = _ranked(blocks, settings.select_count)
        ranked = max(ranked, summary_tile * settings.compress_stride // settings.select_block)
        return cls(
            # Two programs of the scan on a multiprocessor are faster than three.
            splits=_splits(
                groups, max(1, programs * 2 // _RESIDENT), max(1, min(pairs, _MOST_SPLITS))
            ),
            window_parts=max(1, min(each - select_parts, window_tiles)),
            select_parts=select_parts,
            own=own,
            summary_tile=summary_tile,
            token_tile=token_tile,
            ranked=ranked,
            most_ranked=_MOST_RANKED,
            overlap=overlap,
        )


def _floor_power(size: int) -> int:
    """The largest power of two that is at most `size`."""
    return 1 << size.bit_length() >> 1


def _ranked(blocks: int, count: int) -> int:
    """Blocks that one program ranks, by comparing all pairs.

    Programs of the selection then compare all pairs of the best blocks of all, each program again,
    so that these must not be more.
    """
    ranked = pad(min(_MOST_RANKED, math.isqrt(blocks * count)))
    while ranked < _MOST_RANKED and pad(triton.cdiv(blocks, ranked) * min(count, ranked)) > ranked:
        ranked *= 2
    return ranked


def _splits(groups: int, programs: int, most: int) -> int:
    """Splits of the summaries: one wave of programs, or several with a well-filled last wave."""
    fit = programs // groups
    if fit >= 4:
        return min(fit, most)

    def filled(splits: int) -> float:
        waves = splits * groups / programs
        return waves / -(-splits * groups // programs)

    return max(range(1, min(most, 8) + 1), key=filled)


@dataclass(frozen=True, kw_only=True)
class DecodeWorkspace:
    """Buffers between the kernels of a step; layers of a model may share them.

    The buffers need no initialization.

    Attributes:
        settings: Block sizes and budgets.
        plan: The division of work.
        lse: (B * G, P, R) fp32, base-2 log-sum-exp of each partial output.
        partial: (B * G, P, R, Dv) fp32, partial outputs.
        pooled: (B * G, N, R) fp32, unnormalized importance from the summaries of a block's tile.
        tile_max: (B * G, tiles, R) fp32, the score that a tile's importance is relative to.
        tile_spill: (B * G, tiles, R) fp32, a tile's contribution to the first block of the next.
        best: Levels of (B * G, lists, up to n) int64, the best blocks of each list, most important
            first; of equally important blocks the earlier ranks first. A list of each level after
            the first merges several lists of the level before.
        selected: (B, G, n) int32, the step's blocks, most important first, padded with -1.
    """

    settings: AttentionSettings
    plan: DecodePlan
    lse: Tensor
    partial: Tensor
    pooled: Tensor
    tile_max: Tensor
    tile_spill: Tensor
    best: tuple[Tensor, ...]
    selected: Tensor

    @property
    def spans(self) -> list[int]:
        """Selection blocks that one list of each level of `best` covers."""
        joined = (self.plan.most_ranked // lists.shape[2] for lists in self.best[:-1])
        return list(accumulate(joined, mul, initial=self.plan.ranked))

    @classmethod
    def allocate(
        cls,
        settings: AttentionSettings,
        *,
        batch: int,
        heads: int,
        groups: int,
        capacity: int,
        head_dim: int,
        value_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        programs: int | None = None,
        overlap: bool | None = None,
    ) -> DecodeWorkspace:
        """Allocate the buffers for steps of these sizes.

        Args:
            settings: Block sizes and budgets.
            batch: B.
            heads: H.
            groups: G.
            capacity: T_max, tokens.
            head_dim: D.
            value_dim: Dv.
            dtype: The cache's dtype.
            device: The cache's device.
            programs: Programs to divide the work among; as many as the device holds when None.
            overlap: Whether kernels may be launched early; if the device supports it when None.

        Raises:
            UnsupportedError: If the kernels do not support the arguments.
        """
        _check_supported(settings, heads, groups, dtype)
        assert settings.select_count is not None
        on_cuda = torch.device(device).type == "cuda"
        if programs is None:
            count = torch.cuda.get_device_properties(device).multi_processor_count if on_cuda else 1
            programs = _RESIDENT * count
        if overlap is None:
            overlap = overlaps(device)
        plan = DecodePlan.of(
            settings,
            groups=batch * groups,
            capacity=capacity,
            row_bytes=(pad(head_dim) + pad(value_dim)) * dtype.itemsize,
            programs=programs,
            overlap=overlap,
        )
        repeat = heads // groups
        blocks = triton.cdiv(capacity, settings.select_block)
        tiles = triton.cdiv(blocks * settings.select_block, settings.compress_stride)
        tiles = triton.cdiv(tiles, plan.summary_tile)

        def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(batch * groups, *shape, dtype=dtype, device=device)

        sizes = [(triton.cdiv(blocks, plan.ranked), min(settings.select_count, plan.ranked))]
        while math.prod(sizes[-1]) > plan.most_ranked >= 2 * sizes[-1][1]:
            lists, keep = sizes[-1]
            joined = plan.most_ranked // keep
            sizes.append((triton.cdiv(lists, joined), min(settings.select_count, joined * keep)))
        return cls(
            settings=settings,
            plan=plan,
            lse=room(plan.parts, repeat),
            partial=room(plan.parts, repeat, value_dim),
            pooled=room(blocks, repeat),
            tile_max=room(tiles, repeat),
            tile_spill=room(tiles, repeat),
            best=tuple(room(*size, dtype=torch.int64) for size in sizes),
            selected=torch.empty(
                batch, groups, settings.select_count, dtype=torch.int32, device=device
            ),
        )


def _check_supported(
    settings: AttentionSettings, heads: int, groups: int, dtype: torch.dtype
) -> None:
    """Raise UnsupportedError for arguments that the kernels do not support."""
    if dtype not in _DTYPES:
        raise UnsupportedError(f"dtype is {dtype}; the decode step takes one of {_DTYPES}")
    if settings.select_count is None:
        raise UnsupportedError("select_count is None; the decode step needs a number")
    if settings.select_tile != 1:
        raise UnsupportedError(f"select_tile is {settings.select_tile}; the decode step needs 1")
    published = settings.score_pooling != "sum" or settings.score_norm > 1
    if published or settings.select_run is not None or settings.dense_below or not settings.window:
        raise UnsupportedError(
            "the decode step ranks all blocks by sums of a softmax, has a window and attends "
            "sparsely at any length; see score_pooling, score_norm, select_run, window, dense_below"
        )
    for name, value in (
        ("select_block", settings.select_block),
        ("select_block / compress_stride", settings.select_block // settings.compress_stride),
    ):
        if value & (value - 1):
            raise UnsupportedError(f"{name} is {value}; the decode step needs a power of two")
    if not 16 <= settings.select_block <= 128:
        raise UnsupportedError(
            f"select_block is {settings.select_block}; the decode step takes 16 to 128"
        )
    if settings.compress_block > settings.select_block + settings.compress_stride:
        raise UnsupportedError(
            f"compress_block {settings.compress_block} is longer than select_block + "
            f"compress_stride, {settings.select_block + settings.compress_stride}"
        )
    if heads % groups:
        raise ValueError(f"{heads} query heads are not a multiple of {groups} groups")


@dataclass(frozen=True, kw_only=True)
class DecodeCache:
    """Keys, values and summaries of sequences of different lengths.

    The tensors are written in place. A sequence must not outgrow T_max: the host does not check
    it, and each further token overwrites the last.

    Attributes:
        k: (B, G, T_max, D).
        v: (B, G, T_max, Dv).
        summary_k: (B, G, C_max, D), the complete summaries of the tokens so far.
        summary_v: (B, G, C_max, Dv); no rows in `union` mode, which does not use them.
        lengths: (B,) int32, tokens so far.
        workspace: Buffers that the kernels share.
        branches: Separate keys and values of the compression and the window, for `gated`; None if
            they have those of the selection.
    """

    k: Tensor
    v: Tensor
    summary_k: Tensor
    summary_v: Tensor
    lengths: Tensor
    workspace: DecodeWorkspace
    branches: BranchBuffers | None = None

    def __post_init__(self) -> None:
        """Check the tensors against each other.

        Raises:
            ValueError: If shapes do not match or a tensor is not contiguous.
        """
        for name in ("k", "v", "summary_k", "summary_v", "lengths"):
            if not getattr(self, name).is_contiguous():
                raise ValueError(f"{name} is not contiguous; the decode step needs it to be")
        batch, groups, capacity, dim = self.k.shape
        s = self.workspace.settings
        least = max(1, (capacity - s.compress_block) // s.compress_stride + 1)
        values = self.summary_v.shape[2] if s.combine == "gated" else least
        if (
            self.v.shape[:3] != self.k.shape[:3]
            or self.summary_k.shape[:2] != (batch, groups)
            or self.summary_k.shape[3] != dim
            or min(self.summary_k.shape[2], values) < least
            or (s.combine == "gated" and values != self.summary_k.shape[2])
            or self.summary_v.shape[3] != self.v.shape[3]
            or self.lengths.shape != (batch,)
            or self.workspace.partial.shape[0] != batch * groups
            or self.workspace.partial.shape[3] != self.v.shape[3]
            or self.workspace.pooled.shape[1] != triton.cdiv(capacity, s.select_block)
        ):
            raise ValueError(
                f"shapes do not agree: k {tuple(self.k.shape)}, v {tuple(self.v.shape)}, "
                f"summary_k {tuple(self.summary_k.shape)}, "
                f"summary_v {tuple(self.summary_v.shape)}, lengths {tuple(self.lengths.shape)}, "
                f"workspace for {tuple(self.workspace.partial.shape)}"
            )
        if self.branches is not None:
            if s.combine != "gated":
                raise ValueError(f"combine is {s.combine!r}; separate branches need 'gated'")
            self.branches.check(self.k, self.v)

    def window(self) -> tuple[Tensor, Tensor, int]:
        """Return keys and values of the window, (B, G, U, D), and the token of the first row."""
        of = self.branches
        if of is None or of.window_k is None or of.window_v is None:
            return self.k, self.v, 0
        return of.window_k, of.window_v, of.window_first

    @classmethod
    def allocate(
        cls,
        settings: AttentionSettings,
        *,
        batch: int,
        heads: int,
        groups: int,
        capacity: int,
        head_dim: int,
        value_dim: int | None = None,
        dtype: torch.dtype,
        device: torch.device | str,
        workspace: DecodeWorkspace | None = None,
    ) -> DecodeCache:
        """Allocate an empty cache; the sizes are those of `DecodeWorkspace.allocate`.

        Args:
            settings: Block sizes and budgets.
            batch: B.
            heads: H.
            groups: G.
            capacity: T_max, tokens.
            head_dim: D.
            value_dim: Dv; D when None.
            dtype: The dtype of keys and values.
            device: The cache's device.
            workspace: Another layer's workspace to share; a new one when None.
        """
        value_dim = head_dim if value_dim is None else value_dim
        workspace = workspace or DecodeWorkspace.allocate(
            settings,
            batch=batch,
            heads=heads,
            groups=groups,
            capacity=capacity,
            head_dim=head_dim,
            value_dim=value_dim,
            dtype=dtype,
            device=device,
        )
        summaries = max(1, (capacity - settings.compress_block) // settings.compress_stride + 1)

        def room(rows: int, dim: int) -> Tensor:
            return torch.empty(batch, groups, rows, dim, dtype=dtype, device=device)

        return cls(
            k=room(capacity, head_dim),
            v=room(capacity, value_dim),
            summary_k=room(summaries, head_dim),
            summary_v=room(summaries if settings.combine == "gated" else 0, value_dim),
            lengths=torch.zeros(batch, dtype=torch.int32, device=device),
            workspace=workspace,
        )
