"""Types and helpers of all sources of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

ByteProgress = Callable[[int, int], None]
"""Called with the fetched bytes and the total bytes."""


class SourceFailed(Exception):  # noqa: N818 - it ends one attempt, not the program
    """A source cannot provide the file; the message is the reason, as a clause."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
