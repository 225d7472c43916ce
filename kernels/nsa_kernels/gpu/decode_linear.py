"""Projections of the few rows of a decode step, with what precedes and follows them in a layer.

A decode step of a small model is bound by the number of its kernels. So a norm, the projections of
its output, and the rotation of heads or the activation of an MLP are one kernel, and a projection
and the sum of its output with the residual stream are another one.

Letters: B batch, T new tokens of a sequence, M = B * T rows, K inputs, N outputs, G key/value
groups, D head dim, T_max tokens of a full cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.layout import overlaps, pad

MOST_ROWS = 64
"""Most rows of a product: larger ones are not bound by the number of kernels."""

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_COLUMNS = 16
"""Outputs of a program, of each half of a head or of each of two projections."""

_INPUT_BYTES = 512
"""Bytes of a row of inputs that a program loads at once."""

_STAGES = 4

_LINE = 128
"""Bytes of a line of the second-level cache."""

_FETCH = True
"""Whether programs that wait for the kernel before them request their weights meanwhile."""


class Finish(IntEnum):
    """What follows the projection to some columns."""

    NOTHING = 0
    ROTATION = 1
    SIGMOID = 2


_ROTATION = tl.constexpr(int(Finish.ROTATION))
_SIGMOID = tl.constexpr(int(Finish.SIGMOID))


@triton.jit
def _fetch_rows(weight_ptr, row, rows, K: tl.constexpr, LINE: tl.constexpr):
    """Request rows of the weight from memory for the second-level cache."""
    EACH: tl.constexpr = LINE // (weight_ptr.dtype.element_ty.primitive_bitwidth // 8)
    LINES: tl.constexpr = triton.next_power_of_2((K + EACH - 1) // EACH)
    at = tl.minimum(tl.arange(0, LINES) * EACH, K - 1)
    ptrs = weight_ptr + tl.minimum(row, rows - 1)[:, None] * K + at  # [BLOCK_N, LINES]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [ptrs.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def _pair_of_products(
    x_ptr, norm_ptr, weight_ptr, row, rows, first, in_first, second, in_second, eps,
    K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Normalize rows and multiply them by two sets of rows of the weight: two [BLOCK_M, BLOCK_N].

    The scale of a row's norm is known after all inputs, and multiplies the products.
    """
    inputs = tl.arange(0, BLOCK_K)
    squares = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    a = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    b = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        at = start + inputs
        inside = at < K
        x = tl.load(
            x_ptr + row[:, None] * K + at, mask=(row < rows)[:, None] & inside, other=0.0
        ).to(tl.float32)  # [BLOCK_M, BLOCK_K]
        norm = tl.load(norm_ptr + at, mask=inside, other=0.0)
        squares += x * x
        x = (x * norm.to(tl.float32)).to(norm.dtype)
        w = tl.load(
            weight_ptr + first[:, None] * K + at, mask=in_first[:, None] & inside, other=0.0
        )  # [BLOCK_N, BLOCK_K]
        a = tl.dot(x, tl.trans(w), a, input_precision="ieee")
        w = tl.load(
            weight_ptr + second[:, None] * K + at, mask=in_second[:, None] & inside, other=0.0
        )
        b = tl.dot(x, tl.trans(w), b, input_precision="ieee")
    scale = tl.rsqrt(tl.sum(squares, axis=1) / K + eps)[:, None]
    return a * scale, b * scale


