"""int8 weights: half the memory traffic per token, and faster matrix products on a CPU.

Weights have one scale per output. For a few rows, the products use the rows as they are. From five
rows on, a CPU with fast integer products takes each value as two int8 digits, which keep 15 bits.
For many rows, each row is quantized to 8 bits with its own scale, and the products use integers. A
CPU with slow integer products widens the weights to fp32 instead. One with AMX widens them to bf16
for the rows of a text. All products are PyTorch's.

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
from nsa_models.modeling.branches import MLPPhi
from nsa_models.modeling.compression import Compression

QUANTIZATIONS = ("int8",)
"""Supported quantizations of weights."""

_FEW_ROWS = 16
"""Number of rows up to which a product is bound by reading the weights."""

_FEW_ROWS_PACKED = 32
"""The same where the weights are packed for each product of integers: a layer of the default model
took 12 ms for 16 rows as they are on a core with AVX2, 23 for 32, and 22 to 28 ms by integers."""

_ROWS_BY_DIGITS = 5
"""Number of rows from which two digits are faster than the rows as they are: 9 rows times all
weights of a layer of the default model took 1.4 rather than 2.6 times as long as one row, on two
cores with AMX. With the integer products of AVX-512 VNNI or AVX2 VNNI, the number is the same."""

_ROWS_OF_TEXT = 256
"""Number of rows from which a CPU with AMX takes less time for bf16 products, and for widening the
weights to bf16, than for rounding rows to integers and scaling the results: reading 4,096 tokens
with the default model on two cores, alternating, at 704 rather than 636 tokens/s (medians of 6)."""

_LARGEST = 127

_DIGIT = 128
"""A value of two digits is the first one times this plus the second one, from -64 to 64."""

_LARGEST_OF_DIGITS = 127 * _DIGIT + 63

_PACKING = ("AVX2", "AVX512")
"""Instruction sets, by PyTorch's names, with packed int8 products in oneDNN."""

_ROUNDED_ROWS = 4096
"""Rows of weights that are rounded at a time."""

_PART_ROWS = 512
"""Rows that are multiplied at a time: intermediate results of more take much memory."""

