"""Where the program keeps what it fetched and what it read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import platformdirs

from nsa_models.errors import ModelError


def cache_root() -> Path:
    """The folder of everything the program can fetch or compute again.

    `NSA_CACHE_DIR` names another one than the platform's own.
    """
    named = os.environ.get("NSA_CACHE_DIR", "").strip()
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("nsa"))


def models_folder() -> Path:
    """Where fetched and converted models lie, one folder each."""
    return cache_root() / "models"


def prepared_folder() -> Path:
    """Where weights made ready once lie: an adapter merged in, or fewer bits."""
    return models_folder() / "prepared"


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def lock_path(path: Path) -> Path:
    """The lock that a process holds while it writes a file or removes it."""
    return path.with_name(f".{path.name}.lock")


def readings_folder() -> Path:
    """Where the readings of documents lie."""
    return cache_root() / "readings"


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Make sure that `folder` can take `needed_bytes` more.

    Args:
        folder: An existing folder on the disk in question.
        needed_bytes: What is about to be written, in bytes.
        purpose: What for, as in "to fetch qwen2.5-coder-0.5b".

    Raises:
        ModelError: With code `disk_full` when the disk has less room than that.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ModelError(
            f"not enough room in {folder} {purpose}: "
            f"{needed_bytes / 1e9:.2f} GB needed, {free_bytes / 1e9:.2f} GB free",
            hint="free some space, or set NSA_CACHE_DIR to a folder on a larger disk",
            code="disk_full",
        )
