"""OpenDocument texts, spreadsheets and presentations."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken, protected
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    children,
    descendants,
    name_of,
    parse_xml,
)
from nsa_cli.documents.formats.open_lists import ListNumbers
from nsa_cli.documents.formats.open_text import OpenText, repeated, rows_of
from nsa_cli.documents.formats.sheets import Spans, add_rows
from nsa_cli.documents.table import Row

_BODIES = ("text", "spreadsheet", "presentation", "drawing")
_MANIFEST = "META-INF/manifest.xml"
_SHOWN = 4


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read an .odt, .ods, .odp, .odg or a template or flat file of these.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text, sheets and slides are read.

    Raises:
        UnreadableError: If it is damaged, empty or protected by a password.
    """
    with as_broken(name, "OpenDocument file"):
        if not data.startswith(b"PK"):
            root = parse_xml(data)
            return _OpenFile(name, None, [root], hidden=hidden).document(root)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            manifest = archive.read(_MANIFEST) if _MANIFEST in names else b""
            if b"encryption-data" in manifest:
                raise protected(name)
            content = parse_xml(archive.read("content.xml"))
            styles = [parse_xml(archive.read("styles.xml"))] if "styles.xml" in names else []
            return _OpenFile(name, archive, [content, *styles], hidden=hidden).document(content)


