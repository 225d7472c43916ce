"""Training in several processes with one device each; accelerate averages the gradients."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nsa_models.errors import UsageError


class Processes:
    """The processes that `torchrun` or `accelerate launch` started, or this process alone.

    Attributes:
        count: Number of processes.
        number: Index of this process, from 0.
        device: Device of this process among several; None if it is alone and may choose.

    Args:
        cpu: Whether to train on CPUs.

    Raises:
        UsageError: If accelerate is not installed and several processes were started.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        self.count, self.number = 1, 0
        self.device: torch.device | None = None
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise UsageError(
                "several processes need the library accelerate, which is not installed",
                hint="install it with `pip install accelerate`",
            ) from error
        self._state = PartialState(cpu=cpu)
        self.count, self.number = self._state.num_processes, self._state.process_index
        self.device = self._state.device if self.count > 1 else None

    @property
    def first(self) -> bool:
        """Whether this process reports and saves for all."""
        return self.number == 0

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.count > 1:
            self._state.wait_for_everyone()

    def broadcast(self, value: float) -> float:
        """Return the first process's value."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(value, device=self.device)))

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the mean over the processes; a missing one counts as 0."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        grads: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
        mean = reduce(torch.cat([grad.flatten().float() for grad in grads]), reduction="mean")
        for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))
