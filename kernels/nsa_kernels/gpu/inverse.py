"""The tiles of queries that selected each block, as lists in one table.

The gradient of a block's keys and values is the sum over the queries that selected it. One stable
sort builds the lists, so that their order and every sum over them is deterministic. Every query
selects the first block: long lists are cut into pieces of similar length, which balances the
programs.

Letters: see `layout.py`; n blocks of a tile's list, X lists (one per sequence, group and block),
P pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nsa_kernels.gpu.layout import Problem

_PIECE_ROWS = 32768
"""Most rows of a piece: queries times heads."""

_FEW_ROWS = 4096
"""Rows of a piece below which the sum over pieces takes longer than it saves."""

_PIECES = 2048
"""Pieces that balance the programs of a GPU: a shorter text has shorter pieces."""


@dataclass(frozen=True, kw_only=True)
class Choosers:
    """Lists of tiles by block, and the pieces of the lists.

    Attributes:
        tiles: (B * G * U * n,) int32, the tiles, list after list.
        starts: (X + 1,) int32, offset of each list in `tiles`.
        first_pieces: (X + 1,) int32, the first piece of each list.
        list_of_piece: (P,) int32, X for unused pieces.
        piece: Most tiles of a piece.
        blocks: Blocks from one group's lists to the next group's.
        cu_blocks: (B + 1,) int32, offset of each packed sequence's blocks.
        sequence_of_block: (blocks,) int32, only for a packed batch.
    """

    tiles: Tensor
    starts: Tensor
    first_pieces: Tensor
    list_of_piece: Tensor
    piece: int
    blocks: int
    cu_blocks: Tensor | None
    sequence_of_block: Tensor | None

    @property
    def lists(self) -> int:
        """X, the number of lists."""
        return len(self.starts) - 1

    @property
    def pieces(self) -> int:
        """P, an upper bound of the number of pieces; only the device knows the exact number."""
        return len(self.list_of_piece)


def invert(problem: Problem, blocks: Tensor, keys: int) -> Choosers:
    """List the tiles that selected each block.

    Args:
        problem: The sizes.
        blocks: (B, G, U, n) int32, -1 for none.
        keys: S; for a packed batch the sum over its sequences.
    """
    batch, groups, tiles, count = blocks.shape
    settings = problem.settings
    own = blocks.long()
    cu_blocks = sequence_of_block = None
    width = problem.blocks
    if problem.packing:
        assert problem.cu_tiles is not None
        sizes = (
            problem.packing.cu_keys.diff() + settings.select_block - 1
        ) // settings.select_block
        cu_blocks = problem.packing.running(sizes)
        width = keys // settings.select_block + problem.batch
        number = torch.arange(width, dtype=torch.int32, device=blocks.device)
        sequence_of_block = torch.bucketize(number, cu_blocks[1:], right=True, out_int32=True)
        number = torch.arange(tiles, dtype=torch.int32, device=blocks.device)
        sequence = torch.bucketize(number, problem.cu_tiles[1:], right=True)
        own = own + cu_blocks[sequence.clamp(max=problem.batch - 1)][:, None]
    lists = batch * groups * width
    first = torch.arange(batch * groups, device=blocks.device).view(batch, groups, 1, 1) * width
    # A radix sort of shorter numbers has fewer passes.
    dtype = torch.int16 if lists <= torch.iinfo(torch.int16).max else torch.int32
    named = torch.where(blocks < 0, lists, own + first).flatten().to(dtype)
    named, order = named.sort(stable=True)
    number = torch.arange(lists + 1, dtype=dtype, device=blocks.device)
    starts = torch.searchsorted(named, number, out_int32=True)
    rows = problem.repeat * settings.select_tile
    piece_rows = min(_PIECE_ROWS, max(_FEW_ROWS, rows * len(named) // _PIECES))
    piece = max(1, piece_rows // rows)
    pieces = (starts.diff() + piece - 1) // piece
    ends = pieces.cumsum(0)
    first_pieces = torch.cat([ends.new_zeros(1), ends]).to(torch.int32)
    most = min(lists, len(named)) + len(named) // piece
    number = torch.arange(most, dtype=torch.int32, device=blocks.device)
    return Choosers(
        tiles=(order // count % tiles).to(torch.int32),
        starts=starts,
        first_pieces=first_pieces,
        list_of_piece=torch.bucketize(number, first_pieces[1:], right=True, out_int32=True),
        piece=piece,
        blocks=width,
        cu_blocks=cu_blocks,
        sequence_of_block=sequence_of_block,
    )