class _OpenFile:
    """Reads one file."""

    def __init__(
        self, name: str, archive: zipfile.ZipFile | None, roots: list[Any], *, hidden: bool
    ) -> None:
        self._name = name
        self._roots = roots
        self._hidden = hidden
        self._left_out = LeftOut()
        self._told: list[str] = []
        raised = {
            attribute(style, "name")
            for root in roots
            for style in descendants(root, "style")
            if any(_is_raising(each) for each in style)
        }
        self._text = OpenText(
            archive, ListNumbers(roots), self._left_out, raised=raised, hidden=hidden
        )
        self._hiding = {
            attribute(style, "name")
            for root in roots
            for style in descendants(root, "style")
            if any(_is_hiding(each) for each in style)
        }

    def document(self, content: Any) -> Document:
        """The document, by the kind of its body."""
        body = next(descendants(content, "body"), None)
        part = (
            next((each for each in body if name_of(each) in _BODIES), None)
            if body is not None
            else None
        )
        kind = "" if part is None else name_of(part)
        if kind == "text":
            builder = self._written(part)
        elif kind == "spreadsheet":
            builder = self._sheets(part)
        else:
            builder = self._slides(part if part is not None else content)
        return builder.document([*self._told, *self._left_out.warnings()])

    def _written(self, body: Any) -> Builder:
        for change in descendants(body, "deletion"):
            text = " ".join("".join(each.itertext()) for each in descendants(change, "p", "h"))
            self._left_out.add("tracked deletion", text)
        lines = [*self._bands("header"), *self._text.blocks(body), *self._bands("footer")]
        builder = Builder(self._name)
        builder.add("\n".join(lines))
        return builder

    def _bands(self, kind: str) -> list[str]:
        """The headers or footers of all page styles that differ."""
        found: dict[str, list[str]] = {}
        for root in self._roots:
            for page in descendants(root, "master-page"):
                for band in page:
                    if not name_of(band).startswith(kind) or attribute(band, "display") == "false":
                        continue
                    lines = [line for line in self._text.blocks(band) if line.strip()]
                    if lines:
                        found["\n".join(lines)] = lines
        return [
            line
            for lines in found.values()
            for line in (f"{kind.capitalize()}: {lines[0]}", *lines[1:])
        ]

    def _sheets(self, body: Any) -> Builder:
        builder = Builder(self._name, "sheet")
        for number, table in enumerate(children(body, "table"), start=1):
            title = attribute(table, "name")
            notes: list[tuple[int, str]] = []
            uncounted: list[int] = []
            rows = list(self._rows(table, notes, uncounted))
            for shapes in children(table, "shapes"):
                found = [line for line in self._text.blocks(shapes) if line.strip()]
                notes += [(1, line) for line in found]
            if attribute(table, "style-name") in self._hiding and not self._hidden:
                self._left_out.add(
                    "hidden sheet", f"{title}: " + " ".join(row.plain for row in rows)
                )
                continue
            builder.between(f"\n\nSheet {title}\n\n" if number > 1 else "")
            add_rows(builder, iter(rows), number, title, decimal=None)
            for row, text in notes:
                builder.add(text, page=number, label=title, first_line=row)
            if uncounted:
                shown = ", ".join(map(str, uncounted[:_SHOWN]))
                self._told.append(
                    f"sheet {title}: formulas without a stored value in rows {shown}"
                    + (", …" if len(uncounted) > _SHOWN else "")
                )
        return builder

    def _rows(
        self, table: Any, notes: list[tuple[int, str]], uncounted: list[int]
    ) -> Iterator[Row]:
        number = 1
        spans = Spans()
        for row in rows_of(table):
            cells: list[str] = []
            reaching: list[tuple[int, int, str]] = []
            for cell in row:
                if name_of(cell) not in ("table-cell", "covered-table-cell"):
                    continue
                text = self._cell(cell, number, notes, uncounted)
                times = repeated(cell, "number-columns-repeated")
                if (height := repeated(cell, "number-rows-spanned")) > 1:
                    reaching.append((len(cells) + 1, number + height - 1, text))
                cells += [text] * (times if text else min(times, 1024))
            while cells and not cells[-1]:
                cells.pop()
            count = attribute(row, "number-rows-repeated", "1") or "1"
            times = int(count) if count.isdecimal() else 1
            if cells:
                cells = spans.filled(number, cells)
                for each in reaching:
                    spans.reach(*each)
                for again in range(repeated(row, "number-rows-repeated")):
                    yield Row(number=number + again, cells=cells)
            number += times

    def _cell(
        self, cell: Any, number: int, notes: list[tuple[int, str]], uncounted: list[int]
    ) -> str:
        shown = [each for each in cell if name_of(each) != "annotation"]
        text = " ".join(" ".join(self._text.blocks(shown)).split())
        for comment in children(cell, "annotation"):
            notes += [(number, line) for line in self._text.blocks([comment])]
        if text:
            return text
        for name in ("value", "string-value", "date-value", "time-value", "boolean-value"):
            if value := attribute(cell, name):
                return value
        formula = attribute(cell, "formula")
        if formula and attribute(cell, "value-type") is None:
            uncounted.append(number)
            return f"{formula.partition(':')[2] or formula} (no stored value)"
        return ""

    def _slides(self, body: Any) -> Builder:
        builder = Builder(self._name, "slide")
        footers = {
            attribute(each, "name"): "".join(each.itertext()).strip()
            for each in descendants(body, "footer-decl", "header-decl")
        }
        for number, page in enumerate(descendants(body, "page"), start=1):
            lines = [
                line
                for each in page
                if name_of(each) not in ("notes", "forms")
                for line in self._text.blocks([each])
                if line.strip()
            ]
            for name in ("use-header-name", "use-footer-name"):
                lines += [text] if (text := footers.get(attribute(page, name))) else []
            lines += self._notes(page)
            if attribute(page, "style-name") in self._hiding and not self._hidden:
                self._left_out.add("hidden slide", f"slide {number}: " + " ".join(lines))
                continue
            builder.add("\n".join(lines), page=number)
        return builder

    def _notes(self, page: Any) -> list[str]:
        notes = child(page, "notes")
        lines = [] if notes is None else [each for each in self._text.blocks(notes) if each.strip()]
        return ["Notes:", *lines] if lines else []


def _is_raising(properties: Any) -> bool:
    """Whether text with some properties is an exponent: `super 58%`, `33% 58%`."""
    place = (attribute(properties, "text-position") or "").split(" ")[0].removesuffix("%")
    return place == "super" or (place.isdecimal() and int(place) > 0)


def _is_hiding(properties: Any) -> bool:
    """Whether the properties of a style hide a sheet or a slide."""
    name = name_of(properties)
    return (name == "table-properties" and attribute(properties, "display") == "false") or (
        name == "drawing-page-properties" and attribute(properties, "visibility") == "hidden"
    )
