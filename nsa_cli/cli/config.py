"""`nsa config`."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nsa_cli.cli import completion, console, options
from nsa_cli.cli.command import App
from nsa_cli.config import files
from nsa_cli.config.options import AUTO
from nsa_models.errors import ModelError, NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.config.settings import Setting

config = App(
    help="""Show and change settings, the defaults of options.

\b
    nsa config set model qwen2.5-coder-1.5b
    nsa config set max_tokens 400 --project
    nsa config set templates.parties "Who are the parties?"
    nsa config list

Precedence: flags, then NSA_* variables, then the project's .nsa.toml, then the user's file.
"""
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="See `nsa config list --all`.",
        autocompletion=completion.setting_names,
    ),
]
Project = Annotated[
    bool, options.option("--project", None, "Use .nsa.toml here instead of the user's file.")
]


@config.command("list")
def list_command(
    everything: Annotated[
        bool,
        options.option("--all", None, "List all settings, with defaults and allowed values."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List settings and templates with their origins."""
    from nsa_cli.config import settings
    from nsa_cli.config.templates import TABLE, read_templates
    from nsa_cli.documents.location import short

    found, templates = settings.effective(), read_templates()
    if json:
        values = {name: asdict(each) for name, each in found.items()}
        named = {name: asdict(each) for name, each in templates.items()}
        known = {}
        if everything:
            keys = ("value", "from", "allowed", "meaning")
            rows = _all_settings(found)
            known["all"] = {name: dict(zip(keys, rows[name], strict=True)) for name in rows}
        console.print_json({"settings": values, TABLE: named, **known})
        return
    questions = {
        f"{TABLE}.{name}": (short(" / ".join(each.questions), 60), each.origin)
        for name, each in templates.items()
    }
    if everything:
        table = [(name, *row) for name, row in _all_settings(found).items()]
        table += [(name, *row, "text", "template") for name, row in questions.items()]
        console.print_rows(("KEY", "VALUE", "FROM", "ALLOWED", "MEANING"), table, paths=(2,))
        return
    set_rows = [(name, str(each.value), each.origin) for name, each in found.items()]
    set_rows += [(name, *row) for name, row in questions.items()]
    console.print_rows((), set_rows, paths=(2,))
    if not set_rows:
        console.note("no settings; `nsa config list --all` lists what can be set", quiet=quiet)


def _all_settings(found: Mapping[str, Setting]) -> dict[str, tuple[str, str, str, str]]:
    """Return value, origin, allowed values and meaning of every setting."""
    from nsa_cli.config.settings import DEFINITIONS
    from nsa_cli.engine.answer_model import reading_model

    defaults = _defaults()
    device = found.get("device")
    chosen = reading_model(AUTO, defaults["device"] if device is None else str(device.value))
    rows = {}
    for name, each in DEFINITIONS.items():
        setting = found.get(name)
        value = defaults[name] if setting is None else str(setting.value)
        origin = "default" if setting is None else setting.origin
        here = f"; here {chosen}" if name == "model" and value == AUTO else ""
        rows[name] = (value, origin, each.allowed, each.help + here)
    return rows


_WORDS = {True: "yes", False: "no", None: "none"}


def _defaults() -> dict[str, str]:
    """Return the default of every setting in words, as the help shows it."""
    import inspect

    from nsa_cli.cli.ask import ask
    from nsa_cli.cli.find import find
    from nsa_cli.cli.summarize import summarize
    from nsa_cli.config.settings import DEFINITIONS

    declared = {
        each.name: each
        for command in (find, summarize, options.SharedOptions, ask)
        for each in inspect.signature(command, eval_str=True).parameters.values()
    }
    defaults = {}
    for name in DEFINITIONS:
        [about] = getattr(declared[name].annotation, "__metadata__", (None,))[:1]
        shown = getattr(about, "show_default", None)
        default = declared[name].default
        if not isinstance(shown, str):
            shown = _WORDS[default] if isinstance(default, bool | None) else str(default)
        defaults[name] = shown
    return defaults


