"""Chunked cross-entropy equals PyTorch's, with its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nsa_models.training.cross_entropy import chunked_cross_entropy
from nsa_models.training.rows import IGNORED


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_losses_and_gradients_equal_those_of_all_logits(chunk: int) -> None:
    x, weight = torch.randn(23, 8).double(), torch.randn(40, 8).double()
    targets = torch.randint(0, 40, (23,))
    targets[[0, 9, 22]] = IGNORED
    ours = [each.clone().requires_grad_() for each in (x, weight)]
    theirs = [each.clone().requires_grad_() for each in (x, weight)]
    total, losses = chunked_cross_entropy(*ours, targets, chunk=chunk, dtype=torch.float64)
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
