"""Standard streams that never raise: closed ones, and encodings that lack a character."""

from __future__ import annotations

import codecs
import io
import os
import sys

_HANDLER = "nsa_replace"
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚′", "'"),
        **dict.fromkeys("“”„″«»", '"'),
        **dict.fromkeys("‐‑‒–—−", "-"),
        "…": "...",
        "•": "*",
        "·": "*",
        "→": "->",
        "\xa0": " ",
        "\u202f": " ",
    }
)


def _replacement(error: UnicodeError) -> tuple[str, int]:
    """Return plain characters for those that an encoding lacks, or question marks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_PLAIN)
    plain = "".join(char if char.isascii() else "?" for char in lacking)
    return plain, error.end


def open_standard_streams() -> None:
    """Make the standard streams usable.

    A closed stream becomes the null device, so that no file that is opened later takes its place,
    and so does an output that is open for reading alone, as a shell's script may leave it.
    A character that the encoding of an output lacks is replaced.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one
        elif mode == "w" and _is_read_only(number):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    codecs.register_error(_HANDLER, _replacement)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _is_read_only(number: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def is_unicode(encoding: str | None) -> bool:
    """Whether an encoding has every character."""
    return (encoding or "").lower().replace("-", "").startswith("utf")
