"""Native Sparse Attention as large matrix products: the fast path for CPUs; it also runs on CUDA.

Tiles of queries share a selection (`scoring`). For each tile the keys of the selected blocks and
of the window are gathered into one contiguous tensor. PyTorch's fused attention then computes
products of a few hundred rows, which suit the CPU's matrix units (AMX, AVX-512).

Letters: B batch, T query tokens, S key tokens (the queries are the last T of them), H query
heads, G key/value groups, R = H / G query heads of a group, D head dim, C summaries, N selection
blocks, n selected blocks, U tiles, Q queries of a tile, K gathered keys of a tile.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.precision import widens
from nsa_kernels.scoring import TilePlan
from nsa_kernels.settings import AttentionSettings

_KEYS_AT_ONCE = 2**17
"""Gathered keys in memory at a time, over all tiles."""

_SCORES_AT_ONCE = 2**28
"""Scores that `block_mass` keeps in memory at a time: 1 GB."""


def dense_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention to every key, the queries being the last T positions: (B, H, T, D)."""
    queries, keys = q.shape[2], k.shape[2]
    if widens(q, queries) and not torch.is_grad_enabled():
        return dense_attention(q.float(), k.float(), v.float()).to(q.dtype)
    if queries == keys > 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    trained = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if trained or q.device.type != "cpu" or v.shape[-1] != q.shape[-1]:
        if queries == 1:
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        from torch.nn.attention.bias import causal_lower_right

        mask = causal_lower_right(queries, keys)
        if not trained and _takes_groups(q, k, v):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        repeat = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if queries == 1:
        return _flash(q, k, v)[0]
    past = keys - queries
    own = _flash_causal(q, k[:, :, past:], v[:, :, past:])
    return _merge(_flash(q, k[:, :, :past], v[:, :, :past]), own).to(q.dtype)


