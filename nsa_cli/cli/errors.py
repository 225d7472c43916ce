"""The error boundary: an error becomes one line, or one JSON object, and an exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from nsa_cli.cli import completion
from nsa_models.errors import NsaError, UsageError

JSON_FLAG, JSON_LETTER = "--json", "-J"
HELP_ALL_FLAG = "--help-all"
NO_COLOR_FLAG = "--no-color"
VERBOSE_FLAG, VERBOSE_LETTER = "--verbose", "-v"
_COMPLETION_FLAGS = ("--install-completion", "--show-completion")
_ANYWHERE = (NO_COLOR_FLAG, VERBOSE_FLAG, VERBOSE_LETTER)
_OUT_OF_RANGE = re.compile(r"Invalid value for (.+?): Input should be (.+)", re.DOTALL)
_WANTED = (
    (re.compile(r"a valid integer.*"), "a whole number"),
    (re.compile(r"a valid number.*"), "a number"),
    (re.compile(r"a finite number.*"), "a finite number"),
    (re.compile(r"greater than or equal to (\S+)"), r"at least \1"),
    (re.compile(r"less than or equal to (\S+)"), r"at most \1"),
    (re.compile(r"greater than (\S+)"), r"more than \1"),
    (re.compile(r"less than (\S+)"), r"less than \1"),
)
"""What Typer says about a number, and what nsa says."""

_SUGGESTION = re.compile(r"\s*(?:\. )?(Did you mean .*\?)$")


class Interrupted(NsaError):  # noqa: N818 - Ctrl-C is not a failure
    """Ctrl-C; the hint says how to continue."""

    exit_code = 130
    default_code = "interrupted"


class Ended(Interrupted):
    """SIGTERM; the hint says how to continue."""

    exit_code = 143
    default_code = "terminated"


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Turn Ctrl-C into `Interrupted` and SIGTERM into `Ended`, with a hint."""
    try:
        yield
    except Terminated:
        raise Ended("terminated", hint=hint) from None
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint=hint) from None


class Boundary(TyperGroup):
    """The program: reports errors of parsing; `Command` reports those of running."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run the program and exit."""
        words = list(args or ())
        if words[:1] == [HELP_ALL_FLAG]:
            words[0] = "--help"  # the program itself has no groups of options
        if any(word in words for word in _COMPLETION_FLAGS):
            completion.complete_at_first_tab()
        end = words.index("--") if "--" in words else len(words)
        for flag in _ANYWHERE:  # allowed after a command, too
            if flag in words[:end]:
                words.remove(flag)
                words.insert(0, flag)
        try:
            code = super().main(
                words, *more, **{**extra, "prog_name": "nsa", "standalone_mode": False}
            )
        except Exception as refused:
            # Typer vendors click, so its exceptions are recognized by name and method.
            kind, message = type(refused).__name__, getattr(refused, "format_message", None)
            if kind == "Abort":
                sys.exit(130)
            if isinstance(refused, NsaError):
                problem = refused
            elif message is None:
                raise
            else:
                problem = _usage(message(), getattr(refused, "ctx", None))
            if kind == "NoArgsIsHelpError" and message is not None:
                sys.stderr.write(message() + "\n")
            else:
                show_failure(problem, json=bool({JSON_FLAG, JSON_LETTER} & set(words)))
            code = problem.exit_code
        sys.exit(code)


def _usage(message: str, ctx: Any) -> UsageError:
    """Return Typer's message about wrong usage as an error with a hint."""
    told = " ".join(message.split()).rstrip(".")
    if number := _OUT_OF_RANGE.fullmatch(told):
        options, wanted = number[1].replace("'", ""), number[2]
        for pattern, words in _WANTED:
            if found := pattern.fullmatch(wanted):
                wanted = found.expand(words)
                break
        told = f"{options} must be {wanted}"
    suggestion = _SUGGESTION.search(told)
    if suggestion:
        told, hint = told[: suggestion.start()], suggestion[1]
    elif options := re.search(r" \(Possible options: (.*)\)$", told):
        told, hint = told[: options.start()], f"did you mean {options[1].replace(', ', ' or ')}?"
    else:
        hint = f"see `{ctx.command_path if ctx is not None else 'nsa'} --help`"
        if told.startswith("No such option") and _has_arguments(ctx):
            hint += "; put -- before a text that begins with a dash"
    return UsageError(told[:1].lower() + told[1:], hint=hint)


def _has_arguments(ctx: Any) -> bool:
    params = ctx.command.params if ctx is not None else ()
    return any(each.param_type_name == "argument" for each in params)


def show_failure(error: NsaError, *, json: bool) -> None:
    """Show an error as a line on standard error, or as JSON on standard output."""
    from nsa_cli.output.renderers import HumanRenderer, JsonRenderer

    (JsonRenderer() if json else HumanRenderer()).fail(error)
