"""The stored KV caches, as `nsa cache` lists and removes them.

`about.json` in a KV cache's folder says what it is of, for people and for the removal of all that
is kept of a document.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nsa_models.errors import UsageError
from nsa_models.paths import atomic_write, readings_folder

if TYPE_CHECKING:
    from nsa_cli.documents import Document


_ABOUT = "about.json"
_MOST_SOURCES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """A stored KV cache, as `nsa cache` lists it.

    Attributes:
        id: The beginning of its folder's name.
        name: Name of the document, or an empty string if it has no label.
        sources: Files of the document, the first hundred.
        model: The model that prefilled it.
        tokens: Tokens of the text.
        bytes: Bytes on disk.
        used: When it was last used, in seconds since 1970.
        folder: Its folder.
        contents: Hashes of the document's files.
    """

    id: str
    name: str
    sources: tuple[str, ...]
    model: str
    tokens: int
    bytes: int
    used: float
    folder: Path
    contents: tuple[str, ...] = ()


def write_label(folder: Path, document: Document, model: str, contents: Sequence[str] = ()) -> None:
    """Write the name of a stored KV cache's document, for lists; a full disk is ignored.

    Args:
        folder: Its folder.
        document: The document.
        model: Name of the model.
        contents: Hashes of the document's files; those of files with the same text remain.
    """
    sources = list(dict.fromkeys(piece.source for piece in document.pieces))[:_MOST_SOURCES]
    before = _json(folder / _ABOUT)
    hashes = list(dict.fromkeys([*before.get("contents", ()), *contents]))
    about = {"name": document.name, "sources": sources, "model": model, "contents": hashes}
    with suppress(OSError):
        if folder.is_dir() and before != about:
            with atomic_write(folder / _ABOUT) as partial:
                partial.write_text(json.dumps(about))


def stored_entries() -> list[StoredEntry]:
    """List the stored KV caches, the last used first."""
    found = []
    for manifest in readings_folder().glob("*/manifest.json"):
        folder = manifest.parent
        facts, about = _json(manifest), _json(folder / _ABOUT)
        try:
            used = manifest.stat().st_mtime
        except OSError:  # removed meanwhile
            continue
        found.append(
            StoredEntry(
                id=folder.name[:8],
                name=str(about.get("name", "")),
                sources=tuple(str(source) for source in about.get("sources", ())),
                model=str(about.get("model", "")),
                tokens=int(facts.get("tokens", 0)),
                bytes=disk_bytes(folder),
                used=used,
                folder=folder,
                contents=tuple(str(each) for each in about.get("contents", ())),
            )
        )
    return sorted(found, key=lambda kept: kept.used, reverse=True)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def disk_bytes(folder: Path) -> int:
    """Return the bytes on disk of all files below a folder; holes do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            stat = path.stat()
            total += stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    return total


def find_entries(ids: Sequence[str]) -> list[StoredEntry]:
    """Find stored KV caches by the beginnings of their ids.

    Raises:
        UsageError: If one names none, or several.
    """
    readings = stored_entries()
    picked = []
    for wanted in ids:
        found = [kept for kept in readings if kept.folder.name.startswith(wanted.lower())]
        if len(found) != 1 or not wanted:
            what = "no stored reading" if not found else f"{len(found)} stored readings"
            raise UsageError(f"{wanted!r} names {what}", hint="see `nsa cache list`")
        picked.append(found[0])
    return picked


def remove_folder(folder: Path) -> bool:
    """Remove a stored KV cache; False if another process is writing it."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        with lock.acquire(blocking=False):
            (folder / "manifest.json").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return False
    return True
