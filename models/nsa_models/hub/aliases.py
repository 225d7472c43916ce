"""Names that people gave to models of their own: a file in the platform's configuration folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import platformdirs

from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.registry import MODELS

_NAME = re.compile(r"\w[\w.-]*")


def names_file() -> Path:
    """The file; it need not exist."""
    return Path(platformdirs.user_config_dir("nsa")) / "models.json"


def aliases() -> dict[str, Path]:
    """Names, and the GGUF file or the Hugging Face folder that each stands for.

    Raises:
        ModelError: If the file holds something else.
    """
    path = names_file()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})", hint="correct or remove it") from error
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ModelError(f"{path} holds no names of models", hint="correct or remove it")
    return {name: Path(value) for name, value in found.items()}


def add_name(name: str, path: Path, *, replace: bool = False) -> Path:
    """Give a model a name.

    Args:
        name: Letters, digits, `_`, `.` and `-`.
        path: A GGUF file or a Hugging Face folder.
        replace: Whether the name may stand for another model now.

    Returns:
        The path as it is kept, absolute.

    Raises:
        UsageError: If it is no name, or is taken.
        ModelError: If there is no model that can be read, or the file cannot be written.
    """
    if not _NAME.fullmatch(name) or name.endswith(".gguf"):
        raise UsageError(f"{name!r} is no name", hint="say letters, digits, _, . and -")
    names = aliases()
    if name in MODELS:
        raise UsageError(f"{name} is a model of nsa itself", hint="choose another name")
    if name in names and not replace:
        raise UsageError(f"{name} is {names[name]} already", hint="say --force to replace it")
    path = path.expanduser().resolve()
    _check(path)
    _write({**names, name: path})
    return path


def remove_name(name: str) -> bool:
    """Forget a name, not the model; whether there was one."""
    names = aliases()
    if names.pop(name, None) is None:
        return False
    _write(names)
    return True


def _check(path: Path) -> None:
    """Make sure that a model can be read, without reading its weights."""
    if path.is_dir():
        from nsa_models.weights.load import load_config

        load_config(path)
    elif path.is_file():
        from nsa_models.gguf.config import model_config
        from nsa_models.gguf.file import read_gguf

        model_config(read_gguf(path))
    else:
        raise ModelError(
            f"there is no model at {path}", hint="check the path", code="model_missing"
        )


def _write(names: dict[str, Path]) -> None:
    path = names_file()
    partial = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({name: str(names[name]) for name in sorted(names)}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be written: {error.strerror or error}", hint="check its permissions"
        ) from error
