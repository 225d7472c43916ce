"""How far an evaluation has come: all of it with the time that is left, and the text at hand."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as Left

from nsa_cli.documents.build import printable
from nsa_cli.events import Event, Note, Overall
from nsa_cli.events import Progress as Done

_LINE_EVERY = 0.01
"""Share of the work between two lines, where there is no terminal."""


class EvaluationProgress:
    """Two bars at a terminal, a line now and then elsewhere; all on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._quiet = quiet
        self._bar: Progress | None = None
        self._all: TaskID | None = None
        self._one: TaskID | None = None
        self._began = time.monotonic()
        self._told = -1.0
        if self._console.is_terminal and not self._console.is_dumb_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                Left(compact=True),
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
            case Overall():
                self._overall(event)
            case Done():
                self._inside(event)

    def note(self, text: str) -> None:
        """A line, unless quiet."""
        if not self._quiet:
            self._console.print(f"nsa: {printable(text)}", markup=False, soft_wrap=True)

    def _overall(self, event: Overall) -> None:
        if self._bar is None:
            share = event.done / event.total
            if event.name and share >= self._told + _LINE_EVERY:
                self._told = share
                spent = time.monotonic() - self._began
                left = f", about {spent / share - spent:,.0f} s left" if share else ""
                self.note(f"{share:.0%} done{left}; {event.name}")
            return
        if self._all is None:
            self._all = self._bar.add_task("Evaluation", total=event.total)
            self._one = self._bar.add_task(event.name, total=None)
            self._bar.start()
        self._bar.update(self._all, completed=event.done)
        if self._one is not None and event.name:
            self._bar.reset(self._one, description=printable(event.name), total=None)

    def _inside(self, event: Done) -> None:
        if self._bar is None or self._one is None:
            return
        self._bar.update(self._one, completed=event.done, total=event.total)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
