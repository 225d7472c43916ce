"""Remove weights of a converted model that prepared files replace, and make them again.

The GGUF file stays and is smaller than its weights in bfloat16: 0.5 GB against 1.3 GB for the
default model. Prepared weights replace all of these but the embedding, so that the converted
folder has no need of them until other weights are prepared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nsa_models.errors import ModelError
from nsa_models.gguf.convert import write_weights
from nsa_models.model_folder import (
    KEPT,
    WEIGHTS,
    Origin,
    files_digest,
    folder_fingerprint,
    lacks_weights,
    read_origin,
    weights_bytes,
    write_origin,
)
from nsa_models.paths import atomic_write, lock_path

_END_BYTES = 1 << 20
"""Bytes at the beginning and at the end of a GGUF file that identify it."""


def shrink(folder: Path, gguf: Path, replaced: Collection[str]) -> None:
    """Remove weights from a converted folder, unless a process uses its lock or the disk refuses.

    What an earlier removal kept stays, since other prepared weights may need it.

    Args:
        folder: The folder, with all weights.
        gguf: The GGUF file that it was converted from.
        replaced: Names of the tensors that are not needed any more.
    """
    path = folder / WEIGHTS
    with (
        suppress(OSError, SafetensorError, Timeout),
        FileLock(lock_path(folder)).acquire(blocking=False),
    ):
        if lacks_weights(folder):
            return
        before = read_origin(folder)
        needed = set() if before is None else set(before.kept)
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name in needed or name not in replaced]  # noqa: SIM118
            kept = {name: file.get_tensor(name) for name in names}
        origin = Origin(
            gguf=str(gguf.resolve()),
            gguf_digest=file_digest(gguf),
            fingerprint=folder_fingerprint(folder),
            files_digest=files_digest(folder),
            weights_bytes=weights_bytes(folder),
            kept=sorted(names),
        )
        with atomic_write(folder / KEPT, locked=True) as partial:
            save_file(kept, partial, metadata={"format": "pt"})
            write_origin(folder, origin)
        path.unlink()


def restore(folder: Path, on_note: Callable[[str], None] = lambda _: None) -> None:
    """Make the weights that were removed from a folder again.

    Args:
        folder: A model's folder; one that has all its weights stays as it is.
        on_note: Called with one line if weights are made.

    Raises:
        ModelError: With code `model_broken` if the GGUF file is missing or another one.
    """
    origin = read_origin(folder)
    if origin is None or not lacks_weights(folder):
        return
    with FileLock(lock_path(folder)):
        if not lacks_weights(folder):
            return
        gguf = Path(origin.gguf)
        if not gguf.is_file() or file_digest(gguf) != origin.gguf_digest:
            raise ModelError(
                f"{folder} needs {gguf} to make its weights again, which is missing or has changed",
                hint="remove the model and fetch it again",
                code="model_broken",
            )
        on_note(f"unpacking the weights of {gguf.name} again")
        with atomic_write(folder / WEIGHTS, locked=True) as partial:
            write_weights(gguf, partial)
        with suppress(OSError):  # Windows keeps a file that is mapped
            (folder / KEPT).unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return a hash of a file's size, beginning and end.

    Raises:
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_END_BYTES)
        file.seek(max(0, size - _END_BYTES))
        return hashlib.sha256(f"{size} ".encode() + first + file.read()).hexdigest()
