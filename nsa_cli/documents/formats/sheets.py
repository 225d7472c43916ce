"""Workbooks: each row is a line with the row's own number."""

from __future__ import annotations

import io
import warnings
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.compressed import MOST_FORMAT_BYTES, too_large
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.missing import need


def read(data: bytes, name: str) -> Document:
    """Read the values of an .xlsx, sheet by sheet; runs of empty rows are left out.

    Raises:
        UnreadableError: If it is damaged or empty, or openpyxl is missing.
        DoesNotFitError: If its text is longer than can be taken in.
    """
    openpyxl = need("openpyxl", "openpyxl", "Excel workbooks")
    builder = Builder(name, "sheet")
    with as_broken(name, "Excel workbook"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            for number, sheet in enumerate(book.worksheets, start=1):
                builder.between(f"\n\nSheet {sheet.title}\n\n" if number > 1 else "")
                _add(builder, sheet, number, name)
        finally:
            book.close()
    return builder.document()


def _add(builder: Builder, sheet: Any, number: int, name: str) -> None:
    run: list[str] = []
    first, size = 1, 0
    for row_number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        line = " | ".join(_cell(value) for value in row).rstrip(" |")
        size += len(line)
        if size > MOST_FORMAT_BYTES:
            raise too_large(name, "holds more than 64 MB of text")
        if line:
            if not run:
                first = row_number
            run.append(line)
        elif run:
            builder.add("\n".join(run), page=number, label=sheet.title, first_line=first)
            run = []
    builder.add("\n".join(run), page=number, label=sheet.title, first_line=first)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split()).removesuffix(" 00:00:00")
