"""Progress on two levels: all of a batch or an evaluation, and the text at hand."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from nsa_cli.documents.location import printable
from nsa_cli.events import BatchProgress, Event, Note
from nsa_cli.events import Progress as Done

_LINE_EVERY = 0.01
"""Share of the work between two lines, where there is no terminal."""


def each_document(event: BatchProgress) -> str | None:
    """The line about a document of a batch, where there is no terminal."""
    return f"{event.done + 1} of {event.total}: {event.name}"


def each_hundredth() -> Callable[[BatchProgress], str | None]:
    """What makes a line of an evaluation for each hundredth of it, with the time that is left."""
    began, told = time.monotonic(), -1.0

    def line(event: BatchProgress) -> str | None:
        nonlocal told
        share = event.done / event.total
        if share < told + _LINE_EVERY:
            return None
        told = share
        spent = time.monotonic() - began
        left = f", about {spent / share - spent:,.0f} s left" if share else ""
        return f"{share:.0%} done{left}; {event.name}"

    return line


class BatchRenderer:
    """Two bars at a terminal, lines elsewhere; all on standard error.

    Args:
        title: Of the bar for all.
        line: Makes the line about what comes next, or None for none.
        quiet: Whether nothing is shown.
    """

    def __init__(
        self, title: str, line: Callable[[BatchProgress], str | None], *, quiet: bool = False
    ) -> None:
        self._title = title
        self._line = line
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._quiet = quiet
        self._all: TaskID | None = None
        self._one: TaskID | None = None
        self._bar: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[amount]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
                expand=True,
                speed_estimate_period=3600,
            )

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Note():
                self.note(event.text)
            case BatchProgress():
                self._overall(event)
            case Done() if self._bar is not None and self._one is not None:
                self._bar.update(
                    self._one,
                    description=printable(event.task),
                    completed=event.done,
                    total=event.total,
                    amount=f"{event.done:,} of {event.total:,}",
                )

    def note(self, text: str) -> None:
        """A line, unless quiet."""
        if not self._quiet:
            self._console.print(f"nsa: {printable(text)}", markup=False, soft_wrap=True)

    def _overall(self, event: BatchProgress) -> None:
        if self._bar is None:
            if event.name and (line := self._line(event)) is not None:
                self.note(line)
            return
        name = printable(event.name)
        if self._all is None or self._one is None:
            self._all = self._bar.add_task(self._title, total=event.total, amount="")
            self._one = self._bar.add_task(name, total=None, amount="")
            self._bar.start()
        amount = f"{event.done:,} of {event.total:,}"
        self._bar.update(self._all, completed=event.done, amount=amount)
        if name:
            self._bar.reset(self._one, description=name, total=None, amount="")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
