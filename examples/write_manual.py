"""Write the manual pages in docs/man from the program itself.

    python examples/write_manual.py

`--check` writes nothing and fails if a page is not current. The wheel installs the pages as
share/man/man1; `man -l docs/man/nsa.1` shows one.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import write_reference as reference

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "man"
_RELEASE = re.compile(r"^## \[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def escaped(text: str) -> str:
    """Return text for roff: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def bold(text: str) -> str:
    """Return text in bold type."""
    return f"\\fB{escaped(text)}\\fR"


def italic(text: str) -> str:
    """Return text in italic type."""
    return f"\\fI{escaped(text)}\\fR"


def help_lines(text: str) -> Iterator[str]:
    """Yield the lines of a command's help: paragraphs, and blocks whose lines stay."""
    for block in inspect.cleandoc(text).split("\n\n"):
        if not block.startswith("\b"):
            yield from (".PP", escaped(" ".join(block.split())))
            continue
        body = inspect.cleandoc(block.removeprefix("\b\n")).splitlines()
        if body[0].endswith(":"):
            yield from (".PP", escaped(body[0]))
            body = inspect.cleandoc("\n".join(["", *body[1:]])).splitlines()
        yield from (".PP", ".RS 4", ".nf", *map(escaped, body), ".fi", ".RE")


def option_lines(option: Any) -> Iterator[str]:
    """Yield the lines of one option: names, value, meaning, default."""
    flags = [*sorted(option.opts, key=len), *option.secondary_opts]
    _, default, about = reference.option_row(option)
    value = "" if option.is_flag or not option.metavar else f" {italic(option.metavar)}"
    yield from (".TP", ", ".join(map(bold, flags)) + value)
    yield escaped(about + (f" Default: {default}." if default else ""))


def synopsis(name: str, command: Any) -> str:
    """Return the usage line of a command."""
    options = [each for each in command.params if each.param_type_name == "option"]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    words = ["[OPTIONS]"] if options else []
    words += [reference.usage(each) for each in arguments]
    words += ["COMMAND"] if hasattr(command, "commands") else []
    return " ".join([bold(name), *map(italic, words)])


def command_lines(command: Any) -> Iterator[str]:
    """Yield the lines about one command: help, arguments, options by group."""
    from nsa_cli.cli.options import COMMON, PANELS

    options = [each for each in command.params if each.param_type_name == "option"]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    yield from help_lines(command.help or "")
    for argument in arguments:
        yield from (".TP", italic(argument.metavar), escaped(argument.help or ""))
    for panel in PANELS:
        own = [each for each in options if (each.rich_help_panel or COMMON) == panel]
        own = [each for each in own if not each.hidden]
        if own:
            yield from (".PP", f"{panel} options:")
            for option in own:
                yield from option_lines(option)


def title(name: str, about: str) -> list[str]:
    """Return the first lines of a page, whose name has a hyphen for each space."""
    from nsa_cli import __version__

    dashed = name.replace(" ", "-")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = _RELEASE.search(changes)
    date = released[1] if released else ""
    return [
        '.\\" Written by examples/write_manual.py from the program. Do not edit.',
        f'.TH {escaped(dashed.upper())} 1 "{date}" "nsa {__version__}" "User Commands"',
        ".SH NAME",
        f"{escaped(dashed)} \\- {escaped(about.rstrip('.'))}",
    ]


def about_of(command: Any) -> str:
    """Return the first sentence of a command's help."""
    first = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return first.split(". ")[0]


def main_page(found: Sequence[tuple[str, Any]]) -> str:
    """Return the page of the program, with its commands, settings and variables."""
    from nsa_cli.config.settings import DEFINITIONS, variable

    name, command = found[0]
    lines = [*title(name, about_of(command)), ".SH SYNOPSIS", synopsis(name, command)]
    lines += [".SH DESCRIPTION", *command_lines(command), ".SH COMMANDS"]
    for each, child in found[1:]:
        if each.count(" ") == 1:
            lines += [".TP", f"{bold(each.replace(' ', '-'))}(1)", escaped(about_of(child))]
    lines.append(".SH ENVIRONMENT")
    variables = [(variable(each), about.help) for each, about in DEFINITIONS.items()]
    for each, meaning in (*variables, *reference.VARIABLES):
        lines += [".TP", bold(each), escaped(meaning)]
    lines += [".SH FILES", ".TP", bold(".nsa.toml"), "Settings of a project."]
    lines += [".PP", f"{bold('nsa config path')} prints the path of the user's settings."]
    return joined(lines)


def command_page(name: str, found: Sequence[tuple[str, Any]]) -> str:
    """Return the page of a command with its subcommands."""
    own = [(each, child) for each, child in found if f"{each} ".startswith(f"{name} ")]
    lines = [*title(name, about_of(own[0][1])), ".SH SYNOPSIS", synopsis(*own[0])]
    lines += [".SH DESCRIPTION", *command_lines(own[0][1])]
    for each, child in own[1:]:
        lines += [f".SH {escaped(each.upper())}", synopsis(each, child), *command_lines(child)]
    return joined([*lines, ".SH SEE ALSO", f"{bold('nsa')}(1)"])


def joined(lines: Sequence[str]) -> str:
    """Return a page; a paragraph needs no request at the beginning of a section."""
    pairs = zip(["", *lines], lines, strict=False)
    kept = [line for last, line in pairs if line != ".PP" or not last.startswith(".SH")]
    return "\n".join(kept) + "\n"


def pages() -> dict[str, str]:
    """Return every manual page by its file name."""
    found = list(reference.commands())
    names = [name for name, _ in found if name.count(" ") == 1]
    own = {f"{name.replace(' ', '-')}.1": command_page(name, found) for name in names}
    return {"nsa.1": main_page(found), **own}


def main(words: Sequence[str]) -> int:
    """Write the pages, or with `--check` name those that are not current."""
    return reference.write(FOLDER, pages(), words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
