"""A decode step: one new token for each sequence of a batch, in four or more kernels.

Kernels read the lengths of the sequences on the device, so that the step never waits for the host
and can be captured in a CUDA graph.

Letters: B batch, H query heads, G key/value groups, R = H / G, D and Dv head dims of keys and
values, T_max tokens and C_max summaries of a full cache, N selection blocks, n selected blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
import triton
from torch import Tensor

from nsa_kernels.gpu.decode_branches import BranchTokens, keep_tokens, last_block
from nsa_kernels.gpu.decode_cache import DecodeCache
from nsa_kernels.gpu.decode_kernels import (
    _attend_kernel,
    _importance_kernel,
    _merge_kernel,
    _narrow_kernel,
    _scan_kernel,
)
from nsa_kernels.gpu.layout import LOG2_E, loadable, pad

Phi = Callable[[Tensor], Tensor]

_STAGES = 3
"""Pipeline stages: tiles of a program that are being loaded or used."""


def nsa_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: DecodeCache,
    *,
    gates: Tensor | None = None,
    phi_k: Phi | None = None,
    phi_v: Phi | None = None,
    branches: BranchTokens | None = None,
) -> Tensor:
    """Append one token to each sequence and attend from it, with the workspace's settings.

    The selected blocks are written to `cache.workspace.selected`.

    Args:
        q: (B, H, D), the new tokens' queries.
        k: (B, G, D).
        v: (B, G, Dv).
        cache: Updated in place; its lengths grow by one.
        gates: (B, H, 3), order compression, selection, window; required for `gated`, None for
            `union`.
        phi_k: Compresses the keys of a block, (B, G, l, D) to (B, G, D); means when None.
        phi_v: Compresses the values of a block; only for `gated`, and together with `phi_k`.
        branches: The new tokens' separate keys and values, required for a cache with `branches`.
            φ compresses those of the compression; without φ the step must not complete a summary.

    Returns:
        (B, H, Dv).

    Raises:
        ValueError: If shapes or arguments do not match.

    Source: Yuan et al. 2025, eqs. 5 to 12.
    """
    gated = cache.workspace.settings.combine == "gated"
    _validate(q, k, v, cache, gates)
    if (phi_k is not None and gated) != (phi_v is not None):
        raise ValueError("phi_k and phi_v go together in combine='gated'; union has no phi_v")
    if (branches is None) != (cache.branches is None):
        raise ValueError("the step and the cache differ in whether branches are separate")
    if branches is not None:
        assert cache.branches is not None
        keep_tokens(branches, cache.branches, cache.lengths, cache.k.shape[2])
    if phi_k is not None:
        _summarize(k, v, cache, phi_k, phi_v)
    q, k, v = loadable(q), loadable(k), loadable(v)
    scan(q, k, v, cache, mean=phi_k is None and branches is None)
    importance(cache)
    narrow(cache)
    attend(q, cache)
    return merge(q, cache, gates)


def _validate(q: Tensor, k: Tensor, v: Tensor, cache: DecodeCache, gates: Tensor | None) -> None:
    """Raise ValueError with the received shapes if they do not match."""
    batch, groups, _, dim = cache.k.shape
    heads = groups * cache.workspace.lse.shape[2]
    wanted = ((batch, heads, dim), (batch, groups, dim), (batch, groups, cache.v.shape[3]))
    got = tuple(tuple(x.shape) for x in (q, k, v))
    if got != wanted:
        raise ValueError(f"q, k, v are {got}; the cache needs {wanted}")
    if not q.dtype == k.dtype == v.dtype == cache.k.dtype:
        raise ValueError(f"dtypes are {q.dtype}, {k.dtype}, {v.dtype}; cache: {cache.k.dtype}")
    if cache.workspace.settings.combine == "union":
        if gates is not None:
            raise ValueError("gates were given; combine='union' has none")
    elif gates is None or tuple(gates.shape) != (batch, heads, 3):
        shape = None if gates is None else tuple(gates.shape)
        raise ValueError(f"gates are {shape}; combine='gated' needs {(batch, heads, 3)}")


def _summarize(k: Tensor, v: Tensor, cache: DecodeCache, phi_k: Phi, phi_v: Phi | None) -> None:
    """Append the token, and store the summary that a learned φ computes from the last l tokens.

    φ runs at every step, since the host does not know whether a summary is complete.
    """
    s = cache.workspace.settings
    position = cache.lengths.long().clamp(max=cache.k.shape[2] - 1)
    ended = position + 1 - s.compress_block
    complete = (ended >= 0) & (ended % s.compress_stride == 0)
    slot = (ended // s.compress_stride).clamp(0, cache.summary_k.shape[2] - 1)
    for phi, new, tokens, summaries, first in _compressed(k, v, cache, phi_k, phi_v):
        groups, dim = tokens.shape[1], tokens.shape[3]
        if cache.branches is None:
            at = position.view(-1, 1, 1, 1).expand(-1, groups, 1, dim)
            tokens.scatter_(2, at, new[:, :, None])
        block = last_block(tokens, position, first, s.compress_block)
        to = slot.view(-1, 1, 1, 1).expand(-1, groups, 1, dim)
        made = phi(block).to(summaries.dtype)[:, :, None]
        kept = torch.where(complete.view(-1, 1, 1, 1), made, summaries.gather(2, to))
        summaries.scatter_(2, to, kept)


def _compressed(
    k: Tensor, v: Tensor, cache: DecodeCache, phi_k: Phi, phi_v: Phi | None
) -> Iterator[tuple[Phi, Tensor, Tensor, Tensor, int]]:
    """Yield each φ, the new tokens, those it compresses, its summaries, and the first token."""
    tokens_k, tokens_v, first = cache.k, cache.v, 0
    if cache.branches is not None:
        of = cache.branches
        tokens_k, tokens_v, first = of.compress_k, of.compress_v, of.compress_first
    yield phi_k, k, tokens_k, cache.summary_k, first
    if phi_v is not None:
        yield phi_v, v, tokens_v, cache.summary_v, first


def scan(q: Tensor, k: Tensor, v: Tensor, cache: DecodeCache, *, mean: bool) -> None:
    """Append the token, complete its summary if `mean`, and score all summaries.

    Args:
        q: (B, H, D).
        k: (B, G, D).
        v: (B, G, Dv).
        cache: Keys, values and summaries are updated in place, lengths are not.
        mean: Whether summaries are means, which this kernel computes.
    """
    w = cache.workspace
    s, plan = w.settings, w.plan
    batch, groups, capacity, dim = cache.k.shape
    _scan_kernel[(batch * groups, plan.splits)](
        q, k, v, cache.k, cache.v, cache.summary_k, cache.summary_v, cache.lengths,
        w.pooled, w.tile_max, w.tile_spill, w.lse, w.partial,
        q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1),
        capacity, cache.summary_k.shape[2], w.pooled.shape[1],
        plan.splits, plan.parts, w.tile_max.shape[1], dim**-0.5 * LOG2_E,
        G=groups,
        R=w.lse.shape[2],
        D=dim,
        DV=v.shape[2],
        BLOCK_R=pad(w.lse.shape[2]),
        BLOCK_D=pad(dim),
        BLOCK_DV=pad(v.shape[2]),
        BLOCK_C=plan.summary_tile,
        KEY_BLOCK=s.compress_block,
        KEY_STRIDE=s.compress_stride,
        SELECT_BLOCK=s.select_block,
        GATED=s.combine == "gated",
        MEAN=mean,
        STAGES=_STAGES,
        OVERLAP=plan.overlap,
        num_warps=4,
        launch_pdl=plan.overlap,
    )  # fmt: skip


def importance(cache: DecodeCache) -> None:
    """Sum the importance of every selection block over the heads, and rank the blocks."""
    w = cache.workspace
    s, plan = w.settings, w.plan
    batch, groups, capacity, _ = cache.k.shape
    _, lists, keep = w.best[0].shape
    _importance_kernel[(batch * groups, lists)](
        cache.lengths, w.pooled, w.tile_max, w.tile_spill, w.lse, w.best[0],
        capacity, cache.summary_k.shape[2], w.pooled.shape[1],
        plan.splits, plan.parts, w.tile_max.shape[1],
        G=groups,
        R=w.lse.shape[2],
        BLOCK_R=pad(w.lse.shape[2]),
        BLOCK_S=triton.next_power_of_2(plan.splits),
        BLOCK_N=plan.ranked,
        BLOCK_C=plan.summary_tile,
        KEEP=keep,
        KEY_BLOCK=s.compress_block,
        KEY_STRIDE=s.compress_stride,
        SELECT_BLOCK=s.select_block,
        INIT=s.init_blocks,
        LOCAL=s.local_blocks,
        WINDOW=s.window,
        GATED=s.combine == "gated",
        OVERLAP=plan.overlap,
        num_warps=max(4, plan.ranked // 32),
        launch_pdl=plan.overlap,
    )  # fmt: skip


def narrow(cache: DecodeCache) -> None:
    """Merge many lists of best blocks into few; do nothing if they are few."""
    w = cache.workspace
    batch, groups, capacity, _ = cache.k.shape
    for (lists, joined), (span, wider) in zip(pairwise(w.best), pairwise(w.spans), strict=True):
        keep, each = lists.shape[2], wider // span
        _narrow_kernel[(batch * groups, joined.shape[1])](
            cache.lengths, lists, joined,
            capacity, lists.shape[1], joined.shape[1],
            G=groups,
            BLOCK_M=pad(each * keep),
            LISTS=each,
            KEEP=keep,
            KEPT=joined.shape[2],
            SPAN=span,
            SELECT_BLOCK=w.settings.select_block,
            OVERLAP=w.plan.overlap,
            num_warps=max(4, pad(each * keep) // 32),
            launch_pdl=w.plan.overlap,
        )  # fmt: skip


def attend(q: Tensor, cache: DecodeCache) -> None:
    """Select the blocks and attend to them and to the window.

    Args:
        q: (B, H, D).
        cache: With the new token appended.
    """
    w = cache.workspace
    s, plan = w.settings, w.plan
    batch, groups, capacity, dim = cache.k.shape
    _, lists, keep = w.best[-1].shape
    window_k, window_v, window_first = cache.window()
    _attend_kernel[(batch * groups, plan.window_parts + plan.select_parts)](
        q, cache.k, cache.v, window_k, window_v, cache.lengths, w.best[-1], w.selected, w.lse,
        w.partial, q.stride(0), q.stride(1),
        capacity, lists, plan.parts, plan.own, plan.window_parts, window_k.shape[2], window_first,
        dim**-0.5 * LOG2_E,
        G=groups,
        R=w.lse.shape[2],
        D=dim,
        DV=cache.v.shape[3],
        BLOCK_R=pad(w.lse.shape[2]),
        BLOCK_D=pad(dim),
        BLOCK_DV=pad(cache.v.shape[3]),
        BLOCK_T=plan.token_tile,
        BLOCK_M=pad(lists * keep),
        KEEP=keep,
        SPAN=w.spans[-1],
        SELECT_BLOCK=s.select_block,
        COUNT=s.select_count,
        WINDOW=s.window,
        GATED=s.combine == "gated",
        SEPARATE=window_k is not cache.k,
        STAGES=_STAGES,
        OVERLAP=plan.overlap,
        num_warps=4,
        launch_pdl=plan.overlap,
    )  # fmt: skip


def merge(q: Tensor, cache: DecodeCache, gates: Tensor | None) -> Tensor:
    """Merge the partial outputs and advance the lengths: (B, H, Dv).

    Args:
        q: (B, H, D), for its dtype.
        cache: Its lengths grow by one.
        gates: (B, H, 3) or None.
    """
    w = cache.workspace
    plan = w.plan
    batch, groups, capacity, _ = cache.k.shape
    repeat, value_dim = w.partial.shape[2:]
    out = torch.empty(batch, groups * repeat, value_dim, dtype=q.dtype, device=q.device)
    _merge_kernel[(batch * groups, repeat)](
        w.lse, w.partial, gates, out, cache.lengths,
        *(gates.stride() if gates is not None else (0, 0, 0)),
        capacity, plan.parts, plan.window_parts, plan.splits,
        G=groups,
        R=repeat,
        DV=value_dim,
        BLOCK_P=triton.next_power_of_2(plan.parts),
        BLOCK_DV=pad(value_dim),
        GATED=gates is not None,
        OVERLAP=plan.overlap,
        num_warps=max(1, triton.next_power_of_2(plan.parts) // 16),
        launch_pdl=plan.overlap,
    )  # fmt: skip
    return out
