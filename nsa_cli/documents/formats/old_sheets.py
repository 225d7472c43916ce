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
from nsa_cli.documents.formats.old_sheet_parts import text_boxes, values_alone
from nsa_cli.documents.formats.sheets import Spans, add_rows, column_letters, formatted, number_text
from nsa_cli.documents.missing import need
from nsa_cli.documents.table import Row


def read_workbook(stream: bytes, name: str, *, hidden: bool) -> Document:
    """Read the values of an .xls, sheet by sheet; runs of empty rows are left out.

    Args:
        stream: The records of the workbook, out of the container of the file.
        name: For citations and messages.
        hidden: Whether hidden sheets are read.

    Raises:
        UnreadableError: If it is damaged, empty or protected, or xlrd is missing.
    """
    xlrd = need("xlrd", "xlrd", "Old Excel workbooks")
    builder = Builder(name, "sheet")
    left_out = LeftOut()
    with as_broken(name, "Excel workbook"):
        book, told = _opened(xlrd, stream, name)
        boxes = text_boxes(stream)
        for number, sheet in enumerate(book.sheets(), start=1):
            if sheet.visibility and not hidden:
                text = " ".join(row.plain for row in _rows(sheet, book, xlrd))
                left_out.add("hidden sheet", f"{sheet.name}: {text}")
                continue
            builder.between(f"\n\nSheet {sheet.name}\n\n" if number > 1 else "")
            add_rows(builder, _rows(sheet, book, xlrd), number, sheet.name)
            notes = [*_comments(sheet), *(boxes[number - 1] if number <= len(boxes) else [])]
            for row, text in sorted(notes, key=lambda note: note[0]):
                builder.add(text, page=number, label=sheet.name, first_line=row)
    return builder.document([*told, *left_out.warnings()])


def _opened(xlrd: Any, stream: bytes, name: str) -> tuple[Any, list[str]]:
    """A workbook, and a warning if only its values can be read."""

    def opened(records: bytes) -> Any:
        return xlrd.open_workbook(
            file_contents=records, logfile=io.StringIO(), formatting_info=True, ragged_rows=True
        )

    try:
        return opened(stream), []
    except MemoryError:
        raise
    except Exception as damage:
        if "encrypted" in str(damage).lower():
            raise protected(name) from damage
        try:
            book = opened(values_alone(stream))
        except Exception:
            raise damage from None
        lines = str(damage).splitlines() or [type(damage).__name__]
        return book, [f"the file is damaged ({lines[0][:120]}): its values are read alone"]


def _comments(sheet: Any) -> list[tuple[int, str]]:
    notes = []
    for (row, column), note in sheet.cell_note_map.items():
        text = " ".join(note.text.split())
        by = f" by {note.author}" if note.author else ""
        if text:
            notes.append((row + 1, f"Comment at {column_letters(column + 1)}{row + 1}{by}: {text}"))
    return notes


def _rows(sheet: Any, book: Any, xlrd: Any) -> Iterator[Row]:
    spans = Spans([(top + 1, left + 1, bottom) for top, bottom, left, _ in sheet.merged_cells])
    for index in range(sheet.nrows):
        cells = [_cell(cell, book, xlrd) for cell in sheet.row(index)]
        if any(cells):
            yield Row(number=index + 1, cells=spans.filled(index + 1, cells))


def _cell(cell: Any, book: Any, xlrd: Any) -> str:
    if cell.ctype == xlrd.XL_CELL_NUMBER:
        return formatted(cell.value, _number_format(cell, book))
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


def _number_format(cell: Any, book: Any) -> str:
    """The number format of a cell; empty where the workbook does not define it."""
    if cell.xf_index is None or not 0 <= cell.xf_index < len(book.xf_list):
        return ""
    found = book.format_map.get(book.xf_list[cell.xf_index].format_key)
    return "" if found is None else str(found.format_str)
