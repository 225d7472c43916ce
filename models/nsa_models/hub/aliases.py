"""Aliases of models, in a file of the platform's configuration folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.registry import MODELS
from nsa_models.paths import atomic_write, config_folder

_NAME = re.compile(r"\w[\w.-]*")


def names_file() -> Path:
    """Return the path of the file, which may be missing."""
    return config_folder() / "models.json"


def aliases() -> dict[str, Path]:
    """Return the aliases: names and paths of GGUF files or Hugging Face folders.

    Raises:
        ModelError: If the file is unreadable or malformed.
    """
    path = names_file()
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}", hint="correct or remove it") from error
    if not isinstance(names, dict) or not all(isinstance(path, str) for path in names.values()):
        raise ModelError(f"{path} is not an object of names and paths", hint="correct or remove it")
    return {name: Path(value) for name, value in names.items()}


def add_name(name: str, path: Path, *, replace: bool = False) -> Path:
    """Add an alias.

    Args:
        name: Letters, digits, `_`, `.` and `-`.
        path: A GGUF file or a Hugging Face folder.
        replace: Whether to replace an existing alias.

    Returns:
        The stored, absolute path.

    Raises:
        UsageError: If the name is invalid, or taken (code `alias_taken`).
        ModelError: If the model cannot be read or the file cannot be written.
    """
    if not _NAME.fullmatch(name) or name.endswith(".gguf"):
        raise UsageError(f"{name!r} is not a valid name", hint="use letters, digits, _, . and -")
    names = aliases()
    if name in MODELS:
        raise UsageError(f"{name} is a built-in model", hint="choose another name")
    if name in names and not replace:
        raise UsageError(f"{name} already stands for {names[name]}", code="alias_taken")
    path = path.expanduser().resolve()
    _check(path)
    _write({**names, name: path})
    return path


def remove_name(name: str) -> bool:
    """Remove an alias, not the model; return whether it existed."""
    names = aliases()
    if names.pop(name, None) is None:
        return False
    _write(names)
    return True


def _check(path: Path) -> None:
    """Raise unless a model can be read; its weights stay unread."""
    if path.is_dir():
        from nsa_models.weights.load import load_config

        load_config(path)
    elif path.is_file():
        from nsa_models.gguf.config import model_config
        from nsa_models.gguf.file import read_gguf

        model_config(read_gguf(path))
    else:
        raise ModelError(f"no model at {path}", hint="check the path", code="model_missing")


def _write(names: dict[str, Path]) -> None:
    path = names_file()
    text = json.dumps({name: str(names[name]) for name in sorted(names)}, indent=1)
    try:
        with atomic_write(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error.strerror or error}", hint="check its permissions"
        ) from error
