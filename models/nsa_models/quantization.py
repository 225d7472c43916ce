"""Weights in eight bits: half as much to read for each token, and quicker products on a CPU.

A weight has one scale for each output, made once. For a few rows the products are those of the
rows with the weights as they were rounded; for many rows each row is rounded too, with a scale of
its own, so that whole numbers are multiplied, unless the CPU is slow at that: then the weights are
widened to fp32. All products are PyTorch's own.

Letters: O outputs, I inputs.

Source: Dettmers et al. 2022, "LLM.int8()", arXiv 2208.07339, section 2.1 (vector-wise scales).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.precision import whole_numbers_are_quicker
from nsa_models.compression import Compression

QUANTIZATIONS = ("int8",)
"""Ways to store weights in fewer bits."""

_FEW_ROWS = 16
"""Up to here a product is bound by reading the weights, and rounding the rows gains nothing."""

_LARGEST = 127


class Int8Linear(nn.Module):
    """A projection whose weights are whole numbers from -127 to 127, times a scale per output."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        """Round the weights of a projection.

        Args:
            linear: With weights (O, I); left as it is.
        """
        super().__init__()
        weight = linear.weight.detach()
        if weight.is_meta:  # filled later; arithmetic without numbers takes seconds of imports
            whole, scale = weight.to(torch.int8), weight.new_empty(len(weight))
        else:
            whole, scale = _rounded(weight)
        self.register_buffer("weight", whole)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= _FEW_ROWS:
            out = torch._weight_int8pack_mm(rows, self.weight, self.scale)
            out = out if self.bias is None else out + self.bias
        elif not whole_numbers_are_quicker():
            wide = self.weight.float().mul_(self.scale.float()[:, None])
            bias = None if self.bias is None else self.bias.float()
            out = F.linear(rows.float(), wide, bias).to(x.dtype)
        else:
            tiny = torch.finfo(rows.dtype).tiny
            per_row = rows.abs().amax(dim=1, keepdim=True).clamp(min=tiny).float() / _LARGEST
            whole = (rows.float() / per_row).round_().to(torch.int8)
            wide = torch._int_mm(whole, self.weight.t()).float()
            wide.mul_(per_row).mul_(self.scale.float())
            out = (wide if self.bias is None else wide.add_(self.bias.float())).to(x.dtype)
        shaped: Tensor = out.unflatten(0, x.shape[:-1])
        return shaped


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (O, I) as whole numbers, and the scale (O,) of each output."""
    wide = weight.float()
    scale = wide.abs().amax(dim=1).clamp(min=torch.finfo(torch.bfloat16).tiny) / _LARGEST
    # Rounded to the type that products take it in before the weights are, so that it is exact.
    scale = scale.to(weight.dtype)
    whole = (wide / scale.float()[:, None]).round_().clamp_(-_LARGEST, _LARGEST)
    return whole.to(torch.int8), scale


def quantize(model: nn.Module) -> None:
    """Store the weights of all projections in eight bits, embeddings left as they are.

    An output projection that shares its weights with the embedding gets its own: each token reads
    all of it, and of the embedding one row. φ stays, which is small and chooses what is attended
    to.
    """
    for module in list(model.modules()):
        if isinstance(module, Compression):
            continue
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
