"""The precision in which this machine multiplies quickest."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

_WIDE_ROWS = 128
"""Rows from which on a product is bound by arithmetic and not by reading its operands."""

_WIDE_ROWS_EMULATED = 16
"""The same of weights where the CPU has no instructions for bf16, so that arithmetic takes longer:
two cores with AVX2 alone took 25 ms for 48 rows times (896, 4864) weights in bf16, and 10 ms to
widen these and multiply; 8 and 6 ms for 16 rows, 0.9 and 2.2 ms for one."""

_PROBE = (256, 896, 896)
"""Rows, columns and inner width of the product that tells; a few milliseconds."""

_TRIES = 5

_FAR = 8
"""Times as long as fp32, from which on two tries tell enough; a first has to set up."""


@cache
def _narrow_is_quicker() -> bool:
    """Whether the CPU multiplies bf16 quicker than fp32, found out by doing both.

    It depends on more than what it can do. With AMX it does. Of CPUs with AVX-512 bf16 alone a
    core of one (a Xeon) made 77 GFLOP/s of bf16 and 150 of fp32, of another (an EPYC) 213 and 98.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    return quicker_than_fp32(torch.mm, torch.bfloat16)


def quicker_than_fp32(product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> bool:
    """Whether a product of matrices in a type is quicker here than `torch.mm` in fp32."""
    rows, columns, width = _PROBE
    a, b = (torch.ones(size, width, dtype=dtype) for size in (rows, columns))
    wide_a, wide_b = a.float(), b.float()
    narrow, wide = [], []
    for _ in range(_TRIES):  # by turns, so that what else the machine does troubles both
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
    """Whether a product of `rows` rows of bf16 `x` is quicker once widened to fp32."""
    return _widens_from(_WIDE_ROWS, x, rows)


def widens_weights(x: Tensor, rows: int) -> bool:
    """Whether a product of `rows` rows of bf16 `x` and weights is, though these are widened too."""
    least = _WIDE_ROWS_EMULATED if emulated(x.dtype, x.device) else _WIDE_ROWS
    return _widens_from(least, x, rows)


def emulated(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this is bf16 on a CPU without instructions for it: each row of a product costs."""
    on_cpu = dtype == torch.bfloat16 and device.type == "cpu"
    return on_cpu and not torch.cpu._is_avx512_bf16_supported()


def _widens_from(least: int, x: Tensor, rows: int) -> bool:
    narrow = x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return narrow and rows >= least and not _narrow_is_quicker()
