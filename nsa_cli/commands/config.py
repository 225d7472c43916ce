"""`nsa config`: settings for all commands."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.commands import shared
from nsa_models.errors import NsaError, UsageError

config = typer.Typer(
    help="""Settings for all commands, in TOML files and NSA_* variables.

\b
    nsa config set model qwen2.5-coder-1.5b
    nsa config set max_tokens 400 --project
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
    from nsa_cli import settings

    found = settings.effective()
    if json:
        shared.print_json({"settings": {name: asdict(each) for name, each in found.items()}})
        return
    rows = [(name, str(each.value), each.origin) for name, each in found.items()]
    if everything:
        rows += [(name, "", key.help) for name, key in settings.KEYS.items() if name not in found]
    shared.print_rows((), rows)
    if not rows:
        shared.note("nothing is set; `nsa config list --all` shows what can be")


@config.command("get")
def get_command(name: Name) -> None:
    """The value of one setting; exit code 1 if it is not set."""
    from nsa_cli import settings

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

    from nsa_cli import settings

    checked = settings.check(name, value, "the command")
    path = _file(project)
    settings.read_file(path)  # a file that cannot be read is not written over
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    document = tomlkit.parse(text)
    document[name] = checked
    _write(path, tomlkit.dumps(document))
    shared.note(f"{name} is {checked} in {path}")
    first = settings.effective()[name]
    if first.origin != str(path):
        shared.note(f"{first.origin} goes before it and says {first.value}")


@config.command("unset")
def unset_command(name: Name, project: Project = False) -> None:
    """Remove a value."""
    import tomlkit

    from nsa_cli import settings

    _known(name)
    path = _file(project)
    if name not in settings.read_file(path):
        raise NsaError(f"{name} is not set in {path}", hint="see `nsa config list`")
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    del document[name]
    _write(path, tomlkit.dumps(document))
    shared.note(f"{name} is gone from {path}")


@config.command("path")
def path_command(project: Project = False) -> None:
    """Where the file is."""
    sys.stdout.write(f"{_file(project)}\n")


def _known(name: str) -> None:
    from nsa_cli import settings

    if name not in settings.KEYS:
        raise UsageError(f"there is no setting {name!r}", hint=f"say {', '.join(settings.KEYS)}")


def _file(project: bool) -> Path:
    from nsa_cli import settings

    if not project:
        return settings.user_file()
    return settings.project_file() or Path.cwd() / settings.PROJECT_FILE


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
