"""Projections in the precision in which the machine multiplies quickest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.precision import widens_weights


class Linear(nn.Linear):
    """A projection that widens bf16 weights for many rows where that is quicker.

    The weights stay in bf16, so that decoding, which is bound by reading them, reads half as
    much. The sums are made in fp32 either way, and the result has the type of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if torch.is_grad_enabled() or not widens_weights(x, x.numel() // x.shape[-1]):
            return super().forward(x)
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), self.weight.float(), bias).to(x.dtype)
