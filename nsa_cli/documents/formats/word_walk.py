"""The blocks of a Word document in reading order."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from nsa_cli.documents.formats.attachments import Attachments
from nsa_cli.documents.formats.drawings import chart_lines, diagram_lines, text_lines
from nsa_cli.documents.formats.embedded import take_embedded
from nsa_cli.documents.formats.equations import linear
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.numerals import formatted
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    children,
    descendants,
    name_of,
    parse_xml,
    switched_on,
)
from nsa_cli.documents.formats.word_inline import Inline, InlineReader, deleted_text
from nsa_cli.documents.formats.word_parts import WordParts
from nsa_cli.documents.formats.word_styles import numbering_of

_TRANSPARENT = frozenset(
    ["sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "body", "txbxContent"]
)
_ANCHORED = ("txbxContent", "textpath", "txBody", "chart", "relIds", "OLEObject")


class Story:
    """Reads a document from its first block to its last.

    Args:
        parts: Of the document.
        attachments: Reads embedded files.
        hidden: Whether hidden text is read.

    Attributes:
        left_out: What is not read.
    """

    def __init__(self, parts: WordParts, attachments: Attachments, *, hidden: bool) -> None:
        self.left_out = LeftOut()
        self._parts = parts
        self._attachments = attachments
        self._inline = InlineReader(parts.styles, self.left_out, self._note_label, hidden=hidden)
        self._labels: dict[tuple[str, str | None], str] = {}
        self._told_notes: set[tuple[str, str | None]] = set()
        self._told_comments: set[str | None] = set()
        self._bands: set[tuple[str, str]] = set()
        self._inherited: dict[tuple[str, str], str | None] = {}
        self._sections: list[Any] = []
        self._part: Any = None

    def read(self, root: Any) -> list[str]:
        """The lines of the main part, with those of headers, footers, notes and comments."""
        self._parts.shown.insert(0, root)
        self._sections = [each for each in descendants(root, "sectPr") if not _is_old(each)]
        lines = self._band("header")
        for body in children(root, "body"):
            lines += self.blocks(body)
        lines += self._band("footer") if self._sections else []
        for identifier in self._parts.comments:
            lines += self._comment(identifier)
        return lines

    def warnings(self) -> list[str]:
        """What was left out, one clause for each kind."""
        return self.left_out.warnings()

    def blocks(self, parent: Any) -> list[str]:
        """The lines of the blocks below an element."""
        lines: list[str] = []
        for each in parent:
            name = name_of(each)
            if name == "p":
                lines += self._paragraph(each)
            elif name == "tbl":
                lines += self._table(each)
            elif name in _TRANSPARENT:
                lines += self.blocks(each)
            elif name in ("oMath", "oMathPara"):
                lines.append(" ".join(linear(math) for math in descendants(each, "oMath")))
            elif name in ("del", "moveFrom"):
                self.left_out.add("tracked deletion", deleted_text(each))
            elif name == "altChunk":
                lines += self._imported(each)
        return lines

    def _paragraph(self, paragraph: Any) -> list[str]:
        properties = child(paragraph, "pPr")
        style = attribute(child(properties, "pStyle"), "val") or self._parts.styles.default
        found = Inline()
        self._inline.read(paragraph, found, hidden=self._parts.styles.hidden(style))
        text = "".join(found.text)
        gone = child(properties, "rPr", "del") is not None and not text.strip()
        label = None if gone else self._label(properties, style)
        heading = "#" * self._parts.styles.heading(style)
        lines = []
        if not gone and text.strip():
            lines.append(" ".join(part for part in (heading, label, text) if part))
        elif not gone and not found.anchored:
            lines.append("")
        for anchored in found.anchored:
            lines += self._anchored(anchored)
        section = child(properties, "sectPr")
        if section is not None and section in self._sections:
            lines += self._next_section()
        return lines

    def _label(self, properties: Any, style: str | None) -> str | None:
        number, level = numbering_of(properties)
        source = None
        if number is None:
            number, styled, source = self._parts.styles.numbering(style)
            level = styled if level is None else level
        if number is None or number == "0":
            return None
        if source is None and level is None:
            level = 0
        return self._parts.numbering.label(number, level, source)

    def _next_section(self) -> list[str]:
        lines = self._band("footer")
        self._sections.pop(0)
        return lines + (self._band("header") if self._sections else [])

    def _band(self, kind: str) -> list[str]:
        """Yield the headers or footers of the current section that were not read before."""
        lines: list[str] = []
        if not self._sections:
            return lines
        section = self._sections[0]
        first = switched_on(child(section, "titlePg"))
        even = switched_on(child(self._parts.settings, "evenAndOddHeaders"))
        for reference in children(section, f"{kind}Reference"):
            which = attribute(reference, "type", "default") or "default"
            self._inherited[kind, which] = attribute(reference, "id")
        shown = {"first": first, "default": True, "even": even}
        for which in ("first", "default", "even"):
            identifier = self._inherited.get((kind, which))
            if identifier is None:
                continue
            part = self._parts.by_id(identifier)
            if part is None:
                continue
            root = parse_xml(part.blob)
            outer, self._part = self._part, part
            found = [line for line in self.blocks(root) if line.strip()]
            self._part = outer
            text = "\n".join(found)
            if not shown[which]:
                self.left_out.add(f"switched-off {kind}", text)
            elif found and (kind, text) not in self._bands:
                self._bands.add((kind, text))
                self._parts.shown.append(root)
                lines += [f"{kind.capitalize()}: {found[0]}", *found[1:]]
        return lines

    def _table(self, table: Any) -> list[str]:
        lines: list[str] = []
        merged: dict[int, str] = {}
        rows = list(_through(table, "tr"))
        regular = _is_regular(rows)
        for row in rows:
            if child(row, "trPr", "del") is not None:
                self.left_out.add("tracked deletion", deleted_text(row))
                continue
            lines += self._row(row, merged, regular=regular)
        return lines

    def _row(self, row: Any, merged: dict[int, str], *, regular: bool) -> list[str]:
        """A row on one line; one whose cells hold tables or text boxes comes cell by cell.

        Args:
            row: The element.
            merged: Texts of the cells that reach down, by column; changed in place.
            regular: Whether a cell of several columns keeps the place of each.
        """
        column = int(attribute(child(row, "trPr", "gridBefore"), "val", "0") or 0)
        cells: list[list[str]] = []
        layered = False
        for cell in _through(row, "tc"):
            properties = child(cell, "tcPr")
            span = _span(cell)
            merge = child(properties, "vMerge")
            layered = layered or any(True for _ in descendants(cell, "tbl", "txbxContent"))
            lines = [line for line in self.blocks(cell) if line.strip()]
            if merge is not None and attribute(merge, "val", "continue") == "continue":
                lines = lines or [merged.get(column, "")]
            elif merge is not None:
                merged[column] = " ".join(lines)
            cells.append(lines)
            cells += [[] for _ in range(span - 1)] if regular else []
            column += span
        if layered:
            return [line for lines in cells for line in lines]
        texts = [" ".join(" ".join(lines).split()) for lines in cells]
        while regular and len(texts) > 1 and not texts[-1]:
            texts.pop()
        return [" | ".join(texts)]

    def _anchored(self, element: Any) -> list[str]:
        name = name_of(element)
        if name == "commentReference":
            return self._comment(attribute(element, "id"))
        if name in ("footnoteReference", "endnoteReference"):
            return self._note(element)
        lines: list[str] = []
        for each in descendants(element, *_ANCHORED):
            if _inside_box(each, element):
                continue
            if name_of(each) == "txbxContent":
                lines += [line for line in self.blocks(each) if line.strip()]
            elif name_of(each) == "textpath":
                lines.append(attribute(each, "string", "") or "")
            elif name_of(each) == "txBody":
                lines += text_lines(each)
            else:
                lines += self._graphic(each)
        return [line for line in lines if line.strip()]

    def _graphic(self, element: Any) -> list[str]:
        name = name_of(element)
        if name == "OLEObject":
            program = attribute(element, "ProgID", "unknown")
            embedded = self._parts.by_id(attribute(element, "id"), self._part)
            if embedded is None or not take_embedded(embedded, self._attachments):
                self.left_out.count(f"embedded object ({program})")
            return []
        part = self._parts.by_id(attribute(element, "id" if name == "chart" else "dm"), self._part)
        what = "chart" if name == "chart" else "diagram"
        if part is None or posixpath.splitext(str(part.partname))[1] != ".xml":
            self.left_out.count(f"damaged {what}")
            return []
        root = parse_xml(part.blob)
        if what == "diagram":
            return diagram_lines(root)
        lines, missing = chart_lines(root)
        if missing:
            self.left_out.count("chart without stored values")
        return lines

    def _imported(self, element: Any) -> list[str]:
        """The lines of a document that Word imports when it opens this one."""
        part = self._parts.by_id(attribute(element, "id"), self._part)
        document = None if part is None else self._attachments.read_here(part)
        if document is None:
            self.left_out.count("embedded document")
            return []
        return document.text.split("\n")

    def _note_label(self, reference: Any) -> str:
        kind = name_of(reference).removesuffix("Reference") + "s"
        key = (kind, attribute(reference, "id"))
        if key[1] not in self._parts.notes[kind]:
            return ""
        if key not in self._labels:
            number = 1 + sum(each[0] == kind for each in self._labels)
            form = "decimal" if kind == "footnotes" else "lowerRoman"
            self._labels[key] = formatted(number, form)
        return f"[{self._labels[key]}]"

    def _note(self, reference: Any) -> list[str]:
        kind = name_of(reference).removesuffix("Reference") + "s"
        key = (kind, attribute(reference, "id"))
        note = self._parts.notes[kind].get(key[1])
        if note is None or key in self._told_notes:
            return []
        self._told_notes.add(key)
        lines = [line.strip() for line in self.blocks(note) if line.strip()]
        return [f"{self._note_label(reference)} {lines[0]}", *lines[1:]] if lines else []

    def _comment(self, identifier: str | None) -> list[str]:
        comment = self._parts.comments.get(identifier)
        if comment is None or identifier in self._told_comments:
            return []
        self._told_comments.add(identifier)
        lines = [line.strip() for line in self.blocks(comment) if line.strip()]
        author = attribute(comment, "author")
        head = f"Comment by {author}" if author else "Comment"
        return [f"{head}: {lines[0]}", *lines[1:]] if lines else []


def _is_regular(rows: Sequence[Any]) -> bool:
    """Whether a row has a cell in each column of the widest row, as in tables, not in forms."""
    spans = [[_span(cell) for cell in _through(row, "tc")] for row in rows]
    widest = max(map(sum, spans), default=0)
    return any(len(row) == widest for row in spans)


def _span(cell: Any) -> int:
    """The columns that a cell spans."""
    span = attribute(child(cell, "tcPr", "gridSpan"), "val", "1") or "1"
    return max(1, int(span)) if span.isdecimal() else 1


def _through(parent: Any, name: str) -> list[Any]:
    """The rows or cells of a table, also those inside content controls and revisions."""
    found: list[Any] = []
    for each in parent:
        if name_of(each) == name:
            found.append(each)
        elif name_of(each) in _TRANSPARENT:
            found += _through(each, name)
    return found


def _is_old(section: Any) -> bool:
    """Whether section properties are those from before a tracked change."""
    return name_of(section.getparent()) == "sectPrChange"


def _inside_box(element: Any, top: Any) -> bool:
    """Whether a text box below `top` contains an element and reads it."""
    parent = element.getparent()
    while parent is not None and parent is not top:
        if name_of(parent) == "txbxContent":
            return True
        parent = parent.getparent()
    return False
