"""Presentations: one piece per slide, its notes included."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.missing import need


def read(data: bytes, name: str) -> Document:
    """Read a .pptx.

    Raises:
        UnreadableError: If it is damaged or empty, or python-pptx is missing.
    """
    pptx = need("pptx", "python-pptx", "PowerPoint presentations")
    builder = Builder(name, "slide")
    with as_broken(name, "PowerPoint presentation"):
        for number, slide in enumerate(pptx.Presentation(io.BytesIO(data)).slides, start=1):
            lines = _lines(slide.shapes)
            if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
                notes = slide.notes_slide.notes_text_frame.text.strip()
                lines += ["Notes:", *notes.splitlines()] if notes else []
            builder.add("\n".join(lines), page=number)
    return builder.document()


def _lines(shapes: Iterable[Any]) -> list[str]:
    lines: list[str] = []
    for shape in shapes:
        if hasattr(shape, "shapes"):
            lines += _lines(shape.shapes)
        elif getattr(shape, "has_table", False):
            lines += [
                " | ".join(" ".join(cell.text.split()) for cell in row.cells)
                for row in shape.table.rows
            ]
        elif getattr(shape, "has_text_frame", False):
            lines += [text for p in shape.text_frame.paragraphs if (text := p.text.strip())]
    return lines
