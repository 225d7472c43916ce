"""The probability mass of a decode step's blocks, in two kernels.

In `union` mode one softmax covers the selected blocks and the window's blocks; in `gated` mode the
mass is that of the selection.

Letters: B batch, H query heads, G key/value groups, R = H / G, D head dim, T_max tokens of a full
cache, N selection blocks, n selected blocks, W blocks of the window and the token's own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.decode_cache import DecodeCache
from nsa_kernels.gpu.layout import LOG2_E, pad


@triton.jit
def log_sum(highest, total):
    """Base-2 logarithm of a sum given relative to its highest term; -inf for an empty sum."""
    return tl.where(total > 0, highest + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf"))


@triton.jit
def _attended_block(
    selected_ptr, position, item, SELECT_BLOCK: tl.constexpr, COUNT: tl.constexpr
):  # fmt: skip
    """A block of the list of selected blocks, then the window's, latest first; -1 for none."""
    chosen = tl.load(selected_ptr + item, mask=item < COUNT, other=-1)
    recent = tl.maximum(position // SELECT_BLOCK - (item - COUNT), -1)
    return tl.where(item < COUNT, chosen, recent)


@triton.jit(do_not_specialize=["token_capacity", "stride_qb", "stride_qh"])
def _block_sums_kernel(
    q_ptr, k_ptr, selected_ptr, lengths_ptr, sums_ptr,
    stride_qb, stride_qh, token_capacity, scale,
    G: tl.constexpr, R: tl.constexpr, D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
    SELECT_BLOCK: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    item = tl.program_id(1)
    position = tl.load(lengths_ptr + group // G) - 1
    block = _attended_block(selected_ptr + group * COUNT, position, item, SELECT_BLOCK, COUNT)
    head = tl.arange(0, BLOCK_R)
    depth = tl.arange(0, BLOCK_D)
    index = block * SELECT_BLOCK + tl.arange(0, SELECT_BLOCK)
    seen = (index >= 0) & (index <= position)
    q = tl.load(
        q_ptr + group // G * stride_qb + (group % G * R + head)[:, None] * stride_qh + depth,
        mask=(head < R)[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_R, BLOCK_D]
    k = tl.load(
        k_ptr + (group * token_capacity + index)[:, None] * D + depth,
        mask=seen[:, None] & (depth < D),
        other=0.0,
    )  # [SELECT_BLOCK, BLOCK_D]
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_R, SELECT_BLOCK]
    scores = tl.where(seen[None, :], scores, float("-inf"))
    highest = tl.max(scores, axis=1)
    safe = tl.where(highest == float("-inf"), 0.0, highest)
    total = tl.sum(tl.exp2(scores - safe[:, None]), axis=1)
    to = sums_ptr + (group * tl.num_programs(1) + item) * R + head
    tl.store(to, log_sum(safe, total), mask=head < R)


@triton.jit(do_not_specialize=["block_capacity", "items"])
def _mass_kernel(
    selected_ptr, lengths_ptr, sums_ptr, mass_ptr,
    block_capacity, items,
    G: tl.constexpr, R: tl.constexpr, SELECT_BLOCK: tl.constexpr, COUNT: tl.constexpr,
    BLOCK_I: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    position = tl.load(lengths_ptr + group // G) - 1
    item = tl.arange(0, BLOCK_I)
    block = _attended_block(selected_ptr + group * COUNT, position, item, SELECT_BLOCK, COUNT)
    there = (item < items) & (block >= 0)
    sums = tl.load(sums_ptr + (group * items + item) * R + head, mask=there, other=float("-inf"))
    share = tl.exp2(sums - tl.max(sums, axis=0))
    to = mass_ptr + (group * R + head) * block_capacity + block
    tl.store(to, share / tl.sum(share, axis=0), mask=there)


def selected_mass(q: Tensor, cache: DecodeCache, mass: Tensor) -> None:
    """Write the mass that the last step's tokens gave their blocks.

    These are the selected blocks and in `union` mode those of the window.

    Args:
        q: (B, H, D), the tokens' queries.
        cache: The cache after `nsa_decode`.
        mass: (B, H, N) fp32, contiguous, written in place; other blocks keep their values.

    Raises:
        ValueError: If shapes do not match.
    """
    settings, selected = cache.workspace.settings, cache.workspace.selected
    batch, groups, capacity, dim = cache.k.shape
    repeat = cache.workspace.lse.shape[2]
    blocks = triton.cdiv(capacity, settings.select_block)
    wanted = (batch, groups * repeat, dim), (batch, groups * repeat, blocks)
    if (q.shape, mass.shape) != wanted:
        raise ValueError(
            f"q is {tuple(q.shape)} and mass {tuple(mass.shape)}; the cache needs {wanted[0]} and "
            f"{wanted[1]}"
        )
    if q.stride(2) != 1 or not mass.is_contiguous():
        raise ValueError("the head dim of q and all of mass must be contiguous")
    count = selected.shape[2]
    items = count + (settings.window_blocks + 1 if settings.combine == "union" else 0)
    sums = torch.empty(batch * groups, items, repeat, dtype=torch.float32, device=q.device)
    _block_sums_kernel[(batch * groups, items)](
        q, cache.k, selected, cache.lengths, sums,
        q.stride(0), q.stride(1), capacity, dim**-0.5 * LOG2_E,
        G=groups,
        R=repeat,
        D=dim,
        BLOCK_R=pad(repeat),
        BLOCK_D=pad(dim),
        SELECT_BLOCK=settings.select_block,
        COUNT=count,
        num_warps=4,
    )  # fmt: skip
    _mass_kernel[(batch * groups, repeat)](
        selected, cache.lengths, sums, mass,
        blocks, items,
        G=groups,
        R=repeat,
        SELECT_BLOCK=settings.select_block,
        COUNT=count,
        BLOCK_I=triton.next_power_of_2(items),
        num_warps=1,
    )  # fmt: skip
