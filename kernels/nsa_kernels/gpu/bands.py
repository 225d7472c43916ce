"""Which keys a query attends to, and what its output is added to.

Letters: see `layout.py`; J keys of a band.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nsa_kernels.gpu.layout import Problem, number_strides


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


@dataclass(frozen=True, kw_only=True)
class OutputGradient:
    """What the gradients of a branch follow from.

    A gate is part of the log-sum-exp: probabilities times a gate are those of a log-sum-exp that
    is less by the gate's logarithm.

    Attributes:
        out: (B, H, T, Dv), the gradient of the sum that the branch is a part of.
        lse: (B, H, T), the branch's log-sum-exp to the base of two, less that of its gate.
        dots: (B, H, T), the inner product of `out` and the branch's output.
    """

    out: Tensor
    lse: Tensor
    dots: Tensor

    def strides(self, problem: Problem) -> tuple[int, ...]:
        """Strides of `out`, and of `lse` and `dots`, for a kernel."""
        out = (problem.batch_stride(self.out), self.out.stride(1), self.out.stride(2))
        return (*out, *self.number_strides(problem))

    def number_strides(self, problem: Problem) -> tuple[int, ...]:
        """Strides of `lse` and `dots`, for a kernel."""
        assert self.lse.stride() == self.dots.stride()
        return number_strides(problem, self.lse)
