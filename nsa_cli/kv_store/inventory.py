"""What lies in the cache folder: kept readings, answers and prepared weights.

Beside a reading, `about.json` says what it is of, for people; the reading is whole without it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nsa_models.errors import UsageError
from nsa_models.paths import readings_folder

if TYPE_CHECKING:
    from nsa_cli.documents import Document


_ABOUT = "about.json"


_MOST_SOURCES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A reading that is kept.

    Attributes:
        id: What names it to `nsa cache`.
        name: What it is of, or an empty string where that was not noted.
        sources: Files that it is of, the first hundred.
        model: The model that read it.
        tokens: Its length.
        bytes: What it takes on disk.
        used: When it was last used, in seconds since 1970.
        folder: Where it lies.
    """

    id: str
    name: str
    sources: tuple[str, ...]
    model: str
    tokens: int
    bytes: int
    used: float
    folder: Path


def describe(folder: Path, document: Document, model: str) -> None:
    """Note what a reading is of; a disk that cannot take it is no reason to fail."""
    sources = list(dict.fromkeys(piece.source for piece in document.pieces))[:_MOST_SOURCES]
    about = {"name": document.name, "sources": sources, "model": model}
    partial = folder / f"about.{os.getpid()}.tmp"
    try:
        if not folder.is_dir() or _json(folder / _ABOUT) == about:
            return
        partial.write_text(json.dumps(about))
        partial.replace(folder / _ABOUT)
    except OSError:
        with suppress(OSError):
            partial.unlink()


def kept_readings() -> list[Kept]:
    """All readings that are kept, the one used last first."""
    found = []
    for manifest in readings_folder().glob("*/manifest.json"):
        folder = manifest.parent
        facts, about = _json(manifest), _json(folder / _ABOUT)
        try:
            used = manifest.stat().st_mtime
        except OSError:  # removed meanwhile
            continue
        found.append(
            Kept(
                id=folder.name[:8],
                name=str(about.get("name", "")),
                sources=tuple(str(source) for source in about.get("sources", ())),
                model=str(about.get("model", "")),
                tokens=int(facts.get("tokens", 0)),
                bytes=disk_bytes(folder),
                used=used,
                folder=folder,
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
    """Bytes that all files below a folder take on disk; holes do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            stat = path.stat()
            total += stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    return total


def pick(ids: Sequence[str]) -> list[Kept]:
    """Readings by the beginnings of their ids.

    Raises:
        UsageError: If one names no reading, or several.
    """
    readings = kept_readings()
    picked = []
    for wanted in ids:
        found = [kept for kept in readings if kept.folder.name.startswith(wanted.lower())]
        if len(found) != 1 or not wanted:
            what = "no kept reading" if not found else f"{len(found)} kept readings"
            raise UsageError(f"{wanted!r} names {what}", hint="see `nsa cache list`")
        picked.append(found[0])
    return picked


def remove_folder(folder: Path) -> bool:
    """Remove a reading; False if another process is writing it."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        with lock.acquire(blocking=False):
            (folder / "manifest.json").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return False
    return True
