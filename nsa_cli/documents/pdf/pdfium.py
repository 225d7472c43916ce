"""PDFium, the library that reads and renders pages."""

from __future__ import annotations

import ctypes
from threading import RLock
from typing import Any

PDFIUM_LOCK = RLock()
"""Held while PDFium works: the library serves one thread at a time."""


def address(pointer: Any) -> int:
    """The address that one of PDFium's handles holds; 0 for none."""
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0
