"""Write the reference in docs/reference from the program itself.

    python examples/write_reference.py

`--check` writes nothing and fails if a page is not current.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
GOLDEN = ROOT / "tests" / "nsa_cli" / "cli" / "golden"
PACKAGES = (ROOT / "nsa_cli", ROOT / "models" / "nsa_models")
MARK = "<!-- Written by examples/write_reference.py from the program. Do not edit. -->"

JSON_SHAPES = {
    "nsa ask": "json-ask-text-who.json",
    "nsa ask with several questions": "json-ask-text-a-who-a-when.json",
    "nsa find": "json-find-text-worker-top-2.json",
    "nsa summarize": "json-summarize-text-length-short.json",
    "nsa eval": "json-eval-needle-lengths-1500-depths-1-bm25.json",
    "nsa cache list": "json-cache-list.json",
    "nsa cache size": "json-cache-size.json",
    "nsa models list": "json-models-list.json",
    "nsa models show": "json-models-show-model.json",
    "nsa config list": "json-config-list.json",
    "nsa doctor": "json-doctor.json",
    "Errors": "json-ask-missing-who.json",
}
"""Title and checked shape of each JSON object that a command prints."""

VARIABLES = (
    ("NSA_CACHE_DIR", "Folder for models, stored readings, parsed text and answers."),
    ("NSA_OFFLINE", "`1` forbids the network; so does `HF_HUB_OFFLINE`."),
    ("HF_HUB_OFFLINE", "As `NSA_OFFLINE`."),
    ("HF_ENDPOINT", "Mirror of the Hugging Face hub."),
    ("NSA_API_KEY", "API key of `nsa serve`, as `--api-key`."),
    ("NO_COLOR", "`1` turns colors off, as `--no-color`."),
)
"""Variables that are no settings; each occurs in the source."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, with pipes escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines]


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the name and the click command of every command of the program."""
    from nsa_cli.cli.app import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for each, child in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {each}", child)

    yield from walk("nsa", typer.main.get_command(app))


def option_row(option: Any) -> tuple[str, str, str]:
    """Return an option's names with its value, its default and its meaning."""
    flags = [*sorted(option.opts, key=len), *option.secondary_opts]
    names = ", ".join(f"`{flag}`" for flag in flags)
    value = "" if option.is_flag or not option.metavar else f" `{option.metavar}`"
    default = ""
    if isinstance(option.show_default, str):
        default = option.show_default
    elif option.secondary_opts:
        default = f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    elif not option.is_flag and option.default is not None:
        default = f"`{option.default}`"
    elif option.required:
        default = "required"
    about = option.help or ""
    if option.envvar:
        about += f" Variable: `{option.envvar}`."
    return names + value, default, about


def command_section(name: str, command: Any) -> list[str]:
    """Return the lines about one command: usage, description, examples, options by group."""
    from nsa_cli.cli.options import COMMON, PANELS

    lines = [f"## {name}", ""]
    options = [each for each in command.params if each.param_type_name == "option"]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    words = [name, *(["[OPTIONS]"] if options else [])]
    words += [usage(each) for each in arguments]
    if hasattr(command, "commands"):
        words.append("COMMAND")
    lines += ["```text", " ".join(words), "```", "", *help_text(command.help or ""), ""]
    if arguments:
        rows = [(f"`{each.metavar}`", each.help or "") for each in arguments]
        lines += [*table(("Argument", "Meaning"), rows), ""]
    for panel in PANELS:
        own = [each for each in options if (each.rich_help_panel or COMMON) == panel]
        shown = [option_row(each) for each in own if not each.hidden]
        if shown:
            lines += [*table((f"{panel} options", "Default", "Meaning"), shown), ""]
    return lines


def usage(argument: Any) -> str:
    """Return an argument as the usage line has it."""
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return f"{name}..." if argument.nargs == -1 else str(name)


def help_text(text: str) -> list[str]:
    """Return a command's help, its unwrapped blocks as code."""
    lines = []
    for block in inspect.cleandoc(text).split("\n\n"):
        if block.startswith("\b"):
            body = inspect.cleandoc(block.removeprefix("\b\n")).splitlines()
            if body[0].endswith(":") and not body[0].startswith("nsa "):
                lines += [body[0], ""]
                body = inspect.cleandoc("\n".join(["", *body[1:]])).splitlines()
            fence = "console" if any("nsa " in line for line in body) else "text"
            prompt = "$ " if fence == "console" else ""
            lines += [f"```{fence}", *(f"{prompt}{line}" for line in body), "```", ""]
        else:
            lines += [" ".join(block.split()), ""]
    return lines[:-1]


