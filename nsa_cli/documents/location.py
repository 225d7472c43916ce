"""Where something stands, and what it says, as a person would write it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Protocol

_QUOTE_WIDTH = 200


class Placed(Protocol):
    """Anything with a place: a citation, a passage found, a section."""

    @property
    def source(self) -> str:
        """The document as the user named it."""

    @property
    def page(self) -> int | None:
        """Physical page from 1."""

    @property
    def page_label(self) -> str | None:
        """The page's own label where it differs."""

    @property
    def line_start(self) -> int:
        """First line, from 1."""

    @property
    def line_end(self) -> int:
        """Last line."""

    @property
    def unit(self) -> str:
        """What `page` counts."""


def place(placed: Placed) -> str:
    """Where something stands: `a.pdf, p. 14 (iv), line 3`."""
    lines = f"line {placed.line_start}"
    if placed.line_end > placed.line_start:
        lines = f"lines {placed.line_start}-{placed.line_end}"
    source = printable(placed.source)
    if placed.page is None:
        return f"{source}, {lines}"
    unit = "p." if placed.unit == "page" else placed.unit
    label = f" ({placed.page_label})" if placed.page_label else ""
    return f"{source}, {unit} {placed.page}{label}, {lines}"


def short(quote: str, width: int = _QUOTE_WIDTH) -> str:
    """A quote on one line, cut to a width in characters."""
    return textwrap.shorten(" ".join(quote.split()), width, placeholder=" …")


def printable(name: str) -> str:
    """A name on one line, with what cannot be shown escaped."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a passage stands: its page, if it has one, and its lines.

    Attributes:
        source: The path as the user typed it, or `stdin`.
        page: The physical page, counted from 1; None for a text file.
        page_label: The page's printed name, None where it equals the number.
        line_start: The line of the first character, counted from 1 in the page or the file.
        line_end: The line of the last character; equal to `line_start` for one line.
        unit: What `page` counts.
    """

    source: str
    page: int | None
    page_label: str | None
    line_start: int
    line_end: int
    unit: str = "page"
