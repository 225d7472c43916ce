"""Rows and keys of a tile, warps and pipeline stages of every kernel, tuned on an H200.

Shared memory limits them: a program holds its own tiles and one streamed tile per stage.
"""

from __future__ import annotations

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.layout import Problem, pad

Tile = dict[str, int]

SHARED_BYTES = 224 * 1024
"""Shared memory of a program: Hopper's 227 KB less barriers and reductions."""

_MERGED_ROWS = 64
"""Rows of a merged tile: the rows of one matrix instruction."""

_MOST_MEMBERS = 16
"""Most tiles of queries of a merged tile: an entry of its list has one bit per tile."""


def width(problem: Problem) -> int:
    """Width of a row in units of 256 bytes: 1, 2 or 4. Wider rows need smaller tiles."""
    return max(1, row_bytes(problem) // 256)


def row_bytes(problem: Problem) -> int:
    """Bytes of a row of keys or of values, the longer one."""
    return pad(max(problem.dim, problem.value_dim)) * problem.itemsize


def forward_tile(problem: Problem, *, values: bool) -> Tile:
    """Tile for attention to a band of keys; without `values`, for its log-sum-exp alone.

    With 128 registers a thread, two programs share a multiprocessor, and the exponentials of one
    overlap the matrix products of the other.
    """
    wide = width(problem)
    if wide > 1:
        return {"BLOCK_M": 256 // wide, "BLOCK_N": 128 // wide, "num_warps": 8, "num_stages": 2}
    tile = {"BLOCK_M": 128, "BLOCK_N": 64 if values else 128, "num_warps": 8, "num_stages": 2}
    return {**tile, "maxnreg": 128}


def rows_backward_tile(problem: Problem) -> Tile:
    """Tile for the gradient of the queries of a band."""
    size = 32 if width(problem) == 4 else 64
    return {"BLOCK_M": size, "BLOCK_N": size, "num_warps": 4, "num_stages": 2}


def keys_backward_tile(problem: Problem, heads: int, *, windowed: bool) -> Tile:
    """Tile for the gradient of a band's keys and values; it holds all `heads` of a query.

    With a window each key has few rows, and more programs keep the GPU busy.
    """
    wide = width(problem)
    if wide > 1:
        rows, keys, warps, stages = 64 // wide, 32 if wide == 4 else 64, 4, 2
    elif windowed:
        rows, keys, warps, stages = 32, 64, 4, 3
    else:
        rows, keys, warps, stages = 64, 128, 8, 3
    return {
        "BLOCK_M": max(rows, heads), "BLOCK_N": keys, "num_warps": warps, "num_stages": stages
    }  # fmt: skip


def importance_tile(problem: Problem, tile_rows: int) -> Tile:
    """Tile for the importance of blocks; `tile_rows` are the scored rows of a tile of queries.

    A program that cannot hold all of them loads them again for every tile of keys, which leaves no
    memory for several stages.
    """
    wide = width(problem)
    rows = 128 if wide == 1 else 64
    stages = 1 if tile_rows > rows else 3 if wide < 4 else 2
    return {"BLOCK_M": rows, "BLOCK_N": 64, "num_warps": 4, "num_stages": stages}


def selected_tile(problem: Problem) -> Tile:
    """Tile for attention to selected blocks and for the gradient of its queries.

    Raises:
        UnsupportedError: If a selection block does not fit into shared memory.
    """
    row, block = row_bytes(problem), problem.settings.select_block
    wanted = min(128, pad(problem.repeat * problem.settings.select_tile))
    for rows in (size for size in (128, 64, 32, 16) if size <= wanted):
        stages = (SHARED_BYTES - 2 * rows * row) // (2 * block * row)
        if stages >= 1:
            warps = {128: 8, 64: 4}.get(rows, 2)
            most = 3 if rows >= 64 else 2
            return {"BLOCK_M": rows, "num_warps": warps, "num_stages": min(stages, most)}
    raise UnsupportedError(
        f"a selection block of {block} tokens, {row} bytes each, is too large for the Triton "
        "kernels; take a smaller select_block"
    )


def merged_members(problem: Problem) -> int:
    """Number of adjacent tiles that a merged tile holds: at most 64 rows, and at most 16 tiles.

    It is 0 where the rows and one selection block do not fit into shared memory.
    """
    row, block = row_bytes(problem), problem.settings.select_block
    if 2 * (_MERGED_ROWS + block) * row > SHARED_BYTES:
        return 0
    return min(_MOST_MEMBERS, _MERGED_ROWS // (problem.repeat * problem.settings.select_tile))


def merged_tile(problem: Problem, *, backward: bool) -> Tile:
    """Tile for attention to merged lists of blocks, or for the gradient of its queries.

    The number of stages, one to three, lets two programs share a multiprocessor where possible.
    128 registers a thread let three and more share it where rows are short.
    """
    row, block = row_bytes(problem), problem.settings.select_block
    queries = merged_members(problem) * problem.settings.select_tile
    rows = pad(queries * problem.repeat)
    left = SHARED_BYTES // 2 - (2 if backward else 1) * rows * row
    stages = max(1, min(left // (2 * block * row), 3))
    tile = {"BLOCK_M": rows, "num_warps": 4 if rows == 64 else 2, "num_stages": stages}
    return {**tile, "maxnreg": 128} if row <= 128 and not backward else tile


def selected_keys_backward_tile(problem: Problem, heads: int) -> Tile:
    """Tile for the gradient of selected keys and values; it holds all `heads` of a query."""
    row, block = row_bytes(problem), problem.settings.select_block
    rows = max(32, heads)
    stages = (SHARED_BYTES - 2 * block * row) // (2 * rows * row)
    return {"BLOCK_M": rows, "num_warps": 4, "num_stages": max(1, min(stages, 2))}