def commands_page() -> str:
    """Return the page of commands and options."""
    found = list(commands())
    lines = ["# Commands", "", "Every command takes `-h` and `--help`.", ""]
    for name, command in found:
        lines += command_section(name, command)
    return page(lines)


def settings_page() -> str:
    """Return the page of settings and environment variables."""
    from nsa_cli.config.settings import DEFINITIONS, variable

    takers: dict[str, list[str]] = {}
    for name, command in commands():
        if name.count(" ") == 1:
            for param in command.params:
                takers.setdefault(str(param.name), []).append(f"`{name}`")
    from nsa_cli.cli import app

    configured = {f"`nsa {name}`" for name in app._CONFIGURED}
    rows = []
    for name, definition in DEFINITIONS.items():
        kind = " or ".join(f"`{each}`" for each in definition.choices)
        kind = kind or {str: "text", int: "whole number", float: "number"}[definition.kind]
        users = ", ".join(each for each in takers.get(name, ()) if each in configured)
        rows.append((f"`{name}`", kind, f"`{variable(name)}`", definition.help, users))
    source = "".join(
        path.read_text("utf-8") for folder in PACKAGES for path in folder.rglob("*.py")
    )
    unknown = [name for name, _ in VARIABLES if f'"{name}"' not in source]
    assert not unknown, f"variables that the program does not read: {unknown}"
    return page(
        [
            *("# Settings", ""),
            "A setting is the default of the option of the same name. Precedence: flags, then",
            "`NSA_*` variables, then the project's `.nsa.toml`, then the user's file. See",
            "[the guide](../guide/settings.md).",
            "",
            *table(("Setting", "Value", "Variable", "Meaning", "Commands"), rows),
            *("", "## Other environment variables", ""),
            *table(("Variable", "Meaning"), [(f"`{name}`", about) for name, about in VARIABLES]),
        ]
    )


def error_classes() -> list[type]:
    """Return the error classes of the program that set an exit code, by exit code."""
    from nsa_cli.cli.errors import Ended, Interrupted
    from nsa_cli.documents.errors import UnreadableError
    from nsa_models.errors import DataError, DoesNotFitError, ModelError, NsaError, UsageError

    found = [NsaError, ModelError, UsageError, UnreadableError, DataError, DoesNotFitError]
    return [*found, Interrupted, Ended]


