"""A decode step of dense attention: a few new tokens after a cache, in two kernels.

The kernels read the cache's length on the device, so that a CUDA graph can capture the step. They
also compute the probability mass of each selection block without a second read of the keys.

Letters: B batch, T new tokens, H query heads, G key/value groups, R = H / G, D and Dv head dims of
keys and values, T_max tokens of a full cache, N selection blocks, S splits of the blocks,
M = R * T rows of one group, head by head.

Source: the splits are those of Flash-Decoding (Dao et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode_kernels import _softmax_step
from nsa_kernels.gpu.decode_mass import log_sum
from nsa_kernels.gpu.layout import LOG2_E, pad

MOST_ROWS = 64
"""Most rows of a tile of scores: query heads of a group times new tokens."""

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_MOST_SPLITS = 128
_STAGES = 3
_BLOCKS_AT_ONCE = 512


@triton.jit(do_not_specialize=["token_capacity", "block_capacity", "splits"])
def _dense_attend_kernel(
    q_ptr, k_ptr, v_ptr, length_ptr, mass_ptr, lse_ptr, partial_ptr,
    stride_qb, stride_qh, stride_qt,
    token_capacity, block_capacity, splits, scale,
    G: tl.constexpr, R: tl.constexpr, T: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    SELECT_BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    length = tl.load(length_ptr).to(tl.int32)
    row = tl.arange(0, BLOCK_M)
    position = length + row % T
    depth = tl.arange(0, BLOCK_D)
    value_depth = tl.arange(0, BLOCK_DV)
    column = tl.arange(0, SELECT_BLOCK)
    end = tl.minimum(length + T, token_capacity)
    blocks = tl.cdiv(end, SELECT_BLOCK)
    each = tl.cdiv(blocks, splits)
    first = split * each
    last = tl.minimum(first + each, blocks)
    head = (group % G) * R + row // T
    q = tl.load(
        q_ptr
        + (group // G) * stride_qb
        + (head * stride_qh + (row % T) * stride_qt)[:, None]
        + depth,
        mask=(row < R * T)[:, None] & (depth < D),
        other=0.0,
    )  # [BLOCK_M, BLOCK_D]
    k_ptr += group * token_capacity * D
    v_ptr += group * token_capacity * DV
    to_mass = mass_ptr + (group * R * T + row) * block_capacity

    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    out = tl.zeros([BLOCK_M, BLOCK_DV], tl.float32)
    for block in tl.range(first, last, num_stages=STAGES):
        index = block * SELECT_BLOCK + column
        there = index < end
        at = index.to(tl.int64)[:, None]
        k = tl.load(
            k_ptr + at * D + depth, mask=there[:, None] & (depth < D), other=0.0
        )  # [SELECT_BLOCK, BLOCK_D]
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_M, SELECT_BLOCK]
        seen = there[None, :] & (index[None, :] <= position[:, None])
        scores = tl.where(seen, scores, float("-inf"))
        probs, shrink, highest, total = _softmax_step(scores, highest, total)
        v = tl.load(
            v_ptr + at * DV + value_depth, mask=there[:, None] & (value_depth < DV), other=0.0
        )  # [SELECT_BLOCK, BLOCK_DV]
        out = tl.dot(probs.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
        # Store the logarithm of the block's mass; the merge normalizes it.
        tl.store(to_mass + block, log_sum(highest, tl.sum(probs, axis=1)), mask=row < R * T)

    to = (group * splits + split) * R * T + row
    tl.store(lse_ptr + to, log_sum(highest, total), mask=row < R * T)
    tl.store(
        partial_ptr + to[:, None] * DV + value_depth,
        out / tl.where(total > 0, total, 1.0)[:, None],
        mask=(row < R * T)[:, None] & (value_depth < DV),
    )


@triton.jit(do_not_specialize=["token_capacity", "block_capacity", "splits"])
def _dense_merge_kernel(
    lse_ptr, partial_ptr, mass_ptr, out_ptr, length_ptr,
    token_capacity, block_capacity, splits,
    M: tl.constexpr, T: tl.constexpr, DV: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_DV: tl.constexpr, BLOCK_N: tl.constexpr, SELECT_BLOCK: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1)
    split = tl.arange(0, BLOCK_S)
    value_depth = tl.arange(0, BLOCK_DV)
    at = (group * splits + split) * M + row
    lse = tl.load(lse_ptr + at, mask=split < splits, other=float("-inf"))
    partial = tl.load(
        partial_ptr + at[:, None] * DV + value_depth,
        mask=(split < splits)[:, None] & (value_depth < DV),
        other=0.0,
    )  # [BLOCK_S, BLOCK_DV]
    # Every token sees itself, so at least one split has seen a key.
    top = tl.max(lse, axis=0)
    share = tl.exp2(lse - top)
    total = tl.sum(share, axis=0)
    out = tl.sum(partial * (share / total)[:, None], axis=0)
    to = group * M + row
    tl.store(
        out_ptr + to * DV + value_depth, out.to(out_ptr.dtype.element_ty), mask=value_depth < DV
    )
    length = tl.load(length_ptr).to(tl.int32)
    blocks = tl.cdiv(tl.minimum(length + T, token_capacity), SELECT_BLOCK)
    whole = top + tl.log2(total)
    mass_ptr += to * block_capacity
    for start in tl.range(0, blocks, BLOCK_N):
        block = start + tl.arange(0, BLOCK_N)
        mass = tl.load(mass_ptr + block, mask=block < blocks, other=float("-inf"))
        tl.store(mass_ptr + block, tl.exp2(mass - whole), mask=block < blocks)


@dataclass(frozen=True, kw_only=True)
class DenseWorkspace:
    """Buffers between the two kernels; layers of a model may share them.

    Attributes:
        select_block: Tokens of a block.
        lse: (B * G, S, M) fp32, base-2 log-sum-exp of each partial output.
        partial: (B * G, S, M, Dv) fp32.
    """

    select_block: int
    lse: Tensor
    partial: Tensor

    @classmethod
    def allocate(
        cls,
        select_block: int,
        *,
        tokens: int,
        batch: int,
        heads: int,
        groups: int,
        capacity: int,
        value_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        programs: int | None = None,
    ) -> DenseWorkspace:
        """Allocate the buffers for steps of these sizes.

        Args:
            select_block: Tokens of a block.
            tokens: T.
            batch: B.
            heads: H.
            groups: G.
            capacity: T_max, tokens.
            value_dim: Dv.
            dtype: The cache's dtype.
            device: The cache's device.
            programs: Programs to divide the work among; as many as the device holds when None.

        Raises:
            UnsupportedError: If the kernels do not support the arguments.
        """
        rows = heads // groups * tokens
        if dtype not in _DTYPES:
            raise UnsupportedError(f"dtype is {dtype}; the dense decode step takes {_DTYPES}")
        if select_block & (select_block - 1) or not 16 <= select_block <= 128:
            raise UnsupportedError(
                f"select_block is {select_block}; the dense decode step takes 16, 32, 64 or 128"
            )
        if rows > MOST_ROWS and tokens > 1:
            raise UnsupportedError(
                f"{tokens} tokens of {heads // groups} heads of a group are {rows} rows; the dense "
                f"decode step takes {MOST_ROWS}"
            )
        if programs is None:
            on_cuda = torch.device(device).type == "cuda"
            programs = 2
            if on_cuda:
                programs *= torch.cuda.get_device_properties(device).multi_processor_count
        most = min(_MOST_SPLITS, triton.cdiv(capacity, select_block))
        splits = max(1, min(most, programs // (batch * groups)))
        shape = (batch * groups, splits, rows)
        return cls(
            select_block=select_block,
            lse=torch.empty(shape, dtype=torch.float32, device=device),
            partial=torch.empty(*shape, value_dim, dtype=torch.float32, device=device),
        )


def dense_decode(
    q: Tensor, k: Tensor, v: Tensor, length: Tensor, mass: Tensor, workspace: DenseWorkspace
) -> Tensor:
    """Attend densely from a few new tokens, which the cache already holds.

    Args:
        q: (B, H, T, D), the new tokens' queries.
        k: (B, G, T_max, D), contiguous.
        v: (B, G, T_max, Dv), contiguous.
        length: (1,) int32, tokens before the new ones, the same for all sequences.
        mass: (B, H, T, N) fp32, contiguous, written in place: the mass that each token gives each
            block that has begun; later blocks keep their values.
        workspace: Buffers that the kernels share.

    Returns:
        (B, H, T, Dv).

    Raises:
        ValueError: If shapes do not match or a tensor is not contiguous.
    """
    batch, heads, tokens, dim = q.shape
    groups, capacity = k.shape[1:3]
    value_dim, repeat, size = v.shape[3], heads // groups, workspace.select_block
    splits, rows = workspace.lse.shape[1:]
    blocks = triton.cdiv(capacity, size)
    if (
        k.shape != (batch, groups, capacity, dim)
        or v.shape[:3] != k.shape[:3]
        or mass.shape != (batch, heads, tokens, blocks)
        or workspace.partial.shape != (batch * groups, splits, repeat * tokens, value_dim)
    ):
        raise ValueError(
            f"shapes do not agree: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
            f"mass {tuple(mass.shape)}, workspace for {tuple(workspace.partial.shape)}"
        )
    if not (k.is_contiguous() and v.is_contiguous() and mass.is_contiguous()):
        raise ValueError("k, v and mass must be contiguous")
    q = q if q.stride(3) == 1 else q.contiguous()
    out = torch.empty(batch, heads, tokens, value_dim, dtype=q.dtype, device=q.device)
    _dense_attend_kernel[(batch * groups, splits)](
        q, k, v, length, mass, workspace.lse, workspace.partial,
        *q.stride()[:3],
        capacity, blocks, splits, dim**-0.5 * LOG2_E,
        G=groups,
        R=repeat,
        T=tokens,
        D=dim,
        DV=value_dim,
        BLOCK_M=pad(rows),
        BLOCK_D=pad(dim),
        BLOCK_DV=pad(value_dim),
        SELECT_BLOCK=size,
        STAGES=_STAGES,
        num_warps=4,
    )  # fmt: skip
    _dense_merge_kernel[(batch * groups, rows)](
        workspace.lse, workspace.partial, mass, out, length,
        capacity, blocks, splits,
        M=rows,
        T=tokens,
        DV=value_dim,
        BLOCK_S=triton.next_power_of_2(splits),
        BLOCK_DV=pad(value_dim),
        BLOCK_N=_BLOCKS_AT_ONCE,
        SELECT_BLOCK=size,
        num_warps=4,
    )  # fmt: skip
    return out
