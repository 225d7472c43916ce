"""Tiles fit into shared memory, hold whole queries, and shrink for wider rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.settings import AttentionSettings

pytest.importorskip("triton")

from nsa_kernels.gpu import tiles
from nsa_kernels.gpu.layout import Problem, pad

HOPPER_BYTES = 227 * 1024
SETTINGS = AttentionSettings(combine="gated")

EVERY = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
DIMS = pytest.mark.parametrize("dims", [(64, 64), (96, 96), (128, 128), (192, 128), (256, 256)])


def problem(dtype: torch.dtype, dims: tuple[int, int], heads: int = 16, **settings: int) -> Problem:
    q = torch.zeros(1, heads, 1, dims[0], dtype=dtype)
    k, v = (torch.zeros(1, 1, 1, dim, dtype=dtype) for dim in dims)
    return Problem.of(q, k, v, replace(SETTINGS, **settings), None)


def row(one: Problem) -> int:
    return pad(max(one.dim, one.value_dim)) * one.itemsize


@EVERY
@DIMS
def test_bands_fit(dtype: torch.dtype, dims: tuple[int, int]) -> None:
    """Resident tiles, and keys and values or queries and gradients in every stage."""
    one = problem(dtype, dims)
    for values in (True, False):
        tile = tiles.forward_tile(one, values=values)
        streamed = 2 if values else 1
        held = tile["BLOCK_M"] + streamed * tile["BLOCK_N"] * tile["num_stages"]
        assert held * row(one) <= HOPPER_BYTES
    tile = tiles.rows_backward_tile(one)
    held = 2 * tile["BLOCK_M"] + 2 * tile["BLOCK_N"] * tile["num_stages"]
    assert held * row(one) <= HOPPER_BYTES
    for windowed in (True, False):
        tile = tiles.keys_backward_tile(one, 16, windowed=windowed)
        held = 2 * tile["BLOCK_N"] + 2 * tile["BLOCK_M"] * tile["num_stages"]
        assert held * row(one) <= HOPPER_BYTES
    for rows in (16, 512):
        tile = tiles.importance_tile(one, rows)
        held = tile["BLOCK_M"] + tile["BLOCK_N"] * tile["num_stages"]
        assert held * row(one) <= HOPPER_BYTES


@EVERY
@DIMS
@pytest.mark.parametrize("block", [16, 64, 128])
@pytest.mark.parametrize("tile_queries", [1, 16])
def test_selected_blocks_fit_or_are_refused(
    dtype: torch.dtype, dims: tuple[int, int], block: int, tile_queries: int
) -> None:
    one = problem(dtype, dims, select_block=block, select_tile=tile_queries)
    if row(one) * block * 2 > HOPPER_BYTES:
        with pytest.raises(UnsupportedError, match=rf"block of {block} tokens, {row(one)} bytes"):
            tiles.selected_tile(one)
        return
    tile = tiles.selected_tile(one)
    held = 2 * tile["BLOCK_M"] + 2 * block * tile["num_stages"]
    assert held * row(one) <= HOPPER_BYTES
    assert tile["BLOCK_M"] >= 16
    assert tile["BLOCK_M"] <= max(16, 16 * tile_queries)


@EVERY
@DIMS
@pytest.mark.parametrize("heads", [1, 8, 16, 32, 64])
def test_a_tile_holds_all_heads_of_a_query(
    dtype: torch.dtype, dims: tuple[int, int], heads: int
) -> None:
    one = problem(dtype, dims, heads)
    for windowed in (True, False):
        assert tiles.keys_backward_tile(one, heads, windowed=windowed)["BLOCK_M"] % heads == 0
    assert tiles.selected_keys_backward_tile(one, heads)["BLOCK_M"] % heads == 0


def test_wider_rows_have_smaller_tiles() -> None:
    sizes = [
        tiles.forward_tile(problem(torch.bfloat16, (dim, dim)), values=True)["BLOCK_M"]
        for dim in (64, 128, 192, 256)
    ]
    assert sizes == sorted(sizes, reverse=True)
    half, full = (problem(kind, (128, 128)) for kind in (torch.bfloat16, torch.float32))
    assert tiles.width(full) == 2 * tiles.width(half)
