"""A model in one process, as replicas (DDP) or in shards (FSDP2) over several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.parallel import DistributedDataParallel

from nsa_models.training.distributed import Processes

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ParallelModule:
    """A module whose gradients are averaged over the processes.

    Args:
        module: The module, the same in every process, with the layers of its model.
        layers: The layers, which FSDP shards one by one.
        processes: The processes that train together.
        sharded: Whether to shard the parameters instead of replicating them.
    """

    def __init__(
        self, module: nn.Module, layers: nn.ModuleList, processes: Processes, *, sharded: bool
    ) -> None:
        self._plain, self._processes = module, processes
        self._called: nn.Module = module
        self._sharded = sharded and processes.count > 1
        if self._sharded:
            from torch.distributed.fsdp import fully_shard

            for layer in layers:
                fully_shard(layer)
            fully_shard(module)
        elif processes.count > 1:
            # For φ, see `fill_gradients`.
            self._called = DistributedDataParallel(module, find_unused_parameters=True)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self._plain.parameters()).device

    def __call__(self, *args: Any) -> Any:
        """Run the module."""
        return self._called(*args)

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Average gradients over the processes in the last pass of a step only."""
        if self._sharded:
            self._plain.set_requires_gradient_sync(last)  # type: ignore[operator]
        ddp = isinstance(self._called, DistributedDataParallel)
        with nullcontext() if last or not ddp else self._called.no_sync():  # type: ignore[operator]
            yield

    def clip(self, norm: float) -> Tensor:
        """Clip the gradients of all parameters to a norm; return the norm before."""
        total = nn.utils.clip_grad_norm_(self._plain.parameters(), norm)
        whole: Tensor = total.full_tensor() if hasattr(total, "full_tensor") else total
        return whole

    def fill_gradients(self) -> None:
        """Give a zero gradient to parameters without one, so that the optimizer has their state.

        φ has no gradient in a step whose documents are shorter than its block.
        """
        for parameter in self._plain.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def sum(self, value: Tensor) -> Tensor:
        """Return a tensor summed over the processes."""
        if self._processes.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def state(self, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
        """Return the whole state of model and optimizers on the CPU, by parameter name.

        Every process must call this; with shards, only the first gets the state.
        """
        return {
            "model": get_model_state_dict(self._plain, options=_WHOLE),
            # Before its first step, PyTorch would make a state whose step counts.
            "optimizers": [
                get_optimizer_state_dict(self._plain, each, options=_WHOLE)
                for each in optimizers
                if each.state
            ],
        }

    def load(self, state: dict[str, Any], optimizers: list[torch.optim.Optimizer]) -> None:
        """Load what `state` returned, in any number of processes."""
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self._plain, state["model"], options=whole)
        if not state["optimizers"]:  # saved before the first step
            return
        for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
            set_optimizer_state_dict(self._plain, optimizer, values, options=whole)
