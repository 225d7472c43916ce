"""Native Sparse Attention on a GPU: the order of its kernels, forward and backward.

Besides inputs and output, the backward pass keeps the log-sum-exp of each branch, the selected
blocks, the compression's output and, unless `keep_window` is false, the window's, which it
recomputes otherwise. It derives the selection's share from the others.

Letters: see `layout.py`; n selected blocks.

Source: Yuan et al. 2025, eqs. 5 to 12.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from nsa_kernels.gpu.banded import banded_dots, banded_forward
from nsa_kernels.gpu.banded_backward import (
    banded_keys_backward,
    banded_rows_backward,
)
from nsa_kernels.gpu.bands import Addend, Band, OutputGradient
from nsa_kernels.gpu.inverse import invert
from nsa_kernels.gpu.launches import Replays
from nsa_kernels.gpu.layout import Packing, Problem, empty_rows, loadable
from nsa_kernels.gpu.phi import mean_pair, mean_phi
from nsa_kernels.gpu.row_products import branch_gradients, gate_gradients, row_dots
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selected_backward import selected_keys_backward, selected_rows_backward
from nsa_kernels.gpu.selection import select_blocks
from nsa_kernels.settings import AttentionSettings

First = TypeVar("First")
Second = TypeVar("Second")

_REPLAYS = Replays()
"""Recorded launches of forward passes."""


def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    settings: AttentionSettings,
    *,
    summary_k: Tensor | None = None,
    summary_v: Tensor | None = None,
    window_k: Tensor | None = None,
    window_v: Tensor | None = None,
    gates: Tensor | None = None,
    packing: Packing | None = None,
    keep_window: bool = True,
) -> tuple[Tensor, Tensor]:
    """Compute Native Sparse Attention; arguments as for `nsa_attention`.

    Args:
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        settings: Block sizes and budgets; `select_count` is not None.
        summary_k: (B, G, C, D); the means of the keys when None.
        summary_v: (B, G, C, Dv), for `gated`; the means of the values when None.
        window_k: (B, G, W, D), the window's own keys, for `gated`; `k` when None.
        window_v: (B, G, W, Dv), the window's own values; `v` when None.
        gates: (B, H, T, 3), for `gated`.
        packing: Offsets of the sequences of a packed batch.
        keep_window: Whether to keep the window's output (B, H, T, Dv) for the backward pass.

    Returns:
        Output (B, H, T, Dv) and selected blocks (B, G, U, n), int32, padded with -1.

    Raises:
        UnsupportedError: If the kernels do not support the arguments.
    """
    inputs = (q, k, v, summary_k, summary_v, window_k, window_v, gates)
    learns = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    if packing is None and not learns:
        out, blocks = _replayed((settings,), inputs, lambda: _without_gradients(*inputs, settings))
        assert out is not None
        assert blocks is not None
        return out, blocks[..., : settings.select_count]
    problem = Problem.of(q, k, v, settings, packing)
    q, k, v = (loadable(x) for x in (q, k, v))
    summary_k = _means(problem, k) if summary_k is None else loadable(summary_k)
    if settings.combine == "union":
        out, blocks = _Union.apply(q, k, v, summary_k, problem)
    else:
        summary_v = _means(problem, v) if summary_v is None else loadable(summary_v)
        window = [None if x is None else loadable(x) for x in (window_k, window_v)]
        out, blocks = _Gated.apply(
            q, k, v, summary_k, summary_v, *window, gates, problem, keep_window and learns
        )
    return out, blocks[..., : settings.select_count]


def _replayed(
    key: tuple[Any, ...],
    inputs: Sequence[Tensor | None],
    compute: Callable[[], Sequence[Tensor | None]],
) -> Sequence[Tensor | None]:
    """The results of `compute`, by its recorded launches where it was called with such inputs."""
    given = [x for x in inputs if x is not None]
    if _captures(given[0]):  # the graph repeats the launches, on streams that a recording lacks
        return compute()
    whole = (*key, select_blocks, *(x is None for x in inputs))
    return _REPLAYS.call(whole, given, compute)


def _without_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    summary_k: Tensor | None,
    summary_v: Tensor | None,
    window_k: Tensor | None,
    window_v: Tensor | None,
    gates: Tensor | None,
    settings: AttentionSettings,
) -> tuple[Tensor, Tensor]:
    """Output (B, H, T, Dv) and blocks (B, G, U, n) of a call that keeps nothing."""
    problem = Problem.of(q, k, v, settings, None)
    q, k, v = (loadable(x) for x in (q, k, v))
    if settings.combine == "gated" and summary_k is None and summary_v is None:
        summary_k, summary_v = mean_pair(k, v, settings)
    summary_k = _means(problem, k) if summary_k is None else loadable(summary_k)
    if settings.combine == "union":
        return _union_pass(problem, q, k, v, summary_k)[:2]
    assert gates is not None
    summary_v = _means(problem, v) if summary_v is None else loadable(summary_v)
    window_k, window_v = (None if x is None else loadable(x) for x in (window_k, window_v))
    made = _gated_pass(
        *(problem, q, k, v, summary_k, summary_v, window_k, window_v, gates), keeps=False
    )
    return made[:2]


def _means(problem: Problem, x: Tensor) -> Tensor:
    """Block means of keys or values: (B, G, C, D)."""
    settings = problem.settings
    if problem.packing is None:
        return mean_phi(x, settings)
    offsets, total = problem.packing.summary_layout(settings)
    return mean_phi(
        x,
        settings,
        cu_seqlens=problem.cu_keys,
        cu_summaries=offsets,
        total_summaries=total,
    )


def _compression(settings: AttentionSettings) -> Band:
    """The band of the summaries."""
    return Band(key_block=settings.compress_block, key_stride=settings.compress_stride)


def _gated_pass(
    problem: Problem,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    summary_k: Tensor,
    summary_v: Tensor,
    window_k: Tensor | None,
    window_v: Tensor | None,
    gates: Tensor,
    *,
    keeps: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Compute the sum of three branches.

    Returns:
        Output (B, H, T, Dv) and blocks (B, G, U, n); the compression's output and log-sum-exp;
        the window's output, or None unless `keeps`, and log-sum-exp; the selection's log-sum-exp.
    """
    settings = problem.settings
    compressed, compressed_lse = banded_forward(
        problem, _compression(settings), q, summary_k, summary_v
    )
    assert compressed is not None
    gate = gates.unbind(dim=-1)
    kept = empty_rows(q, problem.value_dim) if keeps else None
    addend = Addend(other=compressed, other_gate=gate[0], gate=gate[2], kept=kept)
    window = Band(window=settings.window)
    recent = _Recent.of(problem, q, k, v, window_k, window_v)
    scored = compressed_lse if settings.score_stride == 1 else None
    blocks, (others, recent_lse) = _independent(
        lambda: select_blocks(problem, q, summary_k, scored),
        lambda: banded_forward(recent.problem, window, q, recent.k, recent.v, addend=addend),
        side_by_side=not keeps and _captures(q),
    )
    out, lse = selected_forward(problem, q, k, v, blocks, gate=gate[1], others=others)
    return out, blocks, compressed, compressed_lse, kept, recent_lse, lse


