"""Questions with a name: `[templates]` in the files that settings are in.

    [templates]
    parties = "Who are the parties, and when did they sign?"

    [templates.risks]
    questions = ["Which risks of $what are named?", "Who bears them?"]
    system = "Answer in German."

A project's template goes before the user's of the same name. `$what` is filled by `-p what=VALUE`.
"""

from __future__ import annotations

import difflib
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa_models.errors import UsageError

TABLE = "templates"
_KEYS = ("question", "questions", "system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Questions with a name.

    Attributes:
        questions: At least one; `$name` stands for what the command line says.
        system: Instructions for the model, or None for those that are set elsewhere.
        origin: The file that it is in.
    """

    questions: tuple[str, ...]
    system: str | None
    origin: str

    def filled(self, name: str, values: Mapping[str, str]) -> Template:
        """The template with values in the places of names.

        Args:
            name: What the template is called.
            values: By name.

        Raises:
            UsageError: If a value is missing, or has no place.
        """
        texts = [*self.questions, *([self.system] if self.system else [])]
        wanted: set[str] = set()
        for text in texts:
            try:
                wanted |= set(string.Template(text).get_identifiers())
                string.Template(text).substitute(dict.fromkeys(wanted, ""))
            except ValueError as error:
                raise UsageError(
                    f"the template {name} has a $ that names nothing: {text!r}",
                    hint="write $$ for a dollar sign",
                ) from error
        if missing := sorted(wanted - set(values)):
            raise UsageError(
                f"the template {name} needs {', '.join(missing)}",
                hint=" ".join(f"-p {each}=…" for each in missing),
            )
        if idle := sorted(set(values) - wanted):
            raise UsageError(
                f"the template {name} has no ${idle[0]}", hint=f"leave -p {idle[0]} out"
            )
        *questions, last = (string.Template(text).substitute(values) for text in texts)
        if self.system is None:
            return Template(questions=(*questions, last), system=None, origin=self.origin)
        return Template(questions=tuple(questions), system=last, origin=self.origin)


def read_templates() -> dict[str, Template]:
    """All templates, by name.

    Raises:
        UsageError: If a file cannot be read, or holds something else.
    """
    from nsa_cli.config.files import project_file, user_file

    project = project_file()
    found: dict[str, Template] = {}
    for path in (user_file(), *([project] if project else [])):
        found |= templates_of(path)
    return dict(sorted(found.items()))


def templates_of(path: Path) -> dict[str, Template]:
    """The templates of one file; none where there is no file; raises as `read_templates`."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get(TABLE, {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read ({error})", hint="correct or remove it") from error
    return check_templates(table, str(path))


def check_templates(table: Any, origin: str) -> dict[str, Template]:
    """The templates of a file's table.

    Raises:
        UsageError: If it holds something else.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{origin} sets {TABLE}, which is a table", hint=f"write [{TABLE}]")
    return {name: _template(name, value, origin) for name, value in table.items()}


def _template(name: str, value: Any, origin: str) -> Template:
    facts = {"question": value} if isinstance(value, str) else value
    where = f"{origin}: the template {name}"
    if not isinstance(facts, dict):
        raise UsageError(f"{where} is no text", hint='write name = "question"')
    for key in facts:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KEYS)}"
            raise UsageError(f"{where} has {key!r}, which means nothing", hint=hint)
    asked = facts.get("questions", facts.get("question"))
    asked = [asked] if isinstance(asked, str) else asked
    both = "questions" in facts and "question" in facts
    sound = isinstance(asked, list) and all(isinstance(q, str) and q.strip() for q in asked)
    if both or not sound or not asked:
        raise UsageError(
            f"{where} has no question", hint='write question = "…", or questions = […]'
        )
    system = facts.get("system")
    if system is not None and not isinstance(system, str):
        raise UsageError(f"{where} has a system that is no text", hint="write it in quotes")
    return Template(questions=tuple(asked), system=system, origin=origin)


def named(name: str) -> Template:
    """A template as it is written.

    Raises:
        UsageError: If there is none of this name.
    """
    found = read_templates()
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {close[0]}?" if close else "see `nsa config list`"
        if not found:
            hint = f'make it with `nsa config set {TABLE}.{name} "QUESTION"`'
        raise UsageError(f"there is no template {name!r}", hint=hint)
    return found[name]


def template(name: str, said: Sequence[str]) -> Template:
    """A template, filled.

    Args:
        name: What it is called.
        said: Values, as `name=value`.

    Raises:
        UsageError: If there is none of this name, or values are missing.
    """
    values = {}
    for each in said:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UsageError(f"-p {each} gives no value", hint="say -p name=value")
        values[key] = value
    return named(name).filled(name, values)
