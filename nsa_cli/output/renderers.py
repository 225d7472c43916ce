"""Renderers that print events and results for people or as JSON.

Data goes to standard output; progress, notes and errors go to standard error.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.progress import (
    Progress as ProgressBar,
)
from rich.table import Column
from rich.text import Text

from nsa_cli.documents.location import place, printable, short
from nsa_cli.events import AnswerFinished, AnswerText, Event, Note, Progress, Stage
from nsa_cli.output.hints import hint_for
from nsa_cli.output.layout import WordWrap, columns, shorten_path, wrap
from nsa_cli.output.streams import is_unicode
from nsa_models.errors import NsaError

if TYPE_CHECKING:
    from nsa_cli.results import Citation, Estimate, FileTokens

_HANGING = len("nsa: ")
_UNITS = {
    "tokens": "tokens",
    "pages": "pages",
    "bytes": "MB",
    "characters": "characters",
    "parts": "parts",
}


class _Amount(ProgressColumn):
    """Column with the amount done, the total, the speed and the time left, on one line."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        scale = 1e6 if unit == "bytes" else 1
        total = f"{(task.total or 0) / scale:,.0f}"
        speed = f", {task.speed / scale:,.0f}/s" if task.speed else ""
        left = task.time_remaining
        rest = f", {duration(left)} left" if left is not None and not task.finished else ""
        return Text(f"{task.completed / scale:,.0f} of {total} {_UNITS[unit]}{speed}{rest}")


class _Elapsed(ProgressColumn):
    """Column with the seconds since the stage began, from the second one on."""

    def render(self, task: Task) -> Text:
        seconds = 0 if task.fields.get("beside") else int(task.elapsed or 0)
        return Text(duration(seconds) if seconds > 1 else "", style="dim")


def duration(seconds: float) -> str:
    """Return a time in words, such as `37 s`, `12 min` or `3 h 20 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class StatusLine:
    """Notes on standard error, and at a terminal also stages and progress."""

    def __init__(self, *, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False, emoji=False)
        self._quiet = quiet
        self.animate = self.console.is_terminal and not self.console.is_dumb_terminal and not quiet
        self._bar: ProgressBar | None = None
        self._task: TaskID | None = None
        self._name = ""
        self._beside: Progress | None = None
        self._beside_task: TaskID | None = None
        self._has_bar = False

    def note(self, text: str) -> None:
        """Print a line unless quiet."""
        if not self._quiet:
            told = wrap(f"nsa: {printable(text)}", columns(sys.stderr), _HANGING)
            self.console.print(told, markup=False, soft_wrap=True)

    def progress(self, event: Progress) -> None:
        """Update the bar, or the line below it of a task that runs beside."""
        if not self.animate:
            return
        if event.beside:
            self._show_beside(event)
            return
        if self._beside is not None and self._beside.task == event.task:
            self.close()  # the command waits for it now
            self._beside = None
        if self._bar is None or self._task is None or self._name != event.task:
            if event.done >= event.total:
                self.close()
                return
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                _Amount(),
            )
            self._start(event.task, columns, total=event.total, unit=event.unit, done=event.done)
            return
        self._bar.update(self._task, completed=event.done)
        if event.done >= event.total:
            self.close()

    def stage(self, event: Stage) -> None:
        """Show a stage, which moves until something else is shown."""
        if self.animate and self._name != event.text:
            text = TextColumn("{task.description}", markup=False)
            self._start(
                event.text, (SpinnerColumn(), text, _Elapsed()), total=None, unit="", done=0
            )

    def _show_beside(self, event: Progress) -> None:
        """Update the line of a task that runs beside what is shown, if anything is."""
        self._beside = event if event.done < event.total else None
        if self._bar is None:
            return
        if self._beside is None:
            if self._beside_task is not None:
                self._bar.remove_task(self._beside_task)
            self._beside_task = None
        elif self._beside_task is None:
            self._add_beside()
        else:
            self._bar.update(self._beside_task, **self._beside_fields(event))

    def _add_beside(self) -> None:
        """Add the line of a task that runs beside what is shown."""
        if self._bar is not None and self._beside is not None:
            fields = self._beside_fields(self._beside)
            self._beside_task = self._bar.add_task(unit="bytes", beside=True, **fields)

    def _beside_fields(self, event: Progress) -> dict[str, Any]:
        """Return the line of a task: as a bar below a bar, in words below a stage."""
        name = printable(event.task)
        if self._has_bar:
            return {"description": name, "total": event.total, "completed": event.done}
        amount = f"{event.done / 1e6:,.0f} of {event.total / 1e6:,.0f} MB"
        return {"description": f"{name}: {amount}", "total": None}

    def _start(
        self,
        name: str,
        columns: Sequence[ProgressColumn],
        *,
        total: float | None,
        unit: str,
        done: int,
    ) -> None:
        """Show one line in place of the present one."""
        self.close()
        self._bar = ProgressBar(
            *columns,
            console=self.console,
            transient=True,
            redirect_stdout=False,  # standard output may be a file
            expand=total is not None,
            speed_estimate_period=20,
        )
        self._name, self._has_bar = name, total is not None
        self._task = self._bar.add_task(printable(name), total=total, unit=unit, completed=done)
        self._add_beside()
        self._bar.start()

    def close(self) -> None:
        """Remove the bar or the stage."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._task, self._beside_task, self._name = None, None, None, ""


