"""Rows of a table with their header, so that each value has its column's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        number: Its own number, from 1.
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


class Labels:
    """The header of the table that is being read."""

    def __init__(self) -> None:
        self._names: Sequence[str] | None = None

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
                self._names = row.cells
                lines.append(row.plain)
            else:
                lines.append(self._labeled(row))
        return lines

    def _labeled(self, row: Row) -> str:
        names, filled = self._names, row.filled
        if names is None or filled in ([], [0]) or filled[-1] >= len(names):
            return row.plain
        return " | ".join(
            f"{names[column]}: {row.cells[column]}" if names[column] else row.cells[column]
            for column in filled
        )


def header_index(rows: Sequence[Row]) -> int | None:
    """Index of the header: the first row of names over rows of values; None without one.

    A header has at least three names, no figures but years, and no wider row above it. Below it,
    some column has figures or addresses; or words repeat in some column, and no name is among them.

    Args:
        rows: None of them empty.
    """
    widest = 0
    for index, row in enumerate(rows[:_HEADER_WITHIN]):
        filled = row.filled
        if len(filled) >= _FEWEST_COLUMNS and widest < _FEWEST_COLUMNS:
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
