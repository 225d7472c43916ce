"""The loss of the choice of blocks: its value, what it teaches, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_kernels.phi import mean_phi
from nsa_kernels.scoring import select_blocks
from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.config import NSAConfig
from nsa_models.training.choice_loss import choice_loss
from nsa_models.training.initial import initial_model
from nsa_models.training.rows import PackedBatch
from nsa_models.training.token_losses import TokenLosses

SETTINGS = AttentionSettings(
    compress_block=8, compress_stride=4, select_block=8, select_count=4, select_tile=1,
    score_stride=1, init_blocks=1, local_blocks=2, window=16, combine="gated",
)  # fmt: skip


def _by_loops(q: Tensor, k: Tensor, summary_k: Tensor, at: list[int]) -> float:
    """The loss of one row with the settings above, query by query."""
    heads, dim, groups = q.shape[1], q.shape[3], k.shape[1]
    each = heads // groups
    total = 0.0
    for t in at:
        free = list(range(1, t // 8 - 2))  # without the first, the window's and the own block
        for g in range(groups):
            mass, importance = torch.zeros(t // 8 + 1), torch.zeros(t // 8 + 1)
            for h in range(g * each, (g + 1) * each):
                dense = (k[0, g, : t + 1] @ q[0, h, t] / dim**0.5).softmax(0)
                complete = (t + 1 - 8) // 4 + 1 if t >= 7 else 0
                chosen = (summary_k[0, g, :complete] @ q[0, h, t] / dim**0.5).softmax(0)
                for block in free:
                    mass[block] += dense[8 * block : 8 * block + 8].sum() / each
                    for c in range(complete):
                        overlap = min(4 * c + 8, 8 * block + 8) - max(4 * c, 8 * block)
                        importance[block] += chosen[c] * max(0, overlap) / 4
            if free:
                share = importance[free] / importance[free].sum()
                total -= float((mass[free] * share.log()).sum())
    return total * (q.shape[2] // len(at)) / groups


@pytest.mark.parametrize("queries", [64, 16])
def test_the_loss_is_the_cross_entropy_of_blocks(queries: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, 64, 16, generator=generator)
    k = torch.randn(1, 2, 64, 16, generator=generator)
    summary_k = mean_phi(k, SETTINGS)
    step = 64 // queries
    expected = _by_loops(q, k, summary_k, list(range(step - 1, 64, step)))
    found = choice_loss(q, k, summary_k, SETTINGS, queries)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_summaries_learn_to_rank_the_block_with_the_matching_key() -> None:
    """A key that one query attends to is lost in the mean of its block until φ learns."""
    generator = torch.Generator().manual_seed(0)
    k = 3.0 * torch.randn(1, 1, 128, 16, generator=generator)
    q = torch.zeros(1, 1, 128, 16)
    matches = {90: 21, 100: 45, 110: 30, 120: 50, 127: 13}
    for query, key in matches.items():
        q[0, 0, query] = k[0, 0, key]
    summary_k = mean_phi(k, SETTINGS).requires_grad_()

    def found() -> int:
        chosen = select_blocks(q, summary_k.detach(), 128, SETTINGS)
        return sum(key // 8 in chosen[0, 0, query].tolist() for query, key in matches.items())

    before = found()
    optimizer = torch.optim.Adam([summary_k], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        choice_loss(q, k, summary_k, SETTINGS, 128).backward()
        optimizer.step()
    assert before < len(matches)
    assert found() == len(matches)


def _gradients(
    config: NSAConfig, batch: PackedBatch, **choice: Any
) -> tuple[float, dict[str, Tensor]]:
    losses = TokenLosses(initial_model(config, 0, torch.device("cpu")), 64, **choice)
    total, _ = losses(batch)
    total.backward()
    return float(total.detach()), {
        n: p.grad.clone() for n, p in losses.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("phi", [{}, {"compress_phi": "linear"}, {"branch_keys": "separate"}])
def test_it_changes_gradients_and_not_the_value(
    native_config: Callable[..., NSAConfig], phi: dict[str, Any]
) -> None:
    ids = torch.randint(0, 64, (2, 96), generator=torch.Generator().manual_seed(1))
    batch = PackedBatch(ids=ids, targets=ids.roll(-1, 1), lengths=(96, 96))
    config = native_config(**phi)
    value, plain = _gradients(config, batch)
    taught_value, taught = _gradients(config, batch, choice=1.0, choice_queries=96)
    assert taught_value == pytest.approx(value, rel=1e-6)
    changed = {name for name in plain if not torch.allclose(plain[name], taught[name], rtol=1e-3)}
    name = "model.model.layers.1.self_attn.q_proj.weight"
    assert name in changed
    assert "model.model.layers.1.self_attn.v_proj.weight" not in changed
    if phi.get("compress_phi") == "linear":
        assert "model.model.layers.1.self_attn.branches.phi_k.weight" in changed
    if "branch_keys" in phi:
        # The target is dense attention to the selection's keys, which learn nothing from it.
        assert "model.model.layers.1.self_attn.branches.compress.k_proj.weight" in changed
        assert "model.model.layers.1.self_attn.k_proj.weight" not in changed


def test_dense_attention_has_no_choice(native_config: Callable[..., NSAConfig]) -> None:
    ids = torch.randint(0, 64, (1, 96), generator=torch.Generator().manual_seed(1))
    batch = PackedBatch(ids=ids, targets=ids.roll(-1, 1), lengths=(96,))
    dense = native_config(combine="union", select_count=None, answer_select_count=None)
    value, plain = _gradients(dense, batch)
    same_value, same = _gradients(dense, batch, choice=1.0)
    assert same_value == value
    assert all(torch.equal(plain[name], same[name]) for name in plain)


def test_a_full_selection_is_a_selection_of_all_blocks(
    native_config: Callable[..., NSAConfig],
) -> None:
    ids = torch.randint(0, 64, (2, 96), generator=torch.Generator().manual_seed(1))
    batch = PackedBatch(ids=ids, targets=ids.roll(-1, 1), lengths=(96, 96))
    separate = {"branch_keys": "separate"}
    all_blocks = native_config(**separate, select_count=12)
    wanted = TokenLosses(initial_model(all_blocks, 0, torch.device("cpu")), 64)
    losses = TokenLosses(initial_model(native_config(**separate), 0, torch.device("cpu")), 64)
    sparse, sparse_each = losses(batch)
    losses.full = True
    total, each = losses(batch)
    wanted_total, wanted_each = wanted(batch)
    assert torch.allclose(each, wanted_each, rtol=1e-5)
    assert not torch.allclose(each, sparse_each, rtol=1e-3)
    total.backward()
    wanted_total.backward()
    for (name, p), other in zip(losses.named_parameters(), wanted.parameters(), strict=True):
        assert p.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(p.grad, other.grad, rtol=1e-3, atol=1e-4), name
    with torch.no_grad():  # a held-out loss is that of the sparse attention
        assert torch.allclose(losses(batch)[0], sparse)
