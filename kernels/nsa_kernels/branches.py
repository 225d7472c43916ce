"""The three branches of `gated` attention in bounded memory, on any device and with gradients.

Queries are processed in parts whose scores and gathered keys fit a memory budget. Each tile of
queries gathers only the keys of its selected blocks.

Letters: B batch, T query tokens, S key tokens (the queries are the last T of them), H query
heads, G key/value groups, R = H / G query heads of a group, D head dim, C summaries, N selection
blocks, n selected blocks, U tiles of queries that share a selection, Q queries of a tile, K keys
of the selected blocks.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, equations 5 to 12.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.blockwise import block_mass, dense_attention
from nsa_kernels.precision import widens
from nsa_kernels.scoring import TilePlan, mean_summaries, pool_sum
from nsa_kernels.settings import AttentionSettings

_AT_ONCE = 2**25
"""Most elements of the scores, or of the gathered keys and values, of one part of the queries:
128 MB in fp32."""


def gated_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Tensor,
    settings: AttentionSettings,
    *,
    summary_k: Tensor | None = None,
    summary_v: Tensor | None = None,
    window_k: Tensor | None = None,
    window_v: Tensor | None = None,
    return_mass: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gated sum of compression, selection and window.

    Args:
        q: (B, H, T, D), the last T of S positions.
        k: (B, G, S, D).
        v: (B, G, S, D).
        gates: (B, H, T, 3), order compression, selection, window.
        settings: Block sizes and budgets; `combine` is `gated`.
        summary_k: (B, G, C, D); means of the keys when None.
        summary_v: (B, G, C, D); means of the values when None.
        window_k: (B, G, W, D), the last W of S positions; `k` when None.
        window_v: (B, G, W, D); `v` when None.
        return_mass: Whether to return the selection branch's mass of each block.

    Returns:
        Output (B, H, T, D); blocks (B, G, U, n), padded with -1, or None if all are selected;
        mass (B, H, T, N) in fp32, or None unless requested.
    """
    summary_k = mean_summaries(k, settings) if summary_k is None else summary_k
    summary_v = mean_summaries(v, settings) if summary_v is None else summary_v
    window_k = k if window_k is None else window_k
    window_v = v if window_v is None else window_v
    seq_len, queries = k.shape[2], q.shape[2]
    outs: list[Tensor] = []
    chosen: list[Tensor] = []
    masses: list[Tensor] = []
    for start, stop in _parts(q, k, max(1, summary_k.shape[2]), settings):
        end = seq_len - queries + stop
        part = _Part(q[:, :, start:stop], end, k.shape[1], settings)
        compressed, probs = part.compression(summary_k, summary_v, settings)
        if settings.select_count is None:
            picked = dense_attention(part.q, k[:, :, :end], v[:, :, :end])
            mass = block_mass(part.q, k[:, :, :end], None, settings) if return_mass else None
        else:
            blocks = part.select(probs)
            picked, mass = part.selection(k, v, blocks, return_mass)
            chosen.append(blocks)
        gate = gates[:, :, start:stop].unsqueeze(-1)
        out = gate[..., 0, :] * compressed + gate[..., 1, :] * picked
        if settings.window:
            out = out + gate[..., 2, :] * part.window(window_k, window_v, seq_len)
        outs.append(out)
        if mass is not None:
            masses.append(mass)
    return (
        torch.cat(outs, dim=2),
        _joined(chosen, -1) if chosen else None,
        _joined(masses, 0) if masses else None,
    )


