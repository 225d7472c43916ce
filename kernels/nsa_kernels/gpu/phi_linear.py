"""A linear map of overlapping blocks of tokens, without materializing the blocks.

`out[c, e] = bias[e] + sum over i < l, j < D of x[start(c) + i, j] * weight[e, i * D + j]`: a
matrix product whose left side is gathered. The backward pass gathers the gradient of a token from
the `l / d` blocks that cover it. It sums the weight's gradient over runs of summaries and adds the
runs in a fixed order, so that no sum is atomic and the result is deterministic.

Letters: see `phi_blocks.py`; D head dim, E outputs, W runs of the weight's gradient.

Source: Yuan et al. 2025, eq. 7.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from nsa_kernels.gpu.layout import loadable, pad
from nsa_kernels.gpu.phi_blocks import Blocks, empty_tokens, first_token, load_strips

_PROGRAMS = 512
"""Programs for the weight's gradient: a few per multiprocessor."""


@triton.jit(do_not_specialize=["summaries"])
def _block_linear_forward_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, starts_ptr,
    stride_xb, stride_xg, stride_xs, stride_we,
    groups, summaries, outputs,
    BLOCK: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PACKED: tl.constexpr,
    HAS_BIAS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(2).to(tl.int64)
    summary = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)  # [BLOCK_C]
    output = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)  # [BLOCK_E]
    depth = tl.arange(0, BLOCK_D)  # [BLOCK_D]
    inside = summary < summaries
    start = first_token(starts_ptr, summary, inside, STRIDE, PACKED)  # [BLOCK_C]
    x_ptr += row // groups * stride_xb + row % groups * stride_xg
    w_ptrs = weight_ptr + output.to(tl.int64)[None, :] * stride_we + depth[:, None]
    acc = tl.zeros((BLOCK_C, BLOCK_E), tl.float32)
    CHUNKS: tl.constexpr = D // BLOCK_D
    for step in tl.range(0, BLOCK * CHUNKS):
        at = (start + step // CHUNKS)[:, None] * stride_xs + step % CHUNKS * BLOCK_D
        x = tl.load(x_ptr + at + depth, mask=inside[:, None], other=0.0)  # [BLOCK_C, BLOCK_D]
        w = tl.load(
            w_ptrs + step * BLOCK_D, mask=(output < outputs)[None, :], other=0.0
        )  # [BLOCK_D, BLOCK_E]
        acc = tl.dot(x, w, acc, input_precision="ieee")  # [BLOCK_C, BLOCK_E]
    if HAS_BIAS:
        acc += tl.load(bias_ptr + output, mask=output < outputs, other=0.0)[None, :]
    at = (row * summaries + summary)[:, None] * outputs + output[None, :]
    both = inside[:, None] & (output < outputs)[None, :]
    tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=both)


