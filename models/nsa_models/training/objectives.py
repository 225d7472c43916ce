"""Losses of the block selection by φ and of the retrieval heads.

Letters: L layers, H query heads, G key/value groups, R = H / G, P positions, S tokens,
C summaries, N selection blocks, D head dim.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, eqs. 8 to 10, for the
importance of a block. Its attention mass is the training target, as in InfLLM-v2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings

_TINY = 1e-9


class KeyCompression(Protocol):
    """Compresses keys: a φ or a baseline."""

    block: int
    stride: int

    def __call__(self, k: Tensor, frequencies: Tensor) -> Tensor:
        """Compress keys (B, G, S, D) to (B, G, C, D)."""


class MeanCompression(nn.Module):
    """Means of keys without parameters, the baseline of a φ."""

    def __init__(self, block: int, stride: int) -> None:
        super().__init__()
        self.block, self.stride = block, stride
        self.settings = AttentionSettings(compress_block=block, compress_stride=stride)

    def forward(self, k: Tensor, frequencies: Tensor) -> Tensor:  # noqa: ARG002
        """Compress keys (B, G, S, D) to (B, G, C, D)."""
        return mean_summaries(k, self.settings)


def block_mass(q: Tensor, k: Tensor, positions: Tensor, size: int) -> Tensor:
    """Return the causal attention mass of every selection block: (H, P, N), fp32.

    Args:
        q: (H, P, D) rotated queries at `positions`.
        k: (G, S, D) rotated keys.
        positions: (P,) positions of the queries.
        size: Tokens of a selection block.
    """
    groups, length, dim = k.shape
    scores = q.unflatten(0, (groups, -1)).flatten(1, 2) @ k.transpose(1, 2)  # (G, R * P, S)
    scores = scores.float().unflatten(1, (-1, len(positions))) / math.sqrt(dim)
    later = torch.arange(length, device=k.device) > positions[:, None]
    probs = scores.masked_fill(later, float("-inf")).softmax(dim=-1).flatten(0, 1)
    blocks = -(-length // size)
    mass: Tensor = F.pad(probs, (0, blocks * size - length)).unflatten(-1, (blocks, size)).sum(-1)
    return mass


def block_importance(
    q: Tensor, summaries: Tensor, positions: Tensor, block: int, stride: int, size: int, blocks: int
) -> Tensor:
    """Return each selection block's importance, summed over a group: (G, P, N), fp32.

    Args:
        q: (H, P, D) rotated queries at `positions`.
        summaries: (G, C, D) compressed keys.
        positions: (P,) positions of the queries.
        block: Tokens of a compression block.
        stride: Tokens between the starts of compression blocks.
        size: Tokens of a selection block.
        blocks: N.
    """
    groups, count, dim = summaries.shape
    scores = q.unflatten(0, (groups, -1)).flatten(1, 2) @ summaries.transpose(1, 2)
    scores = scores.float().unflatten(1, (-1, len(positions))) / math.sqrt(dim)
    ends = torch.arange(count, device=q.device) * stride + block - 1
    hidden = ends > positions[:, None]
    probs = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1).nan_to_num()
    total: Tensor = probs.new_zeros(*probs.shape[:-1], blocks)
    strips = block // stride
    for strip in range(strips):  # the selection block of each strip of a compression block
        target = ((torch.arange(count, device=q.device) + strip) * stride) // size
        total = total.index_add(-1, target, probs / strips)
    summed: Tensor = total.sum(dim=1)
    return summed


def candidate_blocks(positions: Tensor, blocks: int, settings: AttentionSettings) -> Tensor:
    """Return the blocks that a query ranks, neither forced nor in the window: (P, N), bool."""
    block = torch.arange(blocks, device=positions.device)
    current = (positions // settings.select_block)[:, None]
    return (block >= settings.init_blocks) & (block < current - settings.window_blocks)


def selection_loss(mass: Tensor, importance: Tensor, candidates: Tensor) -> Tensor:
    """Return the cross-entropy of the importance with the mass as target, over the candidates.

    Each position is weighted by the square root of the candidates' share of its mass. The loss
    is the Kullback-Leibler divergence up to the constant entropy of the mass.

    Args:
        mass: (G, P, N) mass, summed over the heads of a group.
        importance: (G, P, N).
        candidates: (P, N).
    """
    target, estimate = mass * candidates, importance * candidates
    share = target / target.sum(dim=-1, keepdim=True).clamp(min=_TINY)
    logs = ((estimate + _TINY) / (estimate.sum(dim=-1, keepdim=True) + _TINY)).log()
    weight = (target.sum(dim=-1) / mass.sum(dim=-1)).sqrt()
    return -((share * logs).sum(dim=-1) * weight).sum() / weight.sum().clamp(min=_TINY)


def mass_recall(mass: Tensor, importance: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the share of the candidates' mass in the `count` most important ones."""
    target = mass * candidates
    ranked = importance.masked_fill(~candidates, -1.0)
    best = ranked.topk(min(count, ranked.shape[-1]), dim=-1).indices
    return (target.gather(-1, best).sum() / target.sum().clamp(min=_TINY)).detach()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPositions:
    """Positions of an example whose attention enters the losses.

    Attributes:
        selection: (P,) positions of the selection loss.
        instruction: (I,) tokens of the instruction.
        questions: (A,) tokens of the drawn questions, concatenated.
        question_index: (A,) the question of each token in `questions`, from 0.
        evidence: Evidence blocks of each question.
        document: First block of the text that is scored, and one past the last.
    """

    selection: Tensor
    instruction: Tensor
    questions: Tensor
    question_index: Tensor
    evidence: tuple[Tensor, ...]
    document: tuple[int, int]


