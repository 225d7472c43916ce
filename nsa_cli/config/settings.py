"""Settings: what flags leave open is said by `NSA_*` variables or by files.

Flags go before variables, these before the project's file, that before the user's. The user's
file is `config.toml` in the configuration folder of the platform; a project's is `.nsa.toml` in
the current folder or the nearest one above it. Flags are not seen here.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nsa_cli.config import templates
from nsa_cli.config.files import project_file, user_file
from nsa_models.errors import UsageError

Value = str | int | float | bool


Scope = Literal["environment", "project", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Something that can be set.

    Attributes:
        kind: The type of its value.
        choices: Its values, where they are few.
        help: What it means.
    """

    kind: type[str] | type[int] | type[float]
    choices: tuple[str, ...] = ()
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value, and where it was set: a file's path or a variable's name."""

    value: Value
    origin: str
    scope: Scope


KEYS: dict[str, Key] = {
    "model": Key(kind=str, help="a named model, a folder, a .gguf file or a hub id"),
    "device": Key(kind=str, choices=("auto", "cpu", "cuda"), help="what to compute on"),
    "attention": Key(kind=str, choices=("nsa", "dense"), help="how to read"),
    "max_tokens": Key(kind=int, help="tokens of an answer at most"),
    "temperature": Key(kind=float, help="0 always picks the likeliest word"),
    "system": Key(kind=str, help="instructions for the model"),
    "cache_limit": Key(kind=float, help="GB that readings may take"),
    "quantize": Key(kind=str, choices=("int8",), help="store weights in fewer bits, on a CPU"),
    "memory": Key(kind=float, help="GB of memory that reading may take"),
    "answer_blocks": Key(kind=int, help="blocks that a question attends to"),
    "top": Key(kind=int, help="passages that find shows at most"),
    "length": Key(kind=str, choices=("short", "medium", "long"), help="of a summary"),
}


def read_file(path: Path) -> dict[str, Value]:
    """The settings of a file; none where there is no file.

    Raises:
        UsageError: If it is no TOML, or sets what cannot be set.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read ({error})", hint="correct or remove it") from error
    templates.check_templates(found.pop(templates.TABLE, {}), str(path))
    return {name: check(name, value, str(path)) for name, value in found.items()}


def check(name: str, value: Any, origin: str) -> Value:
    """A value as its key wants it.

    Raises:
        UsageError: If there is no such key, or it cannot have this value.
    """
    key = KEYS.get(name)
    if key is None:
        close = difflib.get_close_matches(name, KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
        raise UsageError(f"{origin} sets {name!r}, which is no setting", hint=hint)
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(value)
        if key.kind is str and not isinstance(value, str):
            raise ValueError(value)
        checked = key.kind(value)
        if isinstance(checked, float) and not math.isfinite(checked):
            raise ValueError(value)
        if key.kind is int and isinstance(value, float) and checked != value:
            raise ValueError(value)
    except (ValueError, OverflowError) as error:
        wanted = {str: "a text", int: "a whole number", float: "a number"}[key.kind]
        raise UsageError(f"{origin} sets {name} to {value!r}", hint=f"say {wanted}") from error
    if key.choices and checked not in key.choices:
        raise UsageError(
            f"{origin} sets {name} to {value!r}", hint=f"say {' or '.join(key.choices)}"
        )
    return checked


def variable(name: str) -> str:
    """The environment variable of a key."""
    return f"NSA_{name.upper()}"


def effective(environment: Mapping[str, str] | None = None) -> dict[str, Setting]:
    """What is set outside the command line, each by what goes first.

    Raises:
        UsageError: If a file or a variable sets what cannot be set.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, Setting] = {}
    project = project_file()
    files: list[tuple[Path, Scope]] = [(user_file(), "user")]
    files += [(project, "project")] if project is not None else []
    for path, scope in files:
        for name, value in read_file(path).items():
            found[name] = Setting(value=value, origin=str(path), scope=scope)
    for name in KEYS:
        said = environment.get(variable(name), "").strip()
        if said:
            origin = variable(name)
            value = check(name, said, origin)
            found[name] = Setting(value=value, origin=origin, scope="environment")
    return {name: found[name] for name in KEYS if name in found}