@triton.jit(do_not_specialize=["seq_len", "summaries", "strips"])
def _block_linear_backward_input_kernel(
    grad_ptr, weight_ptr, dx_ptr, covers_ptr,
    stride_gb, stride_gg, stride_gc, stride_we, stride_xb, stride_xg, stride_xs,
    groups, seq_len, summaries, strips, outputs,
    BLOCK: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_Z: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(2).to(tl.int64)
    strip = tl.program_id(0) * BLOCK_Z + tl.arange(0, BLOCK_Z)  # [BLOCK_Z]
    offset = tl.program_id(1) // (D // BLOCK_D)
    depth = tl.program_id(1) % (D // BLOCK_D) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    channel = tl.arange(0, BLOCK_E)  # [BLOCK_E]
    start, stop, own, low, high = load_strips(
        covers_ptr, strip, strips, seq_len, summaries, STRIDE, PACKED
    )
    grad_ptr += row // groups * stride_gb + row % groups * stride_gg
    acc = tl.zeros((BLOCK_Z, BLOCK_D), tl.float32)
    for back in tl.static_range(BLOCK // STRIDE):
        summary = own - back  # [BLOCK_Z]
        seen = (summary >= low) & (summary < high)
        at = summary.to(tl.int64)[:, None] * stride_gc
        w_ptrs = weight_ptr + (offset + back * STRIDE) * D + depth[None, :]  # [1, BLOCK_D]
        for first in tl.range(0, outputs, BLOCK_E):
            output = first + channel  # [BLOCK_E]
            grad = tl.load(
                grad_ptr + at + output, mask=seen[:, None] & (output < outputs), other=0.0
            )  # [BLOCK_Z, BLOCK_E]
            w = tl.load(
                w_ptrs + output.to(tl.int64)[:, None] * stride_we,
                mask=(output < outputs)[:, None],
                other=0.0,
            )  # [BLOCK_E, BLOCK_D]
            acc = tl.dot(grad, w, acc, input_precision="ieee")  # [BLOCK_Z, BLOCK_D]
    token = start + offset  # [BLOCK_Z]
    at = row // groups * stride_xb + row % groups * stride_xg + token[:, None] * stride_xs
    tl.store(dx_ptr + at + depth, acc.to(dx_ptr.dtype.element_ty), mask=(token < stop)[:, None])


@triton.jit(do_not_specialize=["summaries", "tiles", "tiles_of_row"])
def _block_linear_backward_weight_kernel(
    x_ptr, grad_ptr, partial_ptr, starts_ptr,
    stride_xb, stride_xg, stride_xs, stride_gb, stride_gg, stride_gc,
    groups, summaries, outputs, tiles, tiles_of_row, runs,
    BLOCK: tl.constexpr, STRIDE: tl.constexpr, D: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    run = tl.program_id(2)
    output = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)  # [BLOCK_E]
    token = tl.program_id(0) // (D // BLOCK_D)
    depth = tl.program_id(0) % (D // BLOCK_D) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    acc = tl.zeros((BLOCK_E, BLOCK_D), tl.float32)
    for tile in tl.range(run, tiles, runs):
        row = (tile // tiles_of_row).to(tl.int64)
        summary = tile % tiles_of_row * BLOCK_C + tl.arange(0, BLOCK_C)  # [BLOCK_C]
        inside = summary < summaries
        start = first_token(starts_ptr, summary, inside, STRIDE, PACKED) + token  # [BLOCK_C]
        x_row = x_ptr + row // groups * stride_xb + row % groups * stride_xg
        x = tl.load(
            x_row + start[:, None] * stride_xs + depth, mask=inside[:, None], other=0.0
        )  # [BLOCK_C, BLOCK_D]
        grad_row = grad_ptr + row // groups * stride_gb + row % groups * stride_gg
        grad = tl.load(
            grad_row + summary.to(tl.int64)[:, None] * stride_gc + output,
            mask=inside[:, None] & (output < outputs),
            other=0.0,
        )  # [BLOCK_C, BLOCK_E]
        acc = tl.dot(tl.trans(grad), x, acc, input_precision="ieee")  # [BLOCK_E, BLOCK_D]
    at = (run.to(tl.int64) * outputs + output)[:, None] * (BLOCK * D) + token * D + depth
    tl.store(partial_ptr + at, acc, mask=(output < outputs)[:, None])


def _chunk(dim: int) -> int:
    """The largest power of two, at most 128, that divides a head dim."""
    return min(128, dim & -dim)


def _tile_of(size: int, most: int) -> int:
    """Side of a tile for a dimension: a power of two that matrix products support."""
    return min(most, pad(size))


def block_linear_forward(x: Tensor, weight: Tensor, bias: Tensor | None, blocks: Blocks) -> Tensor:
    """Map every block: (B, G, C, E).

    Args:
        x: (B, G, S, D), last stride 1.
        weight: (E, l * D), last stride 1, of x's dtype.
        bias: (E,) fp32, or None.
        blocks: The layout of the blocks.
    """
    batch, groups, _, dim = x.shape
    outputs = weight.shape[0]
    out = x.new_empty(batch, groups, blocks.summaries, outputs)
    if not out.numel():
        return out
    wide = x.element_size() == 2
    block_c, block_e = 64, _tile_of(outputs, 128 if wide else 64)
    grid = (triton.cdiv(blocks.summaries, block_c), triton.cdiv(outputs, block_e), batch * groups)
    _block_linear_forward_kernel[grid](
        x, weight, bias, out, blocks.starts,
        *x.stride()[:3], weight.stride(0),
        groups, blocks.summaries, outputs,
        BLOCK=blocks.block,
        STRIDE=blocks.stride,
        D=dim,
        PACKED=blocks.packed,
        HAS_BIAS=bias is not None,
        BLOCK_C=block_c,
        BLOCK_E=block_e,
        BLOCK_D=min(_chunk(dim), 64 if wide else 32),
        num_warps=4,
        num_stages=4 if wide else 2,
    )  # fmt: skip
    return out


def block_linear_backward_input(grad: Tensor, weight: Tensor, blocks: Blocks) -> Tensor:
    """Gradient of the tokens, gathered from the blocks that cover each: (B, G, S, D).

    Args:
        grad: (B, G, C, E), last stride 1.
        weight: (E, l * D), last stride 1.
        blocks: The layout of the blocks.
    """
    batch, groups, _, outputs = grad.shape
    dim = weight.shape[1] // blocks.block
    dx = empty_tokens(grad, dim, blocks)
    if not dx.numel():
        return dx
    wide = grad.element_size() == 2
    block_z, block_d = 64, min(_chunk(dim), 128 if wide else 64)
    grid = (
        triton.cdiv(blocks.strips, block_z),
        blocks.stride * (dim // block_d),
        batch * groups,
    )
    _block_linear_backward_input_kernel[grid](
        grad, weight, dx, blocks.covers,
        *grad.stride()[:3], weight.stride(0), *dx.stride()[:3],
        groups, blocks.seq_len, blocks.summaries, blocks.strips, outputs,
        BLOCK=blocks.block,
        STRIDE=blocks.stride,
        D=dim,
        PACKED=blocks.packed,
        BLOCK_Z=block_z,
        BLOCK_E=_tile_of(outputs, 64 if wide else 32),
        BLOCK_D=block_d,
        num_warps=4,
        num_stages=3 if wide else 2,
    )  # fmt: skip
    return dx


def block_linear_backward_weight(grad: Tensor, weight: Tensor, x: Tensor, blocks: Blocks) -> Tensor:
    """Gradient of the weight: (E, l * D), in the weight's dtype.

    Args:
        grad: (B, G, C, E), last stride 1.
        weight: (E, l * D), for its shape and dtype.
        x: (B, G, S, D), last stride 1.
        blocks: The layout of the blocks.
    """
    batch, groups, _, dim = x.shape
    outputs = weight.shape[0]
    if not grad.numel():
        return torch.zeros_like(weight)
    wide = x.element_size() == 2
    block_c = 64 if wide else 32
    block_e, block_d = _tile_of(outputs, 128 if wide else 64), min(_chunk(dim), 64)
    tiles_of_row = triton.cdiv(blocks.summaries, block_c)
    tiles = tiles_of_row * batch * groups
    per_run = triton.cdiv(outputs, block_e) * blocks.block * (dim // block_d)
    runs = max(1, min(tiles, _PROGRAMS // per_run))
    partial = grad.new_empty(runs, *weight.shape, dtype=torch.float32)
    grid = (blocks.block * (dim // block_d), triton.cdiv(outputs, block_e), runs)
    _block_linear_backward_weight_kernel[grid](
        x, grad, partial, blocks.starts,
        *x.stride()[:3], *grad.stride()[:3],
        groups, blocks.summaries, outputs, tiles, tiles_of_row, runs,
        BLOCK=blocks.block,
        STRIDE=blocks.stride,
        D=dim,
        PACKED=blocks.packed,
        BLOCK_C=block_c,
        BLOCK_E=block_e,
        BLOCK_D=block_d,
        num_warps=4,
        num_stages=3 if wide else 2,
    )  # fmt: skip
    return partial.sum(dim=0).to(weight.dtype)


class BlockLinear(torch.autograd.Function):
    """`block_linear_forward`, differentiable in x, weight and bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, blocks: Blocks) -> Tensor:
        """Map every block: (B, G, C, E)."""
        ctx.save_for_backward(x, weight)
        ctx.blocks = blocks
        return block_linear_forward(x, weight, bias, blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs that require them, from (B, G, C, E)."""
        x, weight = ctx.saved_tensors
        grad = loadable(grad)
        return (
            block_linear_backward_input(grad, weight, ctx.blocks)
            if ctx.needs_input_grad[0]
            else None,
            block_linear_backward_weight(grad, weight, x, ctx.blocks)
            if ctx.needs_input_grad[1]
            else None,
            grad.sum(dim=(0, 1, 2), dtype=torch.float32) if ctx.needs_input_grad[2] else None,
            None,
        )