class AttentionLosses:
    """Computes the losses of φ and of the retrieval heads while the layers run.

    Args:
        positions: Positions that enter the losses.
        settings: Attention settings.
        phis: The trained φs of each layer, by name.
        frequencies: (D / 2,) inverse frequencies of the rotary embedding.
        weights: (L, H) retrieval-head weights, or None for no retrieval-head loss.
        background: Multiple of the instruction's attention that is subtracted as background.
        step: Number of the step: even and odd layers alternate in the selection loss.

    Attributes:
        selection: Selection losses by the name of φ, one per layer.
        recall: Shares of the mass in the selected blocks by the name of φ, one per layer.
    """

    def __init__(
        self,
        positions: LossPositions,
        settings: AttentionSettings,
        phis: list[dict[str, KeyCompression]],
        frequencies: Tensor,
        weights: Tensor | None,
        background: float,
        step: int,
    ) -> None:
        self.positions, self.settings = positions, settings
        self.phis, self.frequencies = phis, frequencies
        self.weights, self.background, self.step = weights, background, step
        self.selection: dict[str, list[Tensor]] = {}
        self.recall: dict[str, list[Tensor]] = {}
        self._scores: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor) -> None:
        """Add the losses of a layer with queries (1, H, T, D) and keys (1, G, S, D)."""
        if self.phis and layer % 2 == self.step % 2:
            self._add_selection(layer, q[0].detach(), k[0].detach())
        if self.weights is not None and self.positions.evidence:
            self._add_retrieval(layer, q[0], k[0])

    def _add_selection(self, layer: int, q: Tensor, k: Tensor) -> None:
        positions, size = self.positions.selection, self.settings.select_block
        with torch.no_grad():
            mass = block_mass(q[:, positions], k, positions, size)
            mass = mass.unflatten(0, (len(k), -1)).sum(dim=1)
        candidates = candidate_blocks(positions, mass.shape[-1], self.settings)
        count = (self.settings.select_count or 0) - self.settings.init_blocks
        for name, phi in self.phis[layer].items():
            summaries = phi(k[None], self.frequencies)[0]
            importance = block_importance(
                q[:, positions], summaries, positions, phi.block, phi.stride, size, mass.shape[-1]
            )
            loss = selection_loss(mass, importance, candidates)
            self.selection.setdefault(name, []).append(loss)
            recall = mass_recall(mass, importance, candidates, count)
            self.recall.setdefault(name, []).append(recall)

    def _add_retrieval(self, layer: int, q: Tensor, k: Tensor) -> None:
        assert self.weights is not None
        size, at = self.settings.select_block, self.positions
        base = block_mass(q[:, at.instruction], k, at.instruction, size).mean(dim=1, keepdim=True)
        mass = block_mass(q[:, at.questions], k, at.questions, size)
        surplus = (mass - self.background * base).clamp(min=0).square()  # (H, A, N)
        weighted = torch.einsum("h,han->an", self.weights[layer], surplus)
        scores = weighted.new_zeros(len(at.evidence), weighted.shape[1])
        self._scores.append(scores.index_add(0, at.question_index, weighted))

    def retrieval_loss(self) -> tuple[Tensor, Tensor]:
        """Return the retrieval heads' cross-entropy with the evidence and their hit rate at 1."""
        losses, hits = [], []
        first, stop = self.positions.document
        total = torch.stack(self._scores).sum(dim=0)
        for scores, gold in zip(total, self.positions.evidence, strict=True):
            inside = scores[gold].sum()
            losses.append(-((inside + 1e-6) / (scores[first:stop].sum() + 1e-6)).log())
            best = scores[first:stop].argmax() + first
            hits.append((best == gold).any().float())
        return torch.stack(losses).mean(), torch.stack(hits).mean()
