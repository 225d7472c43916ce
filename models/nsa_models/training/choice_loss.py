"""A loss that teaches the compression to rank the blocks that the selection would attend to.

The choice of blocks has no gradient, and a block that is never chosen teaches nothing. In billions
of tokens the compression may find the right blocks by itself. In 60 million it does not: a model of
60 million parameters chose at 16,384 tokens hardly better than by chance. So dense attention of the
selection's queries and keys, for a few queries of each row, is the target of the importances.

Letters: B batch, H query heads, G key/value groups, R = H / G query heads of a group, T tokens, Q
queries with a loss, D head dim, C summaries, N selection blocks.

Source: DeepSeek-AI 2025, "DeepSeek-V3.2-Exp: Boosting Long-Context Efficiency with DeepSeek Sparse
Attention", teaches its indexer by the divergence from dense attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.blockwise import dense_attention
from nsa_kernels.phi import mean_phi
from nsa_kernels.scoring import pool_sum
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.branches import BranchInputs
from nsa_models.cache.kv_cache import Compressor, NoCache

_LEAST = 1e-9
"""Added to an importance before its logarithm."""

_PARTS = 8
"""Parts of the queries with a loss, each with the keys up to its last query."""


class TaughtAttention(NoCache):
    """Attention of whole rows that also measures the importances of each layer.

    Args:
        queries: Q, queries of a row with a loss; 0 for no loss.
        full: Whether the selection of `gated` attention takes all blocks.
    """

    def __init__(self, queries: int, *, full: bool = False) -> None:
        super().__init__()
        self._queries, self._full = queries, full
        self._losses: list[Tensor] = []
        self._summary_k: Tensor | None = None

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
        """Attend, and keep the loss of the layer's importances. See `KVCache.attend`."""
        if not self._full or gates is None:
            out, mass = super().attend(layer, q, k, v, settings, gates, return_mass, compress)
        else:
            selection = gates[..., 1:2]
            others = torch.cat([gates[..., :1], torch.zeros_like(selection), gates[..., 2:]], -1)
            out, mass = super().attend(layer, q, k, v, settings, others, return_mass, compress)
            out = out + selection * dense_attention(q, k, v)
        if self._summary_k is not None:
            self._losses.append(choice_loss(q, k, self._summary_k, settings, self._queries))
        return out, mass

    def inputs(
        self, k: Tensor, settings: AttentionSettings, compress: Compressor | None
    ) -> BranchInputs:
        """Return the branches' inputs with compressed keys, and keep these if blocks are chosen."""
        given = super().inputs(k, settings, compress)
        if not self._queries or settings.select_count is None or settings.covers(k.shape[2]):
            self._summary_k = None
            return given
        self._summary_k = mean_phi(k, settings) if given.summary_k is None else given.summary_k
        return given._replace(summary_k=self._summary_k)

    def take_loss(self) -> Tensor | None:
        """Return the mean loss () of the layers that chose blocks, if any, and forget it."""
        losses, self._losses = self._losses, []
        return torch.stack(losses).mean() if losses else None


def choice_loss(
    q: Tensor, k: Tensor, summary_k: Tensor, settings: AttentionSettings, queries: int
) -> Tensor:
    """Return how far importances are from the attention of the same queries to all keys.

    Cross-entropy over the blocks that a query may choose, weighted by the attention to them:
    queries that need no distant block count little. Forced blocks and those of the window are out.

    Args:
        q: (B, H, T, D) queries of whole rows.
        k: (B, G, T, D) keys of the selection. Dense attention to them is the target; no gradient.
        summary_k: (B, G, C, D) compressed keys.
        settings: The block sizes.
        queries: Q, evenly distributed over the T queries.

    Returns:
        A sum () over all B * T queries, extrapolated from B * Q, and a mean over heads, in nats.
    """
    tokens, groups = q.shape[2], k.shape[1]
    step = max(1, tokens // queries)
    at = torch.arange(step - 1, tokens, step, device=q.device)
    asked = q[:, :, step - 1 :: step].unflatten(1, (groups, -1))
    blocks = -(-tokens // settings.select_block)
    target = _block_mass(asked, k, step, settings)
    importance = _importance(asked, summary_k, at, blocks, settings)
    block, current = torch.arange(blocks, device=q.device), (at // settings.select_block)[:, None]
    free = (block >= settings.init_blocks) & (block <= current - settings.local_blocks)
    free &= block < current - settings.window_blocks
    importance = importance * free
    share = importance / importance.sum(dim=-1, keepdim=True).clamp(min=_LEAST)
    each = -(target * free * (share + _LEAST).log()).sum()
    return each * step / groups


@torch.no_grad()
def _block_mass(asked: Tensor, k: Tensor, step: int, settings: AttentionSettings) -> Tensor:
    """Dense attention of queries (B, G, R, Q, D) by block, a mean over heads: (B, G, Q, N).

    Every `step`-th query is given. Parts of them see a part of the keys only.
    """
    count, repeat, size = asked.shape[3], asked.shape[2], settings.select_block
    blocks = -(-k.shape[2] // size)
    scaled, masses = asked * asked.shape[-1] ** -0.5, []
    each = -(-count // _PARTS)
    for start in range(0, count, each):
        part = scaled[:, :, :, start : start + each]
        stop = step * (start + part.shape[3])
        at = torch.arange(step * (start + 1) - 1, stop, step, device=k.device)
        hidden = torch.arange(stop, device=k.device) > at[:, None]
        # Without autocast, which would make the largest tensors twice as large.
        with torch.autocast(k.device.type, enabled=False):
            scores = (part.flatten(2, 3) @ k[:, :, :stop].mT).unflatten(2, (repeat, -1))
            mass = scores.masked_fill_(hidden, float("-inf")).softmax(dim=-1)
        mean = mass.mean(dim=2, dtype=torch.float32)
        masses.append(F.pad(mean, (0, blocks * size - stop)).unflatten(-1, (blocks, -1)).sum(-1))
    return torch.cat(masses, dim=2)


def _importance(
    asked: Tensor, summary_k: Tensor, at: Tensor, blocks: int, settings: AttentionSettings
) -> Tensor:
    """Importances of blocks for queries (B, G, R, Q, D): (B, G, Q, N)."""
    starts = torch.arange(summary_k.shape[2], device=at.device) * settings.compress_stride
    complete = starts + settings.compress_block - 1 <= at[:, None]
    products = (asked.flatten(2, 3) @ summary_k.mT).unflatten(2, (asked.shape[2], -1))
    scores = products.float() * asked.shape[-1] ** -0.5
    # A query before the first complete block has equal scores, and no block to choose either.
    probabilities = scores.masked_fill(~complete, -1e30).softmax(dim=-1).sum(dim=2)
    return pool_sum(probabilities, blocks, settings)
