"""Workbooks of Excel 97 to 2003."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken, protected
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.sheets import add_rows, number_text
from nsa_cli.documents.missing import need
from nsa_cli.documents.table import Row


def read_workbook(data: bytes, name: str, *, hidden: bool) -> Document:
    """Read the values of an .xls, sheet by sheet; runs of empty rows are left out.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden sheets are read.

    Raises:
        UnreadableError: If it is damaged, empty or protected, or xlrd is missing.
    """
    xlrd = need("xlrd", "xlrd", "Old Excel workbooks")
    builder = Builder(name, "sheet")
    left_out = LeftOut()
    with as_broken(name, "Excel workbook"):
        try:
            book = xlrd.open_workbook(file_contents=data, logfile=io.StringIO())
        except xlrd.XLRDError as error:
            if "encrypted" in str(error).lower():
                raise protected(name) from error
            raise
        for number, sheet in enumerate(book.sheets(), start=1):
            if sheet.visibility and not hidden:
                text = " ".join(row.plain for row in _rows(sheet, book, xlrd))
                left_out.add("hidden sheet", f"{sheet.name}: {text}")
                continue
            builder.between(f"\n\nSheet {sheet.name}\n\n" if number > 1 else "")
            add_rows(builder, _rows(sheet, book, xlrd), number, sheet.name)
    return builder.document(left_out.warnings())


def _rows(sheet: Any, book: Any, xlrd: Any) -> Iterator[Row]:
    for index in range(sheet.nrows):
        cells = [_cell(cell, book, xlrd) for cell in sheet.row(index)]
        if any(cells):
            yield Row(number=index + 1, cells=cells)


def _cell(cell: Any, book: Any, xlrd: Any) -> str:
    if cell.ctype == xlrd.XL_CELL_NUMBER:
        return number_text(cell.value)
    if cell.ctype == xlrd.XL_CELL_DATE:
        try:
            moment: datetime.datetime = xlrd.xldate_as_datetime(cell.value, book.datemode)
        except (ValueError, OverflowError):
            return number_text(cell.value)
        if cell.value < 1:
            return str(moment.time())
        return str(moment).removesuffix(" 00:00:00")
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return str(bool(cell.value))
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(xlrd.error_text_from_code.get(cell.value, "#ERROR"))
    return " ".join(str(cell.value).split())
