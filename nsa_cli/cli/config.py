"""`nsa config`: settings for all commands."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_cli.config import files
from nsa_models.errors import NsaError, UsageError

config = typer.Typer(
    help="""Settings for all commands, in TOML files and NSA_* variables.

\b
    nsa config set model qwen2.5-coder-1.5b
    nsa config set max_tokens 400 --project
    nsa config set templates.parties "Who are the parties?"
    nsa config list

Flags go before NSA_* variables, these before the project's .nsa.toml, that before the user's file.
""",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="KEY", help="See `nsa config list --all`.")]
Project = Annotated[
    bool, typer.Option("--project", help="In .nsa.toml here instead of the user's file.")
]


@config.command("list")
def list_command(
    everything: Annotated[bool, typer.Option("--all", help="What can be set, too.")] = False,
    json: shared.Json = False,
) -> None:
    """What is set, and where."""
    from nsa_cli.config import settings
    from nsa_cli.config.templates import TABLE, read_templates
    from nsa_cli.documents.location import short

    found, templates = settings.effective(), read_templates()
    if json:
        told = {name: asdict(each) for name, each in found.items()}
        named = {name: asdict(each) for name, each in templates.items()}
        console.print_json({"settings": told, TABLE: named})
        return
    rows = [(name, str(each.value), each.origin) for name, each in found.items()]
    rows += [
        (f"{TABLE}.{name}", short(" / ".join(each.questions), 60), each.origin)
        for name, each in templates.items()
    ]
    if everything:
        rows += [(name, "", key.help) for name, key in settings.KEYS.items() if name not in found]
    console.print_rows((), rows)
    if not rows:
        console.note("nothing is set; `nsa config list --all` shows what can be")


@config.command("get")
def get_command(name: Name) -> None:
    """The value of one setting; exit code 1 if it is not set."""
    from nsa_cli.config import settings

    if (called := _template(name)) is not None:
        from nsa_cli.config.templates import named

        sys.stdout.write("\n".join(named(called).questions) + "\n")
        return
    _known(name)
    found = settings.effective().get(name)
    if found is None:
        raise NsaError(f"{name} is not set", hint=f"set it with `nsa config set {name} VALUE`")
    sys.stdout.write(f"{found.value}\n")


@config.command("set")
def set_command(
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE")],
    project: Project = False,
) -> None:
    """Set a value for all commands."""
    import tomlkit

    from nsa_cli.config import settings

    called = _template(name)
    checked = settings.check(name, value, "the command") if called is None else value
    path = _file(project)
    settings.read_file(path)  # a file that cannot be read is not written over
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    document = tomlkit.parse(text)
    if called is not None:
        from nsa_cli.config.templates import TABLE, check_templates

        check_templates({called: value}, "the command")
        document.setdefault(TABLE, tomlkit.table())[called] = value
    else:
        document[name] = checked
    _write(path, tomlkit.dumps(document))
    console.note(f"{name} is {checked} in {path}")
    if called is not None:
        return
    first = settings.effective()[name]
    if first.origin != str(path):
        console.note(f"{first.origin} goes before it and says {first.value}")


@config.command("unset")
def unset_command(name: Name, project: Project = False) -> None:
    """Remove a value."""
    import tomlkit

    from nsa_cli.config import settings
    from nsa_cli.config.templates import TABLE, templates_of

    called = _template(name)
    if called is None:
        _known(name)
    path = _file(project)
    there: Collection[str] = settings.read_file(path)
    if called is not None:
        there = [f"{TABLE}.{each}" for each in templates_of(path)]
    if name not in there:
        raise NsaError(f"{name} is not set in {path}", hint="see `nsa config list`")
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    if called is not None:
        del document[TABLE][called]
    else:
        del document[name]
    _write(path, tomlkit.dumps(document))
    console.note(f"{name} is gone from {path}")


@config.command("path")
def path_command(project: Project = False) -> None:
    """Where the file is."""
    sys.stdout.write(f"{_file(project)}\n")


def _template(name: str) -> str | None:
    """The template that a key names, or None."""
    from nsa_cli.config.templates import TABLE

    table, dot, called = name.partition(".")
    return called if table == TABLE and dot and called else None


def _known(name: str) -> None:
    from nsa_cli.config import settings

    if name not in settings.KEYS:
        raise UsageError(f"there is no setting {name!r}", hint=f"say {', '.join(settings.KEYS)}")


def _file(project: bool) -> Path:

    if not project:
        return files.user_file()
    return files.project_file() or Path.cwd() / files.PROJECT_FILE


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise NsaError(
            f"{path} cannot be written: {error.strerror or error}", hint="check its permissions"
        ) from error
