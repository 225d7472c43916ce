"""Coarse scores first, exact ones for the best: which blocks are chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nsa_kernels import scoring
from nsa_kernels.scoring import mean_summaries, select_blocks
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(
    compress_block=4,
    compress_stride=4,
    select_count=4,
    select_tile=64,
    score_stride=4,
    refine_count=6,
    window=128,
)


def draw(length: int, queries: int, *, smooth: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries of six heads and keys of two groups, the keys the same for `smooth` tokens."""
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(1, 6, queries, 16, generator=random) * 2
    k = torch.randn(1, 2, -(-length // smooth), 16, generator=random)
    return q, k.repeat_interleave(smooth, dim=2)[:, :, :length]


@pytest.mark.parametrize(("length", "queries"), [(2048, 256), (2011, 200), (1500, 1), (1025, 65)])
def test_exact_where_coarse_means_lose_nothing(length: int, queries: int) -> None:
    q, k = draw(length, queries, smooth=32)
    summaries = mean_summaries(k, SETTINGS)
    got = select_blocks(q, summaries, length, SETTINGS)
    exact = select_blocks(q, summaries, length, replace(SETTINGS, refine_count=None))
    assert torch.equal(got.sort(dim=-1).values, exact.sort(dim=-1).values)


def test_importance_of_candidates_is_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = draw(2048, 128, smooth=32)
    summaries = mean_summaries(k, SETTINGS)
    seen: dict[str, list[Tensor]] = {"_refined": [], "_importance": []}
    for name, calls in seen.items():
        inner = getattr(scoring, name)

        def note(*args: object, inner: object = inner, calls: list[Tensor] = calls) -> Tensor:
            calls.append(inner(*args))  # type: ignore[operator]
            return calls[-1]

        monkeypatch.setattr(scoring, name, note)
    select_blocks(q, summaries, 2048, SETTINGS)
    select_blocks(q, summaries, 2048, replace(SETTINGS, refine_count=None))
    refined, exact = torch.cat(seen["_refined"], dim=2), torch.cat(seen["_importance"], dim=2)
    scored = refined > 0
    assert scored.sum(dim=-1).eq(SETTINGS.refine_count).all()
    torch.testing.assert_close(refined[scored], exact[scored], rtol=1e-4, atol=1e-6)


def test_a_striking_block_is_found_among_many() -> None:
    q, k = draw(8192, 64)
    target = q[:, ::3, :1]
    q = target.repeat_interleave(3, dim=1) + 0.1 * q
    k[:, :, 3000:3004] = target * 3
    chosen = select_blocks(q, mean_summaries(k, SETTINGS), 8192, SETTINGS)
    assert (chosen == 3000 // 64).any(dim=-1).all()


def test_blocks_are_distinct_forced_ones_there_and_none_of_the_window() -> None:
    q, k = draw(4096, 256)
    chosen = select_blocks(q, mean_summaries(k, SETTINGS), 4096, SETTINGS)
    current = torch.arange(60, 64)[:, None]
    assert (chosen[..., 0] == 0).all()
    assert (chosen < current - SETTINGS.window_blocks).all()
    assert all(len(set(row)) == 4 and min(row) >= 0 for row in chosen.flatten(0, 2).tolist())


def test_wide_and_narrow_numbers_choose_alike() -> None:
    q, k = draw(4096, 64)
    summaries = mean_summaries(k, SETTINGS)
    wide = select_blocks(q, summaries, 4096, SETTINGS)
    narrow = select_blocks(q.bfloat16(), summaries.bfloat16(), 4096, SETTINGS)
    assert (wide.sort(dim=-1).values == narrow.sort(dim=-1).values).float().mean() > 0.8


@pytest.mark.parametrize(
    "settings",
    [
        {"refine_count": 0},
        {"refine_count": 8, "compress_block": 32, "compress_stride": 16},
    ],
)
def test_settings_that_cannot_be_refined_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="refine_count"):
        AttentionSettings(**settings)  # type: ignore[arg-type]
