"""Where something stands, and what it says, as a person would write it."""

from __future__ import annotations

import textwrap
from typing import Protocol

from nsa_cli.documents.build import printable

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
