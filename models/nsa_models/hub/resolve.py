"""Resolve the name of a model to a folder on this machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nsa_models.errors import ModelError
from nsa_models.hub.aliases import aliases
from nsa_models.hub.offline import offline_variable
from nsa_models.hub.registry import MODELS, model_entry
from nsa_models.model_folder import SHIPPED, ModelFolder, folder_fingerprint, lacks_weights
from nsa_models.paths import imported_name, models_folder

IMPORT_FORMAT = 1
"""Format version of converted folders; bump when the conversion changes."""

_READ_BYTES = 1 << 20
"""Bytes of an adapter that are read at a time."""

_WANTED = ("*.json", "*.safetensors", "*.jinja", "tokenizer*")
"""Patterns of a model's files on the hub."""

NamedProgress = Callable[[str, int, int], None]
"""Called with the name of the work, its completed bytes and the total bytes."""

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Pattern of ids `owner/name` on the Hugging Face hub."""


def resolve_model(
    name: str,
    *,
    on_progress: NamedProgress,
    on_note: Callable[[str], None],
    adapter: str | None = SHIPPED,
    on_fetched: Callable[[], None] = lambda: None,
) -> ModelFolder:
    """Return a model and its adapter; fetch and convert the model if needed.

    Args:
        name: A built-in model, an alias, a `.gguf` file, a Hugging Face folder, or a hub id
            `owner/name`.
        adapter: Folder of an adapter; `SHIPPED` for the one installed with the package, if the
            model has one; None for no adapter.
        on_progress: Called while bytes are fetched or written.
        on_note: Called with one line of progress.
        on_fetched: Called when the file of a built-in model is on this machine, before it is
            converted.

    Raises:
        ModelError: If the model is unknown, unavailable or unreadable, or the adapter is missing
            (code `adapter_missing`).
    """
    model = _base_model(name, on_progress, on_note, on_fetched)
    folder = Path(adapter).expanduser() if adapter else None
    if adapter == SHIPPED:
        folder = _shipped_adapter(name)
        verifier = _shipped_verifier(name)
        if name in MODELS and verifier.is_dir():
            model = replace(model, verifier=verifier)
        if name not in MODELS or not folder.is_dir():
            return model
    if folder is None:
        return model
    if not (folder / "adapter.json").is_file():
        raise ModelError(
            f"{folder} is not an adapter: it has no adapter.json", code="adapter_missing"
        )
    return replace(
        model, fingerprint=f"{model.fingerprint}:{adapter_fingerprint(folder)}", adapter=folder
    )


def equal_quantizations(where: ModelFolder) -> tuple[str, ...]:
    """Return the quantizations that answer as well as the weights of a model as stored.

    Only built-in models are tested, with their own adapter or none.
    """
    entry = MODELS.get(where.name)
    own = where.adapter in (None, _shipped_adapter(where.name))
    return () if entry is None or not own else entry.tested_quantizations


def _shipped_adapter(name: str) -> Path:
    return Path(__file__).parents[1] / "adapters" / name


def _shipped_verifier(name: str) -> Path:
    return Path(__file__).parents[1] / "verifiers" / name


def adapter_fingerprint(folder: Path) -> str:
    """Return a hash of an adapter's files, which becomes part of the weights' fingerprint."""
    digest = hashlib.sha256()
    for path in [folder / "adapter.json", *sorted(folder.glob("*.safetensors"))]:
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
    return digest.hexdigest()[:16]


def fingerprint_with_verifier(where: ModelFolder) -> str:
    """Return the fingerprint of a model and of its verifier's training run and file sizes."""
    if where.verifier is None:
        return where.fingerprint
    sizes = [file.stat().st_size for file in sorted(where.verifier.glob("*.safetensors"))]
    head = (where.verifier / "adapter.json").read_text(encoding="utf-8")
    return f"{where.fingerprint}:{_digest([head, *sizes])[:16]}"


def is_ready(name: str) -> bool:
    """Whether a model needs no fetch and no conversion, or is none of the built-in ones."""
    if name not in MODELS:
        return True
    folder, file = _paths(name)
    return folder.is_dir() and (file.is_file() or not lacks_weights(folder))


