"""The text of OpenDocument files: paragraphs, lists, tables, notes, frames."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents.formats.left_out import HIDDEN_TEXT, LeftOut
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    children,
    descendants,
    name_of,
    parse_xml,
)
from nsa_cli.documents.formats.open_lists import ListNumbers
from nsa_cli.documents.formats.raised import mark_before

_FRAMES = frozenset(
    [
        "frame",
        "custom-shape",
        "rect",
        "ellipse",
        "circle",
        "line",
        "connector",
        "polygon",
        "polyline",
        "path",
        "g",
        "caption",
        "a",
        "text-box",
        "object",
        "object-ole",
        "regular-polygon",
        "measure",
    ]
)
_SKIPPED = frozenset(
    [
        "sequence-decls",
        "variable-decls",
        "user-field-decls",
        "forms",
        "tracked-changes",
        "soft-page-break",
        "bookmark",
        "bookmark-start",
        "bookmark-end",
        "desc",
        "title",
        "event-listeners",
        "note-citation",
        "toc-mark",
        "glue-point",
        "settings",
        "scripts",
        "dde-connection-decls",
        "image",
        "plugin",
        "applet",
    ]
)
_MOST_REPEATED = 16_384


@dataclass(slots=True, kw_only=True)
class _Inline:
    text: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


class OpenText:
    """Reads blocks of text.

    Args:
        archive: The package, for charts and equations inside it; None for a flat file.
        numbers: Of the lists.
        left_out: Is told what is left out.
        raised: Names of the styles of exponents.
        hidden: Whether hidden text is read.
    """

    def __init__(
        self,
        archive: zipfile.ZipFile | None,
        numbers: ListNumbers,
        left_out: LeftOut,
        *,
        raised: Collection[str | None] = (),
        hidden: bool,
    ) -> None:
        self._raised = raised
        self._archive = archive
        self._numbers = numbers
        self._left_out = left_out
        self._hidden = hidden
        self._notes = 0

    def blocks(self, parent: Any, style: str = "", level: int = 0) -> list[str]:
        """The lines of the blocks below an element.

        Args:
            parent: The element.
            style: The list style that holds here.
            level: Number of lists around them.
        """
        lines: list[str] = []
        for each in parent:
            name = name_of(each)
            if name in ("p", "h"):
                lines += self._paragraph(each, name)
            elif name == "list":
                lines += self._list(each, style, level + 1)
            elif name == "table":
                lines += self._table(each)
            elif name == "annotation":
                lines += self._comment(each)
            elif name in _FRAMES:
                lines += self._frame(each)
            elif name == "section" and attribute(each, "display") in ("none", "condition"):
                lines += self._hide(" ".join(self.blocks(each, style, level)))
            elif name not in _SKIPPED and not name.endswith(("-source", "-decls", "-decl")):
                lines += self.blocks(each, style, level)
        return lines

    def _hide(self, text: str) -> list[str]:
        if self._hidden:
            return [text]
        self._left_out.add(HIDDEN_TEXT, text)
        return []

    def _paragraph(self, paragraph: Any, name: str, label: str | None = None) -> list[str]:
        """The lines of a paragraph or heading.

        Args:
            paragraph: The element.
            name: `p` or `h`.
            label: The number that a list gives it, or None outside lists.
        """
        found = _Inline()
        self._inline(paragraph, found)
        text = "".join(found.text).strip(" ")
        if name == "h":
            number = attribute(paragraph, "outline-level", "1") or "1"
            level = int(number) if number.isdecimal() else 1
            unnumbered = not text.strip() or attribute(paragraph, "is-list-header") == "true"
            if label is None and not unnumbered:
                label = self._numbers.heading(level)
            label = None if label == "-" else label
            text = " ".join(part for part in ("#" * min(level, 9), label, text) if part)
        elif label:
            text = f"{label} {text}"
        return [text, *found.after] if text or not found.after else found.after

    def _inline(self, element: Any, found: _Inline) -> None:
        found.text.append(_spaced(element.text))
        for each in element:
            self._inside(each, name_of(each), found)
            found.text.append(_spaced(each.tail))

    def _inside(self, each: Any, name: str, found: _Inline) -> None:
        if name == "s":
            count = attribute(each, "c", "1") or "1"
            found.text.append(" " * (min(int(count), 200) if count.isdecimal() else 1))
        elif name == "tab":
            found.text.append("\t")
        elif name == "line-break":
            found.text.append(" ")
        elif name == "note":
            self._note(each, found)
        elif name == "annotation":
            found.after += self._comment(each)
        elif name in ("hidden-text", "hidden-paragraph"):
            found.text += self._hide(attribute(each, "string-value") or "".join(each.itertext()))
        elif name == "ruby":
            base, reading = child(each, "ruby-base"), child(each, "ruby-text")
            if base is not None:
                self._inline(base, found)
            if reading is not None and (text := "".join(reading.itertext()).strip()):
                found.text.append(f"({text})")
        elif (name == "a" and "drawing" in each.tag) or name in _FRAMES - {"a"}:
            found.after += self._frame(each)
        elif name not in _SKIPPED:
            start = len(found.text)
            self._inline(each, found)
            if name == "span" and attribute(each, "style-name") in self._raised:
                before = "".join(found.text[:start])
                found.text.insert(start, mark_before(before, "".join(found.text[start:])))

    def _note(self, note: Any, found: _Inline) -> None:
        self._notes += 1
        citation, body = child(note, "note-citation"), child(note, "note-body")
        label = "".join(citation.itertext()).strip() if citation is not None else ""
        label = label or str(self._notes)
        found.text.append(f"[{label}]")
        lines = [] if body is None else [line for line in self.blocks(body) if line.strip()]
        if lines:
            found.after += [f"[{label}] {lines[0]}", *lines[1:]]

    def _comment(self, comment: Any) -> list[str]:
        creator = child(comment, "creator")
        author = "" if creator is None else (creator.text or "")
        lines = [
            line
            for each in comment
            if name_of(each) in ("p", "list")
            for line in (self.blocks([each]))
            if line.strip()
        ]
        head = f"Comment by {author}" if author else "Comment"
        return [f"{head}: {lines[0]}", *lines[1:]] if lines else []

    def _list(self, element: Any, style: str, level: int) -> list[str]:
        style = attribute(element, "style-name", style) or style
        continued = attribute(element, "continue-numbering") == "true"
        if level == 1 and not continued and attribute(element, "continue-list") is None:
            self._numbers.restart(style)
        lines: list[str] = []
        for item in element:
            name = name_of(item)
            if name not in ("list-item", "list-header"):
                continue
            inside = list(item)
            if name == "list-item" and _begins_with_text(item):
                label = self._numbers.label(style, level, attribute(item, "start-value"))
                first = inside.pop(0)
                lines += self._paragraph(first, name_of(first), label or "")
            lines += self.blocks(inside, style, level)
        return lines

    def _table(self, table: Any) -> list[str]:
        lines: list[str] = []
        for row in _through(table, "table-row"):
            cells = []
            layered = False
            for cell in row:
                if name_of(cell) not in ("table-cell", "covered-table-cell"):
                    continue
                layered = layered or any(True for _ in descendants(cell, "table", "text-box"))
                found = [line for line in self.blocks(cell) if line.strip()]
                cells += [found] * repeated(cell, "number-columns-repeated")
            if layered:
                lines += [line for found in cells for line in found]
            else:
                texts = [" ".join(" ".join(found).split()) for found in cells]
                lines.append(" | ".join(texts).rstrip(" |"))
        return [line for line in lines if line]

    def _frame(self, frame: Any) -> list[str]:
        """The text of a frame, a shape, a chart or an equation."""
        lines: list[str] = []
        objects = [each for each in frame if name_of(each) in ("object", "object-ole")]
        if name_of(frame) == "object":
            objects = [frame]
        for each in objects[:1]:
            lines += self._object(each)
        if not objects:
            lines += [line for line in self.blocks(frame) if line.strip()]
        return lines

    def _object(self, element: Any) -> list[str]:
        roots = [each for each in element if name_of(each) in ("math", "document")]
        path = posixpath.normpath(
            posixpath.join(attribute(element, "href", "") or "", "content.xml")
        )
        if not roots and self._archive is not None and path in self._archive.namelist():
            roots = [parse_xml(self._archive.read(path))]
        for root in roots:
            if name_of(root) == "math" or any(True for _ in descendants(root, "math")):
                return [_equation(root)]
            if any(True for _ in descendants(root, "chart")):
                return self._chart(root)
            return [line for line in self.blocks(root) if line.strip()]
        self._left_out.count("embedded object")
        return []

    def _chart(self, root: Any) -> list[str]:
        charts = list(descendants(root, "chart"))  # office:chart, then the chart inside it
        chart = charts[-1]
        titles = [" ".join("".join(each.itertext()).split()) for each in children(chart, "title")]
        lines = [f"Chart: {' '.join(titles)}".rstrip(": ")]
        for axis in descendants(chart, "axis"):
            label = child(axis, "title")
            if label is not None:
                lines.append(f"Axis: {' '.join(''.join(label.itertext()).split())}")
        table = next(descendants(root, "table"), None)
        return lines + ([] if table is None else self._table(table))


def _begins_with_text(item: Any) -> bool:
    """Whether a list item begins with a paragraph that has text."""
    first = next(iter(item), None)
    if first is None or name_of(first) not in ("p", "h"):
        return False
    return bool("".join(first.itertext()).strip())


def _through(parent: Any, name: str) -> list[Any]:
    """The rows of a table, also those in groups and headers, but not those of tables inside."""
    found: list[Any] = []
    for each in parent:
        if name_of(each) == name:
            found.append(each)
        elif name_of(each).startswith("table-") and name_of(each) != "table-cell":
            found += _through(each, name)
    return found


def rows_of(table: Any) -> list[Any]:
    """The rows of a table in order."""
    return _through(table, "table-row")


def repeated(element: Any, name: str) -> int:
    """How often a row or a cell is repeated; a repetition up to the end of a sheet counts once."""
    count = attribute(element, name, "1") or "1"
    return min(int(count), _MOST_REPEATED) if count.isdecimal() else 1


def _equation(root: Any) -> str:
    """An equation as it was typed, or its signs in order."""
    for annotation in descendants(root, "annotation"):
        if text := " ".join("".join(annotation.itertext()).split()):
            return text
    return " ".join("".join(root.itertext()).split())


def _spaced(text: str | None) -> str:
    """Text of an element: white space in the file counts as one space."""
    if not text:
        return ""
    first = " " if text[0].isspace() else ""
    last = " " if text[-1].isspace() and text.strip() else ""
    return f"{first}{' '.join(text.split())}{last}"
