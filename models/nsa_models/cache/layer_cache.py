"""What a model calls of a cache.

Letters: B batch, T tokens of a call, H query heads, G key/value groups, D head dim, N selection
blocks.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import Compressor


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
