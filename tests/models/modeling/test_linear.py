"""Projections with widened and with bf16 weights."""

from __future__ import annotations

import pytest
import torch

from nsa_kernels import precision
from nsa_models.modeling.linear import Linear


@pytest.mark.parametrize("bias", [True, False])
def test_wide_products_are_at_least_as_exact(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = Linear(96, 64, bias=bias).to(torch.bfloat16).requires_grad_(False)
    x = torch.randn(2, 200, 96).to(torch.bfloat16)
    exact = torch.nn.functional.linear(
        x.double(), layer.weight.double(), layer.bias.double() if bias else None
    )
    errors = {}
    for narrow in (True, False):
        monkeypatch.setattr(precision, "_narrow_is_quicker", lambda narrow=narrow: narrow)
        with torch.inference_mode():
            out = layer(x)
        assert out.dtype == torch.bfloat16
        errors[narrow] = float((out.double() - exact).square().mean())
    assert errors[False] <= errors[True] * 1.01


def test_training_is_not_widened() -> None:
    torch.manual_seed(0)
    layer = Linear(8, 8).to(torch.bfloat16)
    layer(torch.randn(200, 8).to(torch.bfloat16)).sum().backward()
    assert layer.weight.grad is not None
