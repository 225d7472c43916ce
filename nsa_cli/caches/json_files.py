"""Checksummed JSON files, one object each.

A damaged file reads as absent, and a disk that refuses a file is ignored. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nsa_models.paths import atomic_write, private_folder

HASH_LENGTH = 32
"""Digits of the SHA-256 of a file's content that stored data of the file has in its name."""


def path_of(folder: Path, facts: Sequence[Any]) -> Path:
    """Return the file in a folder that belongs to a key."""
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return folder / f"{name}.json"


def read(path: Path) -> dict[str, Any] | None:
    """Return a file's object; None if the file is missing or damaged."""
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
    """Write an object atomically, then evict the least recently used files of its folder.

    Args:
        path: The file, `.json`.
        body: The object.
        most: Files to keep in the folder.
        most_bytes: Bytes to keep in the folder.
    """
    with suppress(OSError, ValueError):  # ValueError: a name that is not UTF-8
        text = json.dumps({**body, "checksum": _checksum(body)}, ensure_ascii=False)
        private_folder(path.parent)
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
        _evict(path.parent, most, most_bytes)


def content_hash(data: bytes) -> str:
    """Return the hash of a file's content that stored data of the file has in its name."""
    return hashlib.sha256(data).hexdigest()[:HASH_LENGTH]


def kept_of(folder: Path, contents: Collection[str], names: Collection[str]) -> list[Path]:
    """List the files of a folder that were made from a document.

    Args:
        folder: Folder of answers and summaries, or of parsed documents.
        contents: Hashes of the document's files, see `content_hash`.
        names: Names of the document's files, as citations have them.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            sources = [kept.get("name"), *kept.get("sources", ())]
            sources += [each["source"] for each in _pieces(kept)]
            made = any(each in contents for each in kept.get("contents", ()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if made or any(is_of(source, names) for source in sources):
            found.append(path)
    return found


def is_of(source: str | None, names: Collection[str]) -> bool:
    """Whether a citation's source is one of some files, or is inside one of them."""
    return source is not None and any(
        source == name or source.startswith(f"{name.rstrip('/')}/") for name in names
    )


def _pieces(kept: dict[str, Any]) -> list[dict[str, Any]]:
    return [*kept.get("pieces", ()), *kept.get("citations", ())]


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _evict(folder: Path, most: int, most_bytes: int) -> None:
    found = [(path.stat(), path) for path in folder.glob("*.json")]
    for stat, path in sorted(found, key=lambda each: each[0].st_mtime, reverse=True):
        most, most_bytes = most - 1, most_bytes - stat.st_size
        if most < 0 or most_bytes < 0:
            path.unlink(missing_ok=True)
