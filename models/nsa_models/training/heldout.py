"""The loss on held-out documents, by the position in the document."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nsa_models.training.distributed import Processes
from nsa_models.training.parallel import ParallelModule
from nsa_models.training.rows import PackedBatch

EDGES = (0, *(2**power for power in range(6, 25)))
"""Bounds of the ranges of positions: 0, 64, 128, and so on to 16 million."""


@torch.no_grad()
def heldout_loss(
    module: ParallelModule, batches: list[PackedBatch], device: torch.device, processes: Processes
) -> dict[str, Any]:
    """Return the mean loss of held-out documents, in nats a token, in all and by position.

    Args:
        module: Returns the losses of a batch.
        batches: Rows of documents from their beginning, the same in every process.
        device: Device of the model.
        processes: The processes, which share the batches.

    Returns:
        `loss`, `tokens` of the measurement as `heldout_tokens`, and `by_position`: rows with
        `from`, `to`, `loss` and `tokens`.
    """
    sums = torch.zeros(2, len(EDGES) - 1, dtype=torch.float64, device=device)
    for first in range(0, len(batches), processes.count):
        # Every process runs as often as the others, as shards of a model need.
        number = first + processes.number
        own = batches[min(number, len(batches) - 1)].to(device)
        _, losses = module(own)
        if number < len(batches):
            places = _ranges(own.lengths).to(device)
            sums[0].index_add_(0, places, losses.flatten().double())
            sums[1].index_add_(0, places, torch.ones_like(places, dtype=torch.float64))
    totals, counts = module.sum(sums).cpu()
    by_position = [
        {"from": low, "to": high, "loss": float(total / count), "tokens": int(count)}
        for (low, high), total, count in zip(pairwise(EDGES), totals, counts, strict=True)
        if count
    ]
    return {
        "loss": float(totals.sum() / counts.sum()),
        "heldout_tokens": int(counts.sum()),
        "by_position": by_position,
    }


def _ranges(lengths: tuple[int, ...]) -> Tensor:
    """Return the number of the range of each position, counted in each document: (T,)."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    return torch.bucketize(positions, torch.tensor(EDGES[1:-1]), right=True)
