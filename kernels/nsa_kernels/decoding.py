"""A decode step as large products: one query per sequence, all groups at once, one softmax.

The tiles of `blockwise` cost more than the products of a single query. On CUDA this path serves
steps outside CUDA graphs that return the mass.

Letters: B batch, S key tokens, H query heads, G key/value groups, R = H / G query heads of a
group, D head dim, C summaries, N blocks before the window, n selected blocks, K keys
attended to.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.scoring import best_blocks, pool_sum, visible_summaries
from nsa_kernels.settings import AttentionSettings


def takes(q: Tensor, seq_len: int, settings: AttentionSettings) -> bool:
    """Whether `decode_union` supports a call: a single query, scored as in the paper."""
    return (
        q.shape[2] == 1
        and not torch.is_grad_enabled()
        and settings.combine == "union"
        and not settings.covers(seq_len)
        and (settings.select_tile, settings.score_stride) == (1, 1)
        and (settings.score_pooling, settings.score_norm) == ("sum", 1)
        and settings.select_run is None
        and visible_summaries(seq_len - 1, settings) > 0
    )


def decode_union(
    q: Tensor, k: Tensor, v: Tensor, summary_k: Tensor, settings: AttentionSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend from one token to its selected blocks and window.

    Args:
        q: (B, H, 1, D), the last of S positions.
        k: (B, G, S, D).
        v: (B, G, S, D).
        summary_k: (B, G, C, D), at least the summaries complete within S.
        settings: Block sizes and budgets that `takes` accepts.

    Returns:
        Output (B, H, 1, D), blocks (B, G, 1, n) and mass (B, H, 1, blocks of the text).
    """
    batch, groups, seq_len, _ = k.shape
    size = settings.select_block
    last = (seq_len - 1) // size
    before = last - settings.window_blocks
    # Few rows gain nothing from bf16 products, which are far slower without AVX-512.
    wide = torch.promote_types(q.dtype, torch.float32)
    rows = q.view(batch, groups, -1, q.shape[-1]).to(wide) / math.sqrt(q.shape[-1])

    summaries = summary_k[:, :, : visible_summaries(seq_len - 1, settings)].to(wide)
    probs = (rows @ summaries.transpose(-1, -2)).softmax(dim=-1)
    importance = pool_sum(probs.sum(dim=2), before, settings)
    current = torch.tensor([last], device=q.device)
    assert settings.select_count is not None
    count = min(settings.select_count, before)
    blocks = best_blocks(importance[:, :, None], current, settings, count)

    chosen = blocks.squeeze(2)
    b = torch.arange(batch, device=q.device)[:, None, None]
    g = torch.arange(groups, device=q.device)[:, None]
    near = before * size

    def picked(x: Tensor) -> Tensor:
        """Keys or values of the selected blocks, then of the window: (B, G, K, D)."""
        blocks_of = x[:, :, :near].unflatten(2, (before, size))
        return torch.cat([blocks_of[b, g, chosen].flatten(2, 3), x[:, :, near:]], dim=2).to(wide)

    probs = (rows @ picked(k).transpose(-1, -2)).softmax(dim=-1)
    out = (probs @ picked(v)).to(v.dtype)

    by_block = F.pad(probs.float(), (0, -seq_len % size)).unflatten(-1, (-1, size)).sum(dim=-1)
    mass = by_block.new_zeros(*by_block.shape[:-1], last + 1)
    mass[..., before:] = by_block[..., count:]
    mass.scatter_(-1, chosen[:, :, None].expand(*by_block.shape[:-1], -1), by_block[..., :count])
    return out.flatten(1, 2)[:, :, None], blocks, mass.flatten(1, 2)[:, :, None]