def _paths(name: str) -> tuple[Path, Path]:
    """Return the converted folder and the GGUF file of a built-in model."""
    entry = model_entry(name)
    folder = models_folder() / f"{imported_name(name, entry.sha256)}-{IMPORT_FORMAT}"
    return folder, models_folder() / f"{name}.gguf"


def _base_model(
    name: str,
    on_progress: NamedProgress,
    on_note: Callable[[str], None],
    on_fetched: Callable[[], None],
) -> ModelFolder:
    if name in MODELS:
        return _built_in(name, on_progress, on_note, on_fetched)
    stored_aliases = aliases() if "/" not in name and "\\" not in name else {}
    path = stored_aliases.get(name) or Path(name).expanduser()
    if name in stored_aliases and not path.exists():
        raise ModelError(f"{name} stands for {path}, which does not exist", code="alias_broken")
    if path.is_file():
        stat = path.stat()
        digest = _digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns, IMPORT_FORMAT])
        folder = models_folder() / imported_name(path.stem, digest)
        return _imported(name, path, folder, on_progress)
    if path.is_dir():
        return ModelFolder(name=name, folder=path, fingerprint=folder_fingerprint(path))
    if HUB_ID.fullmatch(name) and path.suffix != ".gguf":
        return _from_hub(name, on_note)
    if path.suffix == ".gguf" or "/" in name or "\\" in name:
        raise ModelError(
            f"no model at {name}",
            hint="check the path, or name one of " + ", ".join(MODELS),
            code="model_missing",
        )
    model_entry(name)
    raise AssertionError(name)


def _built_in(
    name: str,
    on_progress: NamedProgress,
    on_note: Callable[[str], None],
    on_fetched: Callable[[], None],
) -> ModelFolder:
    folder, file = _paths(name)
    if is_ready(name):
        gguf = file if file.is_file() else None
        fingerprint = folder_fingerprint(folder)
        return ModelFolder(name=name, folder=folder, fingerprint=fingerprint, gguf=gguf)
    from nsa_models.hub.fetch import fetch_model

    gguf = fetch_model(
        model_entry(name),
        models_folder(),
        on_progress=lambda done, total: on_progress(f"Fetching {name}", done, total),
        on_note=on_note,
    )
    on_fetched()
    return _imported(name, gguf, folder, on_progress)


def _imported(name: str, gguf: Path, folder: Path, on_progress: NamedProgress) -> ModelFolder:
    if not folder.is_dir():
        from nsa_models.gguf.convert import import_gguf

        try:
            import_gguf(
                gguf,
                folder,
                on_progress=lambda done, total: on_progress(f"Unpacking {name}", done, total),
            )
        except OSError as error:
            raise ModelError(
                f"cannot write {name} to {folder}: {error.strerror or error}",
                hint="free some space, or set NSA_CACHE_DIR to a writable folder",
                code="disk",
            ) from error
    fingerprint = folder_fingerprint(folder)
    return ModelFolder(name=name, folder=folder, fingerprint=fingerprint, gguf=gguf)


def gguf_of(name: str) -> Path | None:
    """Return the GGUF file of a model on this machine, or None if it has none.

    Args:
        name: A name that `resolve_model` accepts.
    """
    path = models_folder() / f"{name}.gguf" if name in MODELS else aliases().get(name, Path(name))
    path = path.expanduser()
    return path if path.suffix == ".gguf" and path.is_file() else None


def _from_hub(name: str, on_note: Callable[[str], None]) -> ModelFolder:
    folder = from_hub(name, on_note=on_note)
    return ModelFolder(name=name, folder=folder, fingerprint=folder_fingerprint(folder))


def from_hub(
    name: str,
    *,
    patterns: Sequence[str] = _WANTED,
    on_note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fetch the missing files of a hub id and return its folder.

    Args:
        name: `owner/name`.
        patterns: Patterns of the files to fetch.
        on_note: Called with one line of progress.

    Raises:
        ModelError: With code `model_unavailable`.
    """
    from huggingface_hub import snapshot_download

    offline = offline_variable()
    if not offline:
        on_note(f"looking up {name} on the Hugging Face hub")
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(patterns),
                local_files_only=offline is not None,
                etag_timeout=5,
            )
        )
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot fetch {name} from the Hugging Face hub: {why}",
            hint="name a folder or a .gguf file on this machine, or one of " + ", ".join(MODELS),
            code="model_unavailable",
        ) from error


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