class Renderer(ABC):
    """Shows events and results of a command; progress and notes go to standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._status = StatusLine(quiet=quiet)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Note():
                self._status.note(event.text)
            case Progress():
                self._status.progress(event)
            case Stage():
                self._status.stage(event)

    @abstractmethod
    def finish(self, finished: AnswerFinished) -> None:
        """Show an answer."""

    @abstractmethod
    def finish_all(self, questions: Sequence[str], answers: Iterable[AnswerFinished]) -> None:
        """Show the answers to several questions as they arrive."""

    @abstractmethod
    def sizes(self, found: Sequence[FileTokens]) -> None:
        """Show the token count of each file."""

    @abstractmethod
    def estimate(self, found: Estimate) -> None:
        """Show the time, disk space and memory that reading takes."""

    @abstractmethod
    def fail(self, error: NsaError) -> None:
        """Show an error."""

    def close(self) -> None:
        """Remove the progress bar."""
        self._status.close()


class HumanRenderer(Renderer):
    """Prints answers as they are generated, then their citations."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self._begun = False
        self._width = columns(sys.stdout)
        self._words: WordWrap | None = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        super().__call__(event)
        if isinstance(event, AnswerText):
            self._status.close()
            if not self._begun:
                self._words = None if self._width is None else WordWrap(self._width)
            self._begun = True
            text = event.text if self._words is None else self._words.feed(event.text)
            sys.stdout.write(text)
            sys.stdout.flush()

    def _end_answer(self) -> None:
        """Write the answer's last word and end its line."""
        self._status.close()
        if self._begun:
            sys.stdout.write("" if self._words is None else self._words.end())
            sys.stdout.write("\n")
            sys.stdout.flush()
        self._begun = False

    def finish(self, finished: AnswerFinished) -> None:
        """End the answer, print its citations and statistics."""
        self.finish_answer(finished)
        self._figures([finished])

    def _figures(self, answers: Sequence[AnswerFinished]) -> None:
        """Note what was read for some answers, and how soon they began, in one line."""
        without = [
            each.stats
            for each in answers
            if each.computation is not None and not each.computation.is_expression
        ]
        asked = [
            each.stats
            for each in answers
            if each.computation is None or each.computation.is_expression
        ]
        if without:
            seconds = sum(stats.time_to_first_token_seconds for stats in without)
            some = f"{len(without)} of {len(answers)} answers " if len(answers) > 1 else ""
            self._status.note(
                f"{some}computed in {seconds:.2f} s, without the model; --no-compute asks the model"
            )
        if not asked:
            return
        tokens = asked[0].document_tokens
        new = tokens - asked[0].reused_tokens
        firsts = ", ".join(f"{stats.time_to_first_token_seconds:.1f}" for stats in asked)
        words = "first word" if len(asked) == 1 else "first words"
        self._status.note(
            f"{tokens:,} tokens, {new:,} of them read in {asked[0].prefill_seconds:.1f} s; "
            f"{words} after {firsts} s"
        )

    def finish_answer(self, finished: AnswerFinished) -> None:
        """End the answer and print its citations."""
        self._end_answer()
        if finished.citations:
            sys.stdout.write("\n")
        for number, citation in enumerate(finished.citations, 1):
            sys.stdout.write(citation_line(number, citation, self._width) + "\n")
        sys.stdout.flush()
        if finished.finish_reason == "length":
            self._status.note("--max-tokens cut the answer; raise it for more")

    def stop(self) -> None:
        """End an interrupted answer."""
        self._end_answer()

    def finish_all(self, questions: Sequence[str], answers: Iterable[AnswerFinished]) -> None:
        """Print each question above its answer, and the statistics of all in one line."""
        results, finished = iter(answers), list[AnswerFinished]()
        for number, question in enumerate(questions):
            asked = wrap(f"Q: {question}", self._width, len("Q: "))
            self._status.close()
            sys.stdout.write(f"{chr(10) if number else ''}{asked}\n")
            sys.stdout.flush()
            finished.append(next(results))
            self.finish_answer(finished[-1])
        self._figures(finished)

    def sizes(self, found: Sequence[FileTokens]) -> None:
        """Print several files as a tree with token counts."""
        self._status.close()
        if len(found) > 1:
            from nsa_cli.output.token_tree import tree

            lines = tree(found)
            if self._width is not None:
                lines = [shorten_path(line, self._width) for line in lines]
            sys.stdout.write("\n".join(lines) + "\n\n")
            sys.stdout.flush()

    def estimate(self, found: Estimate) -> None:
        """Print tokens, time, disk, memory and context, a line each."""
        self._status.close()
        new = found.tokens - found.reused_tokens
        disk = "not kept"
        if found.disk_bytes:
            disk = f"{found.disk_bytes / 1e9:.2f} GB, {found.disk_free_bytes / 1e9:.2f} GB free"
        times = f"about {duration(found.seconds)} to read"
        if found.answer_seconds:
            each = "less than 1 s" if found.answer_seconds < 1 else duration(found.answer_seconds)
            times += f", {each} to answer"
        sys.stdout.write(
            f"tokens   {found.tokens:,}, {new:,} of them to read\n"
            f"time     {times}\n"
            f"disk     {disk}\n"
            f"memory   {found.memory_bytes / 1e9:.2f} GB, "
            f"{found.memory_limit_bytes / 1e9:.2f} GB may be used\n"
            f"context  {found.context_tokens:,} tokens\n"
        )

    def fail(self, error: NsaError) -> None:
        """Print an error as one line on standard error."""
        self._end_answer()
        stop = "" if error.message.endswith("?") else "."
        hint = f"{stop} {advice[0].upper()}{advice[1:]}" if (advice := hint_for(error)) else ""
        hint += "" if not hint or hint.endswith(("?", "!", ".")) else "."
        told = wrap(f"nsa: {printable(error.message + hint)}", columns(sys.stderr), _HANGING)
        self._status.console.print(told, markup=False, soft_wrap=True, style="red")


