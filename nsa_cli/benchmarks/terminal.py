"""What a person at a terminal sees of a question, with times: a run in a pseudo-terminal."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from nsa_cli.caches.answers import answers_folder
from nsa_models.errors import NsaError, UsageError
from nsa_models.paths import cache_root

_COLUMNS, _ROWS = 100, 40

_UNITS_OF_TIME = ("s", "min", "h", "left")

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_UP = re.compile(r"\x1b\[[0-9]*A")

_ERASE = "\x1b[2K"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Output at a terminal.

    Attributes:
        seconds: Since the start of the command.
        answer: Whether it is of standard output, and not of standard error.
        raw: The output.
    """

    seconds: float
    answer: bool
    raw: str

    @property
    def text(self) -> str:
        """The output without control sequences."""
        return _CONTROL.sub("", self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRun:
    """One command at a terminal; all times are in seconds since its start.

    Attributes:
        first_sign_seconds: First output of any kind.
        first_word_seconds: First output on standard output.
        total_seconds: End of the command.
        silence_seconds: Longest time without any output.
        silence_began_seconds: When it began.
        silence_after: Last words that were shown before it; empty before the first sign.
        stages: When each line of progress was first shown, by its words without numbers.
        load_average: Average number of running processes of the machine at the start.
    """

    first_sign_seconds: float
    first_word_seconds: float
    total_seconds: float
    silence_seconds: float
    silence_began_seconds: float
    silence_after: str
    stages: dict[str, float] = field(default_factory=dict)
    load_average: float = 0.0


def watch(command: Sequence[str], variables: Mapping[str, str]) -> TerminalRun:
    """Run a command with a pseudo-terminal for each standard stream.

    Args:
        command: Program and arguments.
        variables: Of the environment, besides those of this process.

    Raises:
        UsageError: If the system has no pseudo-terminals.
        NsaError: If the command fails.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    seen, total, code = _recorded(command, variables)
    if code:
        told = " ".join(lines_left("".join(each.raw for each in seen)).split())
        raise NsaError(f"the command failed with exit code {code}: {told[-300:]}")
    return summary(seen, total, load)


def summary(seen: Sequence[Seen], total: float, load: float) -> TerminalRun:
    """Summarize what was seen of a command that took `total` seconds.

    Args:
        seen: The output, in order.
        total: When the command ended, in seconds.
        load: Load average at the start.
    """
    times = [0.0, *(each.seconds for each in seen), total]
    silences = [after - before for before, after in pairwise(times)]
    longest = max(range(len(silences)), key=silences.__getitem__)
    before = "" if longest == 0 else _last_words(seen[:longest])
    stages: dict[str, float] = {}
    for each in seen:
        if not each.answer and (words := _words(each.text)):
            stages.setdefault(words, round(each.seconds, 2))
    return TerminalRun(
        first_sign_seconds=round(times[1], 2),
        first_word_seconds=round(next((x.seconds for x in seen if x.answer), total), 2),
        total_seconds=round(total, 2),
        silence_seconds=round(silences[longest], 2),
        silence_began_seconds=round(times[longest], 2),
        silence_after=before,
        stages=stages,
        load_average=round(load, 2),
    )


def lines_left(raw: str) -> str:
    """Return what a screen shows at the end, without lines that were erased.

    Args:
        raw: Output with control sequences, which erases the line of the cursor or one above it.
    """
    lines = [""]
    for part in re.split(f"({_UP.pattern}|{re.escape(_ERASE)}|\r?\n)", raw):
        if part.endswith("\n"):
            lines.append("")
        elif part == _ERASE:
            lines[-1] = ""
        elif _UP.fullmatch(part):
            above = int(part[2:-1] or 1)
            del lines[max(1, len(lines) - above) :]
        else:
            lines[-1] += _CONTROL.sub("", part)
    return "\n".join(lines)


def _last_words(seen: Sequence[Seen]) -> str:
    shown = [" ".join(each.text.split()) for each in seen]
    return next((text for text in reversed(shown) if text), "")[-60:]


def _words(text: str) -> str:
    """Words of a line of progress without its numbers and its bar."""
    line = next((each for each in re.split(r"[\r\n]+", text) if each.strip()), "")
    words = re.findall(r"[A-Za-z][\w.'/-]*", line)
    return " ".join(word for word in words if word not in _UNITS_OF_TIME)[:60]


def _recorded(
    command: Sequence[str], variables: Mapping[str, str]
) -> tuple[list[Seen], float, int]:
    """Run a command; return its output with times, its duration and its exit code."""
    try:
        import fcntl
        import pty
        import struct
        import termios
    except ImportError as error:
        raise UsageError(
            "this system has no pseudo-terminals", hint="measure on Linux or macOS"
        ) from error

    pairs = [pty.openpty(), pty.openpty()]
    for _, its in pairs:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    (out, its_out), (err, its_err) = pairs
    env = {**os.environ, "TERM": "xterm-256color", **variables}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=its_err, stdout=its_out, stderr=its_err, env=env, start_new_session=True
    )
    os.close(its_out)
    os.close(its_err)
    seen, still_open = list[Seen](), {out, err}
    try:
        while still_open:
            for screen in select.select(list(still_open), [], [])[0]:
                try:
                    data = os.read(screen, 65536)
                except OSError:  # the program has closed it
                    data = b""
                if not data:
                    still_open.discard(screen)
                    continue
                passed = time.monotonic() - began
                raw = data.decode(errors="replace")
                seen.append(Seen(seconds=passed, answer=screen == out, raw=raw))
        code = process.wait()
    finally:
        process.kill()
        os.close(out)
        os.close(err)
    return seen, time.monotonic() - began, code


def watch_question(document: Path, question: str, options: Sequence[str]) -> TerminalRun:
    """Run `nsa ask` at a terminal, with all that is stored except for its answers.

    Args:
        document: The document.
        question: The question.
        options: Further options of `nsa ask`.

    Raises:
        UsageError: If the system has no pseudo-terminals.
        NsaError: If the command fails.
    """
    words = ["ask", str(document), "--ask", question, *options]
    with tempfile.TemporaryDirectory() as folder:
        for kept in cache_root().iterdir():
            if kept != answers_folder():
                (Path(folder) / kept.name).symlink_to(kept.absolute())
        return watch([sys.executable, "-m", "nsa_cli", *words], {"NSA_CACHE_DIR": folder})


def print_runs(runs: Sequence[TerminalRun]) -> None:
    """Print a table of runs on standard output, and the stages of the last one."""
    from nsa_cli.output.layout import table

    head = ("first sign", "first word", "end", "longest silence", "from", "after", "load")
    rows = [
        (
            f"{run.first_sign_seconds:.2f} s",
            f"{run.first_word_seconds:.2f} s",
            f"{run.total_seconds:.2f} s",
            f"{run.silence_seconds:.2f} s",
            f"{run.silence_began_seconds:.2f} s",
            run.silence_after[:30],
            f"{run.load_average:.1f}",
        )
        for run in runs
    ]
    lines = table(head, rows, None, right=(0, 1, 2, 3, 4, 6))
    stages = [f"{seconds:7.2f} s  {words}" for words, seconds in runs[-1].stages.items()]
    sys.stdout.writelines(f"{line}\n" for line in [*lines, "", *stages])
    sys.stdout.flush()
