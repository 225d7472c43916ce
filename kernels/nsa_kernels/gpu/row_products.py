"""Dot products of rows, and the terms of the gated sum's backward pass.

Rows are queries times heads. The heads of a token are adjacent in memory, so that a program's rows
and numbers are too.

Letters: see `layout.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.layout import Problem, pad

_ROWS = 64
"""Rows of a program."""

_TERM_ROWS = 16
"""Rows of a program that reads four vectors a row; more would hold fewer in flight."""

_GATE_ROWS = 256
"""Rows of a program that reads no vectors."""

LEAST_GATE = 2.0**-100
"""Lower bound of a gate: its logarithm is finite, and its branch adds nothing."""

_LEAST_GATE = tl.constexpr(LEAST_GATE)


@triton.jit
def _place(rows, HEADS: tl.constexpr, BLOCK_M: tl.constexpr):
    """Token, head and existence of each row of a program: [BLOCK_M]."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    return (row // HEADS).to(tl.int64), row % HEADS, row < rows


@triton.jit
def _load_rows(ptr, strides, token, head, valid, D: tl.constexpr, D_PAD: tl.constexpr):
    """Rows in fp32: [BLOCK_M, D_PAD]."""
    stride_b, stride_h, stride_t = strides
    depth = tl.arange(0, D_PAD)
    at = tl.program_id(1).to(tl.int64) * stride_b + token * stride_t + head * stride_h
    mask = valid[:, None] & (depth < D)
    return tl.load(ptr + at[:, None] + depth, mask=mask, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["rows"])
