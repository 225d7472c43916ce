"""Lines, tables and questions on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.output.renderers import Renderer


def print_json(value: dict[str, Any]) -> None:
    """Print one object on standard output."""
    from nsa_cli.output.renderers import print_json as printed

    printed(value)


def print_rows(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, right: Sequence[int] = ()
) -> None:
    """Print a table whose columns stand below each other; nothing where there is no row.

    Args:
        head: The names of the columns, or nothing.
        rows: As many texts each as there are columns.
        right: Columns that are set to the right.
    """
    lines = [*([head] if head and rows else []), *rows]
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            text.rjust(width) if number in right else text.ljust(width)
            for number, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.flush()


def note(text: str, *, quiet: bool = False) -> None:
    """A line on standard error."""
    if not quiet:
        sys.stderr.write(f"nsa: {text}\n")


def confirm(question: str, *, force: bool) -> None:
    """Ask before something is lost.

    Raises:
        UsageError: If nobody can be asked, and `force` is not given.
        typer.Exit: If the answer is no.
    """
    if force:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nobody can be asked", hint="say --force to do it without asking")
    if not typer.confirm(question, err=True):
        note("nothing is removed")
        raise typer.Exit(1)


@contextmanager
def rendering(*, json: bool, quiet: bool) -> Iterator[Renderer]:
    """A renderer that leaves the terminal as it was."""
    from nsa_cli.output.renderers import HumanRenderer, JsonRenderer

    renderer = (JsonRenderer if json else HumanRenderer)(quiet=quiet)
    try:
        yield renderer
    finally:
        renderer.close()
