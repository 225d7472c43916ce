"""The public operation: validate, resolve the implementation, call it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nsa_kernels import blockwise, decoding, scoring
from nsa_kernels.branches import gated_attention
from nsa_kernels.dense_mass import dense_with_mass
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings

if TYPE_CHECKING:
    from nsa_kernels.gpu.layout import Packing


class Impl(Enum):
    """The implementations of `nsa_attention`."""

    REFERENCE = "reference"
    BLOCKWISE = "blockwise"
    TRITON = "triton"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionResult:
    """The result of `nsa_attention`.

    Attributes:
        out: (B, H, T, D).
        blocks: (B, G, U, n) selected blocks of each tile of queries, padded with -1; None for
            dense attention.
        mass: (B, H, T, N) attention mass of each selection block, or None unless requested.
    """

    out: Tensor
    blocks: Tensor | None
    mass: Tensor | None = None


def nsa_attention(
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
    impl: Impl | None = None,
    return_mass: bool = False,
    keep_window: bool = True,
) -> AttentionResult:
    """Compute Native Sparse Attention; the queries are the last T of S positions.

    Args:
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, D).
        settings: Block sizes and budgets.
        summary_k: (B, G, C, D), the compressed keys; block means when None.
        summary_v: (B, G, C, D), the compressed values; block means when None.
        window_k: (B, G, W, D), separate keys of the window, the last W of S positions, for `gated`;
            `k` when None.
        window_v: (B, G, W, D), separate values of the window; `v` when None.
        gates: (B, H, T, 3), order compression, selection, window; required for `gated`, None
            for `union`.
        packing: Offsets of the sequences of a packed batch: q, k and v then have B = 1, and the
            sequences are concatenated along T and S. Only Triton supports it.
        impl: The implementation; when None the fastest one for the device and `settings`. An
            explicit choice is never replaced.
        return_mass: Whether to return the attention mass of each block.
        keep_window: Whether Triton keeps the output of the window in `gated`, as large as the
            output of the call, for the backward pass. False computes it again.

    Raises:
        ValueError: If the shapes do not match.
        TypeError: If `impl` is not an `Impl`.
        UnsupportedError: If the implementation does not support the arguments.

    Source: Yuan et al. 2025, eqs. 5 to 12.
    """
    _validate(q, k, v, settings, gates, packing)
    _validate_window(q, k, settings, window_k, window_v)
    if not (impl is None or isinstance(impl, Impl)):
        raise TypeError(f"impl is {impl!r}; valid are {[str(one) for one in Impl]} or None")
    if impl is None:
        impl = _choose(q, (q.shape[3], v.shape[3]), k.shape[2], settings, packing, return_mass)
    if packing is not None and impl is not Impl.TRITON:
        raise UnsupportedError(f"packed sequences need {Impl.TRITON}; impl is {impl}")
    if impl is Impl.REFERENCE:
        of = nsa_reference(
            q, k, v, settings,
            summary_k=summary_k, summary_v=summary_v, window_k=window_k, window_v=window_v,
            gates=gates,
        )  # fmt: skip
        return AttentionResult(out=of[0], blocks=of[1], mass=of[2] if return_mass else None)
    blocks: Tensor | None
    dense = impl is Impl.BLOCKWISE and settings.combine == "union" and settings.covers(k.shape[2])
    if return_mass and dense and q.device.type == "cpu" and not torch.is_grad_enabled():
        seen = dense_with_mass(q, k, v, settings.select_block)
        return AttentionResult(out=seen[0], blocks=None, mass=seen[1])
    if impl is Impl.BLOCKWISE and decoding.takes(q, k.shape[2], settings):
        if summary_k is None:
            summary_k = scoring.mean_summaries(k, settings)
        step = decoding.decode_union(q, k, v, summary_k, settings)
        return AttentionResult(out=step[0], blocks=step[1], mass=step[2] if return_mass else None)
    if impl is Impl.TRITON:
        out, blocks = _by_triton(
            q, k, v, settings,
            summary_k=summary_k, summary_v=summary_v, window_k=window_k, window_v=window_v,
            gates=gates, packing=packing, keep_window=keep_window,
        )  # fmt: skip
    elif settings.combine == "gated":
        assert gates is not None
        out, blocks, mass = gated_attention(
            q, k, v, gates, settings,
            summary_k=summary_k, summary_v=summary_v, window_k=window_k, window_v=window_v,
            return_mass=return_mass,
        )  # fmt: skip
        return AttentionResult(out=out, blocks=blocks, mass=mass)
    else:
        out, blocks = _by_blocks(q, k, v, settings, summary_k)
    if not return_mass:
        return AttentionResult(out=out, blocks=blocks)
    if settings.combine != "union" or packing is not None:
        raise UnsupportedError(f"{impl} gives the mass of combine='union', not packed, only")
    return AttentionResult(
        out=out, blocks=blocks, mass=blockwise.block_mass(q, k, blocks, settings)
    )


def _by_blocks(
    q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings, summary_k: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Output and blocks of the blockwise implementation of `union`."""
    if settings.covers(k.shape[2]):
        return blockwise.dense_attention(q, k, v), None
    if summary_k is None:
        summary_k = scoring.mean_summaries(k, settings)
    blocks = scoring.select_blocks(q, summary_k, k.shape[2], settings)
    return blockwise.union_attention(q, k, v, blocks, settings), blocks


