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

_SMALL_PROBE = (32, 128, 256)
"""The same of a first product, which scalar code already loses clearly: int8 without VNNI took
0.69 ms beside 0.06 in fp32, and 140 ms each time for `_PROBE`."""

_TRIES = 5

_SMALL_TRIES = 3

_FAR = 8
"""Ratio to fp32 above which two tries are enough; the first try includes set-up."""

_FAR_IN_SMALL = 4
"""Ratio to fp32 above which the small product decides."""


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
    narrow, wide = _least_seconds(product, dtype, _SMALL_PROBE, _SMALL_TRIES)
    if narrow > _FAR_IN_SMALL * wide:
        return False
    narrow, wide = _least_seconds(product, dtype, _PROBE, _TRIES)
    return narrow < wide


def _least_seconds(
    product: Callable[[Tensor, Tensor], Tensor],
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    tries: int,
) -> tuple[float, float]:
    """Return the least times of a product in `dtype` and of `torch.mm` in fp32.

    Args:
        product: The product.
        dtype: Its type.
        shape: Rows, columns and inner width.
        tries: How often each is measured; two are enough for a product that is far slower.
    """
    rows, columns, width = shape
    a, b = (torch.ones(size, width, dtype=dtype) for size in (rows, columns))
    wide_a, wide_b = a.float(), b.float()
    narrow, wide = [], []
    for _ in range(tries):  # alternate, so that other load affects both alike
        narrow.append(_seconds(product, a, b))
        wide.append(_seconds(torch.mm, wide_a, wide_b))
        if len(narrow) > 1 and min(narrow) > _FAR * min(wide):
            break
    return min(narrow), min(wide)


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
