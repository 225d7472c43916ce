"""The attention settings: refused values, and the length that a budget covers."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from nsa_kernels.settings import AttentionSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"combine": "both"}, r"combine is 'both'; valid are \('union', 'gated'\)"),
        ({"compress_block": 0}, "compress_block is 0; it must be at least 1"),
        ({"compress_stride": -16}, "compress_stride is -16; it must be at least 1"),
        ({"select_block": 0}, "select_block is 0; it must be at least 1"),
        ({"select_tile": 0}, "select_tile is 0; it must be at least 1"),
        ({"select_count": 0}, "select_count is 0; it must be at least 1 or None"),
        ({"window": 0}, "window is 0"),
        ({"compress_block": 24}, "compress_block 24 is not a multiple of compress_stride 16"),
        ({"select_block": 40}, "select_block 40 is not a multiple of compress_stride 16"),
        ({"select_tile": 48}, "select_block 64 is not a multiple of select_tile 48"),
        ({"window": 96}, "window 96 is not a multiple of select_block 64.*combine='union'"),
        (
            {"select_tile": 16, "score_stride": 3},
            "select_tile 16 is not a multiple of score_stride 3",
        ),
        ({"score_stride": 2}, "select_tile 1 is not a multiple of score_stride 2"),
    ],
)
def test_refused_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionSettings(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"score_stride": 0},
        {"select_tile": 16, "score_stride": -4},
        {"init_blocks": -1},
        {"local_blocks": -1},
    ],
)
def test_meaningless_numbers_are_refused(values: dict[str, Any]) -> None:
    name, value = list(values.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        AttentionSettings(**values)


def test_the_gated_window_need_not_be_whole_blocks() -> None:
    assert AttentionSettings(combine="gated", window=100).window == 100


def test_the_papers_settings_are_the_defaults() -> None:
    settings = AttentionSettings(combine="gated")
    sizes = (settings.compress_block, settings.compress_stride, settings.select_block)
    assert sizes == (32, 16, 64)
    budget = (settings.select_count, settings.init_blocks, settings.local_blocks, settings.window)
    assert budget == (16, 1, 2, 512)


def test_settings_are_frozen() -> None:
    settings = AttentionSettings()
    with pytest.raises(FrozenInstanceError):
        settings.window = 64  # type: ignore[misc]
    with pytest.raises(TypeError):
        AttentionSettings(windows=64)  # type: ignore[call-arg]


@pytest.mark.parametrize(("window", "blocks"), [(64, 1), (512, 8)])
def test_window_blocks(window: int, blocks: int) -> None:
    assert AttentionSettings(window=window).window_blocks == blocks


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("window", [64, 192])
def test_covers_texts_up_to_the_budget(count: int, window: int) -> None:
    """The query's own block, the window's blocks before it, and the selected blocks."""
    settings = AttentionSettings(select_count=count, window=window)
    longest = (1 + window // 64 + count) * 64
    assert settings.covers(1)
    assert settings.covers(longest)
    assert not settings.covers(longest + 1)


def test_dense_settings_cover_everything() -> None:
    settings = AttentionSettings(select_count=None)
    assert settings.dense
    assert settings.covers(10**9)
    assert not AttentionSettings().dense


def test_gated_settings_never_cover() -> None:
    """Three branches are not dense attention, even if their budget covers the text."""
    settings = AttentionSettings(combine="gated", select_count=None)
    assert not settings.dense
    assert not settings.covers(1)


@pytest.mark.parametrize(
    ("tokens", "count"), [(0, 0), (31, 0), (32, 1), (47, 1), (48, 2), (64, 3), (1000, 61)]
)
def test_complete_blocks(tokens: int, count: int) -> None:
    assert AttentionSettings().complete_blocks(tokens) == count
