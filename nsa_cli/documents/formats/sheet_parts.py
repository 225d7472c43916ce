"""What an Excel workbook holds beside its values: formulas, comments, charts, text boxes."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents.formats.drawings import chart_lines, diagram_lines, text_lines
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    children,
    descendants,
    name_of,
    parse_xml,
)
from nsa_cli.documents.missing import need

_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_MERGED = re.compile(
    rb"""<(?:\w+:)?mergeCell\s[^>]*ref=["']([A-Z]{1,3})(\d{1,7}):[A-Z]{1,3}(\d{1,7})"""
)
_THREADED = "[Threaded comment]"


@dataclass(slots=True, kw_only=True)
class Beside:
    """Parts of a sheet other than the values of its cells.

    Attributes:
        uncounted: Formulas without a stored value, by row and column from 1.
        notes: Comments, text boxes and chart titles, each with its row from 1.
        spans: Cells that span rows: first row, first column, last row, each from 1.
    """

    uncounted: dict[tuple[int, int], str] = field(default_factory=dict)
    notes: list[tuple[int, str]] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)


class Parts:
    """The parts of a workbook, found by its own relationships.

    A workbook that asks to be counted anew when it is opened was written by a library, such as
    XlsxWriter, which stores a zero for each formula.

    Args:
        archive: The package.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = set(archive.namelist())
        self._people: dict[str | None, str] = {}
        root = next((path for kind, path in self._related("") if kind == "officeDocument"), "")
        self.sheets: dict[str, str] = {}
        related = self._by_id(root)
        book = parse_xml(archive.read(root))
        self._unsure = attribute(child(book, "calcPr"), "fullCalcOnLoad") in ("1", "true")
        for sheet in descendants(book, "sheet"):
            kind, path = related.get(attribute(sheet, "id"), ("", ""))
            if kind == "worksheet":
                self.sheets[attribute(sheet, "name", "") or ""] = path
        for kind, path in related.values():
            if kind == "person":
                for person in descendants(parse_xml(archive.read(path)), "person"):
                    self._people[attribute(person, "id")] = attribute(person, "displayName") or ""

    def beside(self, title: str) -> Beside:
        """The parts of the sheet with a title."""
        found = Beside()
        path = self.sheets.get(title, "")
        if path not in self._names:
            return found
        data = self._archive.read(path)
        found.spans = [
            (int(top), _column(left.decode()), int(bottom))
            for left, top, bottom in _MERGED.findall(data)
            if int(bottom) > int(top)
        ]
        if b"<f" in data or b":f" in data:
            found.uncounted = uncounted_formulas(data, zeros=self._unsure)
        related = self._related(path)
        threaded = any(kind == "threadedComment" for kind, _ in related)
        for kind, target in related:
            if kind in ("comments", "threadedComment"):
                root = parse_xml(self._archive.read(target))
                found.notes += self._comments(root, threaded=threaded)
            elif kind == "drawing":
                found.notes += self._drawing(target)
        found.notes.sort(key=lambda note: note[0])
        return found

    def _comments(self, root: Any, *, threaded: bool) -> list[tuple[int, str]]:
        authors = [each.text or "" for each in descendants(root, "author")]
        notes = []
        for each in descendants(root, "comment", "threadedComment"):
            parts = [text.text or "" for text in descendants(each, "t", "text") if text.text]
            text = " ".join("".join(parts).split())
            if not text or (threaded and text.startswith(_THREADED)):
                continue
            index = attribute(each, "authorId", "") or ""
            author = authors[int(index)] if index.isdecimal() and int(index) < len(authors) else ""
            author = author or self._people.get(attribute(each, "personId"), "")
            author = "" if author.startswith("tc=") else author
            reference = attribute(each, "ref", "A1") or "A1"
            by = f" by {author}" if author else ""
            notes.append((row_of(reference), f"Comment at {reference}{by}: {text}"))
        return notes

    def _drawing(self, path: str) -> list[tuple[int, str]]:
        related = self._by_id(path)
        notes = []
        for anchor in parse_xml(self._archive.read(path)):
            row = 1
            if (start := child(anchor, "from", "row")) is not None:
                row = 1 + int(start.text or 0)
            lines = [text for body in descendants(anchor, "txBody") for text in text_lines(body)]
            for each in descendants(anchor, "chart", "relIds"):
                key = attribute(each, "id" if name_of(each) == "chart" else "dm")
                kind, target = related.get(key, ("", ""))
                if kind and target in self._names:
                    root = parse_xml(self._archive.read(target))
                    lines += _labels_of(root) if name_of(each) == "chart" else diagram_lines(root)
            notes += [(row, line) for line in lines]
        return notes

    def _by_id(self, path: str) -> dict[str | None, tuple[str, str]]:
        folder, name = posixpath.split(path)
        relations = posixpath.join(folder, "_rels", f"{name}.rels")
        if relations not in self._names:
            return {}
        found = {}
        for each in children(parse_xml(self._archive.read(relations)), "Relationship"):
            target = attribute(each, "Target", "") or ""
            whole = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            if attribute(each, "TargetMode") != "External" and whole in self._names:
                kind = (attribute(each, "Type", "") or "").rpartition("/")[2]
                found[attribute(each, "Id")] = (kind, whole)
        return found

    def _related(self, path: str) -> list[tuple[str, str]]:
        return list(self._by_id(path).values())


def uncounted_formulas(data: bytes, *, zeros: bool = False) -> dict[tuple[int, int], str]:
    """The formulas of a sheet that have no stored value, by row and column from 1.

    Args:
        data: The XML of the sheet.
        zeros: Whether a stored zero is none.
    """
    missing = ("", "0") if zeros else ("",)
    etree = need("lxml.etree", "lxml", "Excel workbooks")
    translate = need("openpyxl.formula.translate", "openpyxl", "Excel workbooks")
    found = {}
    shared: dict[str | None, tuple[str, str]] = {}
    for _, cell in etree.iterparse(io.BytesIO(data), events=("end",), tag="{*}c"):
        formula = child(cell, "f")
        if formula is not None:
            reference = attribute(cell, "r", "") or ""
            text = f"={(formula.text or '').strip()}"
            if attribute(formula, "t") == "shared":
                key = attribute(formula, "si")
                if text == "=" and key in shared:
                    origin, first = shared[key]
                    text = translate.Translator(first, origin=origin).translate_formula(reference)
                else:
                    shared[key] = (reference, text)
            stored = child(cell, "v")
            at = _REFERENCE.fullmatch(reference)
            value = "" if stored is None else stored.text or ""
            if attribute(cell, "t") == "str" and stored is not None:
                value = "text"
            if at and value in missing:
                found[int(at[2]), _column(at[1])] = text
        cell.clear()
    return found


def row_of(reference: str) -> int:
    """The row of a cell such as `B12`; 1 for anything else."""
    found = _REFERENCE.match(reference)
    return int(found[2]) if found else 1


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def _labels_of(root: Any) -> list[str]:
    """Titles of a chart and its axes; its values are in the cells."""
    return [line for line in chart_lines(root)[0] if line.startswith(("Chart:", "Axis:"))]
