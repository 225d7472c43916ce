"""Folders of the cache, names of partial files and locks, atomic writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from nsa_models.errors import ModelError

_PARTIAL = ".partial"


def cache_root() -> Path:
    """Return the folder of everything that can be fetched or computed again.

    The environment variable `NSA_CACHE_DIR` replaces the platform's cache folder.

    Raises:
        ModelError: If the user has no home folder, and the variable is not set.
    """
    named = os.environ.get("NSA_CACHE_DIR", "").strip()
    try:
        folder = Path(named or platformdirs.user_cache_dir("nsa")).expanduser()
    except RuntimeError as error:  # neither HOME nor an entry of the user in passwd
        raise ModelError(
            "no home folder for the cache: HOME is not set",
            hint="set NSA_CACHE_DIR to a folder",
            code="no_home",
        ) from error
    return folder


def config_folder() -> Path:
    """Return the folder of settings and aliases, which cannot exist for a user without a home."""
    try:
        return Path(platformdirs.user_config_dir("nsa")).expanduser()
    except RuntimeError:
        return Path(os.devnull, "nsa")


def models_folder() -> Path:
    """Return the folder of fetched and converted models, one subfolder each."""
    return cache_root() / "models"


def prepared_folder() -> Path:
    """Return the folder of prepared weights: with a merged adapter, or quantized."""
    return models_folder() / "prepared"


def readings_folder() -> Path:
    """Return the folder of stored KV caches."""
    return cache_root() / "readings"


def private_folder(folder: Path) -> Path:
    """Create a folder of the cache that only its owner can open, and return it.

    A folder that exists gets the mode 700 too, unless another user owns it.

    Raises:
        OSError: If the folder cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix" and folder.stat().st_mode & 0o777 != 0o700:
        with suppress(OSError):
            folder.chmod(0o700)
    return folder


def imported_name(name: str, digest: str) -> str:
    """Return the folder name, without the import format, of a model with a file's SHA-256."""
    return f"{name}-{digest[:12]}"


def partial_path(path: Path) -> Path:
    """Return the temporary path under which a file or a folder is written."""
    return path.with_name(f".{path.name}{_PARTIAL}")


def partial_targets(folder: Path) -> set[Path]:
    """Return the final paths of the unfinished files and folders in `folder`."""
    unfinished = folder.glob(f".*{_PARTIAL}")
    return {path.with_name(path.name[1 : -len(_PARTIAL)]) for path in unfinished}


def lock_path(path: Path) -> Path:
    """Return the path of the lock that a process holds to write or remove `path`."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def atomic_write(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """Give a temporary path to write, and rename it to `path` when the block succeeds.

    Readers see the old file or the complete new one. When the block raises, the temporary file
    is removed.

    Args:
        path: The file. Its folder is created when missing.
        locked: Whether the caller holds `lock_path(path)`. The temporary path is `partial_path`
            then, so that the next writer replaces the remains of a killed process, and the
            content is flushed to disk. Otherwise each process has its own temporary path.

    Raises:
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path if locked else path.with_name(f"{path.name}.{os.getpid()}"))
    try:
        yield partial
        if locked:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise unless the disk of `folder` has `needed_bytes` free.

    Args:
        folder: An existing folder on the disk in question.
        needed_bytes: Size of the files to write, in bytes.
        purpose: Completes the message, as in "to fetch qwen2.5-coder-0.5b".

    Raises:
        ModelError: With code `disk_full`.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise ModelError(
            f"not enough space in {folder} {purpose}: "
            f"{needed_bytes / 1e9:.2f} GB needed, {free_bytes / 1e9:.2f} GB free",
            hint="free some space, or set NSA_CACHE_DIR to a folder on a larger disk",
            code="disk_full",
        )
