"""Where errors become one line, or one JSON object, and an exit code."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from nsa_models.errors import NsaError, UsageError

JSON_FLAG = "--json"
NO_COLOR_FLAG = "--no-color"
VERBOSE_FLAG, VERBOSE_LETTER = "--verbose", "-v"
_ANYWHERE = (NO_COLOR_FLAG, VERBOSE_FLAG, VERBOSE_LETTER)


def as_json() -> bool:
    """Whether this command line asks for JSON."""
    return JSON_FLAG in sys.argv[1:]


class Boundary(TyperGroup):
    """Turns what goes wrong into one line, or one JSON object, and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; wrong usage is told in one line, or as JSON, like all else."""
        words = list(args[0] if args and args[0] is not None else sys.argv[1:])
        own = words.index("--") if "--" in words else len(words)
        for flag in _ANYWHERE:  # behind a command as well as before it
            if flag in words[:own]:
                words.remove(flag)
                words.insert(0, flag)
        try:
            code = super().main(
                words, *args[1:], **{**extra, "prog_name": "nsa", "standalone_mode": False}
            )
        except Exception as refused:
            # Typer carries its own click, so what it raises is told by what it can do.
            kind, message = type(refused).__name__, getattr(refused, "format_message", None)
            if kind == "Abort":
                sys.exit(130)
            if message is None:
                raise
            if kind == "NoArgsIsHelpError":
                sys.stderr.write(message() + "\n")
            else:
                show_failure(_usage(message(), getattr(refused, "ctx", None)))
            code = UsageError.exit_code
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except NsaError as problem:
            show_failure(problem)
            raise typer.Exit(problem.exit_code) from problem
        except KeyboardInterrupt:
            kept = "--no-store" not in sys.argv[1:] and sys.argv[1:2] != ["eval"]
            hint = "what was read is kept; run it again to go on" if kept else "nothing is kept"
            if "batch" in sys.argv[1:2] and "--out" in sys.argv:
                hint = "the rows so far are kept; go on with --resume"
            elif "eval" in sys.argv[1:2] and "--out" in sys.argv:
                hint = "what was answered so far is in the file that --out names"
            show_failure(NsaError("interrupted", hint=hint, code="interrupted"))
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None


_QUESTION = re.compile(r"\s*(?:\. )?(Did you mean .*\?)$")


def _usage(message: str, ctx: Any) -> UsageError:
    """What typer says about wrong usage, in this program's words."""
    said = " ".join(message.split()).rstrip(".")
    suggestion = _QUESTION.search(said)
    if suggestion:
        said, hint = said[: suggestion.start()], suggestion[1]
    elif options := re.search(r" \(Possible options: (.*)\)$", said):
        said, hint = said[: options.start()], f"did you mean {options[1]}?"
    else:
        hint = f"see `{ctx.command_path if ctx is not None else 'nsa'} --help`"
    return UsageError(said[:1].lower() + said[1:], hint=hint)


def show_failure(error: NsaError) -> None:
    """Show an error as this command line asks for it."""
    from nsa_cli.output.renderers import HumanRenderer, JsonRenderer

    (JsonRenderer() if as_json() else HumanRenderer()).fail(error)
