"""The compression φ: keys or values to one summary per block, forward and backward in Triton.

The three variants are the mean of a block, a linear map of it, and the paper's MLP with an
intra-block position encoding. Each takes (B, G, S, D), whose last stride must be 1. Sequences of
different lengths may be packed in one row; blocks never cross the boundary of a sequence.

Letters: see `phi_blocks.py`; D head dim, E outputs of the (first) linear map.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, eq. 7.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from nsa_kernels.gpu.launches import empty, launch
from nsa_kernels.gpu.layout import loadable
from nsa_kernels.gpu.phi_blocks import (
    Blocks,
    check_input,
    empty_tokens,
    first_token,
    load_strips,
    locate_blocks,
)
from nsa_kernels.gpu.phi_linear import BlockLinear
from nsa_kernels.settings import AttentionSettings

_ROWS = 16
"""Summaries or strips per program of the mean's kernels."""


@triton.jit(do_not_specialize=["summaries"])
def _mean_forward_kernel(
    x_ptr, y_ptr, out_ptr, starts_ptr,
    stride_xb, stride_xg, stride_xs,
    groups, summaries,
    BLOCK: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    x_ptr = tl.where(tl.program_id(2) == 0, x_ptr, y_ptr)
    summary = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)  # [BLOCK_C]
    depth = tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = summary < summaries
    both = inside[:, None] & (depth < D)  # [BLOCK_C, BLOCK_D]
    start = first_token(starts_ptr, summary, inside, STRIDE, PACKED)  # [BLOCK_C]
    x_ptr += row // groups * stride_xb + row % groups * stride_xg
    x_ptrs = x_ptr + start[:, None] * stride_xs + depth  # [BLOCK_C, BLOCK_D]
    acc = tl.zeros((BLOCK_C, BLOCK_D), tl.float32)
    # Unrolled so that several loads are in flight at once.
    for _ in tl.range(0, BLOCK, loop_unroll_factor=4):
        acc += tl.load(x_ptrs, mask=both, other=0.0).to(tl.float32)  # [BLOCK_C, BLOCK_D]
        x_ptrs += stride_xs
    out_row = tl.program_id(2) * tl.num_programs(1) + row
    at = (out_row * summaries + summary)[:, None] * D + depth
    tl.store(out_ptr + at, (acc / BLOCK).to(out_ptr.dtype.element_ty), mask=both)


