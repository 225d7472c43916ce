"""Updates by Muon for matrices of one shape at once equal those of PyTorch's Muon."""

from __future__ import annotations

import pytest
import torch

from nsa_models.training.muon import BatchedMuon, orthogonalized

SHAPES = ((24, 24), (24, 24), (24, 24), (40, 16), (40, 16), (16, 40), (3, 8))


def matrices(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def trained(kind: type[torch.optim.Muon], steps: int) -> tuple[list[torch.Tensor], dict]:
    parameters = [torch.nn.Parameter(x) for x in matrices(0)]
    optimizer = kind(parameters, lr=0.05, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for step in range(steps):
        for parameter, gradient in zip(parameters, matrices(step + 1), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return [p.detach() for p in parameters], optimizer.state_dict()


def test_updates_and_state_equal_those_of_pytorch() -> None:
    found, state = trained(BatchedMuon, 4)
    wanted, reference = trained(torch.optim.Muon, 4)
    for one, other, start in zip(found, wanted, matrices(0), strict=True):
        # Both compute in bf16 with products in different orders: some 2**-8 of the way moved.
        moved = float((other - start).norm())
        assert float((one - other).norm()) < 2e-2 * moved
    for number, values in reference["state"].items():
        torch.testing.assert_close(
            state["state"][number]["momentum_buffer"], values["momentum_buffer"]
        )
    assert state["param_groups"] == reference["param_groups"]


def test_a_parameter_without_a_gradient_stays() -> None:
    parameters = [torch.nn.Parameter(x) for x in matrices(0)]
    optimizer = BatchedMuon(parameters, lr=0.05)
    parameters[1].grad = matrices(1)[1]
    optimizer.step()
    for number, (parameter, start) in enumerate(zip(parameters, matrices(0), strict=True)):
        assert torch.equal(parameter.detach(), start) == (number != 1)


@pytest.mark.parametrize("shape", [(3, 12, 30), (2, 30, 12)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    result = orthogonalized(x, (3.4445, -4.775, 2.0315), 5, 1e-7)
    assert result.shape == x.shape
    values = torch.linalg.svdvals(result.float())
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


def test_no_closure() -> None:
    with pytest.raises(ValueError, match="closure"):
        BatchedMuon([torch.nn.Parameter(torch.ones(2, 2))]).step(lambda: 0.0)
