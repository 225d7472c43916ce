"""Settings: defaults for command-line options, from `NSA_*` variables and TOML files.

Precedence: flags, then variables, then the project's file, then the user's file. The user's file
is `config.toml` in the platform's configuration folder; the project's file is `.nsa.toml` in the
current folder or the nearest one above it. This module does not see flags.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nsa_cli.config import templates
from nsa_cli.config.files import project_file, user_file
from nsa_cli.config.options import ATTENTIONS, DEVICES, QUANTIZATIONS, either
from nsa_cli.config.summary_length import FEWEST_WORDS, LENGTHS
from nsa_models.errors import UsageError

YES_NO = ("yes", "no")

Value = str | int | float | bool
Scope = Literal["environment", "project", "user"]

_OTHER_VARIABLES = ("NSA_CACHE_DIR", "NSA_OFFLINE", "NSA_API_KEY")
"""Variables of the program that are no settings."""

_TYPES = {str: "text", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingDefinition:
    """The definition of one setting.

    Attributes:
        kind: The type of its value.
        choices: Its allowed values; empty for any.
        help: Its meaning.
        least: Its smallest value, for numbers.
        numbers: Whether a setting with choices may be a whole number instead, from `least`.
    """

    kind: type[str] | type[int] | type[float]
    choices: tuple[str, ...] = ()
    help: str
    least: float = 0
    numbers: bool = False

    @property
    def allowed(self) -> str:
        """Its allowed values in words."""
        if self.choices:
            more = f", or a whole number of at least {self.least:g}" if self.numbers else ""
            return either(self.choices) + more
        kind = _TYPES[self.kind]
        return kind if self.kind is str else f"{kind} of at least {self.least:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value and its origin: a file's path or a variable's name."""

    value: Value
    origin: str
    scope: Scope


def _define(
    kind: type[str] | type[int] | type[float],
    help_: str,
    choices: tuple[str, ...] = (),
    least: float = 0,
) -> SettingDefinition:
    return SettingDefinition(kind=kind, choices=choices, help=help_, least=least)


DEFINITIONS = {
    "model": _define(str, "model name, folder, .gguf file, Hugging Face id, or auto"),
    "answer_model": _define(str, "model that answers from what the model has found, or auto"),
    "device": _define(str, "device to compute on", DEVICES),
    "attention": _define(str, "attention for reading", ATTENTIONS),
    "max_tokens": _define(int, "maximum length of an answer, in tokens", least=1),
    "temperature": _define(float, "sampling temperature; 0 picks the most likely token"),
    "system": _define(str, "instructions for the model"),
    "cache_limit": _define(float, "GB of disk space for stored readings"),
    "quantize": _define(str, "precision of the weights, on a CPU", QUANTIZATIONS),
    "memory": _define(float, "GB of memory for reading"),
    "answer_blocks": _define(int, "blocks that a question attends to", least=1),
    "top": _define(int, "maximum number of passages from `nsa find`", least=1),
    "server": _define(str, "whether `nsa ask` and `nsa find` use a running `nsa serve`", YES_NO),
    "length": SettingDefinition(
        kind=str,
        choices=tuple(LENGTHS),
        help="length of a summary, in words or by name",
        least=FEWEST_WORDS,
        numbers=True,
    ),
}


def read_file(path: Path) -> dict[str, Value]:
    """Read the settings of a file; a missing file has none.

    Raises:
        UsageError: If the file is not valid TOML, or has an unknown setting or an invalid value.
    """
    found = templates.read_toml(path)
    templates.check_templates(found.pop(templates.TABLE, {}), str(path))
    return {name: check(name, value, str(path)) for name, value in found.items()}


def check(name: str, value: Any, origin: str = "") -> Value:
    """Return a value in the type of its setting; messages begin with its origin.

    Raises:
        UsageError: If the setting is unknown, or the value is invalid.
    """
    where = f"{origin}: " if origin else ""
    definition = DEFINITIONS.get(name)
    if definition is None:
        close = difflib.get_close_matches(name, DEFINITIONS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(DEFINITIONS)}"
        raise UsageError(f"{where}unknown setting {name!r}", hint=hint)
    kind, choices = definition.kind, definition.choices
    wrong = f"{where}{name} must be {definition.allowed}, got {value!r}"
    error = UsageError(wrong, hint="see `nsa config list --all`")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise error
    if definition.numbers and isinstance(value, int):
        value = str(value)
    if kind is str and not isinstance(value, str):
        raise error
    try:
        checked = kind(value)
    except (ValueError, OverflowError) as failed:
        raise error from failed
    if isinstance(checked, float) and not math.isfinite(checked):
        raise error
    if kind is int and isinstance(value, float) and checked != value:
        raise error
    if choices and checked not in choices and not _is_number_for(definition, str(checked)):
        raise error
    if not isinstance(checked, str) and checked < definition.least:
        raise error
    return checked


def _is_number_for(definition: SettingDefinition, text: str) -> bool:
    """Whether a setting with choices may be this number, too."""
    is_number = text.isascii() and text.isdecimal()
    return definition.numbers and is_number and int(text) >= definition.least


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"NSA_{name.upper()}"


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the `NSA_*` variables that have no meaning, each with the nearest known name.

    The nearest name is an empty string if none is near.
    """
    known = [*map(variable, DEFINITIONS), *_OTHER_VARIABLES]
    unknown = [name for name in environment if name.startswith("NSA_") and name not in known]
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1)), "")
        for name in sorted(unknown)
    }


def effective(environment: Mapping[str, str] | None = None) -> dict[str, Setting]:
    """Return the settings from environment and files, by precedence.

    Raises:
        UsageError: If a file or a variable has an unknown setting or an invalid value.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, Setting] = {}
    project = project_file()
    files: list[tuple[Path, Scope]] = [(user_file(), "user")]
    files += [(project, "project")] if project is not None else []
    for path, scope in files:
        for name, value in read_file(path).items():
            found[name] = Setting(value=value, origin=str(path), scope=scope)
    for name in DEFINITIONS:
        text = environment.get(variable(name), "").strip()
        if text:
            origin = variable(name)
            value = check(name, text, origin)
            found[name] = Setting(value=value, origin=origin, scope="environment")
    return {name: found[name] for name in DEFINITIONS if name in found}
