"""PyTorch's Muon with the matrices of one shape orthogonalized at once.

`torch.optim.Muon` launches some 25 kernels for each matrix, and a model has hundreds of small ones:
of a step of 60 million parameters it takes as long as the passes.

Letters: G matrices of one shape, M rows, N columns.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al.
2025, "Muon is Scalable for LLM Training", arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_RMS_OF_ADAMW = 0.2
"""Root mean square of an update by AdamW at a learning rate of 1."""


class BatchedMuon(torch.optim.Muon):
    """Muon with Nesterov's momentum, at AdamW's learning rates.

    The state and the update are those of `torch.optim.Muon` with `match_rms_adamw`, up to rounding.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient.

        Args:
            closure: Not supported; None.

        Raises:
            ValueError: If `closure` is given.
        """
        if closure is not None:
            raise ValueError("BatchedMuon takes no closure")
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            momenta = [self._momentum(p) for p in parameters]
            torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
            updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))
            torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
            self._apply(parameters, updates, group)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        return momentum

    @staticmethod
    def _apply(parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        """Add the orthogonalized updates to the parameters."""
        by_shape: dict[torch.Size, list[int]] = {}
        for number, parameter in enumerate(parameters):
            by_shape.setdefault(parameter.shape, []).append(number)
        for shape, numbers in by_shape.items():
            moved = orthogonalized(
                torch.stack([updates[n] for n in numbers]),
                group["ns_coefficients"],
                group["ns_steps"],
                group["eps"],
            )
            same = [parameters[n] for n in numbers]
            scale = -group["lr"] * (_RMS_OF_ADAMW * max(shape) ** 0.5)  # a tensor in a CUDA graph
            torch._foreach_add_(same, list((moved.to(same[0].dtype) * scale).unbind()))


def orthogonalized(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, smallest: float
) -> Tensor:
    """Return matrices with nearly the same singular vectors and singular values near 1, in bf16.

    Newton-Schulz iterations of a polynomial of the fifth degree.

    Args:
        matrices: (G, M, N).
        coefficients: Of the polynomial's first, third and fifth power.
        steps: Number of iterations.
        smallest: Least norm to divide by.

    Returns:
        (G, M, N).
    """
    first, third, fifth = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=smallest)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first
        )
    return x.mT if tall else x
