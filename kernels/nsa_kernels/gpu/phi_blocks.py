"""The layout of φ's blocks, in a batch of equal lengths or in one packed row of sequences.

A summary represents a block of `l` tokens; a strip is the `d` tokens from one block's start to the
next. The same summaries cover every token of a strip: the strip's own and the `l / d - 1` before
it. The backward passes can therefore gather rather than scatter.

Letters: B batch, G key/value groups, S tokens, C summaries, Z strips, N packed sequences,
l tokens of a block, d tokens of a strip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.settings import AttentionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The blocks of one call.

    Attributes:
        block: Tokens of a block (l).
        stride: Tokens of a strip (d).
        seq_len: Tokens of a row of the batch (S).
        summaries: Summaries of a row (C).
        strips: Strips of a row (Z); for a packed row an upper bound, and extra strips are empty.
        starts: (C,) int32, the first token of each block; None unless packed.
        covers: (5, Z) int32, for each strip: its first token, the end of its sequence, its own
            summary, and the first and the end of its sequence's summaries; None unless packed.
    """

    block: int
    stride: int
    seq_len: int
    summaries: int
    strips: int
    starts: Tensor | None = None
    covers: Tensor | None = None

    @property
    def packed(self) -> bool:
        """Whether several sequences are packed in one row."""
        return self.starts is not None


def summary_offsets(cu_seqlens: Tensor, settings: AttentionSettings) -> Tensor:
    """Offset of each packed sequence's summaries: (N + 1,) int32, from (N + 1,) int32."""
    block, stride = settings.compress_block, settings.compress_stride
    counts = ((cu_seqlens.diff() - block).div(stride, rounding_mode="floor") + 1).clamp(min=0)
    return torch.cat([cu_seqlens.new_zeros(1), counts.cumsum(0)]).int()


