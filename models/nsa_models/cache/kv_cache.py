"""Keys, values and their summaries of a text that was read.

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
from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.config import NSAConfig

Allocate = Callable[[str, tuple[int, ...], torch.dtype], Tensor]
Summarise = Callable[..., Tensor]
"""A layer's φ: keys (B, G, S, D) and `first`, the position of the first, to (B, G, C, D)."""

LayerDevices = Sequence[torch.device]
"""Where each layer of a model is."""

Kind = tuple[str, int, int]
"""Which summaries: `summary`, of keys, or `value_summary`; their length and their stride."""

Observe = Callable[[int, Tensor | None, AttentionSettings, int, int], None]


class LayerCache(Protocol):
    """What a model needs of a cache: where its tokens stand, and each layer's attention."""

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Positions of the next `tokens` tokens: (T,), or (B, 1, T) where texts differ."""
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
        summarise: Summarise | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Append a layer's keys and values, and attend; see `KVCache.attend`."""
        ...

    def advance(self, tokens: int) -> None:
        """Count `tokens` as filled, once every layer has them."""
        ...


class KVCache:
    """A fixed room for `capacity` tokens, of which the first `length` are filled.

    A model calls `attend` once per layer; `advance` follows the last layer.

    Args:
        config: Of the model.
        capacity: T_max.
        batch: B.
        dtype: Of keys and values.
        allocate: Gives the room of all layers, so that it can be that of a mapped file; called
            with a name, the shape and the type. Memory of each layer's device when None.
        device: Where it lies; of each layer, where these lie on several.
        lasting: Names of tensors that `allocate` gives with what they held before.

    Attributes:
        keys: Each layer's (B, G, T_max, D), after the rotary embedding.
        values: Each layer's (B, G, T_max, D).
        homes: Where each layer attends.
        capacity: T_max.
        length: Tokens filled.
        lasting: See above.
        mapped: The file that keys and values are mapped from; None if they are in memory.
        observe: Called after each layer's attention with the layer, the blocks that it selected
            (B, G, U, n) or None for all, the settings, S and T; None to call nothing.
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
        lasting: frozenset[str] = frozenset(),
    ) -> None:
        self.shape = cache_shape(config, capacity, batch)
        if isinstance(device, (torch.device, str)):
            device = [torch.device(device)] * self.shape[0]
        self.layer_devices = tuple(device)
        self._allocate = allocate
        self.keys = self._room("keys", self.shape, dtype)
        self.values = self._room("values", self.shape, dtype)
        self.capacity = capacity
        self.length = 0
        self.lasting = lasting
        self.mapped: mmap.mmap | None = None
        self.observe: Observe | None = None
        self._learned: dict[int, Summarise] = {}
        self._summaries: dict[Kind, tuple[Tensor, ...]] = {}
        self._summarised: dict[Kind, list[int]] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.keys[0].dtype

    def _room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Room of a shape (L, ...), a tensor for each layer."""
        if self._allocate is None:
            return tuple(
                torch.zeros(shape[1:], dtype=dtype, device=home) for home in self.layer_devices
            )
        whole = self._allocate(name, shape, dtype)
        return tuple(whole[layer] for layer in range(shape[0]))

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Positions (T,) of the next `tokens` tokens."""
        return torch.arange(self.length, self.length + tokens, device=device)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        summarise: Summarise | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Append a layer's keys and values, and attend to all of them.

        Args:
            layer: Index of the layer.
            q: (B, H, T, D).
            k: (B, G, T, D).
            v: (B, G, T, D).
            settings: What to attend to.
            gates: (B, H, T, 3) or None; see `nsa_attention`.
            return_mass: Whether to return the attention mass of each block.
            summarise: The layer's φ; means when None.

        Returns:
            Output (B, H, T, D) and, if asked for, mass (B, H, T, N).
        """
        k, v, summary_k, summary_v = self.append(layer, k, v, settings, summarise)
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
        summarise: Summarise | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Append a layer's keys and values; return all of them, and the summaries of both.

        Args:
            layer: Index of the layer.
            k: (B, G, T, D).
            v: (B, G, T, D).
            settings: What is attended to.
            summarise: See `attend`.

        Returns:
            Keys and values (B, G, S, D), and summaries (B, G, C, D) or None.
        """
        if summarise is not None:
            self._learned[layer] = summarise
        k, v, summary_k = self.update(layer, k, v, settings)
        summary_v = None
        if settings.combine == "gated":
            summary_v = self._summarise(layer, v, settings, "value_summary")
        return k, v, summary_k, summary_v

    def update(
        self, layer: int, k: Tensor, v: Tensor, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Append a layer's keys and values; return all of them and the summaries of the keys.

        Args:
            layer: Index of the layer.
            k: (B, G, T, D).
            v: (B, G, T, D).
            settings: Which summaries are wanted; none for dense attention.

        Returns:
            Keys and values (B, G, S, D), and summaries (B, G, C, D) or None.
        """
        end = self.length + k.shape[2]
        assert end <= self.capacity, (end, self.capacity)
        self._forget_summaries(layer)
        self.keys[layer][:, :, self.length : end] = k
        self.values[layer][:, :, self.length : end] = v
        keys, values = self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
        if settings.covers(end):
            return keys, values, None
        return keys, values, self._summarise(layer, keys, settings)

    def _summarise(
        self, layer: int, x: Tensor, settings: AttentionSettings, what: str = "summary"
    ) -> Tensor:
        """Bring a layer's summaries of keys or values up to date and return them: (B, G, C, D)."""
        block, stride = settings.compress_block, settings.compress_stride
        kind = (what, block, stride)
        store, done = self._summary_store(kind)[layer], self._summarised[kind][layer]
        total = max(0, (x.shape[2] - block) // stride + 1)
        if total > done:
            new, first = x[:, :, done * stride :], done * stride
            if layer in self._learned and what == "summary":
                store[:, :, done:total] = self._learned[layer](new, first=first)
            else:
                store[:, :, done:total] = mean_summaries(new, settings)
            self._summarised[kind][layer] = total
        return store[:, :, :total]

    def _summary_store(self, kind: Kind) -> tuple[Tensor, ...]:
        """Room for summaries of so many tokens every so many: each layer's (B, G, C_max, D)."""
        if kind not in self._summaries:
            layers, batch, groups, capacity, dim = self.shape
            shape = (layers, batch, groups, capacity // kind[2], dim)
            self._summaries[kind] = self._room(_name(kind), shape, self.dtype)
            self._summarised[kind] = [0] * layers
        return self._summaries[kind]

    def summary_room(self, settings: AttentionSettings) -> tuple[Tensor, ...]:
        """Room for summaries of all that fits, whatever it holds: each layer's (B, G, C_max, D)."""
        return self._summary_store(("summary", settings.compress_block, settings.compress_stride))

    def summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Each layer's summaries of what is filled, brought up to date: (B, G, C, D)."""
        return [
            self._summarise(layer, keys[:, :, : self.length], settings)
            for layer, keys in enumerate(self.keys)
        ]

    def adopt_summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Take the summaries of what is filled to lie in their room: each layer's (B, G, C, D)."""
        total = max(0, (self.length - settings.compress_block) // settings.compress_stride + 1)
        kind = ("summary", settings.compress_block, settings.compress_stride)
        store = self._summary_store(kind)
        self._summarised[kind] = [total] * len(store)
        return [each[:, :, :total] for each in store]

    def copy_compressors(self, other: KVCache) -> None:
        """Make summaries as another cache does that has attended, and on its devices."""
        self._learned = {
            layer: partial(_elsewhere, summarise, other.layer_devices[layer])
            for layer, summarise in other._learned.items()
        }

    def release_pages(self) -> None:
        """Let go of the memory that a file is mapped into; what is written stays in the file.

        What a private mapping took beyond `length` is lost.
        """
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def advance(self, tokens: int) -> None:
        """Count `tokens` as filled, once every layer has them."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        assert 0 <= length <= self.length, (length, self.length)
        self.length = length
        for layer in range(len(self.keys)):
            self._forget_summaries(layer)

    def _forget_summaries(self, layer: int) -> None:
        """Count no summary past `length`, such as a step that failed may have left."""
        for (_, block, stride), counts in self._summarised.items():
            complete = max(0, (self.length - block) // stride + 1)
            counts[layer] = min(counts[layer], complete)


class CacheBatch:
    """Caches of texts that one question is put to at once: a row of the batch for each.

    Args:
        caches: Each of one text; they may be of different lengths.
    """

    def __init__(self, caches: Sequence[KVCache]) -> None:
        self._caches = caches

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Positions (B, 1, T) of the next `tokens` tokens."""
        return torch.stack([each.positions(tokens, device) for each in self._caches])[:, None]

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        summarise: Summarise | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `KVCache.attend`; where a text has fewer blocks than another, their mass is 0."""
        outs, masses = [], []
        for row, cache in enumerate(self._caches):
            q_row, k_row, v_row = (x[row : row + 1] for x in (q, k, v))
            gates_row = None if gates is None else gates[row : row + 1]
            out, mass = cache.attend(
                layer, q_row, k_row, v_row, settings, gates_row, return_mass, summarise
            )
            outs.append(out)
            if mass is not None:
                masses.append(mass)
        if not masses:
            return torch.cat(outs), None
        most = max(mass.shape[-1] for mass in masses)
        return torch.cat(outs), torch.cat([F.pad(x, (0, most - x.shape[-1])) for x in masses])

    def advance(self, tokens: int) -> None:
        """Count `tokens` as filled in each, once every layer has them."""
        for cache in self._caches:
            cache.advance(tokens)


def _name(kind: Kind) -> str:
    """What summaries are called where they are allocated."""
    return "_".join(map(str, kind))


def _elsewhere(summarise: Summarise, device: torch.device, k: Tensor, first: int) -> Tensor:
    """Summaries of keys that do not lie where φ does."""
    return summarise(k.to(device), first=first).to(k.device)


def cache_shape(config: NSAConfig, capacity: int, batch: int = 1) -> tuple[int, ...]:
    """Shape of the keys, and of the values: (L, B, G, T_max, D)."""
    assert config.head_dim is not None
    return (
        config.num_hidden_layers,
        batch,
        config.num_key_value_heads,
        capacity,
        config.head_dim,
    )