Product = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""Takes int8 weights (O, I) and returns their product with int8 rows: (R, I) to (R, O)."""


class Int8Linear(nn.Module):
    """A projection with integer weights from -127 to 127 and a scale per output."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        """Quantize a projection.

        Args:
            linear: The projection with weights (O, I), which stays unchanged.
        """
        super().__init__()
        weight = linear.weight.detach()
        if weight.is_meta:  # filled later; meta arithmetic takes seconds of imports
            integers, scale = weight.to(torch.int8), weight.new_empty(len(weight))
        else:
            integers, scale = _rounded(weight)
        self.register_buffer("weight", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Project (..., I) to (..., O)."""
        rows = x.reshape(-1, x.shape[-1])
        product = _integer_product()
        if product is _whole and _ROWS_BY_DIGITS <= len(rows) <= _FEW_ROWS:
            out = self._by_digits(rows, product(self.weight)).to(x.dtype)
        elif len(rows) <= (_FEW_ROWS_PACKED if product is _by_halves else _FEW_ROWS):
            out = torch._weight_int8pack_mm(rows, self.weight, self.scale)
            out = out if self.bias is None else out + self.bias
        elif (dtype := _widened(rows, product)) is not None:
            wide = self.weight.to(dtype).mul_(self.scale.to(dtype)[:, None])
            bias = None if self.bias is None else self.bias.to(dtype)
            out = F.linear(rows.to(dtype), wide, bias).to(x.dtype)
        else:
            assert product is not None
            times_weight = product(self.weight)
            out = torch.empty(len(rows), len(self.weight), dtype=x.dtype)
            count = -(-len(rows) // _PART_ROWS)
            for some, into in zip(rows.tensor_split(count), out.tensor_split(count), strict=True):
                into.copy_(self._by_integers(some, times_weight))
        shaped: Tensor = out.unflatten(0, x.shape[:-1])
        return shaped

    def _by_integers(self, rows: Tensor, times_weight: Callable[[Tensor], Tensor]) -> Tensor:
        """Project rows (R, I), quantized with a scale each: (R, O) in fp32."""
        integers, per_row = _rounded_rows(rows, _LARGEST)
        return self._scaled(times_weight(integers.to(torch.int8)).float(), per_row)

    def _by_digits(self, rows: Tensor, times_weight: Callable[[Tensor], Tensor]) -> Tensor:
        """Project a few rows (R, I) of two digits a value, by one product: (R, O) in fp32."""
        integers, per_row = _rounded_rows(rows, _LARGEST_OF_DIGITS)
        first = (integers / _DIGIT).round_()
        digits = torch.cat([first, integers.sub_(first, alpha=_DIGIT)]).to(torch.int8)
        wide, second = times_weight(digits).float().chunk(2)
        return self._scaled(second.add_(wide, alpha=_DIGIT), per_row)

    def _scaled(self, wide: Tensor, per_row: Tensor) -> Tensor:
        """Scale a product of integers (R, O) in fp32 by row and by output, and add the bias."""
        wide.mul_(per_row).mul_(self.scale.float())
        return wide if self.bias is None else wide.add_(self.bias.float())


def _widened(rows: Tensor, product: Product | None) -> torch.dtype | None:
    """Return the type to which weights are widened for many rows; None to multiply integers."""
    of_text = len(rows) >= _ROWS_OF_TEXT and rows.dtype == torch.bfloat16
    if of_text and torch.cpu._is_amx_tile_supported():
        return torch.bfloat16
    return torch.float32 if product is None else None


def _rounded_rows(rows: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Return rows (R, I) as integers up to `largest`, in fp32, and the scale of each (R, 1)."""
    tiny = torch.finfo(rows.dtype).tiny
    per_row = rows.abs().amax(dim=1, keepdim=True).clamp(min=tiny).float() / largest
    return rows.to(torch.float32, copy=True).div_(per_row).round_(), per_row


@cache
def _integer_product() -> Product | None:
    """Return an int8 product that is faster than fp32 on this CPU, or None.

    With VNNI or AMX this is `torch._int_mm`; a measurement decides, because it is scalar code on
    other CPUs. Two cores with AVX2 reached 4 Gop/s with it, 230 with halves and 105 with fp32.
    """
    if quicker_than_fp32(torch._int_mm, torch.int8):
        return _whole
    return _by_halves if torch.backends.cpu.get_cpu_capability() in _PACKING else None


def _whole(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the product with int8 weights (O, I): int8 (R, I) to int32 (R, O)."""
    return lambda a: torch._int_mm(a, weight.t())


def _by_halves(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """Return approximately the product with int8 weights (O, I): int8 (R, I) to fp32 (R, O).

    Without VNNI oneDNN adds pairs of products in 16 bits, which would overflow with 8 bits of the
    weights. Half of a weight, in 7 bits, stands for two values, and the result uses their mean.

    Source: oneDNN's guide, "Nuances of int8 computations".
    """
    outputs = len(weight)
    packed = torch.ops.onednn.qlinear_prepack(weight >> 1, None)
    scales, zeros = torch.full((outputs,), 2.0), torch.zeros(outputs, dtype=torch.int64)

    def times_weight(a: Tensor) -> Tensor:
        from_zero = a.view(torch.uint8) ^ 128  # a + 128
        wide: Tensor = torch.ops.onednn.qlinear_pointwise(
            from_zero, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return wide.add_(a.sum(dim=1, keepdim=True, dtype=torch.float32), alpha=0.5)

    return times_weight


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (O, I) as integers and the scale (O,) of each output."""
    integers = torch.empty_like(weight, dtype=torch.int8)
    scale = weight.new_empty(len(weight))
    for start in range(0, len(weight), _ROUNDED_ROWS):  # the output projection is large in fp32
        rows = slice(start, start + _ROUNDED_ROWS)
        wide = weight[rows].float()
        # Round the scale to the type of the products before the division, so that it is exact.
        scale[rows] = (wide.abs().amax(dim=1) / _LARGEST).to(weight.dtype)
        divisor = scale[rows].float().clamp(min=torch.finfo(torch.bfloat16).tiny / _LARGEST)
        integers[rows] = (wide / divisor[:, None]).round_().clamp_(-_LARGEST, _LARGEST)
    return integers, scale


def quantize(model: nn.Module) -> None:
    """Quantize all projections of a model to int8, except those of φ.

    Embeddings stay unchanged, since a token reads one row of them. A tied output projection gets
    separate weights, since each token reads all of it. φ is small and determines the selection.
    """
    for module in list(model.modules()):
        if isinstance(module, (Compression, MLPPhi)):
            continue
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
