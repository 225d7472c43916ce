"""Rows of a table with their header, so that each value has its column's name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nsa_cli.documents.table import Row, Table

_FEWEST_COLUMNS = 3
"""A row of two cells is a name and its value; a header would say nothing more."""

_HEADER_WITHIN = 12
_LOOKED_AT = 40
_LONGEST_NAME = 80
_FIGURE = re.compile(
    r"[-+(]?\s*[$€£¥]?\s*\d[\d.,'\s\u00a0\u202f]*(?:e[-+]?\d+)?\s*(?:%|[$€£¥]|[A-Z]{3})?\)?"
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(?::\d\d)?"
    r"|true|false",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\S+@\S+\.\S+|https?://\S+")
_YEAR = re.compile(r"(?:18|19|20|21)\d\d(?:[-/]\d{1,4}){0,2}")


class Labels:
    """The header of the table that is being read, and the tables that were read.

    Args:
        source: The file, as citations name it.
        page: Number of the sheet, or None.
        title: Name of the sheet, or None.
        decimal: Decimal mark of numbers that the format writes itself, or None.
        delimiter: What separates the cells in the file, or None.
    """

    def __init__(
        self,
        source: str,
        page: int | None = None,
        title: str | None = None,
        *,
        decimal: str | None = None,
        delimiter: str | None = None,
    ) -> None:
        self._names: Sequence[str] | None = None
        self._of = {"source": source, "page": page, "title": title}
        self._marks = {"decimal": decimal, "delimiter": delimiter}
        self._rows: list[Row] = []
        self._tables: list[Table] = []

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """Rows that follow one another, as lines.

        The first row that looks like a header names the columns from there on, also in later calls,
        until another header comes.

        Args:
            rows: None of them empty.
        """
        at = header_index(rows)
        lines = []
        for index, row in enumerate(rows):
            if index == at:
                self.begin(row)
                lines.append(row.plain)
            else:
                lines.append(self._labeled(row))
                self.add(row)
        return lines

    def begin(self, header: Row) -> None:
        """Take a row as the header of what follows."""
        self._end()
        self._names = header.cells

    def add(self, row: Row) -> None:
        """Add a row to the table; in a sheet, a line of text below it is none of its rows."""
        if self._names is None:
            return
        whole = self._marks["delimiter"] is not None and len(row.cells) == len(self._names)
        if whole or row.filled not in ([], [0]):
            self._rows.append(row)

    def tables(self) -> list[Table]:
        """The tables so far."""
        self._end()
        self._names = None
        return self._tables

    def _end(self) -> None:
        if self._names is not None and self._rows:
            table = Table(header=self._names, rows=self._rows, **self._of, **self._marks)  # type: ignore[arg-type]
            self._tables.append(table)
            self._rows = []

    def _labeled(self, row: Row) -> str:
        names, filled = self._names, row.filled
        if names is None or filled in ([], [0]) or filled[-1] >= len(names):
            return row.plain
        return " | ".join(
            f"{names[column]}: {row.cells[column]}" if names[column] else row.cells[column]
            for column in filled
        )


def header_index(rows: Sequence[Row], fewest: int = _FEWEST_COLUMNS) -> int | None:
    """Index of the header: the first row of names over rows of values; None without one.

    A header has some names, three by default, no figures but years, and no wider row above it.
    Below it, some column has figures or addresses; or words repeat in some column, and no name is
    among them.

    Args:
        rows: None of them empty.
        fewest: Names that a header has at least.
    """
    widest = 0
    for index, row in enumerate(rows[:_HEADER_WITHIN]):
        filled = row.filled
        if len(filled) >= fewest and widest < fewest:
            body = rows[index + 1 : index + 1 + _LOOKED_AT]
            return index if _names(row) and _values(row, body) else None
        widest = max(widest, len(filled))
    return None


def _names(row: Row) -> bool:
    cells = [row.cells[column] for column in row.filled]
    figures = [cell for cell in cells if _FIGURE.fullmatch(cell)]
    return (
        all(len(cell) <= _LONGEST_NAME for cell in cells)
        and len(set(cells)) > len(cells) / 2
        and all(_YEAR.fullmatch(cell) for cell in figures)
        and (not figures or not _FIGURE.fullmatch(row.cells[0]))
        and not any(cell.startswith("=") for cell in cells)
    )


def _values(header: Row, body: Sequence[Row]) -> bool:
    """Whether rows look like what a header names."""
    wide = [row for row in body if len(row.filled) > 1]
    if not wide:
        return False
    covered = set(header.filled)
    inside = sum(len(covered.intersection(row.filled)) for row in wide)
    if inside < 0.8 * sum(len(row.filled) for row in wide):
        return False
    repeats = False
    for column in covered:
        cells = [row.cells[column] for row in wide if column < len(row.cells) and row.cells[column]]
        figures = sum(1 for cell in cells if _is_value(cell))
        if cells and figures >= len(cells) / 2 and not _ADDRESS.fullmatch(header.cells[column]):
            return True
        repeats = repeats or len(set(cells)) < len(cells)
    words = {cell for row in wide for cell in row.cells if cell}
    return repeats and not words.intersection(header.cells[column] for column in covered)


def _is_value(cell: str) -> bool:
    return bool(_FIGURE.fullmatch(cell) or _ADDRESS.fullmatch(cell) or cell.startswith("="))
