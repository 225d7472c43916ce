"""The progress of a batch on two levels: all documents, and the one at hand."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from nsa_cli.documents.build import printable
from nsa_cli.events import Event, Note, Overall
from nsa_cli.events import Progress as Done


class BatchRenderer:
    """Two bars at a terminal, a line for each document elsewhere; all on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._quiet = quiet
        animate = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._bar: Progress | None = None
        self._all: TaskID | None = None
        self._one: TaskID | None = None
        if animate:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
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
                self._note(event.text)
            case Overall():
                self._overall(event)
            case Done():
                self._inside(event)

    def _note(self, text: str) -> None:
        if not self._quiet:
            self._console.print(f"nsa: {text}", markup=False, soft_wrap=True)

    def _overall(self, event: Overall) -> None:
        if self._bar is None:
            if event.name:
                self._note(f"{event.done + 1} of {event.total}: {printable(event.name)}")
            return
        if self._all is None:
            self._all = self._bar.add_task("All documents", total=event.total)
            self._bar.start()
        self._bar.update(self._all, completed=event.done)
        if self._one is not None:
            self._bar.remove_task(self._one)
            self._one = None

    def _inside(self, event: Done) -> None:
        if self._bar is None or self._all is None:
            return
        if self._one is None:
            self._one = self._bar.add_task(event.task, total=event.total)
        task = printable(event.task)
        self._bar.update(self._one, description=task, completed=event.done, total=event.total)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
