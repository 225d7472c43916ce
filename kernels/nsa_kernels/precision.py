"""The precision in which this machine multiplies quickest."""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import Tensor

_WIDE_ROWS = 128
"""Rows from which on a product is bound by arithmetic and not by reading its operands."""

_PROBE = (256, 896, 896)
"""Rows, columns and inner width of the product that tells; a few milliseconds."""

_TRIES = 5


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
    rows, columns, width = _PROBE
    a, b = (torch.ones(size, width, dtype=torch.bfloat16) for size in (rows, columns))
    narrow, wide = [], []
    for _ in range(_TRIES):  # by turns, so that what else the machine does troubles both
        narrow.append(_seconds(a, b))
        wide.append(_seconds(a.float(), b.float()))
    return min(narrow) < min(wide)


def _seconds(a: Tensor, b: Tensor) -> float:
    began = time.perf_counter()
    torch.mm(a, b.T)
    return time.perf_counter() - began


def widens(x: Tensor, rows: int) -> bool:
    """Whether a product of `rows` rows of bf16 `x` is quicker once widened to fp32."""
    narrow = x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return narrow and rows >= _WIDE_ROWS and not _narrow_is_quicker()
