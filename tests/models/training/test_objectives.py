"""The training losses against plain implementations of their definitions."""

from __future__ import annotations

import math

import torch

from nsa_kernels import reference
from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings
from nsa_models.training.objectives import (
    AttentionLosses,
    LossPositions,
    MeanCompression,
    block_importance,
    block_mass,
    candidate_blocks,
    mass_recall,
    selection_loss,
)
from nsa_models.weights.adapter import compression_like_mean

HEADS, GROUPS, LENGTH, DIM, SIZE = 4, 2, 70, 8, 16
FREQUENCIES = 1.0 / (10000.0 ** (torch.arange(0, DIM, 2) / DIM))


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.randn(HEADS, LENGTH, DIM), torch.randn(GROUPS, LENGTH, DIM)


def test_mass_is_the_sum_of_the_softmax_over_blocks() -> None:
    q, k = drawn()
    positions = torch.tensor([0, 15, 16, 69])
    mass = block_mass(q[:, positions], k, positions, SIZE)
    assert mass.shape == (HEADS, 4, 5)
    for head in range(HEADS):
        for row, position in enumerate(positions.tolist()):
            seen = k[head // 2, : position + 1] @ q[head, position] / math.sqrt(DIM)
            probs = seen.softmax(dim=0)
            for block in range(5):
                expected = probs[block * SIZE : (block + 1) * SIZE].sum()
                torch.testing.assert_close(mass[head, row, block], expected)


def test_importance_equals_the_reference_up_to_a_factor() -> None:
    q, k = drawn()
    settings = AttentionSettings(
        compress_block=8, compress_stride=4, select_block=SIZE, select_count=2, window=16
    )
    summaries = mean_summaries(k[None], settings)
    positions = torch.arange(20, LENGTH)
    got = block_importance(q[:, positions], summaries[0], positions, 8, 4, SIZE, 5)
    seen: list[torch.Tensor] = []
    original = reference.select

    def watching(importances: torch.Tensor, *arguments: object) -> torch.Tensor:
        seen.append(importances)
        return original(importances, *arguments)  # type: ignore[arg-type]

    reference.select = watching  # type: ignore[assignment]
    try:
        reference.nsa_reference(
            q[None], k[None], k[None], settings, summary_k=summaries, gates=None
        )
    finally:
        reference.select = original
    expected = seen[0][0][:, positions]
    count = min(expected.shape[-1], got.shape[-1])
    ratio = got[..., :count].sum(-1, keepdim=True) / expected[..., :count].sum(-1, keepdim=True)
    torch.testing.assert_close(got[..., :count], expected[..., :count] * ratio)


def test_forced_and_window_blocks_are_not_candidates() -> None:
    settings = AttentionSettings(select_block=SIZE, window=2 * SIZE)
    got = candidate_blocks(torch.tensor([3, 70, 100]), 7, settings)
    assert [row.nonzero().flatten().tolist() for row in got] == [[], [1], [1, 2, 3]]


def test_the_selection_loss_is_minimal_if_importance_equals_mass() -> None:
    torch.manual_seed(0)
    mass = torch.rand(2, 6, 9)
    candidates = torch.rand(6, 9) > 0.3
    start = torch.zeros(2, 6, 9, requires_grad=True)
    optimizer = torch.optim.Adam([start], lr=0.1)
    first = float(selection_loss(mass, start.detach().softmax(-1), candidates))
    for _ in range(300):
        optimizer.zero_grad()
        loss = selection_loss(mass, start.softmax(-1), candidates)
        loss.backward()
        optimizer.step()
    found = start.softmax(-1).detach() * candidates
    wanted = mass * candidates
    torch.testing.assert_close(
        found / found.sum(-1, keepdim=True), wanted / wanted.sum(-1, keepdim=True),
        rtol=0.02, atol=0.01,
    )  # fmt: skip
    assert float(loss.detach()) < first
    assert mass_recall(mass, mass, candidates, 9) == 1.0
    best = float(mass_recall(mass, mass, candidates, 2))
    assert float(mass_recall(mass, -mass + 2, candidates, 2)) < best < 1.0


def test_losses_of_alternating_layers() -> None:
    q, k = drawn()
    settings = AttentionSettings(select_block=SIZE, select_count=3, window=16)
    phi = compression_like_mean(8, 8, DIM, 4)
    positions = LossPositions(
        selection=torch.tensor([40, 50, 69]),
        instruction=torch.tensor([55, 56]),
        questions=torch.tensor([60, 61, 65]),
        question_index=torch.tensor([0, 0, 1]),
        evidence=(torch.tensor([1]), torch.tensor([2, 3])),
        document=(1, 4),
    )
    weights = torch.rand(2, HEADS)
    phis: list[dict[str, object]] = [{"phi": phi, "means": MeanCompression(8, 8)} for _ in range(2)]
    losses = AttentionLosses(positions, settings, phis, FREQUENCIES, weights, 2.0, 1)  # type: ignore[arg-type]
    for layer in range(2):
        losses(layer, q[None], k[None])
    assert [len(losses.selection[name]) for name in ("phi", "means")] == [1, 1]
    torch.testing.assert_close(losses.selection["phi"][0], losses.selection["means"][0])
    losses.selection["phi"][0].backward()
    assert phi.outer.weight.grad is not None
    assert phi.outer.weight.grad.abs().sum() > 0

    loss, hits = losses.retrieval_loss()
    baseline = block_mass(q[:, positions.instruction], k, positions.instruction, SIZE).mean(
        1, keepdim=True
    )
    total, found = 0.0, 0.0
    for positions, gold in (([60, 61], [1]), ([65], [2, 3])):
        at = torch.tensor(positions)
        surplus = (block_mass(q[:, at], k, at, SIZE) - 2 * baseline).clamp(min=0).square()
        scores = (surplus.sum(1) * weights.sum(0)[:, None]).sum(0)
        total -= math.log((scores[gold].sum() + 1e-6) / (scores[1:4].sum() + 1e-6))
        found += int(scores[1:4].argmax()) + 1 in gold
    torch.testing.assert_close(float(loss), total / 2)
    assert float(hits) == found / 2
