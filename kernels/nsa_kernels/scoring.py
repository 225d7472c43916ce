"""Block selection with large matrix products: scores of queries and compressed keys.

Letters: B batch, T query tokens, S key tokens (the queries are the last T of them), H query
heads, G key/value groups, R = H / G query heads of a group, D head dim, C summaries, N selection
blocks, n selected blocks, U tiles, Q scored queries of a tile.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, section 3.3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.precision import widens
from nsa_kernels.settings import AttentionSettings

_SCORES_AT_ONCE = 2 * 2**20
"""Scores in memory at a time, in elements: they fit the last-level cache of a laptop."""


class TilePlan:
    """Positions of the tiles of one call: queries cut at absolute multiples of `select_tile`."""

    def __init__(self, seq_len: int, queries: int, settings: AttentionSettings) -> None:
        tile = settings.select_tile
        self.offset = seq_len - queries
        self.seq_len = seq_len
        self.size = tile
        self.block_size = settings.select_block
        self.lead = self.offset % tile
        self.count = (self.lead + queries + tile - 1) // tile
        self.trail = self.count * tile - self.lead - queries

    def firsts(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Position of each tile's first query, as if all tiles were full: (U,)."""
        return torch.arange(start, stop, device=device) * self.size + self.offset - self.lead

    def blocks(self, start: int, stop: int, device: torch.device) -> Tensor:
        """The selection block that contains each tile: (U,)."""
        return self.firsts(start, stop, device) // self.block_size

    @property
    def last_block(self) -> int:
        """The selection block of the last query."""
        return (self.seq_len - 1) // self.block_size

    def split(self, q: Tensor) -> Tensor:
        """Cut queries (B, H, T, D) into tiles (B, H, U, Q, D), padded with zeros."""
        if self.lead or self.trail:
            q = F.pad(q, (0, 0, self.lead, self.trail))
        tiles: Tensor = q.unflatten(2, (self.count, self.size))
        return tiles

    def join(self, out: Tensor) -> Tensor:
        """Undo `split`: (B, H, U, Q, D) to (B, H, T, D)."""
        flat = out.flatten(2, 3)
        return flat[:, :, self.lead : flat.shape[2] - self.trail]


def mean_summaries(k: Tensor, settings: AttentionSettings) -> Tensor:
    """Means of the complete blocks of keys: (B, G, S, D) to (B, G, C, D)."""
    block, stride = settings.compress_block, settings.compress_stride
    strips = k.shape[2] // stride
    strip = k[:, :, : strips * stride].unflatten(2, (strips, stride)).float().mean(dim=3)
    per = block // stride
    count = max(0, strips - per + 1)
    total = sum((strip[:, :, i : i + count] for i in range(1, per)), strip[:, :, :count])
    means: Tensor = (total / per).to(k.dtype)
    return means


