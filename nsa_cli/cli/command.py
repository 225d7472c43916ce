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

from nsa_cli.cli.errors import HELP_ALL_FLAG, interruptible, show_failure
from nsa_cli.cli.options import COMMON, PANELS
from nsa_models.errors import NsaError

_KEPT = "run it again to continue; finished work is kept"
_NOT_KEPT = "nothing was stored"
_NAME_WIDTH = 30
_OPTION = re.compile(r"--?(?!\d)[\w-]*")
_RANGE = re.compile(r"[\d.]*<?=?x[<>=]+[\d.]+|[\d.]+<=?x(<=?[\d.]+)?")


class Command(TyperCommand):
    """A command that reports its own errors and groups its options by panel."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; show an error as `--json` of this command asks."""
        _tell_unknown_variables(quiet=bool(ctx.params.get("quiet") or ctx.params.get("json")))
        try:
            with interruptible(_KEPT if ctx.params.get("store", True) else _NOT_KEPT):
                return super().invoke(ctx)
        except NsaError as problem:
            show_failure(problem, json=bool(ctx.params.get("json")))
            raise typer.Exit(problem.exit_code) from problem
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; `--help-all` is `--help` with the options of all groups."""
        valued, words = self._valued(ctx), list[str]()
        for word in args[: args.index("--")] if "--" in args else args:
            if word == HELP_ALL_FLAG and not (words and words[-1] in valued):
                ctx.meta[HELP_ALL_FLAG] = True
                word = "--help"
            words.append(word)
        return super().parse_args(ctx, [*words, *args[len(words) :]])

    def _valued(self, ctx: Any) -> set[str]:
        """Return the options that take a value."""
        return {
            flag
            for each in self.get_params(ctx)
            if each.param_type_name == "option" and not getattr(each, "is_flag", False)
            for flag in each.opts
        }

    def make_parser(self, ctx: Any) -> Any:
        """Return a parser that takes a text that begins with a dash as an argument."""
        parser: Any = super().make_parser(ctx)
        take = parser._process_opts
        flags = {
            flag for each in self.get_params(ctx) for flag in (*each.opts, *each.secondary_opts)
        }
        valued = self._valued(ctx)

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
        """Write arguments and common options; with `--help-all` a section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{p: [] for p in PANELS}}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and param.param_type_name == "argument":
                name = param.metavar or param.name
                sections["Arguments"].append((name, record[1].removesuffix("[required]").rstrip()))
            elif record is not None:
                panel = getattr(param, "rich_help_panel", None) or COMMON
                sections[panel].append((record[0], without_ranges(record[1])))
        others = [panel for panel in PANELS if panel != COMMON and sections[panel]]
        if others and HELP_ALL_FLAG not in ctx.meta:
            titles = ", ".join(others)
            sections[COMMON].append((HELP_ALL_FLAG, f"Show all options: {titles}."))
            for panel in others:
                del sections[panel]
        names = [name for rows in sections.values() for name, _ in rows]
        width = min(_NAME_WIDTH, max(map(len, names)))
        grouped = sum(map(bool, sections.values())) > 1 + bool(sections["Arguments"])
        for title, rows in sections.items():
            if rows:
                options = f"{title} options" if grouped else "Options"
                with formatter.section(title if title == "Arguments" else options):
                    formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def without_ranges(text: str) -> str:
    """Return the help of an option without the range of its numbers, as in `x>=1`."""
    about, bracket, facts = text.rpartition("  [")
    if not bracket or not facts.endswith("]"):
        return text
    kept = [each for each in facts[:-1].split("; ") if not _RANGE.fullmatch(each)]
    shown = [re.sub(r"^default: \((.*)\)$", r"default: \1", each) for each in kept]
    return f"{about}  [{'; '.join(shown)}]" if shown else about


def _tell_unknown_variables(*, quiet: bool) -> None:
    """Note each variable of the environment that looks like a setting and is none."""
    if quiet or not any(name.startswith("NSA_") for name in os.environ):
        return
    from nsa_cli.cli.console import note
    from nsa_cli.config.settings import unknown_variables

    for name, close in unknown_variables(os.environ).items():
        meant = f"; did you mean {close}?" if close else ""
        note(f"unknown variable {name} has no effect{meant}")


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
