"""The heap of the process."""

from __future__ import annotations

import ctypes
import sys


def trim_heap() -> None:
    """Return free memory of the heap to the system, where glibc keeps it; takes milliseconds."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
    if trim is not None:
        trim(0)
