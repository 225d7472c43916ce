"""Prepared weights on disk: with a merged adapter, or quantized.

Each model, adapter and quantization has one file beside the converted models:

    models/prepared/<folder's name>.<hash of weights, adapter and quantization>.safetensors

It holds the tensors that differ from the model's own files, and is mapped like these. A missing or
damaged file is created again. From a folder that was converted from a GGUF file, the tensors that
prepared weights replace are removed; see `nsa_models.gguf.shrink`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.heap import trim_heap
from nsa_models.model_folder import ModelFolder, lacks_weights
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.paths import (
    atomic_write,
    lock_path,
    partial_path,
    partial_targets,
    prepared_folder,
)
from nsa_models.weights.adapter import HEAD_WEIGHTS, attach_verifier, load_adapter
from nsa_models.weights.load import load_model, load_weights

FORMAT = 3
"""Format version; bump when merging or quantization changes."""


def load_prepared(
    where: ModelFolder,
    config: NSAConfig,
    *,
    device: torch.device | str = "cpu",
    quantization: str | None = None,
    on_note: Callable[[str], None],
) -> NSALanguageModel:
    """Load a model from its prepared weights, and prepare them if they are missing.

    Args:
        where: The model.
        config: Configuration from `load_config`, with the adapter.
        device: Device of the model.
        quantization: One of `QUANTIZATIONS`, or None.
        on_note: Called with one line of progress.

    Returns:
        The same model as `load_model`, bit by bit, with its verifier, if it has one.

    Raises:
        ModelError: As `load_model`.
    """
    model = _prepared(where, config, device, quantization, on_note)
    if where.verifier is not None:
        attach_verifier(model, load_adapter(where.verifier))
    return model


def _prepared(
    where: ModelFolder,
    config: NSAConfig,
    device: torch.device | str,
    quantization: str | None,
    on_note: Callable[[str], None],
) -> NSALanguageModel:
    """Return the model of `load_prepared` without its verifier."""
    if where.adapter is None and quantization is None:
        _restore(where.folder, on_note)
        return load_model(where.folder, config, device=device)
    path = prepared_path(where, quantization)
    model = _mapped(path, where, config, device, quantization)
    if model is not None:
        _shrink(where, path)
        return model
    _restore(where.folder, on_note)
    steps = ["merging the adapter"] * (where.adapter is not None)
    steps += [f"rounding the weights to {quantization}"] * (quantization is not None)
    on_note(f"{' and '.join(steps)} of {where.name}, once")
    model = load_model(
        where.folder, config, device=device, quantization=quantization, adapter=where.adapter
    )
    try:
        _write(path, model, where.folder)
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        on_note(f"cannot store prepared weights in {path.parent}: {why}; continuing without")
        return model
    # Unlike the memory of `model`, mapped pages of the file can be released.
    mapped = _mapped(path, where, config, device, quantization)
    if mapped is None:
        return model
    del model
    trim_heap()
    _shrink(where, path)
    return mapped


def prepared_path(where: ModelFolder, quantization: str | None) -> Path:
    """Return the path of a model's prepared weights."""
    facts = json.dumps([FORMAT, where.fingerprint, quantization])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return prepared_folder() / f"{where.folder.resolve().name}.{digest}.safetensors"


def _restore(folder: Path, on_note: Callable[[str], None]) -> None:
    """Make weights again that were removed from a converted folder."""
    if lacks_weights(folder):
        from nsa_models.gguf.shrink import restore

        restore(folder, on_note)


def _shrink(where: ModelFolder, path: Path) -> None:
    """Remove from a converted folder what its prepared weights replace; the GGUF file stays."""
    # Windows removes no file that is mapped.
    if where.gguf is not None and os.name == "posix" and not lacks_weights(where.folder):
        from nsa_models.gguf.shrink import shrink  # reads GGUF files with large libraries

        with suppress(OSError, SafetensorError), safe_open(path, framework="pt") as file:
            shrink(where.folder, where.gguf, set(file.keys()))


def _mapped(
    path: Path,
    where: ModelFolder,
    config: NSAConfig,
    device: torch.device | str,
    quantization: str | None,
) -> NSALanguageModel | None:
    """Load a model from prepared weights; None if the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        model = load_model(
            where.folder, config, device=device, quantization=quantization, prepared=path
        )
    except ModelError:  # damaged or removed; the caller loads and checks the model itself
        return None
    with suppress(OSError):  # a read-only disk, or the file was removed
        os.utime(path)
    return model


def _write(path: Path, model: NSALanguageModel, folder: Path) -> None:
    """Write the tensors that differ from a model's own files, unless another process does.

    Raises:
        OSError: If the disk is full or cannot be written.
    """
    stored = load_weights(folder)
    changed = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not _same(tensor, stored.get(name), stored.get("model.embed_tokens.weight"))
    }
    if model.retrieval_head_weights is not None:
        changed[HEAD_WEIGHTS] = model.retrieval_head_weights
    needed = sum(tensor.nbytes for tensor in changed.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    # The system releases the lock of a killed process.
    with suppress(Timeout), FileLock(lock_path(path)).acquire(blocking=False):
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and {free:,} are free")
        try:
            with atomic_write(path, locked=True) as partial:
                save_file({name: x.cpu().contiguous() for name, x in changed.items()}, partial)
        except SafetensorError as error:  # contains the system's error only as text
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code)) from error


def _same(tensor: Tensor, *stored: Tensor | None) -> bool:
    """Return whether a tensor equals one of the stored tensors."""
    return any(
        x is not None
        and x.dtype == tensor.dtype
        and x.shape == tensor.shape
        and torch.equal(x, tensor.cpu())
        for x in stored
    )


def prepared_weights(folder: Path | None = None) -> list[Path]:
    """Return the files of prepared weights, unfinished ones included, of one model or of all."""
    name = "" if folder is None else f"{folder.name}."
    prepared = prepared_folder()
    files = partial_targets(prepared) | set(prepared.glob("*.safetensors"))
    return sorted(path for path in files if path.name.startswith(name))


def last_use(path: Path) -> float:
    """Return the time of the last use or write of prepared weights, in seconds since 1970."""
    times = []
    for file in (path, partial_path(path)):
        with suppress(FileNotFoundError):
            times.append(file.stat().st_mtime)
    return max(times, default=0.0)


def remove_prepared(path: Path) -> int | None:
    """Remove prepared weights; the next use creates them again.

    Returns:
        Freed bytes; None if another process is writing the file, or uses it on Windows.
    """
    freed = 0
    try:
        with FileLock(lock_path(path)).acquire(blocking=False):
            for file in (path, partial_path(path)):
                with suppress(FileNotFoundError):
                    size = file.stat().st_size
                    file.unlink()
                    freed += size
    except (Timeout, PermissionError):
        return None
    return freed
