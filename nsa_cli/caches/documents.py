"""Documents parsed before: taking a PDF apart takes seconds, and comes to the same each time.

What a password opens is not kept. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nsa_cli import __version__
from nsa_cli.caches import json_files
from nsa_cli.config.options import Options
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_models.paths import cache_root

_FORMAT = 1
"""Raised when the same bytes come to another text."""

_WORTH_SECONDS = 0.3
"""What is parsed quicker than this is parsed anew."""

_MOST, _MOST_BYTES = 10_000, 2**28
"""Documents kept, and the bytes that they take; those used longest ago go first."""

_READERS = ("pypdf", "pypdfium2", "python-docx", "python-pptx", "openpyxl")


class DocumentCache:
    """The document that some sources came to.

    Args:
        content: A hash of the names and bytes of the sources.
        name: Of all of them together.
        options: How they are parsed.
    """

    def __init__(self, content: bytes, name: str, options: Options) -> None:
        facts = [
            __version__,
            _FORMAT,
            [_version(reader) for reader in _READERS],
            content.hex(),
            name,
            options.pages,
            options.ocr,
        ]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._path = parsed_folder() / f"{digest}.json"
        self._usable = options.store and options.password is None

    def recall(self) -> tuple[Document, list[str]] | None:
        """The document and what was noted when it was parsed, or None."""
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
        """Keep a document that it took so long to parse."""
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
    """Where documents parsed before lie."""
    return cache_root() / "documents"


def _version(reader: str) -> str | None:
    try:
        return version(reader)
    except PackageNotFoundError:
        return None
