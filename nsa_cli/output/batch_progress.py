"""Progress of a batch or an evaluation: all of it, and the current document."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from nsa_cli.documents.location import printable
from nsa_cli.events import BatchProgress, Event, Note, Progress
from nsa_cli.output.renderers import StatusLine

_LINE_EVERY = 0.01
"""Share of the work between two lines without a terminal."""


def each_document(event: BatchProgress) -> str | None:
    """The progress line of a document, for output that is not a terminal."""
    return f"{event.done + 1} of {event.total}: {event.name}"


def each_hundredth() -> Callable[[BatchProgress], str | None]:
    """A function that returns a progress line with the time left for each percent of the work."""
    began, reported = time.monotonic(), -1.0

    def line(event: BatchProgress) -> str | None:
        nonlocal reported
        share = event.done / event.total
        if share < reported + _LINE_EVERY:
            return None
        reported = share
        spent = time.monotonic() - began
        left = f", about {spent / share - spent:,.0f} s left" if share else ""
        return f"{share:.0%} done{left}; {event.name}"

    return line


class BatchRenderer:
    """Show two progress bars at a terminal, lines elsewhere, on standard error.

    Args:
        title: Label of the overall bar.
        line: Returns the line for the next document, or None to print nothing.
        quiet: Whether to show nothing.
    """

    def __init__(
        self, title: str, line: Callable[[BatchProgress], str | None], *, quiet: bool = False
    ) -> None:
        self._title = title
        self._line = line
        self._status = StatusLine(quiet=quiet)
        self.note = self._status.note
        self._all: TaskID | None = None
        self._one: TaskID | None = None
        self._bar: ProgressBar | None = None
        if self._status.animate:
            self._bar = ProgressBar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[amount]}"),
                TimeRemainingColumn(compact=True),
                console=self._status.console,
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
            case Progress() if self._bar is not None and self._one is not None:
                self._bar.update(
                    self._one,
                    description=printable(event.task),
                    completed=event.done,
                    total=event.total,
                    amount=f"{event.done:,} of {event.total:,}",
                )

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

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the bars while something else is written to the terminal."""
        bar = self._bar if self._all is not None else None
        if bar is not None:
            bar.stop()
        try:
            yield
        finally:
            if bar is not None:
                # The old display would erase as many lines as it had drawn.
                bar.live = Live(
                    console=bar.console, transient=True, get_renderable=bar.get_renderable
                )
                bar.start()

    def close(self) -> None:
        """Remove the bars."""
        if self._bar is not None:
            self._bar.stop()