@config.command("get")
def get_command(name: Name) -> None:
    """Print a setting; exit with code 1 if it has no value."""
    from nsa_cli.config import settings

    if (template := _template(name)) is not None:
        from nsa_cli.config.templates import named

        sys.stdout.write("\n".join(named(template).questions) + "\n")
        return
    _check_name(name)
    found = settings.effective().get(name)
    if found is None:
        raise NsaError(f"{name} is not set", hint=f"set it with `nsa config set {name} VALUE`")
    sys.stdout.write(f"{found.value}\n")


@config.command("set")
def set_command(
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.")],
    project: Project = False,
    quiet: options.Quiet = False,
) -> None:
    """Change a setting."""
    import tomlkit

    from nsa_cli.config import settings

    template = _template(name)
    checked = settings.check(name, value) if template is None else value
    if name in ("model", "answer_model") and value != AUTO:
        _check_model(value)
    if name == "device":
        _check_device(value)
    path = _file(project)
    settings.read_file(path)  # never overwrite a file that cannot be read
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    document = tomlkit.parse(text)
    if template is not None:
        from nsa_cli.config.templates import TABLE, check_templates, placeholders

        check_templates({template: value}, "command line")
        placeholders(template, value)
        document.setdefault(TABLE, tomlkit.table())[template] = value
    else:
        document[name] = checked
    console.write_text(path, tomlkit.dumps(document))
    console.note(f"set {name} to {checked} in {path}", quiet=quiet)
    if template is not None:
        return
    first = settings.effective()[name]
    if first.origin != str(path):
        console.note(f"overridden by {first.origin} (= {first.value})", quiet=quiet)


@config.command("unset")
def unset_command(name: Name, project: Project = False, quiet: options.Quiet = False) -> None:
    """Remove a setting."""
    import tomlkit

    from nsa_cli.config import settings
    from nsa_cli.config.templates import TABLE, templates_of

    template = _template(name)
    if template is None:
        _check_name(name)
    path = _file(project)
    present: Collection[str] = settings.read_file(path)
    if template is not None:
        present = [f"{TABLE}.{each}" for each in templates_of(path)]
    if name not in present:
        raise NsaError(f"{name} is not set in {path}", hint="see `nsa config list`")
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    if template is not None:
        del document[TABLE][template]
        if not document[TABLE]:
            del document[TABLE]
    else:
        del document[name]
    console.write_text(path, tomlkit.dumps(document))
    console.note(f"removed {name} from {path}", quiet=quiet)


@config.command("path")
def path_command(project: Project = False) -> None:
    """Print the path of the settings file."""
    sys.stdout.write(f"{_file(project)}\n")


def _template(name: str) -> str | None:
    """Return the template that a key names, or None."""
    from nsa_cli.config.templates import TABLE

    table, dot, template = name.partition(".")
    return template if table == TABLE and dot and template else None


def _check_model(name: str) -> None:
    """Refuse a model that does not exist; a hub id is not looked up.

    Raises:
        ModelError: If there is no such model.
    """
    from nsa_cli.output.hints import HINTS
    from nsa_models.hub.aliases import aliases
    from nsa_models.hub.registry import MODELS, model_entry
    from nsa_models.hub.resolve import HUB_ID

    path = Path(name).expanduser()
    if name in MODELS or name in aliases():
        return
    if path.exists():
        if not (path.is_dir() or path.suffix == ".gguf"):
            raise ModelError(
                f"{path} is neither a folder nor a .gguf file",
                hint=HINTS["model_missing"],
                code="model_unsupported",
            )
        return
    if path.suffix == ".gguf" or path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"no model at {name}", code="model_missing")
    if not HUB_ID.fullmatch(name):
        model_entry(name)


def _check_device(name: str) -> None:
    """Refuse a device that this machine lacks.

    Raises:
        UsageError: If there is no such device.
    """
    if name != "cuda":
        return
    from nsa_models.cache.layer_devices import pick_device

    try:
        pick_device(name)
    except UsageError as error:
        error.hint = f"set device to {AUTO}, which is cuda where a machine has it"
        raise


def _check_name(name: str) -> None:
    from nsa_cli.config.settings import DEFINITIONS

    if name not in DEFINITIONS:
        raise UsageError(f"unknown setting {name!r}", hint=f"use one of {', '.join(DEFINITIONS)}")


def _file(project: bool) -> Path:
    if not project:
        return files.user_file()
    return files.project_file() or Path.cwd() / files.PROJECT_FILE
