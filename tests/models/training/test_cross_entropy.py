"""Chunked cross-entropy equals PyTorch's, with its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nsa_models.training.cross_entropy import chunked_cross_entropy
from nsa_models.training.rows import IGNORED


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_losses_and_gradients_equal_those_of_all_logits(chunk: int) -> None:
    x, weight = torch.randn(23, 8).double(), torch.randn(40, 8).double()
    targets = torch.randint(0, 40, (23,))
    targets[[0, 9, 22]] = IGNORED
    ours = [each.clone().requires_grad_() for each in (x, weight)]
    theirs = [each.clone().requires_grad_() for each in (x, weight)]
    total, losses = chunked_cross_entropy(
        ours[0], ours[1], targets, chunk=chunk, dtype=torch.float64
    )
    wanted = F.cross_entropy(theirs[0] @ theirs[1].t(), targets, reduction="none")
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)
    (total * 3).backward()
    (wanted.sum() * 3).backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_without_gradients_only_losses_are_computed() -> None:
    x, weight = torch.randn(5, 8), torch.randn(40, 8)
    total, losses = chunked_cross_entropy(x, weight, torch.arange(5), chunk=2, dtype=torch.float32)
    assert not total.requires_grad
    torch.testing.assert_close(total, losses.sum())


class Largest(TorchDispatchMode):
    """The elements of the largest tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in torch.utils._pytree.tree_leaves(out):
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return out


def test_the_logits_of_all_positions_are_never_in_memory() -> None:
    positions, vocabulary, width, chunk = 96, 500, 8, 12
    x = torch.randn(positions, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    targets = torch.randint(0, vocabulary, (positions,))
    with Largest() as largest:
        total, _ = chunked_cross_entropy(x, weight, targets, chunk=chunk, dtype=torch.float32)
        total.backward()
    assert largest.elements == chunk * vocabulary  # more than x and weight have


def test_products_in_bf16_have_gradients_near_those_in_fp64() -> None:
    x, weight = torch.randn(40, 16), torch.randn(300, 16) * 0.3
    targets = torch.randint(0, 300, (40,))
    narrow = [each.clone().requires_grad_() for each in (x, weight)]
    wide = [each.double().requires_grad_() for each in (x, weight)]
    total, _ = chunked_cross_entropy(narrow[0], narrow[1], targets, chunk=16, dtype=torch.bfloat16)
    wanted = F.cross_entropy(wide[0] @ wide[1].t(), targets, reduction="sum")
    total.backward()
    wanted.backward()
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=5e-3)
    for one, other in zip(narrow, wide, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.dtype == torch.float32
        error = (one.grad.double() - other.grad).norm() / other.grad.norm()
        assert float(error) < 2e-2
