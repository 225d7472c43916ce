"""The document cache: a PDF that took seconds to parse is not parsed again.

It keeps no encrypted documents. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nsa_cli import __version__
from nsa_cli.caches import json_files
from nsa_cli.config.options import Options, cache_key
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_cli.documents.table import Row, Table
from nsa_models.paths import cache_root

_FORMAT = 7
"""Format version; bump when parsing output changes."""

_KEY = ("pages", "ocr")
"""Options in the key since format 1, in order."""

_WORTH_SECONDS = 0.3
"""Parsing time from which a document is cached."""

_MOST, _MOST_BYTES = 10_000, 2**28
"""Documents to keep, and their bytes; the least recently used go first."""

_READERS = (
    *("pypdf", "pypdfium2", "python-docx", "python-pptx", "openpyxl", "lxml"),
    *("charset-normalizer", "striprtf", "xlrd", "python-oxmsg"),
)


class DocumentCache:
    """The cached document that some sources were parsed to.

    Args:
        content: A hash of the names and bytes of the sources.
        name: The sources' common name.
        options: How to parse them.
    """

    def __init__(self, content: bytes, name: str, options: Options) -> None:
        readers = [_version(reader) for reader in _READERS]
        key = cache_key(options, "text", _KEY)
        facts = [__version__, _FORMAT, readers, content.hex(), name, *key]
        self._path = json_files.path_of(parsed_folder(), facts)
        self._usable = options.store and options.password is None

    def recall(self) -> tuple[Document, list[str]] | None:
        """Return the document and the notes of its parsing, or None."""
        kept = json_files.read(self._path) if self._usable else None
        if kept is None:
            return None
        try:
            notes: list[str] = kept.pop("notes")
            kept.pop("contents", None)
            return document_of(kept), notes
        except (KeyError, TypeError, ValueError):
            return None

    def keep(
        self,
        document: Document,
        notes: Sequence[str],
        seconds: float,
        contents: Sequence[str] = (),
    ) -> None:
        """Store a document that took `seconds` to parse.

        Args:
            document: The document.
            notes: Notes of its parsing.
            seconds: How long that took.
            contents: Hashes of the document's files, by which it is removed.
        """
        if not self._usable or seconds < _WORTH_SECONDS or len(document.text) > _MOST_BYTES // 8:
            return
        body = {**document_body(document), "notes": list(notes), "contents": list(contents)}
        json_files.write(self._path, body, most=_MOST, most_bytes=_MOST_BYTES)


def document_body(document: Document) -> dict[str, Any]:
    """Return a document as a JSON object."""
    return {
        "name": document.name,
        "text": document.text,
        "pieces": [asdict(piece) for piece in document.pieces],
        "warnings": document.warnings,
        "left_out_lines": document.left_out_lines,
        "tables": [_body(table) for table in document.tables],
    }


def document_of(body: dict[str, Any]) -> Document:
    """Return the document of a JSON object from `document_body`.

    Raises:
        KeyError, TypeError, ValueError: If it is another object.
    """
    made = {
        "pieces": tuple(Piece(**piece) for piece in body["pieces"]),
        "warnings": tuple(body["warnings"]),
        "tables": tuple(_table(**table) for table in body["tables"]),
    }
    return Document(**{**body, **made})


def parsed_folder() -> Path:
    """Return the folder of cached documents."""
    return cache_root() / "documents"


def _body(table: Table) -> dict[str, Any]:
    """A table as JSON, each row as its number and its cells."""
    body = {each.name: getattr(table, each.name) for each in fields(table)}
    return {**body, "rows": [[row.number, *row.cells] for row in table.rows]}


def _table(rows: Sequence[Sequence[Any]], **body: Any) -> Table:
    """A table from what `_body` returned."""
    return Table(rows=[Row(number=row[0], cells=row[1:]) for row in rows], **body)


def _version(reader: str) -> str | None:
    try:
        return version(reader)
    except PackageNotFoundError:
        return None