@triton.jit(do_not_specialize=["seq_len", "summaries", "strips"])
def _mean_backward_kernel(
    grad_ptr, dx_ptr, covers_ptr,
    stride_gb, stride_gg, stride_gc, stride_xb, stride_xg, stride_xs,
    groups, seq_len, summaries, strips,
    BLOCK: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_Z: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    strip = tl.program_id(0) * BLOCK_Z + tl.arange(0, BLOCK_Z)  # [BLOCK_Z]
    depth = tl.arange(0, BLOCK_D)  # [BLOCK_D]
    start, stop, own, low, high = load_strips(
        covers_ptr, strip, strips, seq_len, summaries, STRIDE, PACKED
    )
    grad_ptr += row // groups * stride_gb + row % groups * stride_gg
    acc = tl.zeros((BLOCK_Z, BLOCK_D), tl.float32)
    for back in tl.static_range(BLOCK // STRIDE):
        summary = own - back  # [BLOCK_Z]
        seen = (summary >= low) & (summary < high)
        acc += tl.load(
            grad_ptr + summary.to(tl.int64)[:, None] * stride_gc + depth,
            mask=seen[:, None] & (depth < D),
            other=0.0,
        ).to(tl.float32)  # [BLOCK_Z, BLOCK_D]
    share = (acc / BLOCK).to(dx_ptr.dtype.element_ty)
    dx_ptr += row // groups * stride_xb + row % groups * stride_xg
    # The same summaries cover all tokens of a strip, so the tokens share one gradient.
    for offset in tl.range(0, STRIDE):
        token = start + offset  # [BLOCK_Z]
        mask = (token < stop)[:, None] & (depth < D)  # [BLOCK_Z, BLOCK_D]
        tl.store(dx_ptr + token[:, None] * stride_xs + depth, share, mask=mask)


def mean_forward(x: Tensor, blocks: Blocks, other: Tensor | None = None) -> Tensor:
    """Means of the blocks of (B, G, S, D): (B, G, C, D), or (2, B, G, C, D) with another tensor.

    The other has the same shape, strides and dtype.
    """
    batch, groups, _, dim = x.shape
    shape = (batch, groups, blocks.summaries, dim)
    made = () if other is None else (2,)
    out = empty(*made, *shape, dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    assert other is None or (other.shape, other.stride()) == (x.shape, x.stride())
    launch(
        _mean_forward_kernel,
        (triton.cdiv(blocks.summaries, _ROWS), batch * groups, 1 if other is None else 2),
        x, x if other is None else other, out, blocks.starts,
        *x.stride()[:3],
        groups, blocks.summaries,
        BLOCK=blocks.block,
        STRIDE=blocks.stride,
        D=dim,
        PACKED=blocks.packed,
        BLOCK_C=_ROWS,
        BLOCK_D=triton.next_power_of_2(dim),
        num_warps=4,
    )  # fmt: skip
    return out


def mean_backward(grad: Tensor, blocks: Blocks) -> Tensor:
    """Gradient of the tokens from the gradient of the means: (B, G, C, D) to (B, G, S, D).

    Args:
        grad: (B, G, C, D), last stride 1.
        blocks: The layout of the blocks.
    """
    batch, groups, _, dim = grad.shape
    dx = empty_tokens(grad, dim, blocks)
    if not dx.numel():
        return dx
    _mean_backward_kernel[(triton.cdiv(blocks.strips, _ROWS), batch * groups)](
        grad, dx, blocks.covers,
        *grad.stride()[:3], *dx.stride()[:3],
        groups, blocks.seq_len, blocks.summaries, blocks.strips,
        BLOCK=blocks.block,
        STRIDE=blocks.stride,
        D=dim,
        PACKED=blocks.packed,
        BLOCK_Z=_ROWS,
        BLOCK_D=triton.next_power_of_2(dim),
        num_warps=4,
    )  # fmt: skip
    return dx


class BlockMean(torch.autograd.Function):
    """`mean_forward`, differentiable in x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Blocks) -> Tensor:
        """Means of the blocks: (B, G, C, D)."""
        ctx.blocks = blocks
        return mean_forward(x, blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient of x, from (B, G, C, D)."""
        return mean_backward(loadable(grad), ctx.blocks), None


def mean_phi(
    x: Tensor,
    settings: AttentionSettings,
    *,
    cu_seqlens: Tensor | None = None,
    cu_summaries: Tensor | None = None,
    total_summaries: int | None = None,
) -> Tensor:
    """Reduce blocks to their means: (B, G, S, D) to (B, G, C, D), complete blocks only.

    Args:
        x: (B, G, S, D), bfloat16, float16 or float32, last stride 1; (1, G, S, D) packed.
        settings: The block sizes.
        cu_seqlens: (N + 1,) int32, offset of each packed sequence; the last entry is S.
        cu_summaries: (N + 1,) int32, offset of its summaries, from `summary_offsets`.
        total_summaries: The last entry of `cu_summaries`; None reads it from the device.

    Raises:
        ValueError: If the shapes do not match.
        UnsupportedError: If the kernels do not support the arguments.
    """
    check_input(x, cu_seqlens)
    blocks = locate_blocks(x.shape[2], settings, cu_seqlens, cu_summaries, total_summaries)
    means: Tensor = BlockMean.apply(x, blocks)
    return means


def mean_pair(k: Tensor, v: Tensor, settings: AttentionSettings) -> tuple[Tensor, Tensor]:
    """The means of the blocks of keys and of values (B, G, S, D), without gradients."""
    alike = (k.shape, k.stride(), k.dtype) == (v.shape, v.stride(), v.dtype)
    blocks = locate_blocks(k.shape[2], settings, None, None, None)
    if not alike:
        return mean_forward(k, blocks), mean_forward(v, blocks)
    both = mean_forward(k, blocks, v)
    return both[0], both[1]


def linear_phi(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    settings: AttentionSettings,
    *,
    cu_seqlens: Tensor | None = None,
    cu_summaries: Tensor | None = None,
    total_summaries: int | None = None,
) -> Tensor:
    """Reduce blocks by one linear map: (B, G, S, D) to (B, G, C, E), complete blocks only.

    Args:
        x: (B, G, S, D), bfloat16, float16 or float32, last stride 1; (1, G, S, D) packed.
        weight: (E, l * D), of x's dtype; column i * D + j belongs to the block's token i.
        bias: (E,), or None.
        settings: The block sizes.
        cu_seqlens: (N + 1,) int32, offset of each packed sequence; the last entry is S.
        cu_summaries: (N + 1,) int32, offset of its summaries, from `summary_offsets`.
        total_summaries: The last entry of `cu_summaries`; None reads it from the device.

    Raises:
        ValueError: If the shapes or dtypes do not match.
        UnsupportedError: If the kernels do not support the arguments.
    """
    check_input(x, cu_seqlens)
    columns = settings.compress_block * x.shape[3]
    if weight.ndim != 2 or weight.shape[1] != columns:
        raise ValueError(f"weight is {tuple(weight.shape)}; blocks of this x need (E, {columns})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}; the weight needs ({weight.shape[0]},)")
    if weight.dtype != x.dtype:
        raise ValueError(f"weight is {weight.dtype} and x is {x.dtype}; they must be the same")
    blocks = locate_blocks(x.shape[2], settings, cu_seqlens, cu_summaries, total_summaries)
    summaries: Tensor = BlockLinear.apply(
        x, loadable(weight), None if bias is None else bias.float(), blocks
    )
    return summaries


def mlp_phi(
    x: Tensor,
    position: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    settings: AttentionSettings,
    *,
    cu_seqlens: Tensor | None = None,
    cu_summaries: Tensor | None = None,
    total_summaries: int | None = None,
) -> Tensor:
    """Reduce blocks by the paper's MLP: (B, G, S, D) to (B, G, C, D), complete blocks only.

    Args:
        x: (B, G, S, D), bfloat16, float16 or float32, last stride 1; (1, G, S, D) packed.
        position: (l, D), added to each block.
        w_in: (E, l * D), of x's dtype.
        b_in: (E,).
        w_out: (D, E), of x's dtype.
        b_out: (D,), of x's dtype.
        settings: The block sizes.
        cu_seqlens: (N + 1,) int32, offset of each packed sequence; the last entry is S.
        cu_summaries: (N + 1,) int32, offset of its summaries, from `summary_offsets`.
        total_summaries: The last entry of `cu_summaries`; None reads it from the device.

    Raises:
        ValueError: If the shapes or dtypes do not match.
        UnsupportedError: If the kernels do not support the arguments.

    Source: Yuan et al. 2025, eq. 7.
    """
    check_input(x, cu_seqlens)
    shape = (settings.compress_block, x.shape[3])
    if position.shape != shape:
        raise ValueError(f"position is {tuple(position.shape)}; blocks of this x need {shape}")
    # Every block gets the same position encoding, so W (x + p) + b is W x + (W p + b). The vector
    # W p + b is computed once for all blocks, in fp32 since it sums l * D products.
    bias = F.linear(position.flatten().float(), w_in.float(), b_in.float())
    hidden = linear_phi(
        x,
        w_in,
        bias,
        settings,
        cu_seqlens=cu_seqlens,
        cu_summaries=cu_summaries,
        total_summaries=total_summaries,
    )
    return F.linear(F.gelu(hidden), w_out, b_out)