def _parts(
    q: Tensor, k: Tensor, summaries: int, settings: AttentionSettings
) -> list[tuple[int, int]]:
    """Start and end of each part of the queries, at absolute multiples of a tile."""
    tile, queries, seq_len = settings.select_tile, q.shape[2], k.shape[2]
    keys = min((settings.select_count or 0) * settings.select_block, seq_len)
    each = max(q.shape[1] * max(summaries, keys), 2 * k.shape[1] * keys * k.shape[3] // tile)
    size = max(1, _AT_ONCE // (q.shape[0] * each) // tile) * tile
    offset = seq_len - queries
    cuts = [cut - offset for cut in range((offset // size + 1) * size, seq_len, size)]
    return list(zip([0, *cuts], [*cuts, queries], strict=True))


def _joined(parts: list[Tensor], fill: int) -> Tensor:
    """Concatenate parts along the third dimension, each padded to the widest."""
    width = max(part.shape[-1] for part in parts)
    return torch.cat([F.pad(x, (0, width - x.shape[-1]), value=fill) for x in parts], dim=2)


class _Part:
    """Consecutive queries; the last is at position `end` - 1."""

    def __init__(self, q: Tensor, end: int, groups: int, settings: AttentionSettings) -> None:
        self.q, self.end, self.groups, self.settings = q, end, groups, settings
        self.plan = TilePlan(end, q.shape[2], settings)
        self.position = torch.arange(end - q.shape[2], end, device=q.device)
        self.wide = torch.float32 if widens(q, q.shape[2] * q.shape[1] // groups) else q.dtype
        scaled = q * (1.0 / math.sqrt(q.shape[-1]))
        self.rows = scaled.unflatten(1, (groups, -1)).to(self.wide)  # (B, G, R, T, D)

    def compression(
        self, summary_k: Tensor, summary_v: Tensor, of: AttentionSettings
    ) -> tuple[Tensor, Tensor]:
        """Output (B, H, T, D), zeros where nothing is visible, and probabilities (B, G, T, C).

        The probabilities are summed over the query heads of a group.
        """
        count = max(0, (self.end - of.compress_block) // of.compress_stride + 1)
        keys, values = (x[:, :, :count].to(self.wide).unsqueeze(2) for x in (summary_k, summary_v))
        ends = torch.arange(count, device=self.q.device) * of.compress_stride
        hidden = ends + of.compress_block - 1 > self.position[:, None]
        scores = (self.rows @ keys.transpose(-1, -2)).float()
        probs = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        probs = probs.masked_fill(hidden, 0.0)
        out = (probs.to(self.wide) @ values).flatten(1, 2)
        return out.to(self.q.dtype), probs.sum(dim=2)

    @torch.no_grad()
    def select(self, probs: Tensor) -> Tensor:
        """Select by probabilities (B, G, T, C): blocks (B, G, U, n), most important first."""
        plan, s = self.plan, self.settings
        assert s.select_count is not None
        tile = (self.position // s.select_tile) - int(self.position[0]) // s.select_tile
        scored = self.position % s.score_stride == 0
        per_tile = probs.new_zeros(*probs.shape[:2], plan.count, probs.shape[-1])
        per_tile = per_tile.index_add(2, tile[scored], probs[:, :, scored])
        ranked = pool_sum(per_tile, plan.last_block + 1, s)
        block = torch.arange(ranked.shape[-1], device=probs.device)
        current = plan.blocks(0, plan.count, probs.device)[:, None]
        forced = (block < s.init_blocks) | (block > current - s.local_blocks)
        ranked = ranked.masked_fill(forced, float("inf"))
        ranked = ranked.masked_fill(block > current, float("-inf"))
        if s.select_run is not None:
            ranked = _halved(ranked, current, s.select_run)
        order = ranked.sort(dim=-1, descending=True, stable=True)
        indices, values = (x[..., : s.select_count] for x in (order.indices, order.values))
        return indices.masked_fill(values == float("-inf"), -1)

    def selection(
        self, k: Tensor, v: Tensor, blocks: Tensor, return_mass: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attend inside the selected blocks: output (B, H, T, D) and mass (B, H, T, N)."""
        plan, s = self.plan, self.settings
        within = torch.arange(s.select_block, device=k.device)
        slots = blocks[..., None] * s.select_block + within  # [B, G, U, n, l']
        slots = slots.masked_fill(blocks[..., None] < 0, self.end).flatten(-2)
        query = plan.firsts(0, plan.count, k.device)[:, None] + torch.arange(
            plan.size, device=k.device
        )
        tiles = plan.split(self.rows.flatten(1, 2)).unflatten(1, (self.groups, -1))
        rows = tiles.transpose(2, 3).flatten(3, 4)  # [B, G, U, R * Q, D]
        keys, values = (_gathered(x, slots.clamp(0, self.end - 1), self.wide) for x in (k, v))
        future = slots[:, :, :, None] > query[:, :, None]  # [B, G, U, Q, K]
        future = future.repeat(1, 1, 1, tiles.shape[2], 1)  # one copy per head of a group
        scores = (rows @ keys.transpose(-1, -2)).float()
        probs = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
        probs = probs.masked_fill(future, 0.0)  # NaN for a query that sees no key
        joined = self._joined(probs.to(self.wide) @ values).to(self.q.dtype)
        if not return_mass:
            return joined, None
        by_block = probs.unflatten(-1, (-1, s.select_block)).sum(dim=-1)  # [B, G, U, R * Q, n]
        index = blocks.clamp(min=0)[:, :, :, None].expand(by_block.shape)
        mass = by_block.new_zeros(*by_block.shape[:-1], plan.last_block + 1)
        return joined, self._joined(mass.scatter_add(-1, index, by_block))

    def _joined(self, x: Tensor) -> Tensor:
        """Undo the tiling: (B, G, U, R * Q, …) to (B, H, T, …)."""
        return self.plan.join(x.unflatten(3, (-1, self.plan.size)).transpose(2, 3).flatten(1, 2))

    def window(self, k: Tensor, v: Tensor, seq_len: int) -> Tensor:
        """Attend to the window, k and v (B, G, W, D) the last W of S positions: (B, H, T, D)."""
        first = max(0, int(self.position[0]) - self.settings.window + 1)
        place = torch.arange(first, self.end, device=k.device)
        age = self.position[:, None] - place
        seen = (age >= 0) & (age < self.settings.window)
        missing = seq_len - k.shape[2]
        keys, values = (x[:, :, first - missing : self.end - missing] for x in (k, v))
        return F.scaled_dot_product_attention(self.q, keys, values, attn_mask=seen, enable_gqa=True)


def _halved(ranked: Tensor, current: Tensor, run: int) -> Tensor:
    """Keep half a run of blocks from each tile's own run, and half from earlier runs.

    Args:
        ranked: (B, G, U, N), -inf where a block is not a candidate.
        current: (U, 1), the block of each tile.
        run: Blocks of a run.
    """
    block = torch.arange(ranked.shape[-1], device=ranked.device)
    own = block // run == current // run
    kept = ranked
    for part in (own, ~own):
        values = ranked.masked_fill(~part, float("-inf"))
        rank = values.sort(dim=-1, descending=True, stable=True).indices.argsort(dim=-1)
        kept = kept.masked_fill(part & (rank >= run // 2) & (current >= run), float("-inf"))
    return kept


def _gathered(x: Tensor, slots: Tensor, dtype: torch.dtype) -> Tensor:
    """Gather rows of (B, G, S, D) at slots (B, G, U, K): (B, G, U, K, D)."""
    parts = zip(x.flatten(0, 1), slots.flatten(0, 1).flatten(1), strict=True)
    rows = torch.stack([part.index_select(0, at) for part, at in parts])
    return rows.to(dtype).view(*slots.shape, x.shape[-1])
