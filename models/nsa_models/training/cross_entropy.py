"""Cross-entropy of the next token without the logits of all positions in memory.

The projection to logits, the softmax and their gradients are computed for one chunk of positions
at a time. The forward pass computes the gradients too, since it has the probabilities.

Letters: P positions, W width, V vocabulary.

Source: Hsu et al. 2024, "Liger Kernel", arXiv 2410.10989, section 3.2, for the gradients in the
forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nsa_models.training.rows import IGNORED

SoftmaxLosses = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (P, V) and targets (P,) to losses (P,) and gradients (P, V)."""


def chunked_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    chunk: int,
    dtype: torch.dtype,
    softmax: SoftmaxLosses | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses and each position's loss (P,), in fp32, in nats.

    Only the sum has gradients. Positions whose target is `IGNORED` have a loss of 0.

    Args:
        x: (P, W) the last layer's normalized output.
        weight: (V, W) the projection to logits.
        targets: (P,) the next tokens.
        chunk: Most positions whose logits are in memory.
        dtype: Precision of the matrix products.
        softmax: Compiled `softmax_losses`; None for the function itself.
    """
    total, losses = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        x, weight, targets, chunk, dtype, softmax or softmax_losses
    )
    return total, losses


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The losses, with gradients from the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        dtype: torch.dtype,
        softmax: SoftmaxLosses,
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, and the losses (P,)."""
        of_x, of_weight = ctx.needs_input_grad[:2]
        narrow = weight.detach().to(dtype)
        grad_x = torch.empty_like(x) if of_x else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        losses = torch.empty(len(x), dtype=torch.float32, device=x.device)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            rows = x[part].to(dtype)
            losses[part], grad = softmax(rows @ narrow.t(), targets[part])
            if grad_x is not None:
                grad_x[part] = grad @ narrow
            if grad_weight is not None:
                grad_weight += grad.t() @ rows
        ctx.save_for_backward(grad_x, grad_weight)
        ctx.dtypes = x.dtype, weight.dtype
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight."""
        grads = [
            None if grad is None else (grad * scale).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*grads, None, None, None, None)


def softmax_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses (P,) in fp32 and their gradients (P, V) for the logits (P, V)."""
    wide = logits.float()
    norm = wide.logsumexp(dim=-1)
    known = targets != IGNORED
    at = targets.clamp(min=0)[:, None]
    losses = torch.where(known, norm - wide.gather(1, at)[:, 0], 0.0)
    grad = (wide - norm[:, None]).exp_()
    # A comparison fuses with the exponential when compiled; a scatter would not.
    own = torch.arange(logits.shape[1], device=logits.device) == at
    grad = torch.where(own, grad - 1.0, grad)
    return losses, torch.where(known[:, None], grad, 0.0).to(logits.dtype)
