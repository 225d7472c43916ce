"""The program's Typer command and app: errors with exit codes, and help in groups of options."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import Any

import typer
from typer.core import TyperCommand

from nsa_cli.cli.errors import interruptible, show_failure
from nsa_cli.cli.options import COMMON, PANELS
from nsa_models.errors import NsaError

_KEPT = "run it again to continue; finished work is kept"
_NOT_KEPT = "nothing was stored"
_NAME_WIDTH = 30
_OPTION = re.compile(r"--?[\w-]*")


class Command(TyperCommand):
    """A command that reports its own errors and groups its options by panel."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; show an error as `--json` of this command asks."""
        try:
            with interruptible(_KEPT if ctx.params.get("store", True) else _NOT_KEPT):
                return super().invoke(ctx)
        except NsaError as problem:
            show_failure(problem, json=bool(ctx.params.get("json")))
            raise typer.Exit(problem.exit_code) from problem
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None

    def make_parser(self, ctx: Any) -> Any:
        """Return a parser that takes a text that begins with a dash as an argument."""
        parser: Any = super().make_parser(ctx)
        take = parser._process_opts
        flags = {
            flag for each in self.get_params(ctx) for flag in (*each.opts, *each.secondary_opts)
        }
        valued = {
            flag
            for each in self.get_params(ctx)
            if each.param_type_name == "option" and not getattr(each, "is_flag", False)
            for flag in each.opts
        }

        def process(word: str, state: Any) -> None:
            if is_option(word, flags, valued):
                take(word, state)
            else:
                state.largs.append(word)

        parser._process_opts = process
        return parser

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with the program's defaults and not those of settings."""
        ctx.default_map = None
        super().format_help(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line's parts, without Typer's braces around required arguments."""
        return [
            piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)
        ]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, a section for each panel."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{p: [] for p in PANELS}}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and param.param_type_name == "argument":
                name = param.metavar or param.name
                sections["Arguments"].append((name, record[1].removesuffix("[required]").rstrip()))
            elif record is not None:
                sections[getattr(param, "rich_help_panel", None) or COMMON].append(record)
        names = [name for rows in sections.values() for name, _ in rows]
        width = min(_NAME_WIDTH, max(map(len, names)))
        grouped = sum(map(bool, sections.values())) > 1 + bool(sections["Arguments"])
        for title, rows in sections.items():
            if rows:
                options = f"{title} options" if grouped else "Options"
                with formatter.section(title if title == "Arguments" else options):
                    formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def is_option(word: str, flags: Collection[str], valued: Collection[str]) -> bool:
    """Whether a word that begins with a dash is an option, misspelled or not, and no text.

    Args:
        word: A word of the command line.
        flags: The command's options.
        valued: Those that take a value, which may be attached to a letter, as in `-n3`.
    """
    name = word.split("=", 1)[0]
    attached = word[:2] in valued and not word[2:3].isspace()
    return name in flags or _OPTION.fullmatch(name) is not None or attached


class App(typer.Typer):
    """A group of commands in plain text."""

    def __init__(self, **settings: Any) -> None:
        plain = {"no_args_is_help": True, "rich_markup_mode": None, "add_completion": False}
        super().__init__(**{**plain, **settings})

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a command."""
        return super().command(name, cls=Command, **settings)

    def __call__(self, *args: Any, **extra: Any) -> Any:
        """Run the program; annotations are evaluated once, and not four times as by Typer."""
        for group in (self, *(each.typer_instance for each in self.registered_groups)):
            for command in group.registered_commands if group is not None else ():
                function: Any = command.callback
                vars(function)["__signature__"] = inspect.signature(function, eval_str=True)
                function.__annotations__ = {}
        return super().__call__(*args, **extra)
