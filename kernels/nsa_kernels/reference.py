"""Native Sparse Attention in readable PyTorch: the specification of this package.

It runs on any device and in any precision, with gradients, and keeps every score in memory. Each
optimized implementation is tested against this one and shares no code with it.

Letters: B batch, T query tokens, S key tokens (the queries are the last T of them), H query
heads, G key/value groups, R = H / G query heads of a group, D head dim, C summaries (compressed
blocks), N selection blocks, n selected blocks, U tiles of queries that share a selection.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, equations 5 to 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.settings import AttentionSettings

Phi = Callable[[Tensor], Tensor]


def mean_phi(blocks: Tensor) -> Tensor:
    """Reduce blocks (..., l, D) to their means (..., D)."""
    return blocks.mean(dim=-2)


def mlp_phi(
    blocks: Tensor, position: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
) -> Tensor:
    """Reduce blocks by the paper's MLP with an intra-block position encoding.

    Args:
        blocks: (..., l, D).
        position: (l, D), added to each block.
        w_in: (E, l * D).
        b_in: (E,).
        w_out: (D, E).
        b_out: (D,).

    Returns:
        (..., D).

    Source: Yuan et al. 2025, eq. 7.
    """
    flat = (blocks + position).flatten(-2)
    return F.linear(F.gelu(F.linear(flat, w_in, b_in)), w_out, b_out)


def compress(x: Tensor, settings: AttentionSettings, phi: Phi = mean_phi) -> Tensor:
    """Compress keys or values: (B, G, S, D) to (B, G, C, D), complete blocks only."""
    block, stride = settings.compress_block, settings.compress_stride
    if x.shape[2] < block:
        return x.new_empty(*x.shape[:2], 0, x.shape[3])
    return phi(x.unfold(2, block, stride).transpose(-1, -2))


def overlap(settings: AttentionSettings, summaries: int, blocks: int) -> Tensor:
    """Tokens shared by each summary and each selection block, in strides: (C, N), fp64.

    For blocks of 64 and summaries of 32 at a stride of 16 this is the paper's 1, 2, 2, 2, 1.

    Source: Yuan et al. 2025, eq. 9.
    """
    start = torch.arange(summaries, dtype=torch.float64)[:, None] * settings.compress_stride
    block = torch.arange(blocks, dtype=torch.float64)[None, :] * settings.select_block
    shared = torch.minimum(start + settings.compress_block, block + settings.select_block)
    return (shared - torch.maximum(start, block)).clamp(min=0) / settings.compress_stride


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Masked softmax attention: (B, H, T, D) and its probabilities (B, H, T, keys).

    `allowed` broadcasts to (B, G, T, keys). A query without an allowed key gets zeros.
    """
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    allowed = allowed.expand(q.shape[0], -1, -1, -1)
    if allowed.shape[1] != 1:
        allowed = allowed.repeat_interleave(repeat, dim=1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~allowed, float("-inf"))
    seen = allowed.any(dim=-1, keepdim=True)
    probs = scores.masked_fill(~seen, 0.0).softmax(dim=-1).masked_fill(~allowed, 0.0)
    return probs @ v, probs


def _positions(q: Tensor, k: Tensor) -> Tensor:
    """Absolute positions of the queries: (T,)."""
    return torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device)


def compression_attention(
    q: Tensor, k: Tensor, summary_k: Tensor, summary_v: Tensor, settings: AttentionSettings
) -> tuple[Tensor, Tensor]:
    """The compression branch: output (B, H, T, D) and probabilities (B, H, T, C).

    A summary is visible to a query if its whole block lies at or before the query.

    Source: Yuan et al. 2025, eqs. 7 and 8.
    """
    ends = torch.arange(summary_k.shape[2], device=q.device) * settings.compress_stride
    ends = ends + settings.compress_block - 1
    visible = ends[None, :] <= _positions(q, k)[:, None]
    return _attend(q, summary_k, summary_v, visible[None, None])


