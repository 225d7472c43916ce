"""Questions as they are typed: editing, history, and texts of several lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_FENCE = '"""'
_MOST = 1000


def join_lines(read: Callable[[bool], str]) -> str:
    """A text of one line, or of several.

    A line that ends in a backslash goes on in the next one; what stands between two times three
    quotation marks is one text.

    Args:
        read: Gives the next line; is told whether a text has begun.

    Raises:
        EOFError: If there is no line.
    """
    first = read(False)
    if first.strip().startswith(_FENCE):
        lines = [first.strip().removeprefix(_FENCE)]
        while not lines[-1].rstrip().endswith(_FENCE):
            lines.append(read(True))
        lines[-1] = lines[-1].rstrip().removesuffix(_FENCE)
        return "\n".join(lines).strip()
    lines = [first]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read(True))
    return "\n".join(lines).strip()


class Prompt:
    """Lines from the keyboard, with editing and history where the system has them.

    Args:
        history: Where lines are kept from one conversation to the next; None to keep none.
    """

    def __init__(self, history: Path | None) -> None:
        self._history = history
        self._readline: Any = None
        if sys.stdin.isatty():
            with suppress(ImportError):
                import readline

                self._readline = readline
        if self._readline is not None and history is not None:
            with suppress(OSError):
                self._readline.read_history_file(history)

    def __iter__(self) -> Iterator[str]:
        """Texts until the end of the input; Ctrl-C gives up the one that is being typed."""
        while True:
            try:
                yield join_lines(self._read)
            except EOFError:
                if sys.stdin.isatty():
                    sys.stderr.write("\n")
                return
            except KeyboardInterrupt:
                sys.stderr.write("\n")

    def _read(self, begun: bool) -> str:
        if not sys.stdin.isatty():
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.rstrip("\n")
        return input("… " if begun else "> ")

    def close(self) -> None:
        """Keep the history; a disk that cannot take it is no reason to fail."""
        if self._readline is None or self._history is None:
            return
        with suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True)
            self._history.touch(mode=0o600)
            self._readline.set_history_length(_MOST)
            self._readline.write_history_file(self._history)