def _row_dots_kernel(
    a_ptr, b_ptr, dots_ptr,
    stride_ab, stride_ah, stride_at,
    stride_bb, stride_bh, stride_bt,
    stride_lb, stride_lh, stride_lt,
    rows,
    HEADS: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    token, head, valid = _place(rows, HEADS, BLOCK_M)
    a = _load_rows(a_ptr, (stride_ab, stride_ah, stride_at), token, head, valid, D, D_PAD)
    b = _load_rows(b_ptr, (stride_bb, stride_bh, stride_bt), token, head, valid, D, D_PAD)
    at = tl.program_id(1).to(tl.int64) * stride_lb + token * stride_lt + head * stride_lh
    tl.store(dots_ptr + at, tl.sum(a * b, axis=1), mask=valid)


def row_dots(problem: Problem, a: Tensor, b: Tensor) -> Tensor:
    """Dot products along the last dimension, in fp32: two (B, H, T, D) to (B, H, T)."""
    batch, heads, queries, dim = a.shape
    dots = problem.per_query(a)
    _row_dots_kernel[(triton.cdiv(queries * heads, _ROWS), batch)](
        a, b, dots,
        *a.stride()[:3], *b.stride()[:3], *dots.stride(),
        queries * heads,
        HEADS=heads,
        D=dim,
        D_PAD=pad(dim),
        BLOCK_M=_ROWS,
    )  # fmt: skip
    return dots


@triton.jit
def _gate_term(gates_ptr, lse_ptr, weighed_ptr, at_gates, at, valid):
    """Load a branch's gate, and store its log-sum-exp less the gate's base-2 logarithm."""
    gate = tl.load(gates_ptr + at_gates, mask=valid, other=1.0).to(tl.float32)
    gate = tl.maximum(gate, _LEAST_GATE)
    lse = tl.load(lse_ptr + at, mask=valid, other=0.0)
    tl.store(weighed_ptr + at, lse - tl.log2(gate), mask=valid)
    return gate


@triton.jit(do_not_specialize=["rows"])
def _branch_terms_kernel(
    grad_ptr, out_ptr, compressed_ptr, recent_ptr, gates_ptr,
    lse_c_ptr, lse_s_ptr, lse_w_ptr, weighed_ptr, dots_ptr,
    stride_gb, stride_gh, stride_gt,
    stride_ob, stride_oh, stride_ot,
    stride_cb, stride_ch, stride_ct,
    stride_rb, stride_rh, stride_rt,
    stride_wb, stride_wh, stride_wt, stride_wn,
    stride_lb, stride_lh, stride_lt, stride_ln,
    rows,
    HEADS: tl.constexpr, D: tl.constexpr, D_PAD: tl.constexpr, BLOCK_M: tl.constexpr,
    KEPT: tl.constexpr,
):  # fmt: skip
    token, head, valid = _place(rows, HEADS, BLOCK_M)
    b = tl.program_id(1).to(tl.int64)
    at = b * stride_lb + token * stride_lt + head * stride_lh
    grad = _load_rows(grad_ptr, (stride_gb, stride_gh, stride_gt), token, head, valid, D, D_PAD)
    out = _load_rows(out_ptr, (stride_ob, stride_oh, stride_ot), token, head, valid, D, D_PAD)
    of_out = tl.sum(grad * out, axis=1)
    other = _load_rows(
        compressed_ptr, (stride_cb, stride_ch, stride_ct), token, head, valid, D, D_PAD
    )
    compressed = tl.sum(grad * other, axis=1)
    tl.store(dots_ptr + at, compressed, mask=valid)
    if KEPT:
        other = _load_rows(
            recent_ptr, (stride_rb, stride_rh, stride_rt), token, head, valid, D, D_PAD
        )
        recent = tl.sum(grad * other, axis=1)
        tl.store(dots_ptr + 2 * stride_ln + at, recent, mask=valid)
    else:
        recent = tl.load(dots_ptr + 2 * stride_ln + at, mask=valid, other=0.0)
    gates_ptr += b * stride_wb
    at_gates = token * stride_wt + head * stride_wh
    gate_c = _gate_term(gates_ptr, lse_c_ptr, weighed_ptr, at_gates, at, valid)
    gate_s = _gate_term(
        gates_ptr + stride_wn, lse_s_ptr, weighed_ptr + stride_ln, at_gates, at, valid
    )
    gate_w = _gate_term(
        gates_ptr + 2 * stride_wn, lse_w_ptr, weighed_ptr + 2 * stride_ln, at_gates, at, valid
    )
    # The selection's output was never written: the sum less the other branches is left of it.
    selected = (of_out - compressed * gate_c - recent * gate_w) / gate_s
    tl.store(dots_ptr + stride_ln + at, selected, mask=valid)


def branch_gradients(
    grad: Tensor,
    out: Tensor,
    compressed: Tensor,
    recent: Tensor,
    gates: Tensor,
    lses: tuple[Tensor, Tensor, Tensor],
) -> tuple[tuple[OutputGradient, OutputGradient, OutputGradient], Tensor]:
    """The output gradients of compression, selection and window, and their dots: (3, B, H, T).

    Args:
        grad: (B, H, T, Dv), the gradient of the gated sum.
        out: (B, H, T, Dv), the gated sum.
        compressed: (B, H, T, Dv), the compression's output.
        recent: (B, H, T, Dv), the window's output, or (B, H, T), its dot products with `grad`.
        gates: (B, H, T, 3).
        lses: (B, H, T) each, in the memory order of `Problem.per_query`.
    """
    batch, heads, queries, dim = grad.shape
    kept = recent.dim() == 4
    weighed, dots = (
        grad.new_empty(3, batch, queries, heads, dtype=lses[0].dtype).transpose(2, 3)
        for _ in range(2)
    )
    if not kept:
        dots[2].copy_(recent)
    assert all(lse.stride() == dots[0].stride() for lse in lses)
    last = recent if kept else out
    _branch_terms_kernel[(triton.cdiv(queries * heads, _TERM_ROWS), batch)](
        grad, out, compressed, last, gates, *lses, weighed, dots,
        *grad.stride()[:3], *out.stride()[:3], *compressed.stride()[:3], *last.stride()[:3],
        *gates.stride(),
        *dots[0].stride(), dots.stride(0),
        queries * heads,
        HEADS=heads,
        D=dim,
        D_PAD=pad(dim),
        BLOCK_M=_TERM_ROWS,
        KEPT=kept,
        num_warps=2,
    )  # fmt: skip
    first, second, third = (
        OutputGradient(out=grad, lse=lse, dots=dot) for lse, dot in zip(weighed, dots, strict=True)
    )
    return (first, second, third), dots


@triton.jit(do_not_specialize=["rows"])
def _gate_gradients_kernel(
    dots_ptr, sums_ptr, gates_ptr, dgates_ptr,
    stride_wb, stride_wh, stride_wt, stride_wn,
    stride_lb, stride_lh, stride_lt, stride_ln,
    rows,
    HEADS: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    token, head, valid = _place(rows, HEADS, BLOCK_M)
    b = tl.program_id(1).to(tl.int64)
    at = b * stride_lb + token * stride_lt + head * stride_lh
    gates_ptr += b * stride_wb + stride_wn
    gate = tl.load(gates_ptr + token * stride_wt + head * stride_wh, mask=valid, other=1.0)
    gate = tl.maximum(gate.to(tl.float32), _LEAST_GATE)
    compression = tl.load(dots_ptr + at, mask=valid, other=0.0)
    selection = tl.load(sums_ptr + at, mask=valid, other=0.0) / gate
    window = tl.load(dots_ptr + 2 * stride_ln + at, mask=valid, other=0.0)
    to = dgates_ptr + ((b * (rows // HEADS) + token) * HEADS + head) * 3
    tl.store(to, compression.to(dgates_ptr.dtype.element_ty), mask=valid)
    tl.store(to + 1, selection.to(dgates_ptr.dtype.element_ty), mask=valid)
    tl.store(to + 2, window.to(dgates_ptr.dtype.element_ty), mask=valid)


def gate_gradients(dots: Tensor, sums: Tensor, gates: Tensor) -> Tensor:
    """Gradient of the gates, (B, H, T, 3), in their dtype and the memory order (B, T, H, 3).

    Args:
        dots: (3, B, H, T), the dot products of compression, selection and window with the output's
            gradient, in the memory order of `Problem.per_query`; the selection's is not read.
        sums: (B, H, T), in the same order: the dot product of the selection's gated output.
        gates: (B, H, T, 3).
    """
    batch, heads, queries, _ = gates.shape
    dgates = gates.new_empty(batch, queries, heads, 3)
    assert dots[0].stride() == sums.stride()
    _gate_gradients_kernel[(triton.cdiv(queries * heads, _GATE_ROWS), batch)](
        dots, sums, gates, dgates,
        *gates.stride(), *sums.stride(), dots.stride(0),
        queries * heads,
        HEADS=heads,
        BLOCK_M=_GATE_ROWS,
    )  # fmt: skip
    return dgates.transpose(1, 2)
