"""Updates from CUDA graphs equal others, and a gradient that is not finite changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nsa_models.training.distributed import Processes
from nsa_models.training.optimizers import RATE_OF_PHI, make_optimizers
from nsa_models.training.parallel import ParallelModule
from nsa_models.training.pretrain_settings import OptimizerName, PretrainSettings
from nsa_models.training.update import Update

RATES = (0.01, 0.02, 0.03, 0.02)


class Toy(nn.Module):
    """Matrices of a layer, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = ((6, 6), (6, 6), (9, 4))
        self.layers = nn.ModuleList(
            nn.ParameterList(
                nn.Parameter(torch.randn(each, generator=generator)) for each in shapes
            )
            for _ in range(2)
        )
        self.norm = nn.Parameter(torch.ones(6))
        branches = nn.Module()
        branches.phi_k = nn.ParameterDict(
            {"weight": nn.Parameter(torch.randn(6, 6, generator=generator))}
        )
        self.layers.append(branches)


def trained(
    optimizer: OptimizerName, device: str, *, graphs: bool, broken: int | None = None
) -> tuple[list[Tensor], list[float], list[bool]]:
    """The parameters after some updates, the norms, and whether each update was made."""
    toy = Toy().to(device)
    settings = PretrainSettings(
        context=8, batch_tokens=8, tokens=8, optimizer=optimizer, cuda_graphs=graphs
    )
    module = ParallelModule(toy, toy.layers, Processes(), sharded=False)
    optimizers = make_optimizers(toy, settings, torch.device(device))
    update = Update(module, optimizers, settings.clip, graphs=graphs)
    gradients = [torch.zeros_like(p) for p in toy.parameters()]
    generator = torch.Generator().manual_seed(1)
    norms, made = [], []
    for step, rate in enumerate(RATES):
        for parameter, gradient in zip(toy.parameters(), gradients, strict=True):
            assert parameter.grad is None or not parameter.grad.any()
            gradient.copy_(torch.randn(gradient.shape, generator=generator))
            parameter.grad = gradient
        if step == broken:
            gradients[0][0] = torch.inf
        norm, finite = update.run(rate)
        norms.append(float(norm))
        made.append(finite)
    return [p.detach().cpu() for p in toy.parameters()], norms, made


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("broken", [None, 1])
def test_a_gradient_that_is_not_finite_changes_nothing(
    optimizer: OptimizerName, broken: int | None
) -> None:
    values, norms, made = trained(optimizer, "cpu", graphs=False, broken=broken)
    assert made == [step != broken for step in range(len(RATES))]
    assert all(value.isfinite().all() for value in values)
    assert [norm == float("inf") for norm in norms] == [not each for each in made]
    kept, _, _ = trained(optimizer, "cpu", graphs=True, broken=broken)
    assert all(torch.equal(one, other) for one, other in zip(kept, values, strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_phi_learns_at_its_share_of_the_rate(optimizer: OptimizerName) -> None:
    toy = Toy()
    settings = PretrainSettings(
        context=8, batch_tokens=8, tokens=8, optimizer=optimizer, weight_decay=0.0, clip=1e9
    )
    module = ParallelModule(toy, toy.layers, Processes(), sharded=False)
    update = Update(module, make_optimizers(toy, settings, torch.device("cpu")), 1e9, graphs=False)
    named = dict(toy.named_parameters())
    matrices = tuple(named[name] for name in ("layers.0.0", "layers.2.phi_k.weight"))
    before = [matrix.detach().clone() for matrix in matrices]
    for parameter in toy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    gradient = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    for matrix in matrices:
        matrix.grad = gradient.clone()
    update.run(0.01)
    usual, of_phi = (matrix - old for matrix, old in zip(matrices, before, strict=True))
    torch.testing.assert_close(of_phi, RATE_OF_PHI * usual, rtol=1e-4, atol=1e-6)
    assert usual.abs().min() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("broken", [None, 2])
def test_updates_from_graphs_equal_others(optimizer: OptimizerName, broken: int | None) -> None:
    values, norms, made = trained(optimizer, "cuda", graphs=False, broken=broken)
    found, found_norms, found_made = trained(optimizer, "cuda", graphs=True, broken=broken)
    assert made == found_made
    assert norms == pytest.approx(found_norms, rel=1e-6)
    for one, other in zip(found, values, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
