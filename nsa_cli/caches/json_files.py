"""Small files that come back as they were written, or not at all.

Each holds one JSON object with a checksum. A disk that cannot take one is no reason to fail, and
one that is damaged is as good as none. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any] | None:
    """What was kept in a file; None if it is not there or not whole."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = kept.pop("checksum") == _checksum(kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if whole:
        with suppress(OSError):  # a read-only disk
            os.utime(path)
    return kept if whole else None


def write(path: Path, body: dict[str, Any], *, most: int, most_bytes: int = 2**63) -> None:
    """Keep an object, whole or not at all; of its folder's files those used longest ago go.

    Args:
        path: The file, `.json`.
        body: What JSON can say.
        most: Files that its folder keeps.
        most_bytes: Bytes that they may take.
    """
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**body, "checksum": _checksum(body)}, ensure_ascii=False)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
        _forget_oldest(path.parent, most, most_bytes)
    except (OSError, ValueError):  # ValueError: a name that is no UTF-8
        with suppress(OSError):
            partial.unlink()


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _forget_oldest(folder: Path, most: int, most_bytes: int) -> None:
    found = [(path.stat(), path) for path in folder.glob("*.json")]
    for stat, path in sorted(found, key=lambda each: each[0].st_mtime, reverse=True):
        most, most_bytes = most - 1, most_bytes - stat.st_size
        if most < 0 or most_bytes < 0:
            path.unlink(missing_ok=True)
