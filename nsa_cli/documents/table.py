"""Tables of a document: a header and rows of cells, apart from the text that they became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        number: Its own number, from 1: the line of a file, or the row of a sheet.
        cells: Its values on one line each, empty ones as empty strings.
    """

    number: int
    cells: Sequence[str]

    @property
    def plain(self) -> str:
        """The cells alone."""
        return " | ".join(self.cells).rstrip(" |")

    @property
    def filled(self) -> list[int]:
        """The columns that have a value, from 0."""
        return [column for column, cell in enumerate(self.cells) if cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A header and the rows below it.

    Attributes:
        source: The file, as citations name it.
        page: Number of the sheet, from 1; None where the file is one table.
        title: Name of the sheet, or None.
        header: Names of the columns; an empty string for a column without a name.
        rows: The rows, in order.
        decimal: The decimal mark of numbers that the format writes itself; None if people wrote
            them.
        delimiter: What separates the cells in the file; None for sheets.
    """

    source: str
    page: int | None
    title: str | None
    header: Sequence[str]
    rows: Sequence[Row]
    decimal: str | None = None
    delimiter: str | None = None
