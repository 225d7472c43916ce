"""Where errors become one line, or one JSON object, and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from nsa_models.errors import NsaError, UsageError

JSON_FLAG = "--json"


def as_json() -> bool:
    """Whether this command line asks for JSON."""
    return JSON_FLAG in sys.argv[1:]


class Boundary(TyperGroup):
    """Turns what goes wrong into one line, or one JSON object, and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; wrong usage is told as JSON too where that was asked for."""
        if not as_json():
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except Exception as refused:
            message = getattr(refused, "format_message", None)
            if message is None:
                raise
            show_failure(UsageError(message().rstrip("."), hint="see `nsa --help`"))
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
            kept = "--no-store" not in sys.argv[1:]
            hint = "what was read is kept; run it again to go on" if kept else "nothing is kept"
            show_failure(NsaError("interrupted", hint=hint, code="interrupted"))
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None


def show_failure(error: NsaError) -> None:
    """Show an error as this command line asks for it."""
    from nsa_cli.render import HumanRenderer, JsonRenderer

    (JsonRenderer() if as_json() else HumanRenderer()).fail(error)
