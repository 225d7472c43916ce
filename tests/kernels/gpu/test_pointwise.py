"""The rotary embedding and the gated activation in one kernel each, against PyTorch in fp64."""

from __future__ import annotations

import pytest
import torch
from exactness import DEVICE, gpu
from torch import Tensor

from nsa_kernels import pointwise as public
from nsa_kernels.gpu import pointwise

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""Bound of one rounding, which the interpreter does towards zero, and of the errors of fp32."""

DTYPES = list(ROUNDING)


def projected(batch: int, heads: int, tokens: int, dim: int, dtype: torch.dtype) -> Tensor:
    """(B, H, T, D) in the memory order of a projection, with other columns beside it."""
    rows = torch.randn(batch, tokens, heads * dim + 16, device=DEVICE).to(dtype)
    return rows[..., 16:].unflatten(-1, (heads, dim)).transpose(1, 2)


def drawn_angles(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of random angles, which differ between the halves of a head."""
    angles = torch.rand(shape, device=DEVICE) * 6.3
    return angles.cos().to(dtype), angles.sin().to(dtype)


def assert_close(got: Tensor, exact: Tensor, size: Tensor) -> None:
    """Fail if an element has a larger error than one rounding of the sum of its terms' sizes."""
    assert got.shape == exact.shape
    least = torch.finfo(got.dtype).tiny
    assert ((got.double() - exact).abs() <= ROUNDING[got.dtype] * size.clamp(min=least)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_sequence", [False, True])
@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "dim", "width"),
    [
        (1, 2, 50, 64, 64),
        (2, 3, 1, 128, 128),
        (1, 1, 33, 96, 96),
        (2, 2, 40, 64, 32),
        (1, 2, 5, 80, 20),
    ],
)
def test_rotation(
    dtype: torch.dtype,
    per_sequence: bool,
    batch: int,
    heads: int,
    tokens: int,
    dim: int,
    width: int,
) -> None:
    x = projected(batch, heads, tokens, dim, dtype)
    shape = (batch, 1, tokens, width) if per_sequence else (tokens, width)
    cos, sin = drawn_angles(shape, dtype)
    got = pointwise.rotate(x, cos, sin)
    turned = x[..., :width].double()
    other = torch.cat([-turned[..., width // 2 :], turned[..., : width // 2]], dim=-1)
    terms = turned * cos.double(), other * sin.double()
    assert_close(got[..., :width], terms[0] + terms[1], terms[0].abs() + terms[1].abs())
    assert torch.equal(got[..., width:], x[..., width:])
    assert got.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 96, 1024, 1100])
def test_silu_product(dtype: torch.dtype, columns: int) -> None:
    rows = (torch.randn(2, 3, 2 * columns + 8, device=DEVICE) * 4).to(dtype)
    gate, up = rows[..., :columns], rows[..., columns : 2 * columns]
    got = pointwise.silu_product(gate, up)
    exact = gate.double() * gate.double().sigmoid() * up.double()
    assert got.is_contiguous()
    assert_close(got, exact, exact.abs())


@gpu
def test_large_gates() -> None:
    gate = torch.tensor([[-1e4, -100.0, 100.0, 1e4]], device=DEVICE)
    got = pointwise.silu_product(gate, torch.ones_like(gate))
    assert got.tolist() == [[0.0, 0.0, 100.0, 1e4]]


@pytest.mark.parametrize("tokens", [0, 3])
def test_nothing_to_compute(tokens: int) -> None:
    x = projected(2, 2, tokens, 16, torch.float32)
    cos, sin = drawn_angles((tokens, 16), torch.float32)
    assert pointwise.rotate(x, cos, sin).shape == (2, 2, tokens, 16)
    assert pointwise.silu_product(x[:0], x[:0]).shape == (0, 2, tokens, 16)


@gpu
@torch.no_grad()
def test_the_public_operations_take_the_kernels() -> None:
    """They are the kernels' to the bit, and without a GPU's conditions PyTorch's."""
    x = projected(1, 14, 70, 64, torch.bfloat16)
    cos, sin = drawn_angles((70, 64), torch.bfloat16)
    assert torch.equal(public.rotate(x, cos, sin), pointwise.rotate(x, cos, sin))
    assert torch.equal(public.silu_product(x, x), pointwise.silu_product(x, x))
    wide = public.rotate(x, cos.float(), sin.float())
    assert wide.dtype == torch.float32
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        assert public.rotate(leaf, cos, sin).requires_grad
        assert public.silu_product(leaf, leaf).requires_grad
