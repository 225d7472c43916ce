"""Presentations: one piece per slide, with its charts, diagrams, comments and notes."""

from __future__ import annotations

import io
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.attachments import Attachments
from nsa_cli.documents.formats.drawings import (
    chart_lines,
    diagram_lines,
    numbered_lines,
    table_lines,
    text_lines,
)
from nsa_cli.documents.formats.embedded import take_embedded
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    descendants,
    name_of,
    parse_xml,
    unplaced,
)
from nsa_cli.documents.formats.package_repair import read_or_repair
from nsa_cli.documents.missing import need

_NOT_NOTES = frozenset(["sldImg", "sldNum", "hdr", "ftr", "dt"])
"""Placeholders of a notes page that repeat the slide or decorate the page."""


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read a .pptx, .pptm or .ppsx.

    python-pptx opens the package and orders its slides; the text comes from the XML of each, since
    its shapes show no charts, diagrams, comments or equations.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden slides and shapes are read.

    Raises:
        UnreadableError: If it is damaged or empty, or python-pptx is missing.
    """
    pptx = need("pptx", "python-pptx", "PowerPoint presentations")

    def opened(package: bytes) -> Document:
        return _read(pptx.Presentation(io.BytesIO(package)), name, hidden=hidden)

    with as_broken(name, "PowerPoint presentation"):
        return read_or_repair(data, opened)


def _read(show: Any, name: str, *, hidden: bool) -> Document:
    """Read the slides of a presentation that is open."""
    builder = Builder(name, "slide")
    attachments = Attachments(name, hidden=hidden)
    deck = _Deck(show.part, attachments, hidden=hidden)
    for number, slide in enumerate(show.slides, start=1):
        lines = deck.slide(slide.part, number)
        builder.add("\n".join(lines), page=number)
    told = deck.warnings()
    attachments.add_to(builder)
    return builder.document([*told, *attachments.warnings])


class _Deck:
    """Reads the slides of a presentation in turn."""

    def __init__(self, part: Any, attachments: Attachments, *, hidden: bool) -> None:
        self._hidden = hidden
        self._attachments = attachments
        self._left_out = LeftOut()
        self._static: set[str] = set()
        self._roots: list[Any] = []
        self._read: list[str] = []
        self._authors: dict[str | None, str] = {}
        for authors in _related(part, "commentAuthors", "authors"):
            for each in descendants(parse_xml(authors.blob), "cmAuthor", "author"):
                self._authors[attribute(each, "id")] = attribute(each, "name", "") or ""

    def slide(self, part: Any, number: int) -> list[str]:
        """The lines of a slide; none for one that is hidden."""
        root = parse_xml(part.blob)
        self._roots.append(root)
        lines = self._shapes(child(root, "cSld", "spTree"), part)
        lines += self._from_layouts(root, part)
        lines += self._comments(part)
        lines += self._notes(part)
        self._read += lines
        if attribute(root, "show") in ("0", "false") and not self._hidden:
            self._left_out.add("hidden slide", f"slide {number}: " + " ".join(lines))
            return []
        return lines

    def warnings(self) -> list[str]:
        """What was left out of all slides."""
        text = "\n".join([*self._read, *self._left_out.texts])
        return self._left_out.warnings() + unplaced(self._roots, text, "the slides")

    def _shapes(self, tree: Any, part: Any) -> list[str]:
        lines: list[str] = []
        for shape in () if tree is None else tree:
            name = name_of(shape)
            if name == "grpSp":
                found = self._shapes(shape, part)
            elif name == "graphicFrame":
                found = self._graphic(shape, part)
            elif name in ("sp", "cxnSp", "pic"):
                body = child(shape, "txBody")
                found = [] if body is None else numbered_lines(body)
            else:
                found = text_lines(shape)
            properties = next((each for each in descendants(shape, "cNvPr")), None)
            if attribute(properties, "hidden") in ("1", "true") and not self._hidden:
                self._left_out.add("hidden shape", " ".join(found))
                continue
            lines += found
        return lines

    def _graphic(self, frame: Any, part: Any) -> list[str]:
        lines: list[str] = []
        for each in descendants(frame, "tbl", "chart", "relIds", "oleObj"):
            name = name_of(each)
            if name == "tbl":
                lines += table_lines(each)
            elif name == "oleObj":
                program = attribute(each, "progId", "unknown")
                relation = part.rels.get(attribute(each, "id"))
                inside = None if relation is None or relation.is_external else relation.target_part
                if inside is None or not take_embedded(inside, self._attachments):
                    self._left_out.count(f"embedded object ({program})")
            else:
                lines += self._drawn(each, name, part)
        return lines

    def _drawn(self, element: Any, name: str, part: Any) -> list[str]:
        identifier = attribute(element, "id" if name == "chart" else "dm")
        relation = part.rels.get(identifier) if identifier else None
        if relation is None or relation.is_external:
            self._left_out.count("damaged chart" if name == "chart" else "damaged diagram")
            return []
        root = parse_xml(relation.target_part.blob)
        if name == "relIds":
            return diagram_lines(root)
        lines, missing = chart_lines(root)
        if missing:
            self._left_out.count("chart without stored values")
        return lines

    def _from_layouts(self, root: Any, part: Any) -> list[str]:
        """Text that the layout and the master draw on the slide, told at the first such slide."""
        lines: list[str] = []
        shown = root
        for kind in ("slideLayout", "slideMaster"):
            if attribute(shown, "showMasterSp") in ("0", "false"):
                break
            part = next(iter(_related(part, kind)), None)
            if part is None:
                break
            shown = parse_xml(part.blob)
            for shape in descendants(shown, "sp"):
                body = child(shape, "txBody")
                if any(True for _ in descendants(shape, "ph")) or body is None:
                    continue
                text = " ".join(text_lines(body))
                if text and text not in self._static:
                    self._static.add(text)
                    lines.append(f"Layout: {text}")
        return lines

    def _comments(self, part: Any) -> list[str]:
        lines: list[str] = []
        for comments in _related(part, "comments"):
            for each in descendants(parse_xml(comments.blob), "cm", "reply"):
                body, plain = child(each, "txBody"), child(each, "text")
                text = " ".join(text_lines(body)) if body is not None else ""
                text = text or ("" if plain is None else plain.text or "")
                author = self._authors.get(attribute(each, "authorId"))
                head = f"Comment by {author}" if author else "Comment"
                lines += [f"{head}: {' '.join(text.split())}"] if text.strip() else []
        return lines

    def _notes(self, part: Any) -> list[str]:
        lines: list[str] = []
        for notes in _related(part, "notesSlide"):
            tree = child(parse_xml(notes.blob), "cSld", "spTree")
            for shape in () if tree is None else tree:
                kinds = {attribute(each, "type") for each in descendants(shape, "ph")}
                if not kinds & _NOT_NOTES:
                    lines += text_lines(shape)
        return ["Notes:", *lines] if lines else []


def _related(part: Any, *kinds: str) -> list[Any]:
    """The parts that a part refers to for a purpose."""
    return [
        relation.target_part
        for relation in part.rels.values()
        if not relation.is_external and relation.reltype.rpartition("/")[2] in kinds
    ]
