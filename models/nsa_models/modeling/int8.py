"""Weights in eight bits: half as much to read for each token, and quicker products on a CPU.

A weight has one scale for each output, made once. For a few rows the products are those of the
rows with the weights as they were rounded; for many rows each row is rounded too, with a scale of
its own, so that whole numbers are multiplied, unless the CPU is slow at that: then the weights are
widened to fp32. All products are PyTorch's own.

Letters: R rows, O outputs, I inputs.

Source: Dettmers et al. 2022, "LLM.int8()", arXiv 2208.07339, section 2.1 (vector-wise scales).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.precision import quicker_than_fp32
from nsa_models.modeling.compression import Compression

QUANTIZATIONS = ("int8",)
"""Ways to store weights in fewer bits."""

_FEW_ROWS = 16
"""Up to here a product is bound by reading the weights, and rounding the rows gains nothing."""

_LARGEST = 127

_PACKING = ("AVX2", "AVX512")
"""Instructions for which oneDNN packs weights, by PyTorch's names."""

Product = Callable[[Tensor, Tensor], Tensor]
"""Of whole numbers (R, I) and (I, O)."""


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
        elif (product := _quickest_product()) is None:
            wide = self.weight.float().mul_(self.scale.float()[:, None])
            bias = None if self.bias is None else self.bias.float()
            out = F.linear(rows.float(), wide, bias).to(x.dtype)
        else:
            tiny = torch.finfo(rows.dtype).tiny
            per_row = rows.abs().amax(dim=1, keepdim=True).clamp(min=tiny).float() / _LARGEST
            whole = rows.to(torch.float32, copy=True).div_(per_row).round_().to(torch.int8)
            wide = product(whole, self.weight.t()).float()
            wide.mul_(per_row).mul_(self.scale.float())
            out = (wide if self.bias is None else wide.add_(self.bias.float())).to(x.dtype)
        shaped: Tensor = out.unflatten(0, x.shape[:-1])
        return shaped


@cache
def _quickest_product() -> Product | None:
    """How this CPU multiplies int8 by int8 quicker than fp32; None if it does not.

    Where it has instructions for that (VNNI, AMX) by `torch._int_mm`, found out by doing it, as
    that goes number by number elsewhere: two cores with AVX2 alone made 4 Gop/s of int8 by it, 230
    by halves, 105 of fp32.
    """
    if quicker_than_fp32(torch._int_mm, torch.int8):
        return torch._int_mm
    return _by_halves if torch.backends.cpu.get_cpu_capability() in _PACKING else None


def _by_halves(a: Tensor, b: Tensor) -> Tensor:
    """Nearly a (R, I) times b (I, O), both int8: (R, O) in fp32, of 7 of the 8 bits of b.

    Without VNNI oneDNN adds pairs of products in 16 bits, which the halves of b fit. Each stands
    for the two numbers that have it: it is taken for the mean of these.

    Source: oneDNN's guide, "Nuances of int8 computations".
    """
    from_zero = a.view(torch.uint8) ^ 128  # a + 128
    outputs = b.shape[1]
    wide: Tensor = torch.ops.onednn.qlinear_pointwise(
        from_zero, 1.0, 128,
        torch.ops.onednn.qlinear_prepack(b.t() >> 1, None),
        torch.full((outputs,), 2.0), torch.zeros(outputs, dtype=torch.int64),
        None, 1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return wide.add_(a.sum(dim=1, keepdim=True, dtype=torch.float32), alpha=0.5)


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (O, I) as whole numbers, and the scale (O,) of each output."""
    wide = weight.float()
    # Rounded to the type that products take it in before the weights are, so that it is exact.
    scale = (wide.abs().amax(dim=1) / _LARGEST).to(weight.dtype)
    divisor = scale.float().clamp(min=torch.finfo(torch.bfloat16).tiny / _LARGEST)
    whole = (wide / divisor[:, None]).round_().clamp_(-_LARGEST, _LARGEST)
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
