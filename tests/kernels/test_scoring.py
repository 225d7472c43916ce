"""Selection of blocks with large matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from nsa_kernels.scoring import mean_summaries, select_blocks
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(
    compress_block=4,
    compress_stride=4,
    select_count=4,
    select_tile=64,
    score_stride=4,
    window=128,
)


def draw(length: int, queries: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random queries of six heads and keys of two groups."""
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 6, queries, 16, generator=random) * 2
    return q, torch.randn(1, 2, length, 16, generator=random)


def test_a_block_with_high_scores_is_selected() -> None:
    q, k = draw(8192, 64)
    target = q[:, ::3, :1]
    q = target.repeat_interleave(3, dim=1) + 0.1 * q
    k[:, :, 3000:3004] = target * 3
    chosen = select_blocks(q, mean_summaries(k, SETTINGS), 8192, SETTINGS)
    assert (chosen == 3000 // 64).any(dim=-1).all()


def test_blocks_are_distinct_include_forced_and_exclude_the_window() -> None:
    q, k = draw(4096, 256)
    chosen = select_blocks(q, mean_summaries(k, SETTINGS), 4096, SETTINGS)
    current = torch.arange(60, 64)[:, None]
    assert (chosen[..., 0] == 0).all()
    assert (chosen < current - SETTINGS.window_blocks).all()
    assert all(len(set(row)) == 4 and min(row) >= 0 for row in chosen.flatten(0, 2).tolist())


def test_fp32_and_bf16_select_alike() -> None:
    q, k = draw(4096, 64)
    summaries = mean_summaries(k, SETTINGS)
    wide = select_blocks(q, summaries, 4096, SETTINGS)
    narrow = select_blocks(q.bfloat16(), summaries.bfloat16(), 4096, SETTINGS)
    assert (wide.sort(dim=-1).values == narrow.sort(dim=-1).values).float().mean() > 0.8