class JsonRenderer(Renderer):
    """Prints one JSON object on standard output at the end."""

    _sizes: Sequence[FileTokens] = ()

    def finish(self, finished: AnswerFinished) -> None:
        """Print an answer as an object."""
        self._status.close()
        print_json(asdict(finished))

    def finish_all(self, questions: Sequence[str], answers: Iterable[AnswerFinished]) -> None:
        """Print one object with all answers."""
        found = [
            {"question": question, **asdict(finished)}
            for question, finished in zip(questions, answers, strict=True)
        ]
        self._status.close()
        print_json({"answers": found})

    def sizes(self, found: Sequence[FileTokens]) -> None:
        """Keep the token counts for `estimate`."""
        self._sizes = found

    def estimate(self, found: Estimate) -> None:
        """Print the estimate and the files' token counts as an object."""
        self._status.close()
        files = [asdict(size) for size in self._sizes]
        print_json({"estimate": asdict(found), "files": files})

    def fail(self, error: NsaError) -> None:
        """Print an error as an object."""
        self._status.close()
        print_json(
            {"error": {"code": error.code, "message": error.message, "hint": hint_for(error)}}
        )


def citation_line(number: int, citation: Citation, width: int | None) -> str:
    """Return a citation with its number and quote.

    Args:
        number: Its number, counted from 1.
        citation: The citation.
        width: Cells of the terminal, where a long path is shortened; None for one long line.
    """
    label = f"[{number}] "
    if width is not None:
        source = shorten_path(printable(citation.source), width // 2)
        citation = replace(citation, source=source)
    mark = "" if citation.verified else " (not verified)"
    line = f"{label}{place(citation)}: “{short(citation.quote)}”{mark}"
    return wrap(line, width, len(label))


def print_json(value: dict[str, Any]) -> None:
    """Print a JSON object on standard output."""
    text = json.dumps(value, ensure_ascii=not is_unicode(sys.stdout.encoding), indent=2)
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        text = json.dumps(value, indent=2)  # file names need not be valid UTF-8
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
