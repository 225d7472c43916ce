"""KV cache with compressed keys and values (summaries).

Letters: L layers, B batch, G key/value groups, D head dim, T_max capacity in tokens, C_max
capacity in summaries.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nsa_kernels.api import nsa_attention
from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings, complete_blocks
from nsa_models.cache.branches import Branches, BranchInputs, RecentBranches
from nsa_models.cache.mapped import release_layer
from nsa_models.configuration.config import NSAConfig

if TYPE_CHECKING:
    from nsa_kernels.gpu.layout import Packing

Allocate = Callable[[str, tuple[int, ...], torch.dtype], Tensor]
"""Called with a tensor's name, shape and dtype; returns the tensor."""

KeyCompressor = Callable[..., Tensor]
"""A layer's φ: keys (B, G, S, D) and `first`, the position of the first key, to (B, G, C, D)."""

Compressor = KeyCompressor | Branches
"""A layer's φ of its keys, or what the branches of a layer have instead of the selection's keys and
values, and their φ."""

LayerDevices = Sequence[torch.device]
"""The device of each layer."""

SummaryKind = tuple[str, int, int]
"""`summary` for keys or `value_summary` for values; block length and stride, in tokens."""

BranchState = list[list[tuple[int, Tensor]]]
"""Of each layer, the first token and the tokens (B, G, n, D) of each tensor of its branches."""

Observe = Callable[[int, Tensor | None, AttentionSettings, int, int], None]