def _by_triton(
    q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings, **others: Any
) -> tuple[Tensor, Tensor]:
    """Output and blocks of the Triton kernels; `others` as for `triton_attention`."""
    from nsa_kernels.gpu.attention import triton_attention

    # Triton launches on the current device, which may differ from the tensors' device.
    with torch.cuda.device(q.device) if q.is_cuda else nullcontext():
        return triton_attention(q, k, v, settings, **others)


@cache
def triton_is_there() -> bool:
    """Whether Triton is installed; PyTorch for CUDA on Linux brings it."""
    return find_spec("triton") is not None


def _choose(
    q: Tensor,
    dims: tuple[int, ...],
    seq_len: int,
    settings: AttentionSettings,
    packing: Packing | None,
    return_mass: bool,
) -> Impl:
    """The fastest implementation for a device and settings."""
    gated = settings.combine == "gated"
    if packing is not None:
        return Impl.TRITON
    if return_mass and decoding.takes(q, seq_len, settings):
        return Impl.BLOCKWISE
    if q.is_cuda and settings.select_count is not None and triton_is_there():
        from nsa_kernels.gpu.layout import supports

        # The kernels do not use tensor cores in fp32: PyTorch's matrix products are faster.
        quick = (gated or q.dtype != torch.float32) and seq_len >= settings.dense_below
        if quick and supports(q.dtype, dims, settings) and not (gated and return_mass):
            return Impl.TRITON
    return Impl.BLOCKWISE


def _validate(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    settings: AttentionSettings,
    gates: Tensor | None,
    packing: Packing | None,
) -> None:
    """Raise ValueError with the received shapes if they do not match."""
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(f"q, k, v have {q.ndim}, {k.ndim}, {v.ndim} dims; each needs 4")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ValueError(
            f"shapes do not agree: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} groups")
    if packing is not None and q.shape[0] != 1:
        raise ValueError(f"packed sequences lie in one batch row; q has {q.shape[0]}")
    if not 0 < q.shape[2] <= k.shape[2]:
        raise ValueError(f"{q.shape[2]} queries cannot be the last of {k.shape[2]} positions")
    wanted = (*q.shape[:3], 3)
    if settings.combine == "gated" and (gates is None or tuple(gates.shape) != wanted):
        got = None if gates is None else tuple(gates.shape)
        raise ValueError(f"gates are {got}; combine='gated' needs {wanted}")
    if settings.combine == "union" and gates is not None:
        raise ValueError("gates were given; combine='union' has none")


def _validate_window(
    q: Tensor,
    k: Tensor,
    settings: AttentionSettings,
    window_k: Tensor | None,
    window_v: Tensor | None,
) -> None:
    """Raise ValueError where the window's own keys and values do not fit."""
    if window_k is None and window_v is None:
        return
    if settings.combine == "union":
        raise ValueError("window_k or window_v was given; combine='union' has one set of keys")
    if window_k is None or window_v is None or window_k.shape[:3] != window_v.shape[:3]:
        shapes = [None if x is None else tuple(x.shape) for x in (window_k, window_v)]
        raise ValueError(f"window_k, window_v are {shapes}; they need the same (B, G, W)")
    reach = min(k.shape[2], q.shape[2] + max(0, settings.window - 1))
    wanted = (*k.shape[:2], k.shape[3])
    got = (*window_k.shape[:2], window_k.shape[3])
    if got != wanted or not reach <= window_k.shape[2] <= k.shape[2]:
        raise ValueError(
            f"window_k is {tuple(window_k.shape)}; it needs (B, G, W, D) with (B, G, D) = {wanted} "
            f"and W from {reach} to {k.shape[2]}"
        )
