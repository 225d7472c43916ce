"""The precision in which this machine multiplies quickest."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_WIDE_ROWS = 128
"""Rows from which on a product is bound by arithmetic and not by reading its operands."""


@cache
def _matrix_units() -> bool:
    """Whether the CPU has units (AMX) that multiply bf16 quicker than fp32.

    Without them fp32 is the quicker: 150 against 77 GFLOP/s on a core of a Xeon with AVX-512 bf16.
    """
    return torch.cpu._is_amx_tile_supported()


def widens(x: Tensor, rows: int) -> bool:
    """Whether a product of `rows` rows of bf16 `x` is quicker once widened to fp32."""
    narrow = x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return narrow and rows >= _WIDE_ROWS and not _matrix_units()
