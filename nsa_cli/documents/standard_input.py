"""Whether standard input is a pipe or a file with something in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Timer
from typing import TextIO

_PATIENCE_SECONDS = 2.0


def is_piped(on_wait: Callable[[], None], stdin: TextIO | None = None) -> bool:
    """Whether standard input has at least one byte, which is not consumed.

    A terminal is no pipe, and neither is an input that is closed or empty. The call waits for
    the program at the other end of a pipe.

    Args:
        on_wait: Called from another thread when nothing has arrived after two seconds.
        stdin: The input; the standard input of the process when None.
    """
    stdin = stdin or sys.stdin
    timer = Timer(_PATIENCE_SECONDS, on_wait)
    timer.daemon = True
    try:
        if stdin is None or stdin.closed or stdin.isatty():
            return False
        timer.start()
        buffer = stdin.buffer
        if hasattr(buffer, "peek"):
            return bool(buffer.peek(1))
        start = buffer.tell()
        first = buffer.read(1)
        buffer.seek(start)
    except (OSError, ValueError):  # a folder, or no input at all
        return False
    finally:
        timer.cancel()
    return bool(first)