def _takes_groups(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether PyTorch's FlashAttention-2 runs on these tensors without copying keys per head."""
    if q.device.type != "cuda":
        return False
    from torch.backends.cuda import SDPAParams, can_use_flash_attention

    return can_use_flash_attention(SDPAParams(q, k, v, None, 0.0, True, True))


def _flash(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """PyTorch's fused CPU attention to all keys: output (B, H, T, D) and log-sum-exp (B, H, T).

    The heads of a group become rows of one head, so that keys are not copied per head.
    """
    groups, queries = k.shape[1], q.shape[2]
    rows = q.unflatten(1, (groups, -1)).flatten(2, 3)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(rows, k, v)
    shape = (-1, queries)
    return out.unflatten(2, shape).flatten(1, 2), lse.unflatten(2, shape).flatten(1, 2)


def _flash_causal(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Causal `_flash` of T queries to the keys of the same T tokens."""
    repeat = q.shape[1] // k.shape[1]
    k, v = (x.unsqueeze(2).expand(-1, -1, repeat, -1, -1).flatten(1, 2) for x in (k, v))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, is_causal=True)
    return out, lse


def _merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Merge two softmax outputs over disjoint keys into one, in fp32."""
    (a, lse_a), (b, lse_b) = first, second
    share = torch.sigmoid(lse_a - lse_b).unsqueeze(-1)
    return b.float() + share * (a.float() - b.float())


def union_attention(
    q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, settings: AttentionSettings
) -> Tensor:
    """One softmax over each tile's selected blocks and window: (B, H, T, D).

    Tiles whose selection covers all earlier blocks attend densely.

    Args:
        q: (B, H, T, D), the last T of S positions.
        k: (B, G, S, D).
        v: (B, G, S, D).
        blocks: (B, G, U, n) from `select_blocks`.
        settings: The block sizes.
    """
    seq_len, queries = k.shape[2], q.shape[2]
    covered = (blocks.shape[-1] + settings.window_blocks + 1) * settings.select_block
    dense = min(max(0, covered - (seq_len - queries)), queries)
    if dense:
        head = dense_attention(q[:, :, :dense], k[:, :, :covered], v[:, :, :covered])
        if dense == queries:
            return head
        tail = blocks[:, :, -TilePlan(seq_len, queries - dense, settings).count :]
        return torch.cat([head, union_attention(q[:, :, dense:], k, v, tail, settings)], dim=2)
    plan = TilePlan(seq_len, queries, settings)
    groups = k.shape[1]
    wide = torch.float32 if widens(q, plan.size * (q.shape[1] // groups)) else q.dtype
    tiles = plan.split(q).unflatten(1, (groups, -1))
    out = tiles.new_empty(*tiles.shape[:-1], v.shape[-1])
    keys = (blocks.shape[-1] + settings.window_blocks + 1) * settings.select_block
    at_once = max(1, _KEYS_AT_ONCE // keys)
    for b in range(q.shape[0]):
        for g in range(groups):
            for start in range(0, plan.count, at_once):
                part = slice(start, min(start + at_once, plan.count))
                slots = gather_slots(blocks[b, g, part], start, plan, settings)
                rows = tiles[b, g, :, part].transpose(0, 1).flatten(1, 2)[:, None].to(wide)
                bias = causal_bias(start, slots, rows.shape[2] // plan.size, plan, wide, settings)
                flat = slots.flatten()
                result = F.scaled_dot_product_attention(
                    rows,
                    k[b, g].index_select(0, flat).to(wide).view(slots.shape[0], 1, keys, -1),
                    v[b, g].index_select(0, flat).to(wide).view(slots.shape[0], 1, keys, -1),
                    attn_mask=bias,
                )
                out[b, g, :, part] = result.view(len(slots), -1, plan.size, v.shape[-1]).transpose(
                    0, 1
                )
    return plan.join(out.flatten(1, 2))


def gather_slots(blocks: Tensor, start: int, plan: TilePlan, settings: AttentionSettings) -> Tensor:
    """Positions of the keys that tiles of one group attend to: (U, K).

    The selected blocks come first, then the window, then the tile's own block. Positions past
    the end of the text are clamped to its last token; the causal bias masks them.

    Args:
        blocks: (U, n) selected blocks, padded with -1 (clamped to 0; the caller masks them).
        start: Index of the first tile.
        plan: The tiles of the call.
        settings: The block sizes.
    """
    current = plan.blocks(start, start + len(blocks), blocks.device)
    back = torch.arange(-settings.window_blocks, 1, device=blocks.device)
    chosen = torch.cat([blocks, current[:, None] + back], dim=1)
    within = torch.arange(settings.select_block, device=blocks.device)
    slots = (chosen[..., None] * settings.select_block + within).flatten(1)
    return slots.clamp(0, plan.seq_len - 1)


def causal_bias(
    start: int,
    slots: Tensor,
    repeat: int,
    plan: TilePlan,
    dtype: torch.dtype,
    settings: AttentionSettings,
) -> Tensor:
    """Causal bias within a tile's diagonal block: 0 or -inf, (U or 1, 1, R * Q, K).

    If tiles are whole blocks, all have the same bias, and the first dimension is 1.
    """
    tiles = 1 if plan.size == settings.select_block else len(slots)
    first = plan.firsts(start, start + tiles, slots.device) % settings.select_block
    query = first[:, None] + torch.arange(plan.size, device=slots.device)
    future = torch.arange(settings.select_block, device=slots.device) > query[..., None]
    bias = torch.zeros(tiles, 1, plan.size, slots.shape[1], dtype=dtype, device=slots.device)
    bias[..., -settings.select_block :].masked_fill_(future[:, None], float("-inf"))
    return bias if plan.size == 1 else bias.repeat(1, 1, repeat, 1)


def block_mass(q: Tensor, k: Tensor, blocks: Tensor | None, settings: AttentionSettings) -> Tensor:
    """Probability mass that each query gives each selection block: (B, H, T, N), fp32.

    Scores are materialized for a part of the queries at a time: the function is meant for the
    few queries of an answer. Keys of blocks that were not selected are not read.

    Args:
        q: (B, H, T, D), the last T of S positions.
        k: (B, G, S, D).
        blocks: (B, G, U, n) from `select_blocks`, or None for dense attention.
        settings: The block sizes.
    """
    queries, (groups, seq_len) = q.shape[2], k.shape[1:3]
    scale = 1.0 / math.sqrt(q.shape[-1])
    if blocks is not None:
        return _mass_of_selected(q * scale, k, blocks, settings)
    at_once = max(1, _SCORES_AT_ONCE // (q.shape[0] * q.shape[1] * seq_len))
    if at_once < queries:
        size = settings.select_block
        mass = q.new_zeros(*q.shape[:3], -(-seq_len // size), dtype=torch.float32)
        for start in range(0, queries, at_once):
            stop = min(start + at_once, queries)
            end = seq_len - queries + stop
            part = block_mass(q[:, :, start:stop], k[:, :, :end], None, settings)
            mass[:, :, start:stop, : part.shape[-1]] = part
        return mass
    grouped = q.unflatten(1, (groups, -1)).flatten(2, 3)
    scores = (grouped @ k.transpose(-1, -2)).float() * scale
    scores = scores.view(q.shape[0], groups, -1, queries, seq_len)
    position = torch.arange(seq_len - queries, seq_len, device=q.device)
    hidden = torch.arange(seq_len, device=q.device) > position[:, None]
    probs = scores.masked_fill_(hidden, float("-inf")).softmax(dim=-1).flatten(1, 2)
    padded = F.pad(probs, (0, -seq_len % settings.select_block))
    by_block: Tensor = padded.unflatten(-1, (-1, settings.select_block)).sum(dim=-1)
    return by_block


def _mass_of_selected(q: Tensor, k: Tensor, blocks: Tensor, settings: AttentionSettings) -> Tensor:
    """`block_mass` for scaled queries that attend to selected blocks and the window."""
    plan = TilePlan(k.shape[2], q.shape[2], settings)
    groups, size = k.shape[1], settings.select_block
    tiles = plan.split(q).unflatten(1, (groups, -1))
    repeat = tiles.shape[2]
    current = plan.blocks(0, plan.count, q.device)[:, None]
    near = current + torch.arange(-settings.window_blocks, 1, device=q.device)
    mass = q.new_zeros(*tiles.shape[:-1], plan.last_block + 1, dtype=torch.float32)
    for b in range(q.shape[0]):
        for g in range(groups):
            for u in range(plan.count):
                chosen = torch.cat([blocks[b, g, u], near[u]])
                slots = gather_slots(blocks[b, g, u : u + 1], u, plan, settings)
                rows = tiles[b, g, :, u].flatten(0, 1)
                scores = (rows @ k[b, g].index_select(0, slots[0]).t()).float()
                scores += causal_bias(u, slots, repeat, plan, torch.float32, settings)[0, 0]
                split = scores.unflatten(-1, (-1, size))
                split.masked_fill_((chosen < 0)[:, None], float("-inf"))
                probs = split.flatten(-2).softmax(dim=-1).unflatten(-1, (-1, size)).sum(dim=-1)
                index = chosen.clamp(min=0).expand(len(rows), -1)
                flat = mass.new_zeros(len(rows), mass.shape[-1]).scatter_add_(1, index, probs)
                mass[b, g, :, u] = flat.view(repeat, plan.size, -1)
    return plan.join(mass.flatten(1, 2))
