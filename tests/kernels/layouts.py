"""Other memory layouts of the same tensors (B, H, T, D), by name."""

from __future__ import annotations

import torch
from torch import Tensor


def as_projected(x: Tensor) -> Tensor:
    """The same (B, H, T, D), in the memory order (B, T, H, D)."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def in_longer_cache(x: Tensor, before: int, after: int) -> Tensor:
    """The same (B, G, S, D), as a slice of a longer cache with NaN elsewhere."""
    length = x.shape[2]
    cache = x.new_full((*x.shape[:2], before + length + after, x.shape[3]), float("nan"))
    cache[:, :, before : before + length] = x
    return cache[:, :, before : before + length]


def in_wider_rows(x: Tensor, spare: int) -> Tensor:
    """The same, with `spare` NaN after each row."""
    rows = x.new_full((*x.shape[:3], x.shape[3] + spare), float("nan"))
    rows[..., : x.shape[3]] = x
    return rows[..., : x.shape[3]]


def one_number_on(x: Tensor) -> Tensor:
    """The same, contiguous, aligned to a single number only."""
    flat = x.new_empty(x.numel() + 1)
    flat[1:] = x.flatten()
    return flat[1:].view(x.shape)


LAYOUTS = {
    "projected": lambda x: {n: as_projected(y) if n in "qkv" else y for n, y in x.items()},
    "cache": lambda x: {n: in_longer_cache(y, 5, 60) if n in "kv" else y for n, y in x.items()},
    "fused": lambda x: {n: in_wider_rows(y, 16) if n in "qkv" else y for n, y in x.items()},
    "not_dense": lambda x: {
        n: y.transpose(2, 3).contiguous().transpose(2, 3) for n, y in x.items() if n != "gates"
    },
    "unaligned_rows": lambda x: {n: in_wider_rows(y, 1) for n, y in x.items() if n != "gates"},
    "unaligned": lambda x: {n: one_number_on(y) for n, y in x.items() if n != "gates"},
    "gates": lambda x: {
        n: y.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) if n == "gates" else y
        for n, y in x.items()
    },
    "gates_in_rows": lambda x: {
        n: torch.cat([y, y], dim=3)[..., ::2] if n == "gates" else y for n, y in x.items()
    },
}
