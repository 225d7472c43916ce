"""Recorded selections: the blocks that queries of the shipped model selected while it read a novel.

Random queries select other blocks than their neighbors do. Queries of a model select mostly the
same ones, and kernels that make use of this need real selections to be measured with. Layers 18
and 23, two groups each, were recorded for 32,768 tokens: 16 blocks of 64 tokens for each query,
three of them forced. Their agreement is the nearest to the mean over all layers.

Letters: B batch, G key/value groups, T query tokens, N selection blocks, n selected blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.gpu import attention
from nsa_kernels.gpu.launches import keep

RECORDING = Path(__file__).with_name("selections.npz")
"""`flips`: (groups, N, T / 8) uint8; a bit says that a query and the one before it differ in
whether they selected a block."""

BLOCK = 64
"""Tokens of a recorded block."""


@cache
def load_recording() -> Tensor:
    """Which blocks each query selected: (groups, T, N) bool."""
    with np.load(RECORDING) as data:
        flips = np.unpackbits(data["flips"], axis=-1)
    chosen = np.bitwise_xor.accumulate(flips, axis=-1).astype(bool)
    return torch.from_numpy(np.ascontiguousarray(chosen.transpose(0, 2, 1)))


def recorded_blocks(
    length: int, queries: int, groups: int, count: int, device: torch.device | str
) -> Tensor:
    """Recorded selections of the last queries of a text: (1, G, queries, n) int32, -1 for none.

    A text longer than the recording repeats it: a query of a later part selects blocks of that
    part, and the text's first block instead of the part's. More groups than were recorded repeat
    those. A query that selected more than `count` blocks keeps the latest.

    Args:
        length: Tokens of the text.
        queries: The last tokens, whose selections are returned.
        groups: G.
        count: n.
        device: Where the result goes.
    """
    recording = load_recording()
    kept, tokens, blocks = recording.shape
    number = torch.arange(blocks, dtype=torch.int32)
    ranked = torch.where(recording, number, -1).topk(min(count, blocks), dim=-1).values
    position = torch.arange(length - queries, length)
    within = position % tokens
    chosen = ranked[:, within]  # (groups, queries, n)
    part = (position // tokens).to(torch.int32)[:, None] * blocks
    moves = (chosen > 0) | ((chosen == 0) & (within < BLOCK)[:, None])
    chosen = torch.where(moves, chosen + part, chosen)
    of_group = torch.arange(groups) % kept
    return chosen[of_group][None].to(torch.int32).contiguous().to(device)


@contextmanager
def replayed(blocks: Tensor) -> Iterator[None]:
    """Attend to recorded blocks: the kernels still choose theirs, and the choice is dropped.

    The reference, which is called for one sequence and group at a time, attends to the same.

    Args:
        blocks: (B, G, T, n) int32.
    """
    choose: Callable[..., Tensor] = attention.select_blocks  # type: ignore[attr-defined]
    by_group = cycle(blocks.flatten(0, 1))

    def of_kernels(*arguments: Any) -> Tensor:
        choose(*arguments)
        return keep(blocks)

    def of_reference(*_: Any) -> Tensor:
        group: Tensor = next(by_group)
        return group[None, None].long()

    with (
        patch.object(attention, "select_blocks", of_kernels),
        patch.object(reference, "select", of_reference),
    ):
        yield
