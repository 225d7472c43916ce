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


@triton.jit(do_not_specialize=["token_capacity", "rows", "first"])
def _keep_kernel(
    new_k_ptr, new_v_ptr, k_ptr, v_ptr, lengths_ptr,
    stride_kb, stride_kg, stride_vb, stride_vg,
    token_capacity, rows, first,
    G: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    b = group // G
    g = group % G
    row = tl.minimum(tl.load(lengths_ptr + b), token_capacity - 1) - first
    to = group * rows + row
    depth = tl.arange(0, BLOCK_D)
    value_depth = tl.arange(0, BLOCK_DV)
    k = tl.load(new_k_ptr + b * stride_kb + g * stride_kg + depth, mask=depth < D)
    v = tl.load(new_v_ptr + b * stride_vb + g * stride_vg + value_depth, mask=value_depth < DV)
    if (row >= 0) & (row < rows):
        tl.store(k_ptr + to * D + depth, k, mask=depth < D)
        tl.store(v_ptr + to * DV + value_depth, v, mask=value_depth < DV)


def keep(
    new: tuple[Tensor, Tensor], buffers: tuple[Tensor, Tensor], lengths: Tensor, capacity: int,
    first: int,
) -> None:  # fmt: skip
    """Write the new token of each sequence to the buffers of one branch.

    Args:
        new: (B, G, D) and (B, G, Dv).
        buffers: (B, G, U, D) and (B, G, U, Dv).
        lengths: (B,) int32, tokens before the new one.
        capacity: T_max of the cache.
        first: The token of the first row.
    """
    k, v = (loadable(x) for x in new)
    batch, groups, rows, dim = buffers[0].shape
    _keep_kernel[(batch * groups,)](
        k, v, *buffers, lengths,
        k.stride(0), k.stride(1), v.stride(0), v.stride(1),
        capacity, rows, first,
        G=groups,
        D=dim,
        DV=v.shape[2],
        BLOCK_D=pad(dim),
        BLOCK_DV=pad(v.shape[2]),
        num_warps=1,
    )  # fmt: skip


def keep_tokens(new: BranchTokens, buffers: BranchBuffers, lengths: Tensor, capacity: int) -> None:
    """Write the new tokens of all branches to their buffers; see `keep`.

    Raises:
        ValueError: If the window of only one of the two is separate, or shapes do not match.
    """
    if (new.window_k is None) != (buffers.window_k is None):
        raise ValueError("the tokens and the buffers differ in whether the window is separate")
    each: list[tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, int]] = [
        (*new[:2], buffers.compress_k, buffers.compress_v, buffers.compress_first),
        (*new[2:], buffers.window_k, buffers.window_v, buffers.window_first),
    ]
    for k, v, keys, values, first in each:
        if k is None or v is None or keys is None or values is None:
            continue
        wanted = (*keys.shape[:2], keys.shape[3]), (*values.shape[:2], values.shape[3])
        if (k.shape, v.shape) != wanted:
            raise ValueError(
                f"a branch's new tokens are {tuple(k.shape)} and {tuple(v.shape)}; the buffers "
                f"need {wanted}"
            )
        if not k.dtype == v.dtype == keys.dtype == values.dtype:
            raise ValueError(f"dtypes are {k.dtype} and {v.dtype}; the buffers have {keys.dtype}")
        keep((k, v), (keys, values), lengths, capacity, first)


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
