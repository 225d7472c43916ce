"""Names of documents, as clients say them, become sources: uploads, and files of one folder."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nsa_cli.documents import Document, digest, parse_sources, read_sources
from nsa_cli.documents.sources import Source
from nsa_cli.serve.uploads import Uploads, is_upload
from nsa_models.errors import NsaError

_MOST_CHARACTERS = 64_000_000
"""Of the documents that stay parsed."""


def _untold(text: str) -> None:
    """What is left out of a folder is not told to clients."""
    del text


class RefusedError(NsaError):
    """What a client names is none of its business, or is not there."""

    default_code = "document_refused"


class ParsedDocuments:
    """Documents that were parsed, by the key of their sources; those used longest ago go first."""

    def __init__(self) -> None:
        self._documents: OrderedDict[bytes, Document] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Document | None:
        """A document, if it is still here."""
        with self._lock:
            document = self._documents.get(key)
            if document is not None:
                self._documents.move_to_end(key)
            return document

    def put(self, key: bytes, document: Document) -> None:
        """Keep a document."""
        with self._lock:
            self._documents[key] = document
            self._documents.move_to_end(key)
            total = sum(len(each.text) for each in self._documents.values())
            while total > _MOST_CHARACTERS and len(self._documents) > 1:
                total -= len(self._documents.popitem(last=False)[1].text)


class DocumentStore:
    """What clients may ask about.

    Args:
        root: The folder whose files may be named; None for uploads alone.
        uploads: What clients have sent.
        ocr: Languages in which scanned pages are read, or None.
    """

    def __init__(self, root: Path | None, uploads: Uploads, ocr: str | None = None) -> None:
        self.root = None if root is None else root.resolve(strict=True)
        self.uploads = uploads
        self._ocr = ocr
        self.opened = ParsedDocuments()

    def sources(self, names: Sequence[str]) -> list[Source]:
        """What some names stand for, named as citations are to name it.

        Args:
            names: Ids of uploads, or paths of files and folders within the root.

        Raises:
            RefusedError: If one names nothing that may be read.
            NsaError: If it cannot be read.
        """
        found: list[Source] = []
        for name in names:
            if is_upload(name):
                upload = self.uploads.get(name)
                data = self.uploads.read(name)
                found.append(Source(name=upload.filename, data=data, named=True))
            else:
                found += self._within(name)
        return found

    def document(self, sources: Sequence[Source], name: str) -> Document:
        """Sources as one document, parsed unless they were before.

        Raises:
            NsaError: If they cannot be read.
        """
        key = digest(sources)
        document = self.opened.get(key)
        if document is None:
            document = parse_sources(sources, name, ocr=self._ocr, on_note=_untold)
            self.opened.put(key, document)
        return document

    def _within(self, name: str) -> list[Source]:
        path = self._path(name)
        assert self.root is not None
        inside = len(os.fspath(self.root).rstrip("/")) + 1
        try:
            sources = read_sources([os.fspath(path)], on_note=_untold)
        except NsaError as error:
            error.message = self._say(error.message)
            error.hint = self._say(error.hint)
            raise
        return [replace(source, name=source.name[inside:]) for source in sources]

    def _path(self, name: str) -> Path:
        """The file or folder of a name, its links followed, if it lies within the root.

        Every failure is told alike, so that nobody learns what lies elsewhere.
        """
        if self.root is None:
            raise RefusedError(
                f"there is no document {name!r}",
                hint="upload it with POST /v1/files, or start the server with --root",
                code="document_not_found",
            )
        parts = Path(name).parts
        if not parts or "\0" in name or name.startswith(("/", "~")) or ".." in parts:
            raise RefusedError(
                f"{name!r} is not a path within the folder that is served",
                hint="name a file by its path from there, without `..` and without a `/` before it",
            )
        if any(part.startswith(".") for part in parts):
            raise RefusedError(f"{name!r} is hidden", hint="hidden files are not served")
        try:
            path = (self.root / name).resolve(strict=True)
            inside = path.relative_to(self.root)
            allowed = path.is_dir() or path.is_file()
        except (OSError, ValueError, RuntimeError):
            allowed = False
        if not allowed or any(part.startswith(".") for part in inside.parts):
            raise RefusedError(
                f"there is no document {name!r}",
                hint="name a file by its path from the folder that is served",
                code="document_not_found",
            )
        return path

    def _say(self, text: str) -> str:
        """A message without the place of the root."""
        return text.replace(f"{self.root}/", "").replace(f"{self.root}", "the folder")