def _captures(x: Tensor) -> bool:
    """Return whether a CUDA graph records the launches on the current stream."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _independent(
    first: Callable[[], First], second: Callable[[], Second], *, side_by_side: bool
) -> tuple[First, Second]:
    """The results of two steps that do not need each other.

    Args:
        first: Launches kernels, and returns its results.
        second: The same.
        side_by_side: Whether the kernels of `second` run on another stream. Graphs alone do:
            without one, the events between streams cost the host more than the device gains.
    """
    if not side_by_side:
        return first(), second()
    main = torch.cuda.current_stream()
    side = _side_stream(main.device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        later = second()
    done = first()
    main.wait_stream(side)
    return done, later


def _union_pass(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, summary_k: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, H, T, Dv), blocks (B, G, U, n + the window's) and log-sum-exp (B, H, T)."""
    blocks = select_blocks(problem, q, summary_k, None)
    out, lse = selected_forward(problem, q, k, v, blocks)
    return out, blocks, lse


class _Gated(torch.autograd.Function):
    """The paper's sum of three branches."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        summary_k: Tensor,
        summary_v: Tensor,
        window_k: Tensor | None,
        window_v: Tensor | None,
        gates: Tensor,
        problem: Problem,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        """Output (B, H, T, Dv) and blocks (B, G, U, n)."""
        inputs = (q, k, v, summary_k, summary_v, window_k, window_v, gates)

        def compute() -> Sequence[Tensor | None]:
            return _gated_pass(problem, *inputs, keeps=keeps)

        # A packing's lengths are known to the device alone.
        results = (
            compute() if problem.packing else _replayed((problem.settings, keeps), inputs, compute)
        )
        out, blocks, compressed, compressed_lse, kept, recent_lse, lse = results
        assert out is not None
        assert blocks is not None
        ctx.problem = problem
        ctx.save_for_backward(
            q, k, v, summary_k, summary_v, window_k, window_v, gates, out, blocks,
            compressed, compressed_lse, kept, recent_lse, lse,
        )  # fmt: skip
        ctx.mark_non_differentiable(blocks)
        return out, blocks

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the tensors passed to `forward`."""
        (
            q, k, v, summary_k, summary_v, window_k, window_v, gates, out, blocks,
            compressed, compressed_lse, kept, recent_lse, lse,
        ) = ctx.saved_tensors  # fmt: skip
        problem: Problem = ctx.problem
        settings = problem.settings
        grad = loadable(grad)
        window = Band(window=settings.window)
        recent = _Recent.of(problem, q, k, v, window_k, window_v)
        last = kept
        if last is None:
            last = banded_dots(recent.problem, window, q, recent.k, recent.v, grad)
        lses = (compressed_lse, lse, recent_lse)
        of, dots = branch_gradients(grad, out, compressed, last, gates, lses)
        far = (problem, _compression(settings), q, summary_k, summary_v, of[0])
        near = (recent.problem, window, q, recent.k, recent.v, of[2])
        dq = empty_rows(q, problem.dim)
        banded_rows_backward(*far, dq, adds=False)
        dsummary = banded_keys_backward(*far)
        banded_rows_backward(*near, dq, adds=True)
        dwindow = banded_keys_backward(*near)
        sums = problem.per_query(q)
        selected_rows_backward(problem, q, k, v, blocks, of[1], dq, adds=True, sums=sums)
        dgates = gate_gradients(dots, sums, gates)
        choosers = invert(problem, blocks, k.shape[2])
        shared = window_k is None
        dk, dv = selected_keys_backward(
            problem, q, k, v, choosers, of[1], dwindow if shared else None
        )
        return (
            dq,
            dk,
            dv,
            dsummary[0].to(summary_k.dtype),
            dsummary[1].to(summary_v.dtype),
            *((None, None) if shared else (x.to(k.dtype) for x in dwindow)),
            dgates,
            None,
            None,
        )


