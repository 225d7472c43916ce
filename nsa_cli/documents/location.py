"""Where a passage is in its source, and how a person would write it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_QUOTE_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a passage is: its page, if it has one, and its lines.

    Attributes:
        source: The path as the user typed it, or `stdin`.
        page: The physical page, counted from 1; None for a text file.
        page_label: The page's printed name; None where it equals the number.
        line_start: The line of the first character, counted from 1 in the page or the file.
        line_end: The line of the last character; equal to `line_start` for one line.
        unit: What `page` counts: `page`, `slide`, `sheet`, `cell` or `chapter`.
    """

    source: str
    page: int | None
    page_label: str | None
    line_start: int
    line_end: int
    unit: str = "page"

    @property
    def within(self) -> str:
        """The column or cell within the lines; empty for whole lines."""
        return ""


def place(location: Location) -> str:
    """Return a location as text: `a.pdf, p. 14 (iv), line 3`."""
    noun = "row" if location.unit == "sheet" else "line"
    lines = f"{noun} {location.line_start}"
    if location.line_end > location.line_start:
        lines = f"{noun}s {location.line_start}-{location.line_end}"
    lines += f", {location.within}" if location.within else ""
    source = printable(location.source)
    if location.page is None:
        return f"{source}, {lines}"
    unit = "p." if location.unit == "page" else location.unit
    label = f" ({location.page_label})" if location.page_label else ""
    return f"{source}, {unit} {location.page}{label}, {lines}"


def short(quote: str, width: int = _QUOTE_WIDTH) -> str:
    """Return a quote on one line, cut to a width in characters."""
    return textwrap.shorten(" ".join(quote.split()), width, placeholder=" …")


def printable(name: str) -> str:
    """Return a name on one line, with characters that cannot be shown escaped."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )
