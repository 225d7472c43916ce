"""Whether the Hopper kernels support a call; the plain Triton kernels take the others.

This module does not import Gluon, so that it also works with a Triton without Gluon.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

import torch
import triton
from torch import Tensor

from nsa_kernels.gpu.layout import Problem

_GLUON = (
    "triton.experimental.gluon.nvidia.hopper",
    "triton.experimental.gluon.language.nvidia.hopper",
)
"""Modules of Triton that these kernels import."""

_VERSIONS = ((3, 6),)
"""Versions of Triton with which these kernels were tested on a GPU.

Gluon changes between versions: 3.9 does not compile these kernels, and a kernel that compiles may
still deadlock at a barrier. Add a version once the GPU tests pass with it.
"""

_MOST_PER_BLOCK = 16
"""Most summaries of a selection block: as many as one warp holds."""

_MOST_ENTRIES = 128
"""Most entries of a warpgroup's merged list."""


def _serves(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernels support a device, a dtype and head dims."""
    return (
        x.dtype in (torch.bfloat16, torch.float16)
        and problem.packing is None
        and problem.dim == problem.value_dim
        and problem.dim in (64, 128)
        and _is_hopper(x.device)
        and has_gluon()
    )


def serves_band(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernels can attend to a band of keys; `x` is any of the tensors.

    Heads of a group are padded to a power of two. Where more than an eighth of the rows would be
    padding, the plain Triton kernels are as fast.
    """
    heads = pad_heads(problem.repeat)
    return heads <= 64 and 8 * problem.repeat >= 7 * heads and _serves(problem, x)


def serves_importance(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernels can compute the importance of blocks for single queries."""
    s = problem.settings
    return (
        s.select_tile == s.score_stride == 1
        and s.select_block // s.compress_stride <= _MOST_PER_BLOCK
        and problem.repeat <= 16
        and _serves(problem, x)
    )


def serves_keys(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernels can compute the gradients of a band's keys and values.

    The tensor memory engine loads one number per head, in units of 16 bytes.
    """
    return problem.repeat % 4 == 0 and 64 % problem.repeat == 0 and serves_band(problem, x)


def serves_rows(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernels can compute the gradient of queries, of a band or of merged lists.

    They were tested on a GPU for 16 heads of a group.
    """
    return problem.dim == 128 and problem.repeat == 16 and serves_band(problem, x)


def serves_selected_keys(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernel can compute the gradients of selected keys and values."""
    return (
        problem.queries > 1
        and problem.settings.select_block == 64
        and problem.dim == 128
        and problem.repeat in (16, 32, 64)
        and _serves(problem, x)
    )


def serves_merged(problem: Problem, x: Tensor, count: int) -> bool:
    """Whether the Hopper kernel can attend to merged lists; `count` is n, blocks of one list.

    An entry of a list has bits for 8 queries, 9 for its place and 15 for its block. At head dims
    of 64 the plain Triton kernel is as fast.
    """
    s = problem.settings
    return (
        problem.queries > 1
        and s.select_block == 64
        and problem.dim == 128
        and 4 < problem.repeat <= 32
        and 64 // pad_heads(problem.repeat) * count <= _MOST_ENTRIES
        and problem.blocks <= 1 << 15
        and _serves(problem, x)
    )


def serves_listed(problem: Problem, x: Tensor) -> bool:
    """Whether the Hopper kernel can attend to the lists of `union` mode.

    A program's 128 rows must lie in one tile. Where more than an eighth of
    the rows would be padding, merged lists are as fast.
    """
    s = problem.settings
    heads = pad_heads(problem.repeat)
    queries = 128 // heads
    return (
        s.combine == "union"
        and problem.queries > 1
        and s.select_block == 64
        and heads <= 64
        and 8 * problem.repeat >= 7 * heads
        and queries <= s.select_tile
        and problem.offset % queries == 0
        and _serves(problem, x)
    )


def pad_heads(repeat: int) -> int:
    """Heads per group in a tile: padded to a power of two."""
    return int(triton.next_power_of_2(repeat))


@cache
def _is_hopper(device: torch.device) -> bool:
    """Whether a device is an NVIDIA GPU of compute capability 9."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device)[0] == 9


@cache
def has_gluon() -> bool:
    """Whether the installed Triton has the version of Gluon that these kernels need."""
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version not in _VERSIONS or triton.knobs.runtime.interpret:
        return False
    try:
        for module in _GLUON:
            import_module(module)
    except ImportError:
        return False
    return True
