"""A model on this machine: its folder, name, fingerprint and adapter.

A folder that was converted from a GGUF file may lack the weights that prepared files replace; the
file `origin` in it says what it held; see `nsa_models.gguf.shrink`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

SHIPPED = "shipped"
"""Stands for the adapter that is installed with the package."""

WEIGHTS = "model.safetensors"

KEPT = "kept.safetensors"
"""The file in place of `WEIGHTS` when some were removed: other programs find no weights then, and
not a part of them."""

_ORIGIN = "origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on this machine.

    Attributes:
        name: The name that the user gave.
        folder: The Hugging Face folder.
        fingerprint: Changes whenever the weights may have changed.
        adapter: Folder of the adapter to apply, if any.
        verifier: Folder of the changes by which the model checks answers, if any.
        gguf: The GGUF file that the folder was converted from, if it is on this machine.
    """

    name: str
    folder: Path
    fingerprint: str
    adapter: Path | None = None
    verifier: Path | None = field(default=None, compare=False)
    gguf: Path | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a converted folder held before weights were removed from it.

    Attributes:
        gguf: Path of the GGUF file.
        gguf_digest: Its `file_digest`.
        fingerprint: The folder's fingerprint with all weights.
        files_digest: Digest of the folder's other files, with which the fingerprint is valid.
        weights_bytes: Size of all weights.
        kept: Names of the tensors that were kept at the last removal.
    """

    gguf: str
    gguf_digest: str
    fingerprint: str
    files_digest: str
    weights_bytes: int
    kept: list[str]


def read_origin(folder: Path) -> Origin | None:
    """Return what a converted folder held; None if nothing was ever removed from it."""
    try:
        return Origin(**json.loads((folder / _ORIGIN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_origin(folder: Path, origin: Origin) -> None:
    """Write what a converted folder holds.

    Raises:
        OSError: If it cannot be written.
    """
    partial = folder / f"{_ORIGIN}.partial"
    partial.write_text(json.dumps(asdict(origin)), encoding="utf-8")
    partial.replace(folder / _ORIGIN)  # never half a file, nor a change of a hard-linked copy


def lacks_weights(folder: Path) -> bool:
    """Whether weights were removed from a converted folder."""
    return not (folder / WEIGHTS).exists() and read_origin(folder) is not None


def weights_bytes(folder: Path) -> int:
    """Return the bytes of all weights of a model, also of those that were removed."""
    origin = read_origin(folder)
    return _stored_bytes(folder) if origin is None else origin.weights_bytes


def folder_fingerprint(folder: Path) -> str:
    """Return a hash of a folder's path, its config.json, and its files' names, sizes and times.

    The removal of weights that can be made again does not change it.
    """
    origin = read_origin(folder)
    if origin is not None and origin.files_digest == files_digest(folder):
        return origin.fingerprint
    return _digest(folder, ("*.safetensors", "*.json", "*.jinja"))


def files_digest(folder: Path) -> str:
    """Return a hash of a folder's path and its files except weights, as of `folder_fingerprint`."""
    return _digest(folder, ("*.json", "*.jinja"))


def _digest(folder: Path, patterns: tuple[str, ...]) -> str:
    config = folder / "config.json"
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    facts: list[object] = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    facts.append(str(folder.resolve()))
    facts.append(config.read_text() if config.is_file() else "")
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