def raised_codes() -> dict[str, set[str]]:
    """Return the error classes that the source raises with each code."""
    found: dict[str, set[str]] = {}
    for path in sorted(path for folder in PACKAGES for path in folder.rglob("*.py")):
        if path.is_relative_to(ROOT / "nsa_cli" / "serve"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                for keyword in node.keywords:
                    value = keyword.value
                    if keyword.arg == "code" and isinstance(value, ast.Constant):
                        found.setdefault(str(value.value), set()).add(node.func.id)
    return found


def exit_codes_page() -> str:
    """Return the page of exit codes and error codes."""
    from nsa_cli.cli.app import app

    block = (app.info.help or "").split("Exit codes:\n")[1]
    rows = [line.split(maxsplit=1) for line in block.strip().splitlines()]
    classes = {each.__name__: each for each in error_classes()}
    codes = {each.default_code: {each.exit_code} for each in classes.values()}
    for code, names in raised_codes().items():
        known = {classes[name].exit_code for name in names if name in classes}
        if known:
            codes[code] = codes.get(code, set()) | known
    from nsa_cli.output.hints import HINTS

    ordered = sorted((sorted(found), code) for code, found in codes.items())
    named = [
        (f"`{code}`", " or ".join(map(str, found)), HINTS.get(code, "")) for found, code in ordered
    ]
    return page(
        [
            *("# Exit codes", ""),
            *table(("Code", "Meaning"), [(code, about) for code, about in rows]),
            "",
            "`nsa doctor` exits with 1 if a check fails; `nsa config get` does if the setting has",
            "no value.",
            *("", "## Error codes", ""),
            "With `--json` an error is an object with `code`, `message` and `hint`. Codes are",
            "stable; messages are not. An empty last column means that the hint depends on the",
            "case.",
            "",
            *table(("Error code", "Exit code", "Hint"), named),
        ]
    )


def attributes(of: type) -> list[tuple[str, str]]:
    """Return the fields of a dataclass with their descriptions from its docstrings."""
    about: dict[str, str] = {}
    for each in reversed(of.__mro__):
        text = inspect.cleandoc(each.__doc__ or "")
        section = text.partition("Attributes:\n")[2].partition("\n\n")[0]
        for name, told in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
            about[name] = " ".join(told.split())
    missing = [each.name for each in fields(of) if each.name not in about]
    assert not missing, f"{of.__name__}: no description of {', '.join(missing)}"
    return [(f"`{each.name}`", about[each.name].replace("None", "`null`")) for each in fields(of)]


def json_page() -> str:
    """Return the page of JSON objects."""
    from nsa_cli.batch import result_file
    from nsa_cli.events import AnswerFinished
    from nsa_cli.results import Citation, Estimate, FileTokens, Stats

    lines = [
        *("# JSON", ""),
        "`--json` prints one object on standard output. The shapes below name the type of each",
        "value; a field that may be empty is `null`. Tests compare them with the program.",
    ]
    described = {
        "An answer": AnswerFinished,
        "A citation": Citation,
        "Statistics": Stats,
        "A row of `nsa batch`": result_file.ResultRow,
        "`estimate` of `nsa ask --dry-run`": Estimate,
        "`files` of `nsa ask --dry-run`": FileTokens,
    }
    lines += ["", "## Fields"]
    for title, of in described.items():
        lines += ["", f"### {title}", "", *table(("Field", "Meaning"), attributes(of))]
        if of is result_file.ResultRow:
            columns = ", ".join(f"`{name}`" for name in result_file._CSV_FIELDS)
            lines += ["", "In CSV a row has these columns, with the first citation alone:", columns]
    lines += ["", "## Shapes"]
    for title, name in JSON_SHAPES.items():
        shape = json.loads((GOLDEN / name).read_text("utf-8"))
        for answer in shape.get("answers", [shape]):
            if "attention" in answer:
                answer["attention"] = {"reading": "…", "answering": "…"}
        lines += [
            "",
            f"### {title}",
            "",
            "```text",
            json.dumps(shape, indent=2, ensure_ascii=False),
        ]
        lines.append("```")
    return page(lines)


def http_page() -> str:
    """Return the page of the server's routes."""
    from nsa_cli.serve import fields, formats, requests
    from nsa_cli.serve.routes import Server

    server = Server(None, None, 1)  # the list of routes needs no state
    rows = []
    for route in server.app(api_key=None, most_bytes=0).routes:
        about = inspect.getdoc(route.endpoint)
        assert about, f"{route.path}: its handler has no docstring"
        methods = ", ".join(sorted(route.methods - {"HEAD"}))
        rows.append((methods, f"`{route.path.replace(':path', '')}`", " ".join(about.split())))
    neutral = [
        (f"`{name}`", ", ".join(f"`{json.dumps(value)}`" for value in values))
        for name, values in fields._NEUTRAL.items()
    ]
    refused = [(f"`{name}`", advice) for name, advice in fields._REFUSED.items()]
    statuses = sorted(formats._STATUS.items(), key=lambda item: (item[1], item[0]))
    chat, response, ignored = (
        ", ".join(f"`{name}`" for name in names)
        for names in (
            requests._CHAT_FIELDS,
            requests._RESPONSE_FIELDS,
            sorted(fields._WITHOUT_EFFECT),
        )
    )
    return page(
        [
            *("# HTTP routes", "", "[The guide](../guide/server.md) has examples.", ""),
            *table(("Method", "Path", "What it does"), rows),
            *("", "## Fields of requests for answers", ""),
            f"`/v1/chat/completions` supports {chat}.",
            "",
            f"`/v1/responses` supports {response}.",
            "",
            f"Accepted without effect: {ignored}; and with these values:",
            "",
            *table(("Field", "Values"), neutral),
            "",
            "With any other value, these fields are an error (400, `invalid_request`):",
            "",
            *table(("Field", "What to do"), refused),
            "",
            "The server ignores all other fields, and names them in the list `warnings` of the",
            "answer's body, or of the last chunk of a stream.",
            *("", "## Statuses of errors", ""),
            *table(("Status", "Code"), [(str(status), f"`{code}`") for code, status in statuses]),
            "",
            "A document that cannot be read or does not fit has status 400, any other failure 500.",
        ]
    )


def page(lines: Sequence[str]) -> str:
    """Return a page with the mark that it is written by this script."""
    title, *rest = lines
    text = "\n".join([title, "", MARK, *rest])
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Return every page of the reference by its file name."""
    return {
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "exit-codes.md": exit_codes_page(),
        "json.md": json_page(),
        "http.md": http_page(),
    }


def write(folder: Path, texts: Mapping[str, str], words: Sequence[str]) -> int:
    """Write the texts of files by name, or with `--check` name those that are not current."""
    stale = []
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in words:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name in stale:
        state = "is not current" if "--check" in words else "written"
        print(f"docs/{folder.name}/{name}: {state}")
    return 1 if stale and "--check" in words else 0


def main(words: Sequence[str]) -> int:
    """Write the pages, or with `--check` name those that are not current."""
    return write(FOLDER, pages(), words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
