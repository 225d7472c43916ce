"""The learned compression φ of keys.

φ rotates the keys of a block so that its middle is position 0, adds the output of a small MLP with
an intra-block position encoding to their mean, and rotates the result back to the position of the
block. So φ is independent of the block's position in the text.

Letters: B batch, G key/value groups, S key tokens, C summaries, l and d their length and stride,
D head dim, E inner width of the MLP.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, eq. 7.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KEY_SCALE = 8.0
"""Typical magnitude of a key's elements, which scales the MLP's input to about 1."""


class Compression(nn.Module):
    """Compresses each complete block of l keys, one every d keys, to one key.

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
        """Compress keys after the rotary embedding: (B, G, S, D) to (B, G, C, D).

        Args:
            k: (B, G, S, D) the keys.
            frequencies: (D / 2,) inverse frequencies of the rotary embedding.
            first: Position of the first key, as a number or a tensor (1,) on the device.
        """
        if k.shape[2] < self.block:
            return k[:, :, :0]
        blocks = k.unfold(2, self.block, self.stride).transpose(3, 4)  # (B, G, C, l, D)
        count = blocks.shape[2]
        middle = torch.arange(count, device=k.device, dtype=torch.float32) * self.stride
        middle = middle + (first + (self.block - 1) / 2)
        centered = rotate_to(blocks.float(), -middle[:, None], frequencies)
        weight = self.inner.weight
        inputs = (centered / _KEY_SCALE + self.position.float()).flatten(3).to(weight.dtype)
        change = self.outer(F.gelu(self.inner(inputs))).float() * _KEY_SCALE
        return rotate_to(centered.mean(dim=3) + change, middle, frequencies).to(k.dtype)


def rotate_to(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Rotate x (…, C, D) or (…, C, l, D) by positions (…, C) or (…, C, 1)."""
    angles = positions[..., None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
