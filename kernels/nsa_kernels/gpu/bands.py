"""The keys of a branch, its addend and its output gradient.

Letters: see `layout.py`; J keys of a band.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nsa_kernels.gpu.layout import Problem, number_strides


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band of keys: which keys each query sees.

    Attributes:
        key_block: Tokens that one key represents.
        key_stride: Tokens from one key's first token to the next key's.
        window: Number of last tokens that a query sees; None for all.
        query_stride: Only queries at positions divisible by it attend.
    """

    key_block: int = 1
    key_stride: int = 1
    window: int | None = None
    query_stride: int = 1


@dataclass(frozen=True, kw_only=True)
class Addend:
    """Another branch's output, and the gates of the sum of both branches.

    Attributes:
        other: (B, H, T, Dv), in the memory order of an output.
        other_gate: (B, H, T), its gate.
        gate: (B, H, T), the gate of the band itself, with the strides of `other_gate`.
        kept: (B, H, T, Dv), written: the band's own output without its gate, in the memory order
            of `other`; None does not write it.
    """

    other: Tensor
    other_gate: Tensor
    gate: Tensor
    kept: Tensor | None = None


def band_keys(problem: Problem, band: Band) -> tuple[int, Tensor | None]:
    """Number of keys of the band's longest sequence, and offsets of packed sequences' keys."""
    if band.key_block == band.key_stride == 1:
        return problem.seq_len, problem.cu_keys
    return problem.summaries, problem.cu_summaries


@dataclass(frozen=True, kw_only=True)
class OutputGradient:
    """Inputs of a branch's backward kernels.

    Subtracting a gate's logarithm from the log-sum-exp multiplies the probabilities by the gate.

    Attributes:
        out: (B, H, T, Dv), the gradient of the sum of the branches.
        lse: (B, H, T), the branch's base-2 log-sum-exp less the base-2 logarithm of its gate.
        dots: (B, H, T), the dot product of `out` and the branch's output.
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
