"""How much memory this process has used, holds, and may take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, mapped files included; 0 where it is not known."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def resident_bytes() -> int:
    """Memory that this process holds now, mapped files included; 0 where it is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_memory_bytes() -> int:
    """Memory that programs can still take without others being pushed out."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (OSError, ValueError):
        return 2**32


def git_commit() -> str:
    """The commit of the source tree that this runs from, or `unknown`."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return "unknown"
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def cause(code: int | None) -> str:
    """What ended a process, by its exit code: a signal or the code itself."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


_SAFE_SHARE = 0.7
"""Of the memory that is free, what reading takes at most unless it is told otherwise."""


def memory_limit(wanted: int | None) -> int:
    """Bytes that reading may take: what was asked for, or a safe share of what is free."""
    return wanted if wanted is not None else int(_SAFE_SHARE * free_memory_bytes())
