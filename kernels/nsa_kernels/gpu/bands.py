"""Which keys a query attends to, and what its output is added to.

Letters: see `layout.py`; J keys of a band.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nsa_kernels.gpu.layout import Problem


@dataclass(frozen=True, kw_only=True)
class Band:
    """Which keys a query sees.

    Attributes:
        key_block: Tokens that one key stands for.
        key_stride: Tokens from one key's first token to the next's.
        window: Last tokens that are seen; None for all.
        query_stride: Only queries at positions that this divides attend.
    """

    key_block: int = 1
    key_stride: int = 1
    window: int | None = None
    query_stride: int = 1


@dataclass(frozen=True, kw_only=True)
class Addend:
    """Another branch's output, and the gates of the sum.

    Attributes:
        other: (B, H, T, Dv), in the memory order of an output.
        other_gate: (B, H, T), its gate.
        gate: (B, H, T), the gate of the band itself, with the strides of `other_gate`.
    """

    other: Tensor
    other_gate: Tensor
    gate: Tensor


def band_keys(problem: Problem, band: Band) -> tuple[int, Tensor | None]:
    """How many keys the band's longest sequence has, and where packed ones begin."""
    if band.key_block == band.key_stride == 1:
        return problem.seq_len, problem.cu_keys
    return problem.summaries, problem.cu_summaries
