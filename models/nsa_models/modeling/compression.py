"""The learned compression φ: what the keys of a block are scored by.

The keys of a block are turned so that its middle is position zero, the mean of them is corrected
by a small MLP with an intra-block position encoding, and the result is turned back to the place
of the block. So φ sees the same keys wherever in a text they stand.

Letters: B batch, G key/value groups, S key tokens, C summaries, l and d their length and stride,
D head dim, E inner width of the MLP.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, eq. 7.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KEY_SCALE = 8.0
"""About the size of a key's elements: the MLP sees numbers of about one."""


class Compression(nn.Module):
    """One summary key for each complete block of l keys, every d of them.

    Args:
        block: l, in tokens.
        stride: d, in tokens.
        head_dim: D.
        hidden: E.
    """

    def __init__(self, block: int, stride: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.block, self.stride = block, stride
        self.position = nn.Parameter(torch.zeros(block, head_dim))
        self.inner = nn.Linear(block * head_dim, hidden)
        self.outer = nn.Linear(hidden, head_dim)

    def forward(self, k: Tensor, frequencies: Tensor, first: int | Tensor = 0) -> Tensor:
        """Summaries of keys after the rotary embedding: (B, G, S, D) to (B, G, C, D).

        Args:
            k: The keys.
            frequencies: (D / 2,), inverse frequencies of the rotary embedding.
            first: Position of the first key, also as a tensor (1,) on the device.
        """
        if k.shape[2] < self.block:
            return k[:, :, :0]
        blocks = k.unfold(2, self.block, self.stride).transpose(3, 4)  # (B, G, C, l, D)
        count = blocks.shape[2]
        middle = torch.arange(count, device=k.device, dtype=torch.float32) * self.stride
        middle = middle + (first + (self.block - 1) / 2)
        turned = turn(blocks.float(), -middle[:, None], frequencies)
        weight = self.inner.weight
        seen = (turned / _KEY_SCALE + self.position.float()).flatten(3).to(weight.dtype)
        change = self.outer(F.gelu(self.inner(seen))).float() * _KEY_SCALE
        return turn(turned.mean(dim=3) + change, middle, frequencies).to(k.dtype)


def turn(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Apply the rotary embedding of positions (…, C) or (…, C, 1) to (…, C, D) or (…, C, l, D)."""
    angles = positions[..., None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
