"""Weights made ready once and kept on disk: an adapter merged in, or fewer bits.

Beside the unpacked models lies one file for each way in which a model was made ready:

    models/prepared/<folder's name>.<hash of weights, adapter and bits>.safetensors

It holds only what differs from the model's own files, and is mapped like these. Making it anew is
always possible, so whatever goes wrong with it costs time and memory, never the answer.
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
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.model_folder import ModelFolder
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.paths import lock_path, partial_path, prepared_folder
from nsa_models.weights.load import EVIDENCE, load_model, load_weights

FORMAT = 3
"""Raised when weights are merged or rounded differently, so that old files are not used."""


def load_prepared(
    where: ModelFolder,
    config: NSAConfig,
    *,
    device: torch.device | str = "cpu",
    quantization: str | None = None,
    on_note: Callable[[str], None],
) -> NSALanguageModel:
    """Load a model with its adapter from the kept file, made first where there is none.

    Args:
        where: The model.
        config: From `load_config`, with the adapter.
        device: Where to run.
        quantization: One of `QUANTIZATIONS`, or None.
        on_note: Called with one line about what is being done.

    Returns:
        What `load_model` gives, bit by bit.

    Raises:
        ModelError: As `load_model` does.
    """
    if where.adapter is None and quantization is None:
        return load_model(where.folder, config, device=device)
    path = prepared_path(where, quantization)
    model = _mapped(path, where, config, device, quantization)
    if model is not None:
        return model
    steps = ["merging the adapter"] * (where.adapter is not None)
    steps += [f"rounding the weights to {quantization}"] * (quantization is not None)
    on_note(f"{' and '.join(steps)} of {where.name}, once")
    model = load_model(
        where.folder, config, device=device, quantization=quantization, adapter=where.adapter
    )
    try:
        _keep(path, model, where.folder)
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        on_note(f"these weights are not kept in {path.parent}: {why}; going on without")
        return model
    # What was made lies in memory of its own; the file's pages can be let go of.
    return _mapped(path, where, config, device, quantization) or model


def prepared_path(where: ModelFolder, quantization: str | None) -> Path:
    """Where the weights of a model made ready are kept."""
    facts = json.dumps([FORMAT, where.fingerprint, quantization])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return prepared_folder() / f"{where.folder.resolve().name}.{digest}.safetensors"


def _mapped(
    path: Path,
    where: ModelFolder,
    config: NSAConfig,
    device: torch.device | str,
    quantization: str | None,
) -> NSALanguageModel | None:
    """A model of the kept file, or None if there is none that is whole."""
    if not path.is_file():
        return None
    try:
        model = load_model(
            where.folder, config, device=device, quantization=quantization, prepared=path
        )
    except ModelError:  # damaged, or removed meanwhile; the model itself is checked again next
        return None
    with suppress(OSError):  # a read-only disk, or removed since
        os.utime(path)
    return model


def _keep(path: Path, model: NSALanguageModel, folder: Path) -> None:
    """Write what differs from a model's own files; the file appears whole or not at all.

    Raises:
        OSError: If the disk has no room or cannot be written.
    """
    own = load_weights(folder)
    changed = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not _same(tensor, own.get(name), own.get("model.embed_tokens.weight"))
    }
    if model.evidence is not None:
        changed[EVIDENCE] = model.evidence
    needed = sum(tensor.nbytes for tensor in changed.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    # A process that is killed lets go of the lock, and the next one writes over what it left.
    with suppress(Timeout), FileLock(lock_path(path)).acquire(blocking=False):
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and {free:,} are free")
        try:
            save_file({name: x.cpu().contiguous() for name, x in changed.items()}, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except SafetensorError as error:  # says what the system said in words alone
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code)) from error
        finally:
            partial.unlink(missing_ok=True)


def _same(tensor: Tensor, *own: Tensor | None) -> bool:
    """Whether a tensor is one of the model's own as it was."""
    return any(
        each is not None
        and each.dtype == tensor.dtype
        and each.shape == tensor.shape
        and torch.equal(each, tensor.cpu())
        for each in own
    )


def prepared_weights(folder: Path | None = None) -> list[Path]:
    """Files of weights made ready once, of all models or of the model of one folder."""
    name = "" if folder is None else f"{folder.name}."
    # One that was cut short left only what it had written.
    written = {path.with_name(path.name[1:-8]) for path in prepared_folder().glob(".*.partial")}
    files = written | set(prepared_folder().glob("*.safetensors"))
    return sorted(path for path in files if path.name.startswith(name))


def last_use(path: Path) -> float:
    """When prepared weights were last used or written at, in seconds since 1970."""
    times = []
    for each in (path, partial_path(path)):
        with suppress(FileNotFoundError):
            times.append(each.stat().st_mtime)
    return max(times, default=0.0)


def remove_prepared(path: Path) -> int | None:
    """Remove prepared weights, which are made again when they are needed.

    Returns:
        Bytes freed; None if another process is writing them, or Windows has them in use.
    """
    freed = 0
    try:
        with FileLock(lock_path(path)).acquire(blocking=False):
            for each in (path, partial_path(path)):
                with suppress(FileNotFoundError):
                    size = each.stat().st_size
                    each.unlink()
                    freed += size
    except (Timeout, PermissionError):
        return None
    return freed
