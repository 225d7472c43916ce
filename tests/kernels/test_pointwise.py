"""The rotary embedding and the gated activation in PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nsa_kernels.pointwise import rotate, silu_product


def test_a_rotation_turns_pairs_by_their_angle() -> None:
    angle = torch.tensor([0.3, 1.1])
    both = torch.cat([angle, angle])[None]
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])[None, None, None]
    got = rotate(x, both.cos(), both.sin())[0, 0, 0]
    pairs = torch.complex(x[0, 0, 0, :2], x[0, 0, 0, 2:]) * torch.polar(torch.ones(2), angle)
    torch.testing.assert_close(got, torch.cat([pairs.real, pairs.imag]))


def test_columns_beyond_the_embedding_stay_unchanged() -> None:
    x = torch.randn(2, 3, 5, 12)
    cos, sin = torch.randn(5, 8), torch.randn(5, 8)
    got = rotate(x, cos, sin)
    assert torch.equal(got[..., 8:], x[..., 8:])
    assert torch.equal(got[..., :8], rotate(x[..., :8], cos, sin))


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_the_wider_type_is_the_result_s(wide: torch.dtype) -> None:
    x = torch.randn(1, 1, 3, 4, dtype=torch.bfloat16)
    cos, sin = torch.randn(3, 4, dtype=wide), torch.randn(3, 4, dtype=wide)
    assert rotate(x, cos, sin).dtype == wide


def test_silu_product() -> None:
    gate, up = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    assert torch.equal(silu_product(gate, up), F.silu(gate) * up)
