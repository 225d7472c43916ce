"""Dense attention of a question to a long text, and the mass of each block, in one pass on a CPU.

The few queries stay in the CPU's caches while keys and values are read once, a few thousand at a
time. Keys are not copied per head. The scores of one or a few tokens fit the caches, so they have
one softmax. Those of more tokens are never in memory all at once: each part of the keys has a
separate softmax, and the parts are merged at the end.

Letters: B batch, T query tokens, S key tokens, H query heads, G key/value groups, R = H / G,
D head dim, N blocks, K keys of a part, P parts.

Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax",
arXiv 1805.02867; Dao et al. 2022, "FlashAttention", arXiv 2205.14135.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SCORES_AT_ONCE = 2**21
"""Scores in memory at once, over all heads and queries: 8 MB."""

_KEYS_AT_ONCE = 2**12
"""Most keys of one part: 1 MB per group in fp32. A core with AVX2 took 7.2 ms for a query over
23,000 tokens, 8.5 with twice as many and 10 with a quarter."""


def dense_with_mass(q: Tensor, k: Tensor, v: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Causal attention to every key, and the probability mass of each block of keys.

    Products are at least in fp32, since so few rows gain nothing from lower precision.

    Args:
        q: (B, H, T, D), the last T of S positions.
        k: (B, G, S, D).
        v: (B, G, S, D).
        size: Tokens of a block.

    Returns:
        Output (B, H, T, D) in the type of `q`, and mass (B, H, T, N) in fp32.
    """
    (batch, heads, queries), (groups, seq_len) = q.shape[:3], k.shape[1:3]
    wide = torch.promote_types(q.dtype, torch.float32)
    rows = (q.to(wide) / math.sqrt(q.shape[3])).reshape(batch, groups, -1, q.shape[3])
    if batch * heads * queries * seq_len <= _SCORES_AT_ONCE:
        return _in_one_softmax(q, rows, k, v, size)
    step = min(_SCORES_AT_ONCE // (batch * heads * queries), _KEYS_AT_ONCE)
    step = max(1, step // size) * size
    position = torch.arange(seq_len - queries, seq_len, device=q.device)
    position = position.repeat(heads // groups)[:, None]
    tops, outs, masses = [], [], []
    for start in range(0, seq_len, step):
        stop = min(start + step, seq_len)
        scores = rows @ k[:, :, start:stop].to(wide).transpose(2, 3)  # (B, G, R * T, K)
        if stop > seq_len - queries + 1:
            future = torch.arange(start, stop, device=q.device) > position
            scores.masked_fill_(future, float("-inf"))
        # A query may see no key of a part; its highest score must still be finite.
        top = scores.amax(dim=3, keepdim=True).clamp(min=torch.finfo(wide).min)
        scores.sub_(top).exp_()
        tops.append(top)
        outs.append(scores @ v[:, :, start:stop].to(wide))
        whole = F.pad(scores, (0, -(stop - start) % size)) if (stop - start) % size else scores
        masses.append(whole.unflatten(3, (-1, size)).sum(dim=4))
    shares = (torch.stack(tops) - torch.stack(tops).amax(dim=0)).exp_()  # (P, B, G, R * T, 1)
    mass = torch.cat([part * share for part, share in zip(masses, shares, strict=True)], dim=3)
    total = mass.sum(dim=3, keepdim=True)
    out = (torch.stack(outs) * shares).sum(dim=0) / total
    return _by_head(q, out, mass / total)


def _in_one_softmax(
    q: Tensor, rows: Tensor, k: Tensor, v: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """`dense_with_mass` with all scores in memory at once.

    Args:
        q: (B, H, T, D).
        rows: (B, G, R * T, D) the same, scaled, in the type of the products.
        k: (B, G, S, D).
        v: (B, G, S, D).
        size: Tokens of a block.
    """
    queries, seq_len = q.shape[2], k.shape[2]
    rows, k, v = rows.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    padded = -(-seq_len // size) * size
    scores = rows.new_empty(*rows.shape[:2], padded)  # (B * G, R * T, N * size)
    parts = [slice(at, min(at + _KEYS_AT_ONCE, seq_len)) for at in range(0, seq_len, _KEYS_AT_ONCE)]
    for part in parts:
        torch.bmm(rows, k[:, part].to(rows.dtype).mT, out=scores[..., part])
    if queries > 1:
        future = torch.ones(queries, queries - 1, dtype=torch.bool, device=q.device).triu_()
        last = scores[..., seq_len - queries + 1 : seq_len].unflatten(1, (-1, queries))
        last.masked_fill_(future, float("-inf"))
    if padded > seq_len:
        scores[..., seq_len:] = float("-inf")
    probs = scores.softmax(dim=2)
    out = rows.new_zeros(*rows.shape[:2], v.shape[2])
    for part in parts:
        out.baddbmm_(probs[..., part], v[:, part].to(rows.dtype))
    return _by_head(q, out, probs.view(*probs.shape[:2], -1, size).sum(dim=3))


def _by_head(q: Tensor, out: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return output and mass, rows of the groups in any shape, as (B, H, T, ...) of `q`."""
    shape = (*q.shape[:3], -1)
    return out.reshape(shape).to(q.dtype), mass.reshape(shape).float()
