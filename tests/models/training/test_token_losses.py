"""Compiled parts of a model compute the same losses and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.initial import initial_model
from nsa_models.training.rows import IGNORED, PackedBatch
from nsa_models.training.token_losses import TokenLosses, compile_parts

CPU = torch.device("cpu")
Config = Callable[..., NSAConfig]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_parts_have_the_same_gradients_and_compile_once_for_all_layers(
    native_config: Config,
) -> None:
    config = native_config(branch_keys="separate", num_hidden_layers=4)
    losses = TokenLosses(initial_model(config, 0, CPU), 64)
    ids, targets = torch.randint(0, 63, (2, 1, 32))
    batch = PackedBatch(ids, targets.masked_fill(targets < 5, IGNORED), (20, 12))
    results = []
    compiled: list[torch.fx.GraphModule] = []

    def backend(module: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        compiled.append(module)
        return module

    torch._dynamo.reset()
    for compiles in (False, True):
        if compiles:
            compile_parts(losses, backend=backend)
        total, _ = losses(batch)
        total.backward()
        results.append((total.detach(), [p.grad for p in losses.parameters()]))
        losses.zero_grad(set_to_none=True)
    assert len(compiled) == 4  # norms, projections, the rest of a layer, softmax
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
