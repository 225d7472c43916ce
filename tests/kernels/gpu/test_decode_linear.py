"""Projections of a decode step against fp64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton")

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode_linear import (
    MOST_ROWS,
    Finish,
    HeadParts,
    Norm,
    Positions,
    Projection,
    add_projection,
    gated_projection,
    project_heads,
)

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TYPES = [pytest.param(torch.bfloat16, marks=pytest.mark.gpu)] if CUDA else [torch.float32]
"""No GPU multiplies in fp32 here: the products take minutes to compile."""
EPS = 1e-5


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, device=DEVICE).to(dtype)


def projection(outputs: int, inputs: int, dtype: torch.dtype, *, bias: bool) -> Projection:
    weight = (drawn(outputs, inputs) / inputs**0.5).to(dtype)
    return Projection(weight=weight, bias=drawn(outputs, dtype=dtype) if bias else None)


def applied(x: Tensor, layer: Projection) -> Tensor:
    """The projection in fp64."""
    bias = None if layer.bias is None else layer.bias.double()
    return F.linear(x.double(), layer.weight.double(), bias)


def normed(x: Tensor, norm: Norm) -> Tensor:
    """The norm in fp64."""
    return F.rms_norm(x.double(), x.shape[1:], norm.weight.double(), norm.eps)


def close(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.03
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 16, 16), (3, 150, 40), (33, 64, 7)])
def test_sums_with_the_residual_stream(
    dtype: torch.dtype, rows: int, inputs: int, outputs: int
) -> None:
    x, a = drawn(rows, outputs, dtype=dtype), drawn(rows, inputs, dtype=dtype)
    for bias in (False, True):
        layer = projection(outputs, inputs, dtype, bias=bias)
        close(add_projection(x, a, layer), x.double() + applied(a, layer))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 16, 16), (3, 150, 41), (33, 64, 7)])
def test_gated_half_of_an_mlp(dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> None:
    x, norm = drawn(rows, inputs, dtype=dtype), Norm(weight=drawn(inputs, dtype=dtype), eps=EPS)
    for bias in (False, True):
        layer = projection(2 * outputs, inputs, dtype, bias=bias)
        gate, up = applied(normed(x, norm), layer).chunk(2, dim=-1)
        close(gated_projection(x, norm, layer), F.silu(gate) * up)


def rotated(x: Tensor, positions: Tensor, parts: HeadParts) -> Tensor:
    """Rotate heads x (M, D) to positions (M,) in fp64."""
    # The kernel's angles are products in fp32, which matter at late positions.
    angles = (positions.float()[:, None] * parts.frequencies).double()
    cos, sin = angles.cos() * parts.scaling, angles.sin() * parts.scaling
    width = 2 * len(parts.frequencies)
    first, second = x[:, :width].chunk(2, dim=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return torch.cat([*turned, x[:, width:]], dim=-1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("dim", "width", "tokens", "bias"),
    [
        (16, 16, 1, False),
        (20, 20, 2, True),
        (64, 64, 3, False),
        (20, 12, 2, True),
        (64, 32, 1, False),
    ],
)
def test_heads(dtype: torch.dtype, dim: int, width: int, tokens: int, bias: bool) -> None:
    """A query head, keys and values of two groups, and 5 gates; the cache keeps keys and values.

    Each of these heads is rotated in its first `width` numbers.
    """
    lengths = torch.tensor([3, 70_001], dtype=torch.int32, device=DEVICE)
    capacity, rows, inputs = 70_001 + tokens - 1, 2 * tokens, 72
    turn, plain = int(Finish.ROTATION), int(Finish.NOTHING)
    table = [[0, dim, turn, 0, 0]]
    table += [[dim * (1 + g), dim, turn, 1, g] for g in range(2)]
    table += [[dim * (3 + g), dim, plain, 2, g] for g in range(2)]
    table.append([5 * dim, 5, int(Finish.SIGMOID), 0, 0])
    parts = HeadParts(
        table=torch.tensor(table, dtype=torch.int32, device=DEVICE),
        head_dim=dim,
        frequencies=0.5 ** torch.arange(width // 2, device=DEVICE).float(),
        scaling=1.25,
    )
    x, norm = drawn(rows, inputs, dtype=dtype), Norm(weight=drawn(inputs, dtype=dtype), eps=EPS)
    layer = projection(5 * dim + 5, inputs, dtype, bias=bias)
    shape = (2, 2, capacity, dim)
    kept = tuple(torch.zeros(shape, dtype=dtype, device=DEVICE) for _ in range(2))
    places = Positions(lengths=lengths, tokens=tokens, offset=11)
    out = project_heads(x, norm, layer, parts, places, (kept[0], kept[1]))
    assert out.stride(0) % 8 == 0
    expected = applied(normed(x, norm), layer)
    at = (lengths[:, None] + torch.arange(tokens, device=DEVICE)).flatten()
    heads = [expected[:, dim * n : dim * (n + 1)] for n in range(5)]
    heads[:3] = [rotated(head, at + 11, parts) for head in heads[:3]]
    close(out, torch.cat([*heads, expected[:, 5 * dim :].sigmoid()], dim=-1))
    for buffer, first in zip(kept, (1, 3), strict=True):
        wanted = torch.zeros_like(buffer)
        for row, position in enumerate(at.tolist()):
            if position < capacity:  # the last token of the second text is dropped
                for g in range(2):
                    own = dim * (first + g)
                    wanted[row // tokens, g, position] = out[row, own : own + dim]
        assert torch.equal(buffer, wanted)


def test_errors() -> None:
    layer = projection(16, 16, torch.float32, bias=False)
    x = drawn(2, 16)
    with pytest.raises(UnsupportedError, match="rows"):
        add_projection(drawn(MOST_ROWS + 1, 16), drawn(MOST_ROWS + 1, 16), layer)
    with pytest.raises(UnsupportedError, match="float64"):
        add_projection(x, x.double(), layer)
    with pytest.raises(ValueError, match="weight"):
        add_projection(x, drawn(2, 17), layer)
    with pytest.raises(ValueError, match="contiguous"):
        add_projection(x, drawn(16, 2).T, layer)
    with pytest.raises(ValueError, match="2 rows"):
        add_projection(drawn(3, 16), x, layer)
