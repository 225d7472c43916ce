"""Word documents: one line per paragraph, and per row of a table, each at its place."""

from __future__ import annotations

import io
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.attachments import Attachments
from nsa_cli.documents.formats.ooxml import parse_xml, unplaced
from nsa_cli.documents.formats.package_repair import read_or_repair
from nsa_cli.documents.formats.word_parts import WordParts
from nsa_cli.documents.formats.word_walk import Story
from nsa_cli.documents.missing import need


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read a .docx, .docm or .dotx; headings keep their level as `#`.

    python-docx opens the package and finds its parts. Its paragraphs and tables show direct runs
    alone, so the text is taken from the XML of the parts: revisions, content controls, nested
    tables, text boxes, headers, footers, notes, comments, list numbers and equations too.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text is read.

    Raises:
        UnreadableError: If it is damaged or empty, or python-docx is missing.
    """
    docx = need("docx", "python-docx", "Word documents")

    def opened(package: bytes) -> Document:
        return _read(docx.Document(io.BytesIO(package)).part, name, hidden=hidden)

    with as_broken(name, "Word document"):
        return read_or_repair(data, opened)


def _read(part: Any, name: str, *, hidden: bool) -> Document:
    """Read a document, given its main part."""
    parts = WordParts(part)
    attachments = Attachments(name, hidden=hidden)
    story = Story(parts, attachments, hidden=hidden)
    lines = story.read(parse_xml(part.blob))
    text = "\n".join(lines)
    told = story.warnings()
    told += unplaced(parts.shown, "\n".join([text, *story.left_out.texts]), "the document")
    builder = Builder(name)
    builder.add(text)
    attachments.add_to(builder)
    return builder.document([*told, *attachments.warnings])
