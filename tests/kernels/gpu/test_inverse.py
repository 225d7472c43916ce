"""Lists of the tiles that selected each block, against a count in Python."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from exactness import DEVICE, SMALL, Part, gpu, pack
from torch import Tensor

from nsa_kernels.gpu import inverse
from nsa_kernels.gpu.inverse import Choosers, invert
from nsa_kernels.gpu.layout import Packing, Problem
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def problem(
    queries: int,
    keys: int,
    settings: AttentionSettings,
    packing: Packing | None = None,
    batch: int = 2,
) -> Problem:
    q = torch.zeros(batch, 6, queries, 16, device=DEVICE)
    k = torch.zeros(batch, 3, keys, 16, device=DEVICE)
    return Problem.of(q, k, k, settings, packing)


def choice(shape: tuple[int, int, int], blocks: int, count: int) -> Tensor:
    """Distinct random blocks for each tile, in any order, padded with -1."""
    scores = torch.rand(*shape, blocks, device=DEVICE)
    chosen = scores.argsort(dim=-1)[..., :count].to(torch.int32)
    kept = torch.randint(1, count + 1, (*shape, 1), device=DEVICE)
    return chosen.masked_fill(torch.arange(chosen.shape[-1], device=DEVICE) >= kept, -1)


def lists(choosers: Choosers) -> list[list[int]]:
    tiles, starts = choosers.tiles.tolist(), choosers.starts.tolist()
    return [tiles[a:b] for a, b in pairwise(starts)]


def assert_pieces_cover(choosers: Choosers) -> None:
    """Assert that consecutive pieces cover every list, and that other pieces are unused."""
    names = choosers.list_of_piece.tolist()
    firsts = choosers.first_pieces.tolist()
    starts = choosers.starts.tolist()
    assert len(names) == choosers.pieces
    for name, (first, end) in enumerate(pairwise(firsts)):
        size = starts[name + 1] - starts[name]
        assert end - first == -(-size // choosers.piece)
        assert names[first:end] == [name] * (end - first)
    assert all(name == choosers.lists for name in names[firsts[-1] :])


@pytest.mark.parametrize("rows", [1, 64, 1000, 4096])
def test_every_choice_is_listed_once_in_order(
    rows: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    monkeypatch.setattr(inverse, "_PIECE_ROWS", rows)
    of = problem(150, 200, SMALL)
    blocks = choice((2, 3, of.tiles), of.blocks, 5)
    blocks[:, :, :, 0] = 0
    blocks[..., 1:] = blocks[..., 1:].masked_fill(blocks[..., 1:] == 0, -1)
    choosers = invert(of, blocks, 200)
    assert choosers.lists == 2 * 3 * of.blocks
    assert choosers.piece == max(1, rows // 32)
    tiles_of: list[list[int]] = [[] for _ in range(choosers.lists)]
    for b, g, u, n in torch.cartesian_prod(*(torch.arange(x) for x in blocks.shape)).tolist():
        block = int(blocks[b, g, u, n])
        if block >= 0:
            tiles_of[(b * 3 + g) * of.blocks + block].append(u)
    assert lists(choosers) == tiles_of
    assert_pieces_cover(choosers)


def test_pieces_have_a_share_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    of = problem(150, 200, SMALL)
    blocks = choice((2, 3, of.tiles), of.blocks, 5)
    monkeypatch.setattr(inverse, "_FEW_ROWS", 32)
    monkeypatch.setattr(inverse, "_PIECES", blocks.numel() // 7)
    assert invert(of, blocks, 200).piece == 7
    monkeypatch.setattr(inverse, "_FEW_ROWS", 320)
    assert invert(of, blocks, 200).piece == 10


@pytest.mark.parametrize("tile", [1, 16])
def test_packed_sequences_have_separate_lists(
    tile: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    monkeypatch.setattr(inverse, "_PIECE_ROWS", 64)
    settings = replace(SMALL, select_tile=tile)
    lengths = [(1, 1), (33, 64), (5, 40), (0, 0), (17, 17), (1, 100)]
    packing, parts = pack(lengths, settings)
    keys = sum(seq_len for _, seq_len in lengths)
    queries = sum(queries for queries, _ in lengths)
    of = problem(queries, keys, settings, packing, batch=1)
    total = queries if tile == 1 else queries // tile + 2 * len(lengths)
    blocks = torch.full((1, 3, total, 4), -1, dtype=torch.int32, device=DEVICE)
    for (_, seq_len), part in zip(lengths, parts, strict=True):
        tiles = part.tiles.stop - part.tiles.start
        if tiles:
            drawn = choice((1, 3, tiles), -(-seq_len // 16), 4)
            blocks[:, :, part.tiles, : drawn.shape[-1]] = drawn
    choosers = invert(of, blocks, keys)
    assert_pieces_cover(choosers)
    assert choosers.cu_blocks is not None
    assert choosers.sequence_of_block is not None
    found = lists(choosers)
    first = 0
    for b, ((_, seq_len), part) in enumerate(zip(lengths, parts, strict=True)):
        width = -(-seq_len // 16)
        assert choosers.cu_blocks[b] == first
        assert choosers.sequence_of_block[first : first + width].tolist() == [b] * width
        for g in range(3):
            for block in range(width):
                assert found[g * choosers.blocks + first + block] == tiles_of(
                    blocks, part, g, block
                )
        first += width
    assert (choosers.sequence_of_block[first:] == len(lengths)).all()
    assert sum(map(len, found)) == int((blocks >= 0).sum())


def tiles_of(blocks: Tensor, part: Part, g: int, block: int) -> list[int]:
    """Tiles of a sequence that selected one of its blocks, numbered within the packed row."""
    chose = (blocks[0, g, part.tiles] == block).any(dim=-1)
    return (chose.nonzero()[:, 0] + part.tiles.start).tolist()


@gpu
def test_lists_of_a_long_text_are_deterministic(seed: int) -> None:
    torch.manual_seed(seed)
    settings = AttentionSettings(combine="gated")
    of = problem(65537, 65537, settings, batch=1)
    blocks = choice((1, 3, of.tiles), of.blocks, 16)
    blocks[..., 0] = 0
    blocks[..., 1:] = blocks[..., 1:].masked_fill(blocks[..., 1:] == 0, -1)
    choosers = invert(of, blocks, 65537)
    assert torch.equal(choosers.tiles, invert(of, blocks, 65537).tiles)
    assert_pieces_cover(choosers)
    starts = choosers.starts.tolist()
    assert choosers.tiles[starts[0] : starts[1]].tolist() == list(range(65537))
    for block in (1, 500, 1024):
        chose = (blocks[0, 0] == block).any(dim=-1).nonzero()[:, 0]
        assert torch.equal(choosers.tiles[starts[block] : starts[block + 1]].long(), chose)
