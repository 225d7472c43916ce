"""What is learned: the answers, the block selection of φ, and the evidence of a question.

Letters: L layers, H query heads, G key/value groups, R = H / G, P watched positions, S tokens,
C summaries, N selection blocks, D head dim.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, eqs. 8 to 10, for the
importance that φ is taught; the block's attention mass as its teacher is `InfLLM-v2`'s and ours.
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


class Learner(Protocol):
    """Makes summaries of keys: a φ, or what it is compared with."""

    block: int
    stride: int

    def __call__(self, k: Tensor, frequencies: Tensor) -> Tensor:
        """(B, G, S, D) to (B, G, C, D)."""


class Means(nn.Module):
    """Means of keys, which learn nothing: what a φ is compared with."""

    def __init__(self, block: int, stride: int) -> None:
        super().__init__()
        self.block, self.stride = block, stride
        self.settings = AttentionSettings(compress_block=block, compress_stride=stride)

    def forward(self, k: Tensor, frequencies: Tensor) -> Tensor:  # noqa: ARG002
        """(B, G, S, D) to (B, G, C, D)."""
        return mean_summaries(k, self.settings)


def block_mass(q: Tensor, k: Tensor, positions: Tensor, size: int) -> Tensor:
    """Causal attention mass of every selection block: (H, P, N), fp32.

    Args:
        q: (H, P, D) queries at `positions`, rotated.
        k: (G, S, D) keys, rotated.
        positions: (P,) of the queries.
        size: Tokens of a block.
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
    """What the summaries make of every selection block, summed over a group: (G, P, N), fp32.

    Args:
        q: (H, P, D) queries at `positions`, rotated.
        summaries: (G, C, D).
        positions: (P,) of the queries.
        block: Tokens of a summary.
        stride: Tokens between summaries.
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
    for strip in range(strips):  # the selection block that each strip of a summary lies in
        home = ((torch.arange(count, device=q.device) + strip) * stride) // size
        total = total.index_add(-1, home, probs / strips)
    summed: Tensor = total.sum(dim=1)
    return summed


def chosen_from(positions: Tensor, blocks: int, settings: AttentionSettings) -> Tensor:
    """Blocks that a query has to choose from: not forced, not in the window, (P, N)."""
    block = torch.arange(blocks, device=positions.device)
    current = (positions // settings.select_block)[:, None]
    return (block >= settings.init_blocks) & (block < current - settings.window_blocks)


def selection_loss(mass: Tensor, importance: Tensor, candidates: Tensor) -> Tensor:
    """How far importance is from the mass, among the blocks to choose from: a number.

    The Kullback-Leibler divergence up to the mass's own entropy, weighed by the square root of
    the mass that there is to be chosen.

    Args:
        mass: (G, P, N), summed over the heads of a group.
        importance: (G, P, N).
        candidates: (P, N).
    """
    wanted, got = mass * candidates, importance * candidates
    share = wanted / wanted.sum(dim=-1, keepdim=True).clamp(min=_TINY)
    logs = ((got + _TINY) / (got.sum(dim=-1, keepdim=True) + _TINY)).log()
    weight = (wanted.sum(dim=-1) / mass.sum(dim=-1)).sqrt()
    return -((share * logs).sum(dim=-1) * weight).sum() / weight.sum().clamp(min=_TINY)


def caught(mass: Tensor, importance: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Share of the mass to be chosen that the `count` best blocks hold: a number."""
    wanted = mass * candidates
    ranked = importance.masked_fill(~candidates, -1.0)
    best = ranked.topk(min(count, ranked.shape[-1]), dim=-1).indices
    return (wanted.gather(-1, best).sum() / wanted.sum().clamp(min=_TINY)).detach()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Positions at which a lesson's attention is looked at.

    Attributes:
        chosen: (P,) where φ is taught.
        ordinary: (I,) tokens of the instruction.
        asked: (A,) tokens of some questions, one after the other.
        question: (A,) which question each of these belongs to, counted from 0.
        evidence: For each question the blocks that bear its answer out.
        document: First block of the text that counts as evidence, and one past the last.
    """

    chosen: Tensor
    ordinary: Tensor
    asked: Tensor
    question: Tensor
    evidence: tuple[Tensor, ...]
    document: tuple[int, int]


class Probe:
    """Collects what the objectives need while the layers run.

    Args:
        watch: Where to look.
        settings: What is attended to.
        learners: For each layer the φs that are taught, by name.
        frequencies: (D / 2,) of the rotary embedding.
        weights: (L, H) of the heads' evidence, or None to look for none.
        background: How many times the instruction's attention counts as ordinary.
        turn: Every other layer is taught, the even or the odd ones by turns.
    """

    def __init__(
        self,
        watch: Watch,
        settings: AttentionSettings,
        learners: list[dict[str, Learner]],
        frequencies: Tensor,
        weights: Tensor | None,
        background: float,
        turn: int,
    ) -> None:
        self.watch, self.settings = watch, settings
        self.learners, self.frequencies = learners, frequencies
        self.weights, self.background, self.turn = weights, background, turn
        self.selection: dict[str, list[Tensor]] = {}
        self.caught: dict[str, list[Tensor]] = {}
        self._evidence: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor) -> None:
        """See a layer's queries (1, H, T, D) and keys (1, G, S, D)."""
        if self.learners and layer % 2 == self.turn % 2:
            self._teach(layer, q[0].detach(), k[0].detach())
        if self.weights is not None and self.watch.evidence:
            self._look(layer, q[0], k[0])

    def _teach(self, layer: int, q: Tensor, k: Tensor) -> None:
        positions, size = self.watch.chosen, self.settings.select_block
        with torch.no_grad():
            mass = block_mass(q[:, positions], k, positions, size)
            mass = mass.unflatten(0, (len(k), -1)).sum(dim=1)
        candidates = chosen_from(positions, mass.shape[-1], self.settings)
        count = (self.settings.select_count or 0) - self.settings.init_blocks
        for name, phi in self.learners[layer].items():
            summaries = phi(k[None], self.frequencies)[0]
            importance = block_importance(
                q[:, positions], summaries, positions, phi.block, phi.stride, size, mass.shape[-1]
            )
            loss = selection_loss(mass, importance, candidates)
            self.selection.setdefault(name, []).append(loss)
            self.caught.setdefault(name, []).append(caught(mass, importance, candidates, count))

    def _look(self, layer: int, q: Tensor, k: Tensor) -> None:
        assert self.weights is not None
        size, ordinary = self.settings.select_block, self.watch.ordinary
        usual = block_mass(q[:, ordinary], k, ordinary, size).mean(dim=1, keepdim=True)
        mass = block_mass(q[:, self.watch.asked], k, self.watch.asked, size)
        surplus = (mass - self.background * usual).clamp(min=0).square()  # (H, A, N)
        weighed = torch.einsum("h,han->an", self.weights[layer], surplus)
        scores = weighed.new_zeros(len(self.watch.evidence), weighed.shape[1])
        self._evidence.append(scores.index_add(0, self.watch.question, weighed))

    def evidence_loss(self) -> tuple[Tensor, Tensor]:
        """How little of the evidence lies where it should, and how often the best block does."""
        losses, hits = [], []
        first, stop = self.watch.document
        total = torch.stack(self._evidence).sum(dim=0)
        for scores, gold in zip(total, self.watch.evidence, strict=True):
            inside = scores[gold].sum()
            losses.append(-((inside + 1e-6) / (scores[first:stop].sum() + 1e-6)).log())
            best = scores[first:stop].argmax() + first
            hits.append((best == gold).any().float())
        return torch.stack(losses).mean(), torch.stack(hits).mean()
