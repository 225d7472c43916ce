"""Caches of several texts as one batch.

Letters: B batch, T tokens of a call, H query heads, G key/value groups, D head dim, N selection
blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.branches import Branches
from nsa_models.cache.kv_cache import Compressor, KVCache


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
            of_row = compress
            if isinstance(compress, Branches):
                of_row = compress.rows(slice(row, row + 1))
            out, mass = cache.attend(
                layer, q_row, k_row, v_row, settings, gates_row, return_mass, of_row
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
