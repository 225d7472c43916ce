"""Projections in the precision with the fastest matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.precision import widens_weights


class Linear(nn.Linear):
    """A projection that converts bf16 weights to fp32 for many rows where this is faster.

    The weights are stored in bf16, because decoding is bound by reading them. Products are summed
    in fp32 in both cases, and the result has the type of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Project (..., in) to (..., out)."""
        if torch.is_grad_enabled() or not widens_weights(x, x.numel() // x.shape[-1]):
            return super().forward(x)
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), self.weight.float(), bias).to(x.dtype)
