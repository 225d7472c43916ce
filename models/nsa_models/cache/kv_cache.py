"""KV cache with compressed keys and values (summaries).

Letters: L layers, B batch, G key/value groups, D head dim, T_max capacity in tokens, C_max
capacity in summaries.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.api import nsa_attention
from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings, complete_blocks
from nsa_models.configuration.config import NSAConfig

Allocate = Callable[[str, tuple[int, ...], torch.dtype], Tensor]
"""Called with a tensor's name, shape and dtype; returns the tensor."""

Compressor = Callable[..., Tensor]
"""A layer's φ: keys (B, G, S, D) and `first`, the position of the first key, to (B, G, C, D)."""

LayerDevices = Sequence[torch.device]
"""The device of each layer."""

SummaryKind = tuple[str, int, int]
"""`summary` for keys or `value_summary` for values; block length and stride, in tokens."""

Observe = Callable[[int, Tensor | None, AttentionSettings, int, int], None]


class LayerCache(Protocol):
    """The part of a cache that a model calls: positions and each layer's attention."""

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions of the next tokens: (T,), or (B, 1, T) if the rows' lengths differ."""
        ...

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
        """Append a layer's keys and values and attend; see `KVCache.attend`."""
        ...

    def advance(self, tokens: int) -> None:
        """Add `tokens` to the length after the last layer."""
        ...


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
        mapped: The mapped file of keys and values; None if they are in memory.
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
        self.mapped: mmap.mmap | None = None
        self.observe: Observe | None = None
        self._compressors: dict[int, Compressor] = {}
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
        result = nsa_attention(
            q, k, v, settings,
            summary_k=summary_k, summary_v=summary_v, gates=gates, return_mass=return_mass,
        )  # fmt: skip
        if self.observe is not None:
            self.observe(layer, result.blocks, settings, k.shape[2], q.shape[2])
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
        self._drop_summaries(layer)
        self.keys[layer][:, :, self.length : end] = k
        self.values[layer][:, :, self.length : end] = v
        keys, values = self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
        if settings.covers(end):
            return keys, values, None
        return keys, values, self._update_summaries(layer, keys, settings)

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

    def summary_buffers(self, settings: AttentionSettings) -> tuple[Tensor, ...]:
        """Return the whole buffers of key summaries: each layer's (B, G, C_max, D)."""
        return self._summary_store(("summary", settings.compress_block, settings.compress_stride))

    def summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Return each layer's summaries of the filled keys, up to date: (B, G, C, D)."""
        return [
            self._update_summaries(layer, keys[:, :, : self.length], settings)
            for layer, keys in enumerate(self.keys)
        ]

    def adopt_summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Mark the buffers' content as summaries of the filled keys and return it: (B, G, C, D)."""
        total = settings.complete_blocks(self.length)
        kind = ("summary", settings.compress_block, settings.compress_stride)
        store = self._summary_store(kind)
        self._summary_counts[kind] = [total] * len(store)
        return [summaries[:, :, :total] for summaries in store]

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
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def advance(self, tokens: int) -> None:
        """Add `tokens` to the length after the last layer."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens."""
        assert 0 <= length <= self.length, (length, self.length)
        self.length = length
        for layer in range(len(self.keys)):
            self._drop_summaries(layer)

    def _drop_summaries(self, layer: int) -> None:
        """Drop summaries past `length`, for example those of a failed step."""
        for (_, block, stride), counts in self._summary_counts.items():
            counts[layer] = min(counts[layer], complete_blocks(self.length, block, stride))


class NoCache:
    """Attention over the tokens of one call, without a cache."""

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (T,) from 0."""
        return torch.arange(tokens, device=device)

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
        summary_k = None
        if compress is not None and not settings.covers(k.shape[2]):
            summary_k = compress(k)
        result = nsa_attention(
            q, k, v, settings, summary_k=summary_k, gates=gates, return_mass=return_mass
        )
        return result.out, result.mass

    def advance(self, tokens: int) -> None:
        """Do nothing."""


class CacheBatch:
    """Several caches of one text each as one batch, for one question to all texts.

    Args:
        caches: The cache of each row; lengths may differ.
    """

    def __init__(self, caches: Sequence[KVCache]) -> None:
        self._caches = caches

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (B, 1, T) of the next `tokens` tokens."""
        return torch.stack([cache.positions(tokens, device) for cache in self._caches])[:, None]

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
        """Attend row by row, see `KVCache.attend`; the mass of shorter texts is padded with 0."""
        outs, masses = [], []
        for row, cache in enumerate(self._caches):
            q_row, k_row, v_row = (x[row : row + 1] for x in (q, k, v))
            gates_row = None if gates is None else gates[row : row + 1]
            out, mass = cache.attend(
                layer, q_row, k_row, v_row, settings, gates_row, return_mass, compress
            )
            outs.append(out)
            if mass is not None:
                masses.append(mass)
        if not masses:
            return torch.cat(outs), None
        width = max(mass.shape[-1] for mass in masses)
        return torch.cat(outs), torch.cat([F.pad(x, (0, width - x.shape[-1])) for x in masses])

    def advance(self, tokens: int) -> None:
        """Add `tokens` to the length of each cache after the last layer."""
        for cache in self._caches:
            cache.advance(tokens)


def _compress_on(compress: Compressor, device: torch.device, k: Tensor, first: int) -> Tensor:
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