@triton.jit(do_not_specialize=["rows", "outputs", "token_capacity", "offset"])
def _heads_kernel(
    x_ptr, norm_ptr, weight_ptr, bias_ptr, parts_ptr, frequencies_ptr, lengths_ptr, out_ptr,
    k_ptr, v_ptr, rows, outputs, stride_out, token_capacity, offset, eps, turn_scale,
    K: tl.constexpr, T: tl.constexpr, G: tl.constexpr, D: tl.constexpr, TURNS: tl.constexpr,
    BIAS: tl.constexpr, KEEP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, STAGES: tl.constexpr, LINE: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = D // 2
    parts_ptr += tl.program_id(0) * 5
    start = tl.load(parts_ptr)
    columns = tl.load(parts_ptr + 1)
    finish = tl.load(parts_ptr + 2)
    row = tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    # Rotation mixes a column of the first half of what it rotates with one of the second.
    a_column = column
    b_column = column + HALF
    if TURNS < HALF:
        a_column = tl.where(column < TURNS, column, column + TURNS)
        b_column = tl.where(column < TURNS, column + TURNS, column + HALF)
    in_first = (column < HALF) & (a_column < columns)
    in_second = (column < HALF) & (b_column < columns)
    first = start + a_column
    second = start + b_column
    position = tl.load(lengths_ptr + row // T, mask=row < rows, other=0) + row % T
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
        if LINE:
            _fetch_rows(weight_ptr, first, outputs, K, LINE)
            _fetch_rows(weight_ptr, second, outputs, K, LINE)
        tl.extra.cuda.gdc_wait()
    a, b = _pair_of_products(
        x_ptr, norm_ptr, weight_ptr, row, rows, first, in_first, second, in_second, eps,
        K, BLOCK_M, BLOCK_N, BLOCK_K, STAGES,
    )  # fmt: skip
    if BIAS:
        a += tl.load(bias_ptr + first, mask=in_first, other=0.0).to(tl.float32)
        b += tl.load(bias_ptr + second, mask=in_second, other=0.0).to(tl.float32)
    if finish == _ROTATION:
        frequency = tl.load(frequencies_ptr + column, mask=column < TURNS, other=0.0)
        angle = (position + offset).to(tl.float32)[:, None] * frequency
        cos = tl.cos(angle) * turn_scale
        sin = tl.sin(angle) * turn_scale
        if TURNS < HALF:
            cos = tl.where(column < TURNS, cos, 1.0)
        turned = a * cos - b * sin
        b = b * cos + a * sin
        a = turned
    if finish == _SIGMOID:
        a = tl.sigmoid(a)
        b = tl.sigmoid(b)
    to = out_ptr + row[:, None] * stride_out
    some = (row < rows)[:, None]
    a = a.to(out_ptr.dtype.element_ty)
    b = b.to(out_ptr.dtype.element_ty)
    tl.store(to + first, a, mask=some & in_first)
    tl.store(to + second, b, mask=some & in_second)
    if KEEP:
        cache = tl.load(parts_ptr + 3)
        group = (row // T).to(tl.int64) * G + tl.load(parts_ptr + 4)
        some = some & (position < token_capacity)[:, None]
        to = ((group * token_capacity + position) * D)[:, None]
        if cache == 1:
            tl.store(k_ptr + to + a_column, a, mask=some & in_first)
            tl.store(k_ptr + to + b_column, b, mask=some & in_second)
        if cache == 2:
            tl.store(v_ptr + to + a_column, a, mask=some & in_first)
            tl.store(v_ptr + to + b_column, b, mask=some & in_second)


@triton.jit(do_not_specialize=["rows"])
def _gated_kernel(
    x_ptr, norm_ptr, weight_ptr, bias_ptr, out_ptr, rows, eps,
    K: tl.constexpr, N: tl.constexpr, BIAS: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr, LINE: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, BLOCK_M)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = column < N
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
        if LINE:
            _fetch_rows(weight_ptr, column, 2 * N, K, LINE)
            _fetch_rows(weight_ptr, column + N, 2 * N, K, LINE)
        tl.extra.cuda.gdc_wait()
    gate, up = _pair_of_products(
        x_ptr, norm_ptr, weight_ptr, row, rows, column, inside, column + N, inside, eps,
        K, BLOCK_M, BLOCK_N, BLOCK_K, STAGES,
    )  # fmt: skip
    if BIAS:
        gate += tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)
        up += tl.load(bias_ptr + column + N, mask=inside, other=0.0).to(tl.float32)
    out = gate * tl.sigmoid(gate) * up
    tl.store(
        out_ptr + row[:, None] * N + column,
        out.to(out_ptr.dtype.element_ty),
        mask=(row < rows)[:, None] & inside,
    )


@triton.jit(do_not_specialize=["rows"])
def _add_kernel(
    x_ptr, a_ptr, weight_ptr, bias_ptr, out_ptr, rows,
    K: tl.constexpr, N: tl.constexpr, BIAS: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr, LINE: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, BLOCK_M)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inputs = tl.arange(0, BLOCK_K)
    some = (row < rows)[:, None]
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
        if LINE:
            _fetch_rows(weight_ptr, column, N, K, LINE)
        tl.extra.cuda.gdc_wait()
    sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        at = start + inputs
        a = tl.load(
            a_ptr + row[:, None] * K + at, mask=some & (at < K), other=0.0
        )  # [BLOCK_M, BLOCK_K]
        w = tl.load(
            weight_ptr + column[:, None] * K + at,
            mask=(column < N)[:, None] & (at < K),
            other=0.0,
        )  # [BLOCK_N, BLOCK_K]
        sums = tl.dot(a, tl.trans(w), sums, input_precision="ieee")
    if BIAS:
        sums += tl.load(bias_ptr + column, mask=column < N, other=0.0).to(tl.float32)
    at = row[:, None] * N + column
    inside = some & (column < N)
    sums += tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, sums.to(out_ptr.dtype.element_ty), mask=inside)


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Root mean square normalization.

    Attributes:
        weight: (K,).
        eps: Added to the mean of the squares.
    """

    weight: Tensor
    eps: float


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A projection from K inputs to N outputs.

    Attributes:
        weight: (N, K), contiguous.
        bias: (N,) or None.
    """

    weight: Tensor
    bias: Tensor | None = None

    def check(self, *rows: Tensor) -> None:
        """Check the rows (M, K) that the kernels multiply.

        Raises:
            UnsupportedError: If the dtype or the number of rows is not supported.
            ValueError: If shapes or dtypes differ, or a tensor is not contiguous.
        """
        for x in rows:
            if x.dtype not in _DTYPES:
                raise UnsupportedError(f"dtype is {x.dtype}; decode projections take {_DTYPES}")
            if len(x) > MOST_ROWS:
                raise UnsupportedError(f"{len(x)} rows; decode projections take {MOST_ROWS}")
            if x.shape[1:] != self.weight.shape[1:] or x.dtype != self.weight.dtype:
                raise ValueError(
                    f"rows are {tuple(x.shape)} in {x.dtype}, the weight "
                    f"{tuple(self.weight.shape)} in {self.weight.dtype}"
                )
        if not all(x.is_contiguous() for x in (*rows, self.weight)):
            raise ValueError("rows and weight must be contiguous")


@dataclass(frozen=True, kw_only=True)
class HeadParts:
    """The parts of a projection's outputs: heads, and numbers such as gates.

    Attributes:
        table: (parts, 5) int32: first output; number of outputs, at most D; `Finish`; 1 for keys
            and 2 for values that the cache keeps, or 0; their group.
        head_dim: D.
        frequencies: (R / 2,) fp32, inverse frequencies of the rotary embedding of the first R
            numbers of a head; R is D at most.
        scaling: Multiplies cosines and sines.
    """

    table: Tensor
    head_dim: int
    frequencies: Tensor
    scaling: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where the rows of a step are.

    Attributes:
        lengths: (B,) int32 tokens before the new ones.
        tokens: T.
        offset: Added to the positions that the rotation sees.
    """

    lengths: Tensor
    tokens: int = 1
    offset: int = 0


def _tile(x: Tensor, inputs: int) -> dict[str, int]:
    """Return the sizes of a product's tiles."""
    most = triton.next_power_of_2(inputs)
    return {
        "BLOCK_M": pad(len(x)),
        "BLOCK_N": _COLUMNS,
        "BLOCK_K": max(16, min(most, _INPUT_BYTES // x.element_size())),
        "STAGES": _STAGES,
        "LINE": _LINE if _FETCH else 0,
    }


def project_heads(
    x: Tensor,
    norm: Norm,
    projection: Projection,
    parts: HeadParts,
    positions: Positions,
    kept: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Normalize rows, project them, rotate heads and apply the sigmoid to gates.

    Args:
        x: (M, K), contiguous.
        norm: The norm of x.
        projection: K to N.
        parts: What follows the projection to each part of the outputs.
        positions: Where the rows are.
        kept: Keys and values (B, G, T_max, D) of a cache, contiguous, to which the parts that say
            so are written; a token past T_max is dropped.

    Returns:
        (M, N), whose row stride is a multiple of 8.

    Raises:
        UnsupportedError: If the dtype or the number of rows is not supported.
        ValueError: If shapes or dtypes differ, or a tensor is not contiguous.
    """
    projection.check(x)
    rows, outputs = len(x), len(projection.weight)
    if rows != len(positions.lengths) * positions.tokens:
        raise ValueError(f"{rows} rows are not {positions.tokens} of {positions.lengths.shape}")
    room = torch.empty(rows, -(-outputs // 8) * 8, dtype=x.dtype, device=x.device)
    k, v = (room, room) if kept is None else kept
    if kept is not None and not (k.is_contiguous() and v.is_contiguous()):
        raise ValueError("keys and values of the cache must be contiguous")
    overlap = overlaps(x.device)
    grid = (len(parts.table), triton.cdiv(parts.head_dim // 2, _COLUMNS))
    _heads_kernel[grid](
        x, norm.weight, projection.weight, projection.bias, parts.table, parts.frequencies,
        positions.lengths, room, k, v,
        rows, outputs, room.stride(0), k.shape[2] if kept is not None else 0, positions.offset,
        norm.eps, parts.scaling,
        K=x.shape[1],
        T=positions.tokens,
        G=k.shape[1] if kept is not None else 1,
        D=parts.head_dim,
        TURNS=len(parts.frequencies),
        BIAS=projection.bias is not None,
        KEEP=kept is not None,
        **_tile(x, x.shape[1]),
        OVERLAP=overlap,
        num_warps=4,
        launch_pdl=overlap,
    )  # fmt: skip
    return room[:, :outputs]


def gated_projection(x: Tensor, norm: Norm, projection: Projection) -> Tensor:
    """Normalize rows, project them, and multiply the SiLU of one half by the other half.

    Args:
        x: (M, K), contiguous.
        norm: The norm of x.
        projection: K to 2 N, the N outputs of the gate first.

    Returns:
        (M, N).

    Raises:
        UnsupportedError: If the dtype or the number of rows is not supported.
        ValueError: If shapes or dtypes differ, or a tensor is not contiguous.
    """
    projection.check(x)
    outputs, overlap = len(projection.weight) // 2, overlaps(x.device)
    out = torch.empty(len(x), outputs, dtype=x.dtype, device=x.device)
    _gated_kernel[(triton.cdiv(outputs, _COLUMNS),)](
        x, norm.weight, projection.weight, projection.bias, out, len(x), norm.eps,
        K=x.shape[1],
        N=outputs,
        BIAS=projection.bias is not None,
        **_tile(x, x.shape[1]),
        OVERLAP=overlap,
        num_warps=4,
        launch_pdl=overlap,
    )  # fmt: skip
    return out


def add_projection(x: Tensor, a: Tensor, projection: Projection) -> Tensor:
    """Return x plus the projection of a.

    Args:
        x: (M, N), contiguous.
        a: (M, K), contiguous.
        projection: K to N.

    Returns:
        (M, N).

    Raises:
        UnsupportedError: If the dtype or the number of rows is not supported.
        ValueError: If shapes or dtypes differ, or a tensor is not contiguous.
    """
    projection.check(a)
    if x.shape != (len(a), len(projection.weight)) or not x.is_contiguous():
        raise ValueError(f"x is {tuple(x.shape)}; the sum needs it contiguous, {len(a)} rows")
    overlap = overlaps(x.device)
    out = torch.empty_like(x)
    _add_kernel[(triton.cdiv(x.shape[1], _COLUMNS),)](
        x, a, projection.weight, projection.bias, out, len(x),
        K=a.shape[1],
        N=x.shape[1],
        BIAS=projection.bias is not None,
        **_tile(a, a.shape[1]),
        OVERLAP=overlap,
        num_warps=4,
        launch_pdl=overlap,
    )  # fmt: skip
    return out