def locate_blocks(
    seq_len: int,
    settings: AttentionSettings,
    cu_seqlens: Tensor | None = None,
    cu_summaries: Tensor | None = None,
    total_summaries: int | None = None,
) -> Blocks:
    """Lay out the complete blocks of `seq_len` tokens.

    Args:
        seq_len: S; for a packed row the sum over its sequences.
        settings: The block sizes.
        cu_seqlens: (N + 1,) int32, offset of each packed sequence; the last entry is S.
        cu_summaries: (N + 1,) int32, offset of its summaries, from `summary_offsets`.
        total_summaries: The last entry of `cu_summaries`; None reads it from the device.

    Raises:
        ValueError: If only one of the two offset tensors is given, or they do not match.
    """
    block, stride = settings.compress_block, settings.compress_stride
    if cu_seqlens is None and cu_summaries is None:
        summaries = max(0, (seq_len - block) // stride + 1)
        strips = triton.cdiv(seq_len, stride)
        return Blocks(
            block=block, stride=stride, seq_len=seq_len, summaries=summaries, strips=strips
        )
    if cu_seqlens is None or cu_summaries is None:
        raise ValueError("cu_seqlens and cu_summaries go together; only one of them was given")
    if cu_seqlens.ndim != 1 or cu_seqlens.shape != cu_summaries.shape or len(cu_seqlens) < 2:
        raise ValueError(
            f"cu_seqlens is {tuple(cu_seqlens.shape)} and cu_summaries "
            f"{tuple(cu_summaries.shape)}; both are (N + 1,)"
        )
    if total_summaries is None:
        total_summaries = int(cu_summaries[-1])
    # The last strip of each sequence may be incomplete.
    strips = seq_len // stride + len(cu_seqlens) - 1
    return Blocks(
        block=block,
        stride=stride,
        seq_len=seq_len,
        summaries=total_summaries,
        strips=strips,
        starts=_packed_starts(cu_seqlens, cu_summaries, total_summaries, stride).clamp(
            max=seq_len - block  # spare summaries have no sequence
        ),
        covers=_packed_covers(cu_seqlens, cu_summaries, strips, stride),
    )


def _packed_starts(cu_seqlens: Tensor, cu_summaries: Tensor, count: int, stride: int) -> Tensor:
    """The first token of each packed block: (C,) int32."""
    index = torch.arange(count, device=cu_seqlens.device, dtype=torch.int32)
    of = torch.searchsorted(cu_summaries, index, right=True) - 1
    return (cu_seqlens[of] + (index - cu_summaries[of]) * stride).int()


def _packed_covers(cu_seqlens: Tensor, cu_summaries: Tensor, strips: int, stride: int) -> Tensor:
    """The table `Blocks.covers`: (5, Z) int32. Extra strips have no tokens."""
    lengths = (cu_seqlens.diff() + stride - 1).div(stride, rounding_mode="floor")
    cu_strips = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    index = torch.arange(strips, device=cu_seqlens.device, dtype=cu_strips.dtype)
    of = torch.searchsorted(cu_strips, index, right=True) - 1
    of = of.clamp(max=len(lengths) - 1)
    local = index - cu_strips[of]
    rows = [
        cu_seqlens[of] + local * stride,
        cu_seqlens[of + 1],
        cu_summaries[of] + local,
        cu_summaries[of],
        cu_summaries[of + 1],
    ]
    return torch.stack(rows).int()


def check_input(x: Tensor, cu_seqlens: Tensor | None = None) -> None:
    """Check that the kernels of φ support an input.

    Args:
        x: (B, G, S, D).
        cu_seqlens: (N + 1,) int32, or None.

    Raises:
        ValueError: If the shapes do not match.
        UnsupportedError: If the kernels do not support the dtype, strides, head dim or device.
    """
    if x.ndim != 4:
        raise ValueError(f"x is {tuple(x.shape)}; φ needs (B, G, S, D)")
    if cu_seqlens is not None and x.shape[0] != 1:
        raise ValueError(f"x is {tuple(x.shape)}; packed sequences need (1, G, S, D)")
    if x.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise UnsupportedError(f"x is {x.dtype}; φ in Triton has bfloat16, float16 and float32")
    if x.shape[3] % 16 or not 16 <= x.shape[3] <= 256:
        raise UnsupportedError(
            f"head dim {x.shape[3]}; φ in Triton has multiples of 16 from 16 to 256"
        )
    if x.stride(3) != 1 and x.numel():
        raise UnsupportedError(f"x has strides {x.stride()}; the last must be 1: x.contiguous()")
    if x.device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise UnsupportedError(f"x is on {x.device}; φ in Triton needs a CUDA device")


def empty_tokens(like: Tensor, dim: int, blocks: Blocks) -> Tensor:
    """Allocate one row per token: (B, G, S, dim), in the memory order (B, S, G, dim).

    The rows are uninitialized, except in a packed batch: there they are zeros, since the kernels
    write only tokens of a sequence.

    Args:
        like: (B, G, ...), for batch, groups, dtype and device.
        dim: Elements of a token.
        blocks: The layout of the blocks.
    """
    shape = (like.shape[0], blocks.seq_len, like.shape[1], dim)
    rows = like.new_zeros(shape) if blocks.packed else like.new_empty(shape)
    return rows.transpose(1, 2)


@triton.jit
def first_token(starts_ptr, summary, inside, STRIDE: tl.constexpr, PACKED: tl.constexpr):
    """First token of each block, int64: [BLOCK_C] from summaries [BLOCK_C]."""
    if PACKED:
        start = tl.load(starts_ptr + summary, mask=inside, other=0).to(tl.int64)  # [BLOCK_C]
    else:
        start = summary.to(tl.int64) * STRIDE  # [BLOCK_C]
    return start


@triton.jit
def load_strips(
    covers_ptr, strip, strips, seq_len, summaries, STRIDE: tl.constexpr, PACKED: tl.constexpr
):
    """Load the tokens of each strip and the summaries that may cover it, each [BLOCK_Z].

    Returns its first token (int64), the end of its sequence, its own summary, and the first and
    the end of its sequence's summaries. Extra strips have no tokens and no summaries.
    """
    if PACKED:
        inside = strip < strips
        start = tl.load(covers_ptr + strip, mask=inside, other=0).to(tl.int64)
        stop = tl.load(covers_ptr + strips + strip, mask=inside, other=0)
        own = tl.load(covers_ptr + 2 * strips + strip, mask=inside, other=0)
        low = tl.load(covers_ptr + 3 * strips + strip, mask=inside, other=0)
        high = tl.load(covers_ptr + 4 * strips + strip, mask=inside, other=0)
    else:
        start = strip.to(tl.int64) * STRIDE
        stop = tl.zeros_like(strip) + seq_len
        own = strip
        low = tl.zeros_like(strip)
        high = tl.zeros_like(strip) + summaries
    return start, stop, own, low, high