def coarse_probs(
    q: Tensor, position: Tensor, summary_k: Tensor, settings: AttentionSettings
) -> Tensor:
    """Probabilities of summaries with the denominator of coarser summaries: (B, H, T, C).

    A coarse summary is the mean of `score_norm` adjacent summaries. A query that sees no coarse
    summary gives zeros.

    Args:
        q: (B, H, T, D).
        position: (T,) absolute positions of the queries.
        summary_k: (B, G, C, D).
        settings: The block sizes.

    Source: OpenBMB's InfLLM-v2, arXiv 2509.24663: the approximation of the log-sum-exp.
    """
    block, stride, factor = settings.compress_block, settings.compress_stride, settings.score_norm
    scores = _visible_scores(q, summary_k, position, settings)
    span = (factor - 1) * (block // stride) + 1
    if summary_k.shape[2] < span:
        return torch.zeros_like(scores)
    parts = summary_k.unfold(2, span, factor)[..., :: block // stride]
    coarse = replace(settings, compress_block=block * factor, compress_stride=stride * factor)
    totals = _visible_scores(q, parts.mean(dim=-1), position, coarse)
    total = totals.logsumexp(dim=-1, keepdim=True)
    return (scores - total).exp().masked_fill(total == float("-inf"), 0.0)


def _visible_scores(
    q: Tensor, summary_k: Tensor, position: Tensor, settings: AttentionSettings
) -> Tensor:
    """Scaled scores of summaries, -inf for those incomplete at the query: (B, H, T, C)."""
    keys = summary_k.repeat_interleave(q.shape[1] // summary_k.shape[1], dim=1)
    ends = torch.arange(keys.shape[2], device=q.device) * settings.compress_stride
    hidden = ends + settings.compress_block - 1 > position[:, None]
    scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(hidden, float("-inf"))


def importance(probs: Tensor, groups: int, position: Tensor, settings: AttentionSettings) -> Tensor:
    """Importance of every selection block to every tile of queries: (B, G, U, N).

    The compression branch's probabilities are summed over the query heads of a group, pooled over
    the summaries that overlap the block (sum or maximum, see `score_pooling`), and summed over
    the scored queries of a tile.

    Args:
        probs: (B, H, T, C).
        groups: G.
        position: (T,) absolute positions of the queries.
        settings: The block sizes.

    Source: Yuan et al. 2025, eqs. 9 and 10.
    """
    batch, heads, _, summaries = probs.shape
    blocks = int(position[-1]) // settings.select_block + 1
    grouped = probs.view(batch, groups, heads // groups, len(position), summaries).sum(dim=2)
    shared = overlap(settings, summaries, blocks).to(grouped)
    if settings.score_pooling == "sum":
        per_query = grouped @ shared
    elif summaries:
        per_query = (grouped.unsqueeze(-1) * (shared > 0)).amax(dim=-2)
    else:
        per_query = grouped.new_zeros(*grouped.shape[:-1], blocks)
    tile = _tile_of(position, settings)
    scored = position % settings.score_stride == 0
    per_tile = per_query.new_zeros(batch, groups, int(tile[-1]) + 1, blocks)
    return per_tile.index_add(2, tile[scored], per_query[:, :, scored])


def _tile_of(position: Tensor, settings: AttentionSettings) -> Tensor:
    """Index of each query's tile within the call: (T,)."""
    tile = position // settings.select_tile
    return tile - tile[0]


def select(importances: Tensor, position: Tensor, settings: AttentionSettings) -> Tensor:
    """Select blocks: indices (B, G, U, n), most important first, padded with -1.

    Candidates are the blocks that have begun; `union` mode excludes the blocks of the window,
    which are attended to anyway. The first `init_blocks` and the most recent `local_blocks` rank
    above all others. Of equally important blocks the earlier ranks first. With `select_run`, the
    query's own run and the earlier runs each give at most half a run of blocks.

    Source: Yuan et al. 2025, eqs. 11 and 12.
    """
    tiles, blocks = importances.shape[2:]
    tile_first = (int(position[0]) // settings.select_tile) * settings.select_tile
    last = torch.arange(tiles, device=position.device) * settings.select_tile + tile_first
    last = (last + settings.select_tile - 1)[:, None]
    block = torch.arange(blocks, device=position.device)[None, :]
    start = block * settings.select_block
    current = last // settings.select_block
    candidate = start <= last
    if settings.combine == "union":
        candidate = block < current - settings.window_blocks
    forced = (block < settings.init_blocks) | (block > current - settings.local_blocks)
    ranked = importances.detach().masked_fill(forced, float("inf"))
    ranked = ranked.masked_fill(~candidate, float("-inf"))
    if settings.select_run is not None:
        own = block // settings.select_run == current // settings.select_run
        for part in (own, ~own):
            order = ranked.masked_fill(~part, float("-inf")).sort(
                dim=-1, descending=True, stable=True
            )
            late = order.indices[..., settings.select_run // 2 :]
            left_out = torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, late, True)
            several = current >= settings.select_run
            ranked = ranked.masked_fill(left_out & part & several, float("-inf"))
    order = ranked.sort(dim=-1, descending=True, stable=True)
    count = blocks if settings.select_count is None else min(settings.select_count, blocks)
    chosen = order.indices[..., :count]
    return chosen.masked_fill(order.values[..., :count] == float("-inf"), -1)


def _selected_mask(blocks: Tensor, q: Tensor, k: Tensor, settings: AttentionSettings) -> Tensor:
    """Causal mask of the keys inside the selected blocks: (B, G, T, S)."""
    position = _positions(q, k)
    count = k.shape[2] // settings.select_block + 1
    chosen = F.one_hot(blocks + 1, count + 1).any(dim=-2)[..., 1:]
    per_query = chosen[:, :, _tile_of(position, settings)]
    keys = torch.arange(k.shape[2], device=q.device)
    return per_query[..., keys // settings.select_block] & (keys <= position[:, None])


def _window_mask(q: Tensor, k: Tensor, settings: AttentionSettings) -> Tensor:
    """Mask of the keys in each query's window, whole blocks in `union`: (T, S)."""
    position, keys = _positions(q, k)[:, None], torch.arange(k.shape[2], device=q.device)[None, :]
    if settings.combine == "gated":
        return (keys <= position) & (keys > position - settings.window)
    age = position // settings.select_block - keys // settings.select_block
    return (keys <= position) & (age <= settings.window_blocks)


def nsa_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    settings: AttentionSettings,
    *,
    summary_k: Tensor | None = None,
    summary_v: Tensor | None = None,
    window_k: Tensor | None = None,
    window_v: Tensor | None = None,
    gates: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Native Sparse Attention in full.

    Args:
        q: (B, H, T, D), the last T of S positions.
        k: (B, G, S, D).
        v: (B, G, S, D).
        settings: Block sizes and budgets.
        summary_k: (B, G, C, D); means of the keys when None.
        summary_v: (B, G, C, D); means of the values when None.
        window_k: (B, G, W, D), the last W of S positions, for `gated`; `k` when None.
        window_v: (B, G, W, D); `v` when None.
        gates: (B, H, T, 3), order compression, selection, window, within 0 to 1; required for
            `gated`.

    Returns:
        Output (B, H, T, D); selected blocks (B, G, U, n), padded with -1; and the probability
        mass that each query head gives each selection block (B, H, T, N): of the single softmax
        in `union` mode, of the selection branch in `gated` mode.

    Raises:
        ValueError: If `combine` is `gated` and `gates` is None.

    Source: Yuan et al. 2025, eqs. 5 to 12.
    """
    summary_k = compress(k, settings) if summary_k is None else summary_k
    summary_v = compress(v, settings) if summary_v is None else summary_v
    position = _positions(q, k)
    compressed, summary_probs = compression_attention(q, k, summary_k, summary_v, settings)
    if settings.score_norm > 1:
        summary_probs = coarse_probs(q, position, summary_k, settings)
    importances = importance(summary_probs, k.shape[1], position, settings)
    if k.shape[2] < settings.dense_below:
        settings = replace(settings, select_count=None)
    blocks = select(importances, position, settings)
    selected = _selected_mask(blocks, q, k, settings)
    window = _window_mask(q, k, settings)
    if settings.combine == "union":
        out, probs = _attend(q, k, v, selected | window)
    else:
        if gates is None:
            raise ValueError("gates is None; combine='gated' needs (B, H, T, 3)")
        picked, probs = _attend(q, k, v, selected)
        window_k, window_v = (
            (k if window_k is None else window_k),
            (v if window_v is None else window_v),
        )
        window = window[:, k.shape[2] - window_k.shape[2] :]
        recent, _ = _attend(q, window_k, window_v, window[None, None])
        g = gates.unsqueeze(-1)
        out = g[..., 0, :] * compressed + g[..., 1, :] * picked + g[..., 2, :] * recent
    short = -k.shape[2] % settings.select_block
    mass = F.pad(probs, (0, short)).unflatten(-1, (-1, settings.select_block)).sum(dim=-1)
    return out, blocks, mass
