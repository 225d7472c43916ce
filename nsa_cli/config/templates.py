"""Templates: named questions in the `[templates]` table of a settings file.

    [templates]
    parties = "Who are the parties, and when did they sign?"

    [templates.risks]
    questions = ["Which risks of $what are named?", "Who bears them?"]
    system = "Answer in German."

A project's template overrides the user's template of the same name. `-p what=VALUE` fills `$what`.
"""

from __future__ import annotations

import difflib
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa_cli.config.files import project_file, user_file
from nsa_models.errors import UsageError

TABLE = "templates"
_KEYS = ("question", "questions", "system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Named questions.

    Attributes:
        questions: At least one question; `$name` is a placeholder.
        system: Instructions for the model; None for those of the command line or the settings.
        origin: The file that defines the template.
    """

    questions: tuple[str, ...]
    system: str | None
    origin: str

    def filled(self, name: str, values: Mapping[str, str]) -> Template:
        """Return the template with values in place of its placeholders.

        Args:
            name: The template's name, for messages.
            values: A value for each placeholder.

        Raises:
            UsageError: If a value is missing or unused.
        """
        texts = [*self.questions, *([self.system] if self.system else [])]
        wanted = {each for text in texts for each in placeholders(name, text)}
        if missing := sorted(wanted - set(values)):
            raise UsageError(
                f"template {name}: no value for {', '.join(missing)}",
                hint="add " + " ".join(f"-p {each}=…" for each in missing),
            )
        if unused := sorted(set(values) - wanted):
            raise UsageError(
                f"template {name} has no ${unused[0]}", hint=f"leave out -p {unused[0]}"
            )
        *questions, last = (string.Template(text).substitute(values) for text in texts)
        if self.system is None:
            return Template(questions=(*questions, last), system=None, origin=self.origin)
        return Template(questions=tuple(questions), system=last, origin=self.origin)


def placeholders(name: str, text: str) -> set[str]:
    """Return the names of a template's placeholders in a text.

    Args:
        name: The template's name, for messages.
        text: A question or instructions.

    Raises:
        UsageError: If a `$` has no name.
    """
    found = string.Template(text)
    try:
        names = set(found.get_identifiers())
        found.substitute(dict.fromkeys(names, ""))
    except ValueError as error:
        raise UsageError(
            f"template {name}: $ without a name in {text!r}", hint="write $$ for a dollar sign"
        ) from error
    return names


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file; a missing file is empty.

    Raises:
        UsageError: If the file cannot be read, or is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", hint="correct or remove the file"
        ) from error


def read_templates() -> dict[str, Template]:
    """Read all templates, by name.

    Raises:
        UsageError: If a file cannot be read, or has an invalid template.
    """
    project = project_file()
    found: dict[str, Template] = {}
    for path in (user_file(), *([project] if project else [])):
        found |= templates_of(path)
    return dict(sorted(found.items()))


def templates_of(path: Path) -> dict[str, Template]:
    """Read the templates of one file; raises as `read_templates` does."""
    return check_templates(read_toml(path).get(TABLE, {}), str(path))


def check_templates(table: Any, origin: str) -> dict[str, Template]:
    """Return the templates of a file's table.

    Raises:
        UsageError: If the table is invalid.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{origin}: {TABLE} must be a table", hint=f"write [{TABLE}]")
    return {name: _template(name, value, origin) for name, value in table.items()}


def _template(name: str, value: Any, origin: str) -> Template:
    facts = {"question": value} if isinstance(value, str) else value
    where = f"{origin}: template {name}"
    if not isinstance(facts, dict):
        raise UsageError(f"{where} must be text or a table", hint='write name = "question"')
    for key in facts:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(_KEYS)}"
            raise UsageError(f"{where}: unknown key {key!r}", hint=hint)
    asked = facts.get("questions", facts.get("question"))
    asked = [asked] if isinstance(asked, str) else asked
    both = "questions" in facts and "question" in facts
    valid = isinstance(asked, list) and all(isinstance(q, str) and q.strip() for q in asked)
    if both or not valid or not asked:
        raise UsageError(
            f"{where} has no question", hint='write question = "…", or questions = […]'
        )
    system = facts.get("system")
    if system is not None and not isinstance(system, str):
        raise UsageError(f"{where}: system must be text", hint="put it in quotes")
    return Template(questions=tuple(asked), system=system, origin=origin)


def named(name: str) -> Template:
    """Return a template with its placeholders.

    Raises:
        UsageError: If no template has this name.
    """
    found = read_templates()
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {close[0]}?" if close else "see `nsa config list`"
        if not found:
            hint = f'define it with `nsa config set {TABLE}.{name} "QUESTION"`'
        raise UsageError(f"no template {name!r}", hint=hint)
    return found[name]


def template(name: str, assignments: Sequence[str]) -> Template:
    """Return a template with its placeholders filled.

    Args:
        name: The template's name.
        assignments: Values, as `name=value`.

    Raises:
        UsageError: If no template has this name, or values are missing.
    """
    values = {}
    for each in assignments:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UsageError(f"-p {each} has no value", hint="write -p name=value")
        values[key] = value
    return named(name).filled(name, values)
