"""The precision in which this machine multiplies matrices fastest."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

_WIDE_ROWS = 128
"""Least rows of a product that is bound by arithmetic rather than by reading its operands."""

_WIDE_ROWS_EMULATED = 16
"""The same for products with weights on a CPU without bf16 instructions. Two cores with AVX2 took
25 ms for 48 rows times (896, 4864) weights in bf16, and 10 ms to widen the weights and multiply;
8 and 6 ms for 16 rows, 0.9 and 2.2 ms for one row."""

_PROBE = (256, 896, 896)
"""Rows, columns and inner width of the measured product; it takes a few milliseconds."""

_TRIES = 5

_FAR = 8
"""Ratio to fp32 above which two tries are enough; the first try includes set-up."""


@cache
def _narrow_is_quicker() -> bool:
    """Whether the CPU multiplies bf16 faster than fp32; measured, unless it has AMX.

    The instruction set alone does not decide. With AVX-512 bf16 but no AMX, a core of a Xeon
    reached 77 GFLOP/s in bf16 and 150 in fp32, a core of an EPYC 213 and 98.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    return quicker_than_fp32(torch.mm, torch.bfloat16)


def quicker_than_fp32(product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> bool:
    """Whether a matrix product in `dtype` is faster on this machine than `torch.mm` in fp32."""
    rows, columns, width = _PROBE
    a, b = (torch.ones(size, width, dtype=dtype) for size in (rows, columns))
    wide_a, wide_b = a.float(), b.float()
    narrow, wide = [], []
    for _ in range(_TRIES):  # alternate, so that other load affects both alike
        narrow.append(_seconds(product, a, b))
        wide.append(_seconds(torch.mm, wide_a, wide_b))
        if len(narrow) > 1 and min(narrow) > _FAR * min(wide):
            break
    return min(narrow) < min(wide)


def _seconds(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    began = time.perf_counter()
    product(a, b.T)
    return time.perf_counter() - began


def widens(x: Tensor, rows: int) -> bool:
    """Whether a product of `rows` rows of bf16 `x` is faster after widening to fp32."""
    return _widens_from(_WIDE_ROWS, x, rows)


def widens_weights(x: Tensor, rows: int) -> bool:
    """Whether a product of `rows` rows of bf16 `x` and weights is faster after widening both."""
    least = _WIDE_ROWS_EMULATED if emulated(x.dtype, x.device) else _WIDE_ROWS
    return _widens_from(least, x, rows)


def emulated(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `dtype` is bf16 on a CPU without bf16 instructions: products emulate it slowly."""
    on_cpu = dtype == torch.bfloat16 and device.type == "cpu"
    return on_cpu and not torch.cpu._is_avx512_bf16_supported()


def _widens_from(least: int, x: Tensor, rows: int) -> bool:
    narrow = x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return narrow and rows >= least and not _narrow_is_quicker()
