"""What the ways to fetch a file have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in total."""


class SourceFailed(Exception):  # noqa: N818 - it ends one attempt, not the program
    """One source cannot give the file; the message says why, as a clause."""


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