class _Recent(NamedTuple):
    """The keys and values of the window, and the problem with as many positions."""

    problem: Problem
    k: Tensor
    v: Tensor

    @classmethod
    def of(
        cls,
        problem: Problem,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        window_k: Tensor | None,
        window_v: Tensor | None,
    ) -> _Recent:
        """Take the window's own keys (B, G, W, D) and values if it has any."""
        if window_k is None or window_v is None:
            return cls(problem, k, v)
        if window_k.shape[2] < k.shape[2]:
            problem = Problem.of(q, window_k, window_v, problem.settings, problem.packing)
        return cls(problem, window_k, window_v)


class _Union(torch.autograd.Function):
    """One softmax over the selected blocks and the window."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, summary_k: Tensor, problem: Problem
    ) -> tuple[Tensor, Tensor]:
        """Output (B, H, T, Dv) and blocks (B, G, U, n + the window's)."""
        inputs = (q, k, v, summary_k)

        def compute() -> Sequence[Tensor | None]:
            return _union_pass(problem, *inputs)

        out, blocks, lse = (
            compute() if problem.packing else _replayed((problem.settings,), inputs, compute)
        )
        assert out is not None
        assert blocks is not None
        ctx.problem = problem
        ctx.save_for_backward(q, k, v, out, blocks, lse)
        ctx.mark_non_differentiable(blocks)
        return out, blocks

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the tensors passed to `forward`."""
        q, k, v, out, blocks, lse = ctx.saved_tensors
        problem: Problem = ctx.problem
        grad = loadable(grad)
        dots = row_dots(problem, grad, out)
        of = OutputGradient(out=grad, lse=lse, dots=dots)
        dq = empty_rows(q, problem.dim)
        selected_rows_backward(problem, q, k, v, blocks, of, dq, adds=False)
        choosers = invert(problem, blocks, k.shape[2])
        dk, dv = selected_keys_backward(problem, q, k, v, choosers, of, None)
        return dq, dk, dv, None, None