def select_blocks(
    q: Tensor, summary_k: Tensor, seq_len: int, settings: AttentionSettings
) -> Tensor:
    """Select the blocks of every tile: indices (B, G, U, n), padded with -1.

    Args:
        q: (B, H, T, D), the last T of `seq_len` positions.
        summary_k: (B, G, C, D), at least the summaries complete within `seq_len`.
        seq_len: S.
        settings: The block sizes and budget.
    """
    plan = TilePlan(seq_len, q.shape[2], settings)
    batch, groups = summary_k.shape[:2]
    blocks = max(0, plan.last_block - settings.window_blocks)
    count = blocks if settings.select_count is None else min(settings.select_count, blocks)
    chosen = torch.full((batch, groups, plan.count, count), -1, device=q.device)
    if count == 0:
        return chosen
    scored = plan.split(q)[..., :: settings.score_stride, :].unflatten(1, (groups, -1))
    scored = scored * (1.0 / math.sqrt(q.shape[-1]))
    rows = scored.shape[2] * scored.shape[4]
    if widens(scored, rows * plan.count):
        scored, summary_k = scored.float(), summary_k.float()
    at_once = max(1, _SCORES_AT_ONCE // (rows * max(1, summary_k.shape[2])))
    for start in range(0, plan.count, at_once):
        stop = min(start + at_once, plan.count)
        part = scored[:, :, :, start:stop]
        scores = _importance(part, summary_k, start, blocks, plan, settings)
        chosen[:, :, start:stop] = best_blocks(
            scores, plan.blocks(start, stop, q.device), settings, count
        )
    return chosen


def _importance(
    q: Tensor,
    summary_k: Tensor,
    start: int,
    blocks: int,
    plan: TilePlan,
    settings: AttentionSettings,
) -> Tensor:
    """Importance of the first `blocks` blocks to consecutive tiles: (B, G, U, N), fp32.

    Args:
        q: (B, G, R, U, Q, D), scaled.
        summary_k: (B, G, C, D).
        start: Index of the first tile.
        blocks: N.
        plan: The tiles of the call.
        settings: The block sizes.
    """
    batch, groups, _, tiles, queries, _ = q.shape
    result = q.new_zeros(batch, groups, tiles, blocks, dtype=torch.float32)
    step = torch.arange(queries, device=q.device) * settings.score_stride
    position = plan.firsts(start, start + tiles, q.device)[:, None] + step
    total = visible_summaries(min(int(position[-1, -1]), plan.seq_len - 1), settings)
    if total == 0:
        return result
    shared = visible_summaries(int(position[0, 0]), settings)
    ends = torch.arange(shared, total, device=q.device) * settings.compress_stride
    hidden = ends + settings.compress_block - 1 > position[..., None]
    valid = ((position >= plan.offset) & (position < plan.seq_len)).to(q.dtype)
    weight = valid[:, None, None].expand(-1, 1, q.shape[2], -1).flatten(2)
    for b in range(batch):
        for g in range(groups):
            rows = q[b, g].transpose(0, 1).flatten(0, 2)
            scores = rows @ summary_k[b, g, :total].t()
            split = scores.view(tiles, -1, queries, total)
            split[..., shared:].masked_fill_(hidden[:, None], float("-inf"))
            if settings.score_norm == 1:
                probs = split.softmax(dim=-1)
                if shared == 0:
                    probs = probs.nan_to_num(0.0)
            else:
                coarse = _coarse_total(rows, summary_k[b, g, :total], position, settings)
                probs = (split.float() - coarse.float()).exp()
            if settings.score_pooling == "sum":
                summed = (weight.to(probs) @ probs.flatten(1, 2)).squeeze(1)
                result[b, g] = pool_sum(summed.float(), blocks, settings)
            else:
                pooled = _pool_max(probs.sum(dim=1).float(), blocks, settings)
                result[b, g] = (pooled * valid[..., None]).sum(dim=1)
    return result


def _coarse_total(
    rows: Tensor, summary_k: Tensor, position: Tensor, settings: AttentionSettings
) -> Tensor:
    """Log-sum-exp over the coarse summaries that each query sees: (U, R, Q, 1), inf if none.

    Args:
        rows: (U * R * Q, D), scaled.
        summary_k: (C, D).
        position: (U, Q).
        settings: The block sizes.
    """
    ratio, factor = settings.compress_block // settings.compress_stride, settings.score_norm
    count = max(0, (summary_k.shape[0] - 1 - (factor - 1) * ratio) // factor + 1)
    first = torch.arange(count, device=rows.device) * factor
    parts = first[:, None] + torch.arange(factor, device=rows.device) * ratio
    scores = rows @ summary_k[parts].mean(dim=1).t()
    split = scores.view(position.shape[0], -1, position.shape[1], count)
    ends = first * settings.compress_stride + factor * settings.compress_block - 1
    hidden = ends > position[..., None]
    total = split.masked_fill(hidden[:, None], float("-inf")).logsumexp(dim=-1, keepdim=True)
    return total.masked_fill(total == float("-inf"), float("inf"))


def _pool_max(per_summary: Tensor, blocks: int, settings: AttentionSettings) -> Tensor:
    """Maximum over the summaries that overlap each block: (U, Q, C) to (U, Q, N)."""
    step = settings.select_block // settings.compress_stride
    before = settings.compress_block // settings.compress_stride - 1
    need = blocks * step
    padded = F.pad(per_summary[..., :need], (before, max(0, need - per_summary.shape[-1])))
    return padded.unfold(-1, step + before, step).amax(dim=-1)


def visible_summaries(position: int, settings: AttentionSettings) -> int:
    """Number of summaries that end at or before a position."""
    return settings.complete_blocks(position + 1)


def pool_sum(per_summary: Tensor, blocks: int, settings: AttentionSettings) -> Tensor:
    """Sum the summaries' probabilities over the blocks they overlap: (…, C) to (…, N)."""
    stride, block = settings.compress_stride, settings.compress_block
    step = settings.select_block // stride
    before = block // stride - 1
    # On the device: a CUDA graph cannot capture a copy from the host.
    starts = torch.arange(-before, step, device=per_summary.device) * stride
    ends = (starts + block).clamp(max=settings.select_block)
    weights = (ends - starts.clamp(min=0)).to(per_summary.dtype) / stride
    need = blocks * step
    padded = F.pad(per_summary[..., :need], (before, max(0, need - per_summary.shape[-1])))
    return padded.unfold(-1, step + before, step) @ weights


def best_blocks(
    importance: Tensor, current: Tensor, settings: AttentionSettings, count: int
) -> Tensor:
    """The `count` best blocks by (B, G, U, N), forced blocks first: (B, G, U, n), padded with -1.

    `current` (U,) is the block of each tile's queries.
    """
    block = torch.arange(importance.shape[-1], device=importance.device)
    current = current[:, None]
    forced = (block < settings.init_blocks) | (block > current - settings.local_blocks)
    ranked = importance.masked_fill(forced, float("inf"))
    ranked = ranked.masked_fill(block >= current - settings.window_blocks, float("-inf"))
    order = ranked.sort(dim=-1, descending=True, stable=True)
    return order.indices[..., :count].masked_fill(order.values[..., :count] == float("-inf"), -1)
