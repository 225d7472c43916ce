"""Lines, tables, questions and files of the commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nsa_models.errors import NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.config.options import Options
    from nsa_cli.output.renderers import Renderer


def print_json(value: dict[str, Any]) -> None:
    """Print one object on standard output."""
    from nsa_cli.output.renderers import print_json as printed

    printed(value)


def print_rows(
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    *,
    right: Sequence[int] = (),
    paths: Sequence[int] = (),
    error: bool = False,
) -> None:
    """Print a table with aligned columns that fits the terminal; print nothing without rows.

    Characters that cannot be shown, such as a line break in a file's name, are escaped.

    Args:
        head: The names of the columns; empty for none.
        rows: The cells of each row.
        right: Columns to align to the right.
        paths: Columns of paths, which may be shortened in the middle.
        error: Whether to print on standard error instead of standard output.
    """
    if not rows:
        return
    from nsa_cli.documents.location import printable
    from nsa_cli.output.layout import columns, table

    rows = [tuple(map(printable, row)) for row in rows]
    stream = sys.stderr if error else sys.stdout
    lines = table(head, rows, columns(stream), right=right, paths=paths)
    stream.writelines(f"{line}\n" for line in lines)
    stream.flush()


def note(text: str, *, quiet: bool = False) -> None:
    """Print a line on standard error, broken at words at a terminal."""
    if not quiet:
        from nsa_cli.output.layout import tell

        tell(text)


def confirm(question: str, *, force: bool) -> None:
    """Ask before a removal.

    Raises:
        UsageError: If standard input is not a terminal and `force` is not given.
        typer.Exit: If the answer is no.
    """
    if force:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "cannot ask for confirmation: standard input is not a terminal",
            hint="use --force to remove without asking",
        )
    if not typer.confirm(question, err=True):
        note("nothing was removed")
        raise typer.Exit(1)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        NsaError: If the file cannot be written.
    """
    from nsa_models.paths import atomic_write

    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NsaError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check its permissions and the disk",
        ) from error


@contextmanager
def rendering(*, json: bool, quiet: bool, opening: Sequence[str] = ()) -> Iterator[Renderer]:
    """Return a renderer that restores the terminal at the end.

    Args:
        json: Whether to print JSON.
        quiet: Whether to show no notes and no progress.
        opening: What the user named, which the renderer shows to be opened.
    """
    from nsa_cli.output.renderers import HumanRenderer, JsonRenderer

    renderer = (JsonRenderer if json else HumanRenderer)(quiet=quiet)
    try:
        if opening:
            show_opening(renderer, opening)
        yield renderer
    finally:
        renderer.close()


def show_opening(renderer: Renderer, named: Sequence[str]) -> None:
    """Show that sources are being opened, before anything that takes time is imported."""
    from nsa_cli.events import Stage

    what = named[0] if len(named) == 1 else f"{len(named)} sources"
    what = "standard input" if what == "-" else what
    renderer(Stage(name="opening", text=f"Opening {what}"))


def show_survey(
    named: Sequence[str],
    questions: Sequence[str],
    opts: Options,
    renderer: Renderer,
    *,
    answers: bool = True,
) -> None:
    """Show what reading documents, and answering questions, would take, for `--dry-run`."""
    from nsa_cli.answering.dry_run import survey

    found = survey(named, questions, opts, renderer, answers=answers)
    renderer.sizes(found.sizes)
    renderer.estimate(found.estimate())