class KVCache:
    """Buffers for `capacity` tokens, of which the first `length` are filled.

    A model calls `attend` once per layer and `advance` after the last layer.

    Args:
        config: The model's configuration.
        capacity: T_max.
        batch: B.
        dtype: Type of keys and values.
        allocate: Returns the buffer of all layers, for example a mapped file. Buffers are on each
            layer's device when None.
        device: Device of all layers, or the device of each layer.

    Attributes:
        keys: Each layer's (B, G, T_max, D), after the rotary embedding.
        values: Each layer's (B, G, T_max, D).
        layer_devices: The device of each layer's attention.
        capacity: T_max.
        length: Filled tokens.
        position_offset: Position of the next token minus `length`.
        ahead: Tokens after `length` whose keys and values are in the buffers; see `keep_ahead`.
        mapped: The mapped file of keys and values; None if they are in memory.
        mapped_tokens: First tokens whose keys and values the mapped file holds.
        releases_layers: Whether `attend` releases the resident memory of what is mapped of a layer.
        observe: If not None, called after each layer's attention with the layer, its selected
            blocks (B, G, U, n) or None for all, the settings, S and T.
    """

    def __init__(
        self,
        config: NSAConfig,
        capacity: int,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        allocate: Allocate | None = None,
        device: torch.device | str | LayerDevices = "cpu",
    ) -> None:
        self.shape = cache_shape(config, capacity, batch)
        if isinstance(device, (torch.device, str)):
            device = [torch.device(device)] * self.shape[0]
        self.layer_devices = tuple(device)
        self._allocate = allocate
        self.keys = self._buffers("keys", self.shape, dtype)
        self.values = self._buffers("values", self.shape, dtype)
        self.capacity = capacity
        self.length = 0
        self.position_offset = 0
        self.ahead: tuple[int, ...] = ()
        self.mapped: mmap.mmap | None = None
        self.mapped_tokens, self.releases_layers = 0, False
        self.observe: Observe | None = None
        self._compressors: dict[int, KeyCompressor] = {}
        self._recent: tuple[RecentBranches, ...] | None = None
        self._window, self._released = 0, 0
        if config.branch_inputs:
            self._recent = tuple(RecentBranches() for _ in self.layer_devices)
            both = (config.prefill_settings(), config.answer_settings())
            self._window = max(each.window for each in both)
        self._summaries: dict[SummaryKind, tuple[Tensor, ...]] = {}
        self._summary_counts: dict[SummaryKind, list[int]] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Type of keys and values."""
        return self.keys[0].dtype

    def _buffers(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Allocate a buffer of shape (L, ...) as one tensor per layer."""
        if self._allocate is None:
            return tuple(
                torch.zeros(shape[1:], dtype=dtype, device=device) for device in self.layer_devices
            )
        buffer = self._allocate(name, shape, dtype)
        return tuple(buffer[layer] for layer in range(shape[0]))

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (T,) of the next `tokens` tokens."""
        first = self.length + self.position_offset
        return torch.arange(first, first + tokens, device=device)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        compress: Compressor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Append a layer's keys and values and attend to all filled tokens.

        Args:
            layer: Index of the layer.
            q: (B, H, T, D).
            k: (B, G, T, D).
            v: (B, G, T, D).
            settings: Attention settings.
            gates: (B, H, T, 3) or None; see `nsa_attention`.
            return_mass: Whether to return the attention mass of each block.
            compress: The layer's φ; means when None.

        Returns:
            Output (B, H, T, D) and, with `return_mass`, mass (B, H, T, N).
        """
        k, v, summary_k, summary_v = self.append(layer, k, v, settings, compress)
        window_k, window_v = self._window_tokens(layer, q.shape[2], settings)
        result = nsa_attention(
            q, k, v, settings,
            summary_k=summary_k, summary_v=summary_v, window_k=window_k, window_v=window_v,
            gates=gates, return_mass=return_mass,
        )  # fmt: skip
        if self.observe is not None:
            self.observe(layer, result.blocks, settings, k.shape[2], q.shape[2])
        if self.releases_layers:
            release_layer(self, layer)
        return result.out, result.mass

    def append(
        self,
        layer: int,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        compress: Compressor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Append a layer's keys and values; return all filled ones and their summaries.

        Args:
            layer: Index of the layer.
            k: (B, G, T, D).
            v: (B, G, T, D).
            settings: Attention settings.
            compress: See `attend`.

        Returns:
            Keys and values (B, G, S, D), and summaries (B, G, C, D) or None.
        """
        if isinstance(compress, Branches):
            return self._append_branches(layer, k, v, settings, compress)
        if compress is not None:
            self._compressors[layer] = compress
        k, v, summary_k = self.update(layer, k, v, settings)
        summary_v = None
        if settings.combine == "gated":
            summary_v = self._update_summaries(layer, v, settings, "value_summary")
        return k, v, summary_k, summary_v

    def update(
        self, layer: int, k: Tensor, v: Tensor, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Append a layer's keys and values; return all filled ones and the summaries of the keys.

        Args:
            layer: Index of the layer.
            k: (B, G, T, D).
            v: (B, G, T, D).
            settings: Attention settings; dense attention needs no summaries.

        Returns:
            Keys and values (B, G, S, D), and summaries (B, G, C, D) or None.
        """
        end = self.length + k.shape[2]
        assert end <= self.capacity, (end, self.capacity)
        self.ahead = ()
        self._drop_summaries(layer)
        self.keys[layer][:, :, self.length : end] = k
        self.values[layer][:, :, self.length : end] = v
        keys, values = self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
        if settings.covers(end) or self._recent is not None:
            return keys, values, None
        return keys, values, self._update_summaries(layer, keys, settings)

    def _append_branches(
        self, layer: int, k: Tensor, v: Tensor, settings: AttentionSettings, branches: Branches
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`append` for a layer whose branches have other keys and values, or a learned φ."""
        assert self._recent is not None
        start, end = self.length, self.length + k.shape[2]
        k, v, _ = self.update(layer, k, v, settings)
        recent = self._recent[layer]
        recent.append(branches, start, self.dtype)
        kinds = [
            (name, settings.compress_block, settings.compress_stride)
            for name in ("summary", "value_summary")
        ]
        stores = [self._summary_store(kind)[layer] for kind in kinds]
        done = self._summary_counts[kinds[0]][layer]
        total = settings.complete_blocks(end)
        if total > done:
            first = done * settings.compress_stride
            new = replace(
                branches,
                compress_k=recent.compress[0].since(first),
                compress_v=recent.compress[1].since(first),
            )
            positions = torch.arange(first, end, device=k.device) + self.position_offset
            parts = new.summaries(positions, settings)
            for kind, store, part in zip(kinds, stores, parts, strict=True):
                store[:, :, done:total] = part
                self._summary_counts[kind][layer] = total
        return k, v, stores[0][:, :, :total], stores[1][:, :, :total]

    def _window_tokens(
        self, layer: int, queries: int, settings: AttentionSettings
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the separate keys and values of the window that the last `queries` tokens see.

        Returns:
            Two (B, G, W, D), or None where the window has those of the selection.
        """
        recent = None if self._recent is None else self._recent[layer].window
        if recent is None or not recent[0].stop:
            return None, None
        first = max(0, recent[0].stop - queries - settings.window + 1)
        return recent[0].since(first), recent[1].since(first)

    def release_recent(self) -> None:
        """Free the keys and values of the branches that no later token needs.

        These are all but the window's last ones and those of incomplete compression blocks.
        `truncate` cannot go back before the present length then. Without separate keys and values
        or a learned φ, nothing is freed.
        """
        if self._recent is None:
            return
        starts = [
            complete_blocks(self.length, block, stride) * stride
            for _, block, stride in self._summary_counts
        ]
        for recent in self._recent:
            recent.release(min(starts, default=0), max(0, self.length - self._window + 1))
        self._released = self.length

    @property
    def recent(self) -> tuple[RecentBranches, ...] | None:
        """What each layer's branches hold beside the selection's keys and values, if they do."""
        return self._recent

    @property
    def recent_bytes(self) -> int:
        """Bytes of keys and values that branches hold beside the selection's and the summaries."""
        return sum(recent.nbytes for recent in self._recent or ())

    def _update_summaries(
        self, layer: int, x: Tensor, settings: AttentionSettings, name: str = "summary"
    ) -> Tensor:
        """Compute a layer's missing summaries of keys or values; return all: (B, G, C, D)."""
        kind = (name, settings.compress_block, settings.compress_stride)
        store, done = self._summary_store(kind)[layer], self._summary_counts[kind][layer]
        total = settings.complete_blocks(x.shape[2])
        if total > done:
            first = done * settings.compress_stride
            new = x[:, :, first:]
            if layer in self._compressors and name == "summary":
                store[:, :, done:total] = self._compressors[layer](new, first=first)
            else:
                store[:, :, done:total] = mean_summaries(new, settings)
            self._summary_counts[kind][layer] = total
        return store[:, :, :total]

    def _summary_store(self, kind: SummaryKind) -> tuple[Tensor, ...]:
        """Return the buffers for one block length and stride: each layer's (B, G, C_max, D)."""
        if kind not in self._summaries:
            layers, batch, groups, capacity, dim = self.shape
            shape = (layers, batch, groups, capacity // kind[2], dim)
            self._summaries[kind] = self._buffers("_".join(map(str, kind)), shape, self.dtype)
            self._summary_counts[kind] = [0] * layers
        return self._summaries[kind]

    def summary_buffers(self, of: AttentionSettings, name: str = "summary") -> tuple[Tensor, ...]:
        """Return the whole buffers of a kind of summaries: each layer's (B, G, C_max, D)."""
        return self._summary_store((name, of.compress_block, of.compress_stride))

    def _kept_kinds(self, settings: AttentionSettings) -> list[SummaryKind]:
        """Return the kinds of summaries that cannot or need not be computed from keys again."""
        names = ("summary",) if self._recent is None else ("summary", "value_summary")
        return [(name, settings.compress_block, settings.compress_stride) for name in names]

    def summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Return each layer's summaries of the filled keys, up to date: (B, G, C, D).

        Where branches have other keys and values, each layer's summaries of the values follow.
        """
        if self._recent is not None:
            return self._complete_summaries(settings)
        return [
            self._update_summaries(layer, keys[:, :, : self.length], settings)
            for layer, keys in enumerate(self.keys)
        ]

    def _complete_summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Return the content of the kept summaries' buffers for the filled tokens."""
        total = settings.complete_blocks(self.length)
        kinds = self._kept_kinds(settings)
        return [store[:, :, :total] for kind in kinds for store in self._summary_store(kind)]

    def adopt_summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Mark the buffers' content as summaries of the filled tokens; return as `summaries`."""
        total = settings.complete_blocks(self.length)
        found = self._complete_summaries(settings)
        for kind in self._kept_kinds(settings):
            self._summary_counts[kind] = [total] * len(self.keys)
        return found

    def branch_state(self) -> BranchState:
        """Return what the branches hold beside the summaries; see `release_recent`."""
        assert self._recent is not None
        return [recent.state() for recent in self._recent]

    def restore_branches(self, state: BranchState) -> None:
        """Hold a copy of another cache's `branch_state`, of a text of the same length."""
        assert self._recent is not None
        for recent, held in zip(self._recent, state, strict=True):
            recent.restore(held)
        self._released = self.length

    def copy_branches(self, other: KVCache) -> None:
        """Copy the summaries and the branches of another cache of a text of the same length."""
        if other._recent is None:
            return
        assert self.length == other.length, (self.length, other.length)
        for kind, theirs in other._summaries.items():
            total = complete_blocks(self.length, *kind[1:])
            for ours, store in zip(self._summary_store(kind), theirs, strict=True):
                ours[:, :, :total] = store[:, :, :total]
            self._summary_counts[kind] = [total] * len(theirs)
        self.restore_branches(other.branch_state())

    def copy_compressors(self, other: KVCache) -> None:
        """Use the φ of each layer of another cache that has attended, on that cache's devices."""
        self._compressors = {
            layer: partial(_compress_on, compress, other.layer_devices[layer])
            for layer, compress in other._compressors.items()
        }

    def release_pages(self) -> None:
        """Release the resident memory of the mapped file; written data stays in the file.

        Data of a private mapping beyond `length` is lost.
        """
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.ahead = ()
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def advance(self, tokens: int) -> None:
        """Add `tokens` to the length after the last layer."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens.

        Raises:
            ValueError: If the branches no longer hold the tokens before; see `release_recent`.
        """
        assert 0 <= length <= self.length, (length, self.length)
        if 0 < length < self._released:
            raise ValueError(
                f"a cache of separate windows cannot go back to {length} tokens: it holds the "
                f"window of the last tokens alone, and those before token {self._released} were "
                "released; prefill the text again"
            )
        if self._recent is not None and length == 0:
            self._recent, self._released = tuple(RecentBranches() for _ in self._recent), 0
        for recent in self._recent or ():
            recent.truncate(length)
        self.ahead = ()
        self.length, self.mapped_tokens = length, min(self.mapped_tokens, length)
        for layer in range(len(self.keys)):
            self._drop_summaries(layer)

    def _drop_summaries(self, layer: int) -> None:
        """Drop summaries past `length`, for example those of a failed step."""
        for (_, block, stride), counts in self._summary_counts.items():
            counts[layer] = min(counts[layer], complete_blocks(self.length, block, stride))


class NoCache:
    """Attention over the tokens of one call, without a cache.

    Args:
        packing: Offsets of the texts of a packed batch, in which T is their sum and B is 1; see
            `nsa_attention`.
    """

    packing: Packing | None = None

    def __init__(self, packing: Packing | None = None) -> None:
        self.packing = packing

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (T,) from 0, in a packed batch from 0 for each text."""
        positions = torch.arange(tokens, device=device)
        if self.packing is None:
            return positions
        starts = self.packing.cu_keys.long()
        text = torch.searchsorted(starts, positions, right=True) - 1
        return positions - starts[text]

    def attend(
        self,
        layer: int,  # noqa: ARG002
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        compress: Compressor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to k and v; q belongs to the last T positions. See `KVCache.attend`."""
        given = self.inputs(k, settings, compress)._asdict()
        result = nsa_attention(
            q, k, v, settings, **given,
            gates=gates, packing=self.packing, return_mass=return_mass,
        )  # fmt: skip
        return result.out, result.mass

    def inputs(
        self, k: Tensor, settings: AttentionSettings, compress: Compressor | None
    ) -> BranchInputs:
        """Return what the attention takes of the branches beside the keys k (B, G, T, D)."""
        if isinstance(compress, Branches):
            positions = self.positions(k.shape[2], k.device)
            return compress.tokens(slice(k.shape[2])).inputs(positions, settings, self.packing)
        if compress is None or settings.covers(k.shape[2]):
            return BranchInputs()
        return BranchInputs(summary_k=compress(k))

    def advance(self, tokens: int) -> None:
        """Do nothing."""


def _compress_on(compress: KeyCompressor, device: torch.device, k: Tensor, first: int) -> Tensor:
    """Compress keys on the device of φ and move the result back."""
    return compress(k.to(device), first=first).to(k.device)


def cache_shape(config: NSAConfig, capacity: int, batch: int = 1) -> tuple[int, ...]:
    """Return the shape of the keys and of the values: (L, B, G, T_max, D)."""
    assert config.head_dim is not None
    return (
        config.num_hidden_layers,
        batch,
        config.num_key_value_heads,
        capacity,
        config.head_dim,
    )
