"""Workbooks: each row is a line with the row's own number and the names of its columns."""

from __future__ import annotations

import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.compressed import MOST_FORMAT_BYTES, too_large
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.package_repair import read_or_repair
from nsa_cli.documents.formats.raised import mark_before
from nsa_cli.documents.formats.sheet_parts import Beside, Parts
from nsa_cli.documents.formats.tables import Labels
from nsa_cli.documents.missing import need
from nsa_cli.documents.table import Row

_SHOWN_CELLS = 4
_FIGURE = re.compile(r"[-+(]?\W{0,2}\d[\d.,'’\s]*(?:e[-+]?\d+)?\W{0,2}(?:[A-Z]{3})?\)?", re.I)
_YEAR = re.compile(r"(?:18|19|20|21)\d\d")
_LONGEST_SPANNING = 100
"""Characters of a cell that is repeated in the rows that it spans; a longer one is a note."""

_MOST_ROWS = 1_048_576
"""Of a sheet; a damaged file may number a row with anything."""


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read the values of an .xlsx or .xlsm, sheet by sheet; runs of empty rows are left out.

    A formula that has no stored value is written as the formula, with a warning.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden sheets are read. Hidden rows and columns always are, since filters
            and groups hide them for a while.

    Raises:
        UnreadableError: If it is damaged or empty, or openpyxl is missing.
        DoesNotFitError: If its text is longer than can be taken in.
    """
    openpyxl = need("openpyxl", "openpyxl", "Excel workbooks")

    def opened(package: bytes) -> Document:
        book = openpyxl.load_workbook(
            io.BytesIO(package), read_only=True, data_only=True, rich_text=True
        )
        try:
            with zipfile.ZipFile(io.BytesIO(package)) as archive:
                return _read(book, Parts(archive), name, hidden=hidden)
        finally:
            book.close()

    with as_broken(name, "Excel workbook"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_or_repair(data, opened)


def _read(book: Any, parts: Parts, name: str, *, hidden: bool) -> Document:
    """Read the sheets of a workbook that is open."""
    builder = Builder(name, "sheet")
    left_out = LeftOut()
    told: list[str] = []
    for number, sheet in enumerate(book.worksheets, start=1):
        beside = parts.beside(sheet.title)
        if sheet.sheet_state != "visible" and not hidden:
            rows = _text_of(sheet, beside)
            left_out.add("hidden sheet", f"{sheet.title}: {rows}")
            continue
        builder.between(f"\n\nSheet {sheet.title}\n\n" if number > 1 else "")
        add_rows(builder, _rows(sheet, beside), number, sheet.title)
        told += _told(sheet.title, beside)
        for row, text in beside.notes:
            builder.add(text, page=number, label=sheet.title, first_line=row)
    return builder.document([*told, *left_out.warnings()])


def add_rows(
    builder: Builder,
    rows: Iterator[Row],
    number: int,
    title: str | None,
    decimal: str | None = ".",
) -> None:
    """Add the rows of a sheet, each run of rows without a gap as a piece.

    Args:
        builder: Of the document.
        rows: In order, without empty ones.
        number: Of the sheet, from 1.
        title: Of the sheet.
        decimal: Decimal mark of its numbers; None where they are as people see them.

    Raises:
        DoesNotFitError: If they hold more than can be taken in.
    """
    labels = Labels(builder.name, number, title, decimal=decimal)
    run: list[Row] = []
    size = 0

    def end_run() -> None:
        if run:
            lines = labels.lines(run)
            builder.add("\n".join(lines), page=number, label=title, first_line=run[0].number)
            run.clear()

    for row in rows:
        if run and row.number != run[-1].number + 1:
            end_run()
        size += sum(map(len, row.cells))
        if size > MOST_FORMAT_BYTES:
            raise too_large(builder.name, "holds more than 64 MB of text")
        run.append(row)
    end_run()
    builder.add_tables(labels.tables())


def _rows(sheet: Any, beside: Beside) -> Iterator[Row]:
    """The rows that have a value, also those beyond the size that the sheet declares."""
    sheet.reset_dimensions()
    formulas: dict[int, dict[int, str]] = {}
    for (row, column), formula in beside.uncounted.items():
        formulas.setdefault(row, {})[column] = f"{formula} (no stored value)"
    spans = Spans(beside.spans)
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if number > _MOST_ROWS:
            raise ValueError(f"a row beyond {_MOST_ROWS:,}")
        cells = [_cell(cell) for cell in row]
        for column, formula in formulas.get(number, {}).items():
            cells += [""] * (column - len(cells))
            cells[column - 1] = formula
        if any(cells):
            yield Row(number=number, cells=spans.filled(number, cells))


class Spans:
    """Cells that span rows: each row that has other cells is told what it belongs to.

    Args:
        spans: First row, first column and last row of each, from 1.
    """

    def __init__(self, spans: Sequence[tuple[int, int, int]] = ()) -> None:
        self._spans: dict[int, list[tuple[int, int]]] = {}
        for top, column, bottom in spans:
            self._spans.setdefault(top, []).append((column, bottom))
        self._open: dict[int, tuple[int, str]] = {}

    def filled(self, number: int, cells: list[str]) -> list[str]:
        """The cells of a row, with the texts of cells that reach down to it.

        Args:
            number: Of the row, from 1; rows come in order.
            cells: Its own; at least one has text.
        """
        for column, (last, text) in self._open.items():
            if number <= last and not any(cells[column - 1 : column]):
                cells += [""] * (column - len(cells))
                cells[column - 1] = text
        for column, last in self._spans.get(number, ()):
            if column <= len(cells):
                self.reach(column, last, cells[column - 1])
        return cells

    def reach(self, column: int, last: int, text: str) -> None:
        """Take a cell that reaches down to a row, unless it is a note or a figure.

        A figure of several rows is not one of each: their sum would be wrong.
        """
        is_figure = _FIGURE.fullmatch(text) is not None and _YEAR.fullmatch(text) is None
        if 0 < len(text) <= _LONGEST_SPANNING and not is_figure:
            self._open[column] = (last, text)


def _cell(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return formatted(value, cell.number_format)
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    if isinstance(value, list):  # openpyxl's CellRichText
        value = _rich_text(value)
    return " ".join(str(value).split()).removesuffix(" 00:00:00")


def _duration(value: datetime.timedelta) -> str:
    """A duration as spreadsheets show it, with more than 24 hours: `36:30:00`."""
    seconds = round(abs(value.total_seconds()))
    sign = "-" if value < datetime.timedelta() else ""
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _rich_text(parts: Sequence[Any]) -> str:
    """Text of several fonts; a raised figure is parted from the one before it."""
    text = ""
    for part in parts:
        font, run = getattr(part, "font", None), str(part)
        raised = getattr(font, "vertAlign", None) == "superscript"
        text += (mark_before(text, run) if raised else "") + run
    return text


def formatted(value: float, number_format: str) -> str:
    """A number as a cell shows it: a share as a percentage, others with their digits."""
    if "%" in number_format and "[" not in number_format:
        return f"{value * 100:.12g}%"
    return number_text(value)


def number_text(value: float) -> str:
    """A number with the digits that a spreadsheet shows, 15 at most."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return f"{value:.15g}"


def _text_of(sheet: Any, beside: Beside) -> str:
    return " ".join(row.plain for row in _rows(sheet, beside))


def _told(title: str, beside: Beside) -> list[str]:
    count = len(beside.uncounted)
    if not count:
        return []
    cells = [
        f"{column_letters(column)}{row}" for row, column in list(beside.uncounted)[:_SHOWN_CELLS]
    ]
    shown = ", ".join(cells) + (", …" if count > len(cells) else "")
    what = "1 formula has" if count == 1 else f"{count:,} formulas have"
    remedy = "open the file in a spreadsheet program and save it to store the values"
    return [f"sheet {title}: {what} no stored value ({shown}); {remedy}"]


def column_letters(column: int) -> str:
    """The letters of a column, counted from 1."""
    text = ""
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
