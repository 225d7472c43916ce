"""The last tokens of a stored KV cache whose branches have separate keys and values.

A model with separate keys and values for compression and window, or with a learned φ, needs more
than keys, values and compressed keys of the whole text to continue: the window's last tokens and
those of the last incomplete compression block. They are few, and only those of the end of a text
are stored, in `branches-<tokens>.bin`: a safetensors file with a checksum after it. One is written
before each record of the journal, and the one before is removed after it, so that the file of the
last record exists whenever a process is killed.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from nsa_models.cache.kv_cache import BranchState, KVCache
from nsa_models.paths import atomic_write

_FIRSTS = "firsts"
_CHECKSUM = struct.Struct("<I")


def write_branch_state(folder: Path, cache: KVCache) -> None:
    """Write the last tokens of a cache's branches.

    Args:
        folder: Folder of the stored KV cache.
        cache: The cache, with separate branches.

    Raises:
        OSError: If the disk has no room or cannot be written.
    """
    state = cache.branch_state()
    tensors = {
        f"{layer}.{part}": x.contiguous()
        for layer, held in enumerate(state)
        for part, (_, x) in enumerate(held)
    }
    tensors[_FIRSTS] = torch.tensor([[first for first, _ in held] for held in state])
    body = save(tensors)
    with atomic_write(_path(folder, cache.length)) as partial:
        partial.write_bytes(body + _CHECKSUM.pack(zlib.crc32(body)))


def read_branch_state(folder: Path, tokens: int) -> BranchState | None:
    """Read the last tokens of the branches of a stored KV cache of `tokens` tokens.

    Returns:
        The state for `KVCache.restore_branches`; None if it is missing or has a wrong checksum.
    """
    try:
        data = _path(folder, tokens).read_bytes()
        body, stored = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
        if stored != _CHECKSUM.pack(zlib.crc32(body)):
            return None
        tensors = load(body)
    except (OSError, struct.error, SafetensorError):
        return None
    firsts: list[list[int]] = tensors[_FIRSTS].tolist()
    return [
        [(first, tensors[f"{layer}.{part}"]) for part, first in enumerate(held)]
        for layer, held in enumerate(firsts)
    ]


def remove_earlier_states(folder: Path, tokens: int) -> None:
    """Remove the files of all lengths but `tokens`; one that cannot be removed is ignored."""
    for path in folder.glob("branches-*.bin"):
        if path != _path(folder, tokens):
            with suppress(OSError):
                path.unlink()


def _path(folder: Path, tokens: int) -> Path:
    return folder / f"branches-{tokens}.bin"
