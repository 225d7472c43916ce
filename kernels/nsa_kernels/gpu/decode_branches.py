"""Separate keys and values of the branches in a decode step.

The selection's keys and values are those of the cache. The compression may have others, of which
the step needs the last block, and the window may have others, of which it needs the last tokens.
Both lie in buffers whose first row is a later token than the first of the text.

Letters: see `decode.py`; l tokens of a compression block, U rows of a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.gpu.layout import loadable, pad


class BranchTokens(NamedTuple):
    """The new token of each sequence in the branches.

    Attributes:
        compress_k: (B, G, D).
        compress_v: (B, G, Dv).
        window_k: (B, G, D); None for a window with the selection's keys and values.
        window_v: (B, G, Dv), with `window_k`.
    """

    compress_k: Tensor
    compress_v: Tensor
    window_k: Tensor | None = None
    window_v: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class BranchBuffers:
    """Recent keys and values of the branches, written in place.

    A token t lies in row t - `compress_first` or t - `window_first`; a token past the last row is
    dropped. The host must see to it that no sequence gets so long.

    Attributes:
        compress_k: (B, G, U, D), at least the last l - 1 tokens before each step.
        compress_v: (B, G, U, Dv).
        window_k: (B, G, U, D), at least the window's tokens; None for the selection's.
        window_v: (B, G, U, Dv), with `window_k`.
        compress_first: The token of the first row of `compress_k` and `compress_v`.
        window_first: The token of the first row of `window_k` and `window_v`.
    """

    compress_k: Tensor
    compress_v: Tensor
    window_k: Tensor | None = None
    window_v: Tensor | None = None
    compress_first: int = 0
    window_first: int = 0

    def check(self, k: Tensor, v: Tensor) -> None:
        """Check the buffers against the keys (B, G, T, D) and values (B, G, T, Dv) of the cache.

        Raises:
            ValueError: If shapes do not match or a tensor is not contiguous.
        """
        if (self.window_k is None) != (self.window_v is None):
            raise ValueError("window_k and window_v go together; only one of them was given")
        pairs = ((self.compress_k, self.compress_v), (self.window_k, self.window_v))
        for name, (keys, values) in zip(("compress", "window"), pairs, strict=True):
            if keys is None or values is None:
                continue
            wanted = (*k.shape[:2], keys.shape[2], k.shape[3]), (*keys.shape[:3], v.shape[3])
            if (keys.shape, values.shape) != wanted:
                raise ValueError(
                    f"{name}_k and {name}_v are {tuple(keys.shape)} and {tuple(values.shape)}; "
                    f"the cache needs {wanted}"
                )
            if not (keys.is_contiguous() and values.is_contiguous()):
                raise ValueError(f"{name}_k and {name}_v must be contiguous")


@triton.jit
def _keep_token(
    new_ptr, stride_b, stride_g, to_ptr, group, row, rows,
    G: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write the new token of one sequence and group to a row of its buffer, if the row is there."""
    depth = tl.arange(0, BLOCK_D)
    if (row >= 0) & (row < rows):
        x = tl.load(new_ptr + group // G * stride_b + group % G * stride_g + depth, mask=depth < D)
        tl.store(to_ptr + (group * rows + row) * D + depth, x, mask=depth < D)


@triton.jit(do_not_specialize=["token_capacity", "compress_rows", "compress_first", "window_rows",
                               "window_first"])  # fmt: skip
def _keep_kernel(
    compress_k_ptr, compress_v_ptr, window_k_ptr, window_v_ptr,
    to_compress_k_ptr, to_compress_v_ptr, to_window_k_ptr, to_window_v_ptr, lengths_ptr,
    stride_ckb, stride_ckg, stride_cvb, stride_cvg, stride_wkb, stride_wkg, stride_wvb, stride_wvg,
    token_capacity, compress_rows, compress_first, window_rows, window_first,
    G: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, SEPARATE: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    position = tl.minimum(tl.load(lengths_ptr + group // G), token_capacity - 1)
    row = position - compress_first
    _keep_token(
        compress_k_ptr, stride_ckb, stride_ckg, to_compress_k_ptr, group, row, compress_rows,
        G, D, BLOCK_D,
    )  # fmt: skip
    _keep_token(
        compress_v_ptr, stride_cvb, stride_cvg, to_compress_v_ptr, group, row, compress_rows,
        G, DV, BLOCK_DV,
    )  # fmt: skip
    if SEPARATE:
        row = position - window_first
        _keep_token(
            window_k_ptr, stride_wkb, stride_wkg, to_window_k_ptr, group, row, window_rows,
            G, D, BLOCK_D,
        )  # fmt: skip
        _keep_token(
            window_v_ptr, stride_wvb, stride_wvg, to_window_v_ptr, group, row, window_rows,
            G, DV, BLOCK_DV,
        )  # fmt: skip


def keep_tokens(new: BranchTokens, buffers: BranchBuffers, lengths: Tensor, capacity: int) -> None:
    """Write the new tokens of all branches to their buffers.

    Args:
        new: The new token of each sequence.
        buffers: Written in place.
        lengths: (B,) int32, tokens before the new one.
        capacity: T_max of the cache.

    Raises:
        ValueError: If the window of only one of the two is separate, or shapes do not match.
    """
    if (new.window_k is None) != (buffers.window_k is None):
        raise ValueError("the tokens and the buffers differ in whether the window is separate")
    to: list[Tensor] = [buffers.compress_k, buffers.compress_v]
    if buffers.window_k is not None and buffers.window_v is not None:
        to += [buffers.window_k, buffers.window_v]
    tokens = [loadable(x) for x in new if x is not None]
    wanted = [(*x.shape[:2], x.shape[3]) for x in to]
    got = [tuple(x.shape) for x in tokens]
    if got != wanted:
        raise ValueError(f"the branches' new tokens are {got}; the buffers need {wanted}")
    types = {x.dtype for x in (*tokens, *to)}
    if len(types) > 1:
        raise ValueError(f"dtypes of the branches' tokens and buffers differ: {types}")
    if separate := len(to) == 4:
        window_rows = to[2].shape[2]
    else:  # the kernel does not read them
        window_rows, tokens, to = 0, [*tokens, *tokens], [*to, *to]
    batch, groups, rows, dim = to[0].shape
    value_dim = to[1].shape[3]
    _keep_kernel[(batch * groups,)](
        *tokens, *to, lengths,
        *(stride for x in tokens for stride in x.stride()[:2]),
        capacity, rows, buffers.compress_first, window_rows, buffers.window_first,
        G=groups,
        D=dim,
        DV=value_dim,
        BLOCK_D=pad(dim),
        BLOCK_DV=pad(value_dim),
        SEPARATE=separate,
        num_warps=1,
    )  # fmt: skip


def last_block(tokens: Tensor, position: Tensor, first: int, block: int) -> Tensor:
    """Return the last l tokens of each sequence: (B, G, l, D), the first one repeated before it.

    Args:
        tokens: (B, G, U, D), with the new tokens.
        position: (B,) of the new tokens.
        first: The token of the first row.
        block: l.
    """
    batch, groups, rows, dim = tokens.shape
    back = torch.arange(1 - block, 1, device=position.device)
    at = (position[:, None] + back - first).clamp(0, rows - 1)
    return tokens.gather(2, at.view(batch, 1, -1, 1).expand(-1, groups, -1, dim))
