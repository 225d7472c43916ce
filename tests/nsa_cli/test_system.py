"""Peak memory, in bytes."""

from __future__ import annotations

import subprocess
import sys


def test_the_peak_rises_with_use() -> None:
    """In a process of its own, which has used little so far."""
    program = (
        "from nsa_cli.system import peak_memory_bytes as peak\n"
        "before = peak()\n"
        "filled = bytearray(b'1') * (before + 200_000_000)\n"
        "after, size = peak(), len(filled)\n"
        "del filled\n"
        "print(size <= after < before + 2 * size, peak() >= after)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"True", b"True"]
