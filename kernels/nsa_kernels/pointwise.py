"""Operations on single elements of a layer: one Triton kernel each on CUDA, PyTorch elsewhere.

Letters: B sequences, T tokens, H heads, D head dim, W rotated columns of a head, N columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.api import triton_is_there


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding to the first W columns of each head; the others stay unchanged.

    Args:
        x: (B, H, T, D) queries or keys.
        cos: (T, W) or (B, 1, T, W); with a wider type than `x`, the result has that type.
        sin: The same shape.
    """
    if _fits(x, cos, sin):
        from nsa_kernels.gpu import pointwise

        with torch.cuda.device_of(x):
            return pointwise.rotate(x, cos, sin)
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat([rotate(x[..., :width], cos, sin), x[..., width:]], dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def silu_product(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up, each (..., N)."""
    if _fits(gate, up):
        from nsa_kernels.gpu import pointwise

        with torch.cuda.device_of(gate):
            return pointwise.silu_product(gate, up)
    return F.silu(gate) * up


def _fits(*tensors: Tensor) -> bool:
    """Return whether the Triton kernels apply: on a GPU, without gradients, and of one type."""
    first = tensors[0]
    return (
        first.is_cuda
        and not torch.is_grad_enabled()
        and all(x.dtype == first.dtype and x.stride(-1) == 1 for x in tensors)
        and triton_is_there()
    )
