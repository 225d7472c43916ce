"""Low-rank changes of a model's projections that are switched on for some tokens alone.

The tokens before keep the keys and values of the model without the changes, so that a text is
prefilled once for both.

Letters: r rank, I inputs, O outputs.

Source: Hu et al. 2022, "LoRA", arXiv 2106.09685; Greenewald et al. 2025, "Activated LoRA",
arXiv 2504.12397, for changes that act from a question on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_models.errors import ModelError

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Names of the projections that get a change."""


class LowRankChanges:
    """Changes of a model's projections, off until `active` switches them on.

    Args:
        model: The model; its projections get hooks and are otherwise unchanged.
        matrices: `PATH.a` (r, I) and `PATH.b` (O, r) of each changed projection.
        scale: Multiplier of the changes.

    Raises:
        ModelError: With code `adapter_mismatch` if the changes belong to another model.
    """

    def __init__(self, model: nn.Module, matrices: Mapping[str, Tensor], scale: float) -> None:
        self.matrices = dict(matrices)
        self.scale = scale
        self._active = False
        modules = dict(model.named_modules())
        for name in sorted(self.matrices):
            path, _, side = name.rpartition(".")
            if side == "a":
                module = modules.get(path)
                _check(module, path, self.matrices)
                assert module is not None
                module.register_forward_hook(self._hook(path))

    def _hook(self, path: str) -> Any:
        def changed(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self._active:
                return None
            x, a, b = inputs[0], self.matrices[f"{path}.a"], self.matrices[f"{path}.b"]
            if not torch.is_autocast_enabled(x.device.type):
                x = x.to(a.dtype)
            change: Tensor = F.linear(F.linear(x, a), b)
            return output + (change * self.scale).to(output.dtype)

        return changed

    @contextmanager
    def active(self) -> Iterator[None]:
        """Switch the changes on."""
        before, self._active = self._active, True
        try:
            yield
        finally:
            self._active = before


def _check(module: nn.Module | None, path: str, matrices: Mapping[str, Tensor]) -> None:
    """Raise `ModelError` unless a module exists and has the sizes of its change."""
    a, b = matrices[f"{path}.a"], matrices.get(f"{path}.b")
    weight = getattr(module, "weight", None)
    if weight is None or b is None or tuple(weight.shape) != (b.shape[0], a.shape[1]):
        raise ModelError(
            f"the low-rank changes do not belong to this model: {path} differs",
            code="adapter_mismatch",
        )


def new_matrices(model: nn.Module, rank: int, seed: int) -> dict[str, nn.Parameter]:
    """Return matrices to train, whose change is zero: `PATH.a` (r, I), `PATH.b` (O, r), fp32.

    Args:
        model: The model.
        rank: r.
        seed: Of the random matrices.
    """
    generator = torch.Generator().manual_seed(seed)
    matrices: dict[str, nn.Parameter] = {}
    for path, module in model.named_modules():
        if path.rpartition(".")[2] not in TARGETS or not isinstance(module, nn.Linear):
            continue
        outputs, inputs = module.weight.shape
        bound = 1 / math.sqrt(inputs)
        a = (torch.rand(rank, inputs, generator=generator) * 2 - 1) * bound
        b = torch.zeros(outputs, rank)
        device = module.weight.device
        matrices[f"{path}.a"] = nn.Parameter(a.to(device))
        matrices[f"{path}.b"] = nn.Parameter(b.to(device))
    return matrices
