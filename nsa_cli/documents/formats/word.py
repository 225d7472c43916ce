"""Word documents: one line per paragraph, and per row of a table."""

from __future__ import annotations

import io

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.missing import need


def read(data: bytes, name: str) -> Document:
    """Read a .docx; headings keep their level as `#`.

    Raises:
        UnreadableError: If it is damaged or empty, or python-docx is missing.
    """
    docx = need("docx", "python-docx", "Word documents")
    tables = need("docx.table", "python-docx", "Word documents")
    lines: list[str] = []
    with as_broken(name, "Word document"):
        for block in docx.Document(io.BytesIO(data)).iter_inner_content():
            if isinstance(block, tables.Table):
                lines += _rows(block)
            else:
                lines.append(_heading(block) + " ".join(block.text.split("\n")))
    builder = Builder(name)
    builder.add("\n".join(lines))
    return builder.document()


def _heading(paragraph: object) -> str:
    style = getattr(getattr(paragraph, "style", None), "name", None) or ""
    level = style.removeprefix("Heading ")
    if style == "Title":
        return "# "
    return "#" * int(level) + " " if style != level and level.isdecimal() else ""


def _rows(table: object) -> list[str]:
    rows = []
    for row in table.rows:  # type: ignore[attr-defined]
        cells: list[str] = []
        seen = None
        for cell in row.cells:
            if cell._tc is not seen:  # a merged cell comes once for each column
                cells.append(" ".join(cell.text.split()))
            seen = cell._tc
        rows.append(" | ".join(cells))
    return rows
