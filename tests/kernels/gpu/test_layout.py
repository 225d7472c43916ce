"""Sizes, packed sequences and refusals of all launchers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl
from exactness import DEVICE, SMALL, draw, pack, summary_count, tile_count
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu import layout
from nsa_kernels.gpu.layout import Problem
from nsa_kernels.settings import AttentionSettings

LENGTHS = [(1, 1), (5, 5), (1, 40), (0, 0), (33, 64), (16, 16), (17, 300), (0, 9), (2, 17)]


def problem(queries: int, seq_len: int, settings: AttentionSettings) -> Problem:
    q, k, v = (draw(settings, queries, seq_len)[name] for name in "qkv")
    return Problem.of(q, k, v, settings, None)


@triton.jit
def _count_kernel(position_ptr, out_ptr, block: tl.constexpr, stride: tl.constexpr):
    at = tl.arange(0, 64)
    count = layout.count_visible(tl.load(position_ptr + at), block, stride)
    tl.store(out_ptr + at, count)


@triton.jit
def _find_kernel(cu_ptr, out_ptr, length, packed: tl.constexpr):
    first, size = layout.find_sequence(cu_ptr, tl.program_id(0), length, packed)
    tl.store(out_ptr + 2 * tl.program_id(0), first)
    tl.store(out_ptr + 2 * tl.program_id(0) + 1, size)


@pytest.mark.parametrize(("block", "stride"), [(1, 1), (4, 4), (32, 16), (12, 4)])
def test_visible_keys_are_those_whose_block_has_ended(block: int, stride: int) -> None:
    position = torch.arange(64, dtype=torch.int32, device=DEVICE)
    out = torch.empty_like(position)
    _count_kernel[(1,)](position, out, block, stride)
    settings = AttentionSettings(compress_block=block, compress_stride=stride)
    assert out.tolist() == [summary_count(p + 1, settings) for p in range(64)]


def test_a_sequence_is_found_by_cumulative_lengths() -> None:
    cu = torch.tensor([0, 3, 3, 10], dtype=torch.int32, device=DEVICE)
    out = torch.empty(6, dtype=torch.int64, device=DEVICE)
    _find_kernel[(3,)](cu, out, 5, True)
    assert out.tolist() == [0, 3, 3, 0, 3, 7]
    _find_kernel[(3,)](cu, out, 5, False)
    assert out.tolist() == [0, 5] * 3


@pytest.mark.parametrize(("block", "stride"), [(4, 4), (8, 4), (12, 4), (16, 16)])
@pytest.mark.parametrize("tile", [1, 4, 16])
def test_packed_totals_equal_a_count(block: int, stride: int, tile: int) -> None:
    settings = replace(SMALL, compress_block=block, compress_stride=stride, select_tile=tile)
    packing, parts = pack(LENGTHS, settings)
    assert packing.sequences == len(LENGTHS)
    assert packing.cu_summaries(settings).tolist() == [0, *(p.summaries.stop for p in parts)]
    assert packing.cu_tiles(settings).tolist() == [0, *(p.tiles.stop for p in parts)]
    assert packing.cu_tiles(settings).dtype == torch.int32


@pytest.mark.parametrize("tile", [1, 16])
@pytest.mark.parametrize(("queries", "seq_len"), [(1, 1), (7, 7), (16, 16), (2, 33), (40, 133)])
def test_sizes_equal_those_of_the_reference(tile: int, queries: int, seq_len: int) -> None:
    settings = replace(SMALL, select_tile=tile)
    tensors = draw(settings, queries, seq_len, batch=2, groups=2, repeat=3, dim=32, value_dim=16)
    q, k, v = (tensors[name] for name in "qkv")
    found = Problem.of(q, k, v, settings, None)
    _, blocks, mass = reference.nsa_reference(q, k, k, settings, gates=tensors["gates"])
    assert (found.batch, found.heads, found.groups, found.repeat) == (2, 6, 2, 3)
    assert (found.dim, found.value_dim) == (32, 16)
    assert (found.queries, found.seq_len, found.offset) == (queries, seq_len, seq_len - queries)
    assert (found.tiles, found.blocks) == (blocks.shape[2], mass.shape[3])
    assert found.summaries == reference.compress(k, settings).shape[2]
    assert found.plain_scale == pytest.approx(32**-0.5)
    assert found.scale == pytest.approx(32**-0.5 / torch.log(torch.tensor(2.0)).item())
    assert found.cu_queries is found.cu_keys is found.cu_summaries is found.cu_tiles is None


@pytest.mark.parametrize("tile", [1, 4, 16])
def test_no_packed_sequence_has_more_than_the_grid(tile: int) -> None:
    settings = replace(SMALL, select_tile=tile)
    for queries in range(1, 40):
        lengths = [(queries, seq_len) for seq_len in range(queries, queries + 20)]
        packing, _ = pack(lengths, settings)
        x = torch.zeros(1, 2, 0, 16, device=DEVICE)
        found = Problem.of(x, x, x, settings, packing)
        most = max(tile_count(*length, settings) for length in lengths)
        assert found.tiles == most
        assert found.offset == 0
        assert found.batch_stride(x) == 0
        assert (found.queries, found.seq_len) == (queries, queries + 19)


def test_padding_is_to_a_power_of_two() -> None:
    assert [layout.pad(x) for x in (1, 16, 17, 96, 128, 192)] == [16, 16, 32, 128, 128, 256]


def test_rows_of_a_query_are_adjacent() -> None:
    x = torch.zeros(2, 6, 5, 16, device=DEVICE)
    rows = layout.empty_rows(x, 24)
    assert rows.shape == (2, 6, 5, 24)
    assert rows.transpose(1, 2).is_contiguous()
    numbers = problem(5, 5, SMALL).per_query(x)
    assert numbers.shape == (2, 6, 5)
    assert numbers.dtype == torch.float32
    assert numbers.stride(1) == 1
    assert numbers.stride(2) >= 6


def test_only_tensors_that_cannot_be_loaded_are_copied() -> None:
    x = torch.randn(2, 3, 5, 16, device=DEVICE)
    assert layout.loadable(x) is x
    kept = x.transpose(1, 2)
    assert layout.loadable(kept).data_ptr() == x.data_ptr()
    unaligned = torch.randn(2 * 3 * 5 * 16 + 1, device=DEVICE)[1:].view(2, 3, 5, 16)
    odd_rows = torch.randn(2, 3, 5, 17, device=DEVICE)[..., :16]
    not_dense = torch.randn(2, 3, 16, 5, device=DEVICE).transpose(2, 3)
    for other in (not_dense, unaligned, odd_rows):
        copied = layout.loadable(other)
        assert copied.stride(-1) == 1
        assert copied.data_ptr() % 16 == 0
        assert all(stride * 4 % 16 == 0 for stride in copied.stride()[:-1])
        assert torch.equal(copied, other)


def refused(dtype: torch.dtype, settings: AttentionSettings) -> str:
    """The message of the refusal."""
    x: Tensor = torch.zeros(1, 2, 5, 16, dtype=dtype, device=DEVICE)
    assert not layout.supports(dtype, (16,), settings)
    with pytest.raises(UnsupportedError) as caught:
        Problem.of(x, x, x, settings, None)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"select_count": None}, "select_count is None"),
        ({"select_block": 48}, "select_block is 48"),
        ({"select_block": 256}, "select_block of 16 to 128; it is 256"),
        ({"select_block": 8, "select_tile": 8}, "select_block of 16 to 128; it is 8"),
        ({"select_block": 16, "compress_block": 24}, "at most .* 20; it is 24"),
        ({"select_block": 96, "select_tile": 3}, "select_block is 96"),
    ],
)
def test_a_refusal_names_the_value(changes: dict[str, int | None], expected: str) -> None:
    refused_with = refused(torch.float32, replace(SMALL, **changes))  # type: ignore[arg-type]
    assert refused_with.startswith("the Triton kernels ")
    assert re.search(expected, refused_with)


def test_a_refused_dtype_is_named() -> None:
    assert "torch.float64" in refused(torch.float64, SMALL)
    assert "torch.int32" in refused(torch.int32, SMALL)


def test_mixed_dtypes_are_refused() -> None:
    q = torch.zeros(1, 2, 5, 16, device=DEVICE)
    with pytest.raises(UnsupportedError, match=r"float32, torch.float32, torch.float16"):
        Problem.of(q, q, q.half(), SMALL, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("select_block", [16, 32, 64, 128])
def test_supported_dtypes_and_blocks(dtype: torch.dtype, select_block: int) -> None:
    settings = replace(SMALL, select_block=select_block, compress_block=20)
    assert layout.supports(dtype, (16, 96, 192), settings)


@pytest.mark.parametrize(("dtype", "dim"), [(torch.float32, 18), (torch.float16, 20)])
def test_a_head_dim_that_cannot_be_loaded_is_named(dtype: torch.dtype, dim: int) -> None:
    x = torch.zeros(1, 2, 5, dim, dtype=dtype, device=DEVICE)
    assert not layout.supports(dtype, (dim,), SMALL)
    with pytest.raises(UnsupportedError, match=rf"head dims of whole 16 bytes.*{dim}"):
        Problem.of(x, x, x, SMALL, None)
