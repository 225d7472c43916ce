"""Passes on static inputs equal passes on the batches themselves, with their gradients.

On a CPU no graph is captured: the inputs and layouts are the same, and each pass is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.initial import initial_model
from nsa_models.training.pass_graphs import PassGraphs
from nsa_models.training.rows import IGNORED, PackedBatch
from nsa_models.training.token_losses import TokenLosses, compile_parts

CPU = torch.device("cpu")
Config = Callable[..., NSAConfig]


def batch_of(*lengths: int, rows: int = 1) -> PackedBatch:
    """Rows of documents of the given lengths with random tokens."""
    tokens = sum(lengths) // rows
    ids, targets = torch.randint(0, 63, (2, rows, tokens))
    return PackedBatch(ids, targets.masked_fill(targets < 5, IGNORED), lengths)


def gradients(losses: TokenLosses) -> dict[str, Tensor]:
    """The gradients by name, which are then removed."""
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in losses.named_parameters()
    }
    losses.zero_grad(set_to_none=True)
    return found


def eager(losses: TokenLosses, batches: list[PackedBatch]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the losses of several passes, and the gradients of its half."""
    total = torch.zeros((), device=losses.model.device)
    for batch in batches:
        loss, _ = losses(batch)
        (loss * 0.5).backward()
        total += loss.detach()
    return total, gradients(losses)


@pytest.mark.parametrize("kind", ["gated", "dense"])
def test_passes_of_whole_rows_equal_eager_ones_to_the_bit(native_config: Config, kind: str) -> None:
    dense = {"combine": "union", "select_count": None, "answer_select_count": None}
    config = native_config(**(dense if kind == "dense" else {}))
    losses = TokenLosses(initial_model(config, 0, CPU), 16)
    batches = [batch_of(24), batch_of(40), batch_of(24), batch_of(24, 24, rows=2)]
    wanted, wanted_gradients = eager(losses, batches)
    graphs = PassGraphs(losses)
    for _ in range(2):  # the second step meets gradients that were removed
        assert all(graphs.run(batch, 0.5) for batch in batches)
        assert torch.equal(graphs.take_total(), wanted)
        for name, found in gradients(losses).items():
            assert torch.equal(found, wanted_gradients[name]), name
    assert graphs.take_total() == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 8},
        pytest.param({}, marks=pytest.mark.long),
        pytest.param({"compress_phi": "linear"}, marks=pytest.mark.long),
    ],
    ids=["separate", "mean", "linear"],
)
def test_passes_of_packed_documents_equal_a_call_for_each(
    native_config: Config, changes: dict[str, object]
) -> None:
    pytest.importorskip("triton")
    blocks = {"select_block": 16, "window": 16, "num_hidden_layers": 1}
    losses = TokenLosses(initial_model(native_config(**blocks, **changes), 0, CPU), 64)
    batches = [batch_of(9, 3, 20), batch_of(1, 20, 10, 1), batch_of(15, 17)]
    wanted, wanted_gradients = eager(losses, batches)
    graphs = PassGraphs(losses, packed=True)
    assert all(graphs.run(batch, 0.5) for batch in batches)
    assert len(graphs._layouts) == 2  # four documents, and two
    torch.testing.assert_close(graphs.take_total(), wanted, rtol=1e-4, atol=1e-4)
    for name, found in gradients(losses).items():
        assert found.isfinite().all(), name
        torch.testing.assert_close(found, wanted_gradients[name], rtol=2e-3, atol=2e-4)


def test_rows_without_a_layout_are_left_to_the_caller(native_config: Config) -> None:
    losses = TokenLosses(initial_model(native_config(), 0, CPU), 16)
    graphs = PassGraphs(losses)
    assert not graphs.run(batch_of(10, 14), 1.0)
    assert graphs.run(batch_of(24), 1.0)
    many = PassGraphs(losses, packed=True)
    assert not many.run(batch_of(*[1] * 65), 1.0)
    assert all(not graph.any() for graph in (many.take_total(),))


def test_layouts_have_bounds_of_documents_and_lengths(native_config: Config) -> None:
    losses = TokenLosses(initial_model(native_config(), 0, CPU), 16)
    graphs = PassGraphs(losses, packed=True)
    shapes = [graphs._shape(batch_of(*n)) for n in ((5, 6, 1), (7, 8, 9, 9), (30, 3), (33,))]
    assert shapes == [(1, 12, 4, 8), (1, 33, 4, 16), (1, 33, 2, 32), (1, 33)]
    assert replace(batch_of(4), lengths=(3, 1)).whole is False


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """The relative error of each gradient."""
    return {
        name: float((found[name].cpu() - each).norm() / each.norm()) for name, each in exact.items()
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of PyTorch's compiler itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("compiled", [False, True])
def test_replayed_passes_are_as_exact_as_eager_ones(native_config: Config, compiled: bool) -> None:
    """Both round to bf16, in other places if compiled, so neither is the measure of the other.

    The gradients of φ of keys are small sums of large terms, since what all keys of a query share
    has no effect on the softmax. Rounding changes them by up to 3 %, others by about 1 %. Each
    query selects all blocks, so that rounding does not change the selection.
    """
    device = torch.device("cuda")
    changes = {"branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 16}
    config = native_config(**changes, select_block=16, window=16)
    shapes = [(64,), (20, 40, 4), (64,), (30, 30, 4), (64,), (9, 9, 40, 6)]
    exact_batches = [batch_of(*each) for each in shapes]
    _, exact = eager(TokenLosses(initial_model(config, 0, CPU), 64), exact_batches)
    batches = [batch.to(device) for batch in exact_batches]
    losses = TokenLosses(initial_model(config, 0, device), 64)
    wanted, rounded = eager(losses, batches)
    allowed = errors(rounded, exact)
    if compiled:
        compile_parts(losses)
    graphs = PassGraphs(losses)
    for _ in range(2):
        assert all(graphs.run(batch, 0.5) for batch in batches)
        torch.testing.assert_close(graphs.take_total(), wanted, rtol=1e-2, atol=1e-2)
        got = errors(gradients(losses), exact)
        assert sum(got.values()) <= 1.25 * sum(allowed.values())
        for name, error in got.items():
            # One of few numbers may be twice as far off by chance; a wrong one is off by its size.
            assert error <= 4 * allowed[name] + 2**-8, name
    assert any(layout.graph is not None for layout in graphs._layouts.values())
