"""Release the resident memory of weights that are mapped from files; the next use maps them again.

Prefill does not read the output projection, and a model that has found the passages for another
one is not needed while that one answers.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

_SMAPS = Path("/proc/self/smaps")

_RANGE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)")
"""Addresses and inode of a mapping, in the first line that the system gives of it."""


class _Mapping(NamedTuple):
    """A range of addresses that is mapped from a file, and whether no page of it was written."""

    start: int
    end: int
    unchanged: bool


def release_weights(module: nn.Module) -> None:
    """Release the resident memory of a module's weights that are mapped from files.

    Weights that no file holds, that are on a device, or that changed since they were mapped are
    left as they are. Only Linux tells which ones are mapped.

    Args:
        module: A model or a part of it.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if not sys.platform.startswith("linux") or advice is None:
        return
    weights = [x for x in chain(module.parameters(), module.buffers()) if x.device.type == "cpu"]
    try:
        mappings = list(_file_mappings(_SMAPS.read_text()))
    except OSError:  # not mounted
        return
    for weight in weights:
        start, end = _whole_pages(weight)
        if start < end and any(
            each.unchanged and each.start <= start and end <= each.end for each in mappings
        ):
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)


def _whole_pages(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of the first whole page of a contiguous tensor and after the last."""
    start, page = tensor.data_ptr(), mmap.PAGESIZE
    end = start + tensor.nbytes if tensor.is_contiguous() else start
    return -(-start // page) * page, end // page * page


def _file_mappings(smaps: str) -> Iterator[_Mapping]:
    """Yield the mappings of files in the text of `/proc/self/smaps`."""
    start = end = inode = 0
    for line in smaps.splitlines():
        if (found := _RANGE.match(line)) is not None:
            start, end, inode = int(found[1], 16), int(found[2], 16), int(found[3])
        elif line.startswith("Anonymous:") and inode:
            yield _Mapping(start, end, unchanged=line.split()[1] == "0")
