"""How much memory this process has used."""

from __future__ import annotations

import sys


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, mapped files included; 0 where it is not known."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
