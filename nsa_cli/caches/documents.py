"""The document cache: a PDF that took seconds to parse is not parsed again.

It keeps no encrypted documents. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nsa_cli import __version__
from nsa_cli.caches import json_files
from nsa_cli.config.options import Options, cache_key
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_models.paths import cache_root

_FORMAT = 4
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
            pieces = tuple(Piece(**piece) for piece in kept.pop("pieces"))
            warnings = tuple(kept.pop("warnings"))
            return Document(**kept, pieces=pieces, warnings=warnings), notes
        except (KeyError, TypeError, ValueError):
            return None

    def keep(self, document: Document, notes: Sequence[str], seconds: float) -> None:
        """Store a document that took `seconds` to parse."""
        if not self._usable or seconds < _WORTH_SECONDS or len(document.text) > _MOST_BYTES // 8:
            return
        body = {
            "name": document.name,
            "text": document.text,
            "pieces": [asdict(piece) for piece in document.pieces],
            "warnings": document.warnings,
            "left_out_lines": document.left_out_lines,
            "notes": list(notes),
        }
        json_files.write(self._path, body, most=_MOST, most_bytes=_MOST_BYTES)


def parsed_folder() -> Path:
    """Return the folder of cached documents."""
    return cache_root() / "documents"


def _version(reader: str) -> str | None:
    try:
        return version(reader)
    except PackageNotFoundError:
        return None
