"""Attention of packed documents: each attends to itself alone, with positions from 0.

Letters: B batch, T tokens, H query heads, G key/value groups, D head dim, N sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nsa_kernels.api import nsa_attention
from nsa_kernels.phi import mean_phi
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.branches import Branches
from nsa_models.cache.kv_cache import Compressor, NoCache

if TYPE_CHECKING:
    from nsa_kernels.gpu.layout import Packing


class PackedAttention(NoCache):
    """Attention over sequences that follow each other in one row.

    On CUDA one call of the Triton kernels takes all sequences; elsewhere, and for dense attention,
    each sequence has a call.

    Args:
        lengths: Tokens of each sequence, in order; their sum is T.
        device: Device of the model.
        kernels: Whether to use the Triton kernels; None decides by the device.
    """

    def __init__(
        self, lengths: Sequence[int], device: torch.device, *, kernels: bool | None = None
    ) -> None:
        self.lengths, self._device, self._kernels = tuple(lengths), device, kernels

    @cached_property
    def _positions(self) -> Tensor:
        counts = torch.tensor(self.lengths)
        starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        positions: Tensor = (torch.arange(len(starts)) - starts).to(self._device)
        return positions

    @cached_property
    def _packing(self) -> Packing:
        from nsa_kernels.gpu.layout import Packing

        offsets = torch.tensor([0, *self.lengths]).cumsum(0).to(self._device, torch.int32)
        longest = max(self.lengths)
        return Packing(
            cu_queries=offsets,
            cu_keys=offsets,
            max_queries=longest,
            max_keys=longest,
            key_lengths=self.lengths,
        )

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (T,), from 0 in each sequence."""
        assert tokens == len(self._positions)
        return self._positions.to(device)

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
        """Attend within each sequence; the mass is not available. See `KVCache.attend`."""
        assert not return_mass, "packed sequences have no common blocks"
        if len(self.lengths) > 1 and self._takes_kernels(q, v, settings):
            summary_v: Tensor | None
            window_k = window_v = None
            if isinstance(compress, Branches):
                summary_k, summary_v = compress.summaries(self._positions, settings, self._packing)
                window_k, window_v = compress.window_k, compress.window_v
            else:
                if compress is None:
                    summary_k = mean_phi(k, settings, packing=self._packing)
                else:
                    parts = [compress(part) for part in k.split(self.lengths, dim=2)]
                    summary_k = torch.cat(parts, dim=2)
                summary_v = None
                if settings.combine == "gated":
                    summary_v = mean_phi(v, settings, packing=self._packing)
            result = nsa_attention(
                q, k, v, settings,
                summary_k=summary_k, summary_v=summary_v, window_k=window_k, window_v=window_v,
                gates=gates, packing=self._packing,
            )  # fmt: skip
            return result.out, None
        outs, start = [], 0
        for length in self.lengths:
            part = slice(start, start + length)
            gate = None if gates is None else gates[:, :, part]
            sequence = (q[:, :, part], k[:, :, part], v[:, :, part])
            own = compress.tokens(part) if isinstance(compress, Branches) else compress
            out, _ = NoCache().attend(layer, *sequence, settings, gate, False, own)
            outs.append(out)
            start += length
        return torch.cat(outs, dim=2), None

    def _takes_kernels(self, q: Tensor, v: Tensor, settings: AttentionSettings) -> bool:
        """Whether the Triton kernels take the sequences."""
        if self._kernels is not None:
            return self._kernels
        if not q.is_cuda or settings.select_count is None or find_spec("triton") is None:
            return False
        from nsa_kernels.gpu.layout import supports

        return bool(supports(q.dtype, (q.shape[3], v.shape[3]), settings))
