"""The update of a step: clipped gradients, optimizers, and gradients of zero for the next step.

A model with three branches has some 300 parameters, for which the host takes longer than the
device. With CUDA graphs two launches replace theirs: one for the norm, whose value the host waits
for, and one for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nsa_models.training.parallel import ParallelModule


class Update:
    """Updates the parameters of a module from their gradients.

    Args:
        module: The module.
        optimizers: Optimizers of its parameters, by `make_optimizers`; capturable with `graphs`.
        clip: Maximum norm of the gradient.
        graphs: Whether to replay updates from CUDA graphs. Gradients then stay in their memory.
    """

    def __init__(
        self,
        module: ParallelModule,
        optimizers: list[torch.optim.Optimizer],
        clip: float,
        *,
        graphs: bool,
    ) -> None:
        self._module, self._optimizers, self._clip = module, optimizers, clip
        self._keep = graphs
        device = module.device
        self._graphs = graphs and device.type == "cuda"
        self._device = device
        shares = {group["rate_share"] for each in optimizers for group in each.param_groups}
        self._rates = {share: torch.zeros((), device=device) for share in shares}
        self._norm: Tensor | None = None
        self._captured: list[torch.cuda.CUDAGraph] = []
        self._uses = 0

    def run(self, rate: float) -> tuple[Tensor, bool]:
        """Update the parameters unless the gradient is not finite, and remove the gradients.

        Args:
            rate: Learning rate.

        Returns:
            The norm () of the gradient before clipping, and whether the parameters were updated.
        """
        for share, value in self._rates.items():
            value.fill_(share * rate)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                share = group["rate_share"]
                group["lr"] = self._rates[share] if self._graphs else share * rate
        self._uses += 1
        if self._graphs and self._uses == 2:
            # The first update has made the optimizers' states.
            self._captured = [self._capture(self._measure), self._capture(self._apply)]
        if not self._captured:
            self._measure()
        else:
            self._captured[0].replay()
        assert self._norm is not None
        norm = self._norm.clone()
        finite = bool(norm.isfinite())
        if not finite:
            self._clear()
        elif self._captured:
            self._captured[1].replay()
        else:
            self._apply()
        return norm, finite

    def _measure(self) -> None:
        """Clip the gradients."""
        norm = self._module.clip(self._clip)
        if self._norm is None:
            self._norm = norm
        elif self._norm is not norm:
            self._norm.copy_(norm)

    def _apply(self) -> None:
        """Update the parameters, and remove the gradients."""
        self._module.fill_gradients()
        for optimizer in self._optimizers:
            optimizer.step()
        self._clear()

    def _clear(self) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=not self._keep)

    def _capture(self, part: Callable[[], Any]) -> torch.cuda.CUDAGraph:
        """Capture a part without computing it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, stream=torch.cuda.Stream(self._device), capture_error_mode="thread_local"
        ):
            part()
        return graph
