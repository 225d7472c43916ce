"""Documents of the suite: PDFs, checked by hash, or their text parsed on another machine."""

from __future__ import annotations

import hashlib
import json
import lzma
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from nsa_cli.caches.documents import DocumentCache, document_body, document_of
from nsa_cli.config.options import Options
from nsa_cli.documents import Document, digest, parse_sources
from nsa_cli.documents.build import join_documents
from nsa_cli.documents.sources import Source
from nsa_cli.evaluation.document_suite.questions import DocumentEntry
from nsa_cli.events import Emit, Note, Progress
from nsa_models.errors import DataError
from nsa_models.paths import atomic_write

PARSED = ".parsed.xz"
"""Suffix of a parsed document; its name begins with the document's."""


class Texts(Protocol):
    """Where the text of documents comes from."""

    def read(self, names: Sequence[str], emit: Emit) -> Document | None:
        """Return documents joined into one, or None if one is missing, which a note tells."""
        ...


class KnownTexts:
    """Documents in memory.

    Args:
        documents: The documents by name.
    """

    def __init__(self, documents: Mapping[str, Document]) -> None:
        self._documents = documents

    def read(self, names: Sequence[str], emit: Emit) -> Document | None:  # noqa: ARG002
        """Return documents joined into one."""
        return _joined([self._documents[name] for name in names])


class DocumentFolder:
    """A folder of PDFs and parsed documents.

    Args:
        folder: Holds `ID.pdf`, or `ID.parsed.xz` that `parse` wrote, for each document.
        entries: The documents by name.
        options: How to parse a PDF; parsed documents are cached.
    """

    def __init__(
        self, folder: Path, entries: Mapping[str, DocumentEntry], options: Options
    ) -> None:
        self._folder = folder
        self._entries = entries
        self._options = replace(options, store=True)

    def missing(self) -> list[str]:
        """Return the names of documents of which the folder has neither form."""
        return [name for name in self._entries if not self._has(name)]

    def read(self, names: Sequence[str], emit: Emit) -> Document | None:
        """Return documents joined into one, or None if one is missing, which a note tells.

        Raises:
            DataError: If a file is not the one that the questions are about.
            NsaError: If a file cannot be read.
        """
        absent = [name for name in names if not self._has(name)]
        if absent:
            emit(Note(text=f"{self._folder} has no {absent[0]}.pdf; its questions are left out"))
            return None
        return _joined([self._one(name, emit) for name in names])

    def _has(self, name: str) -> bool:
        return any((self._folder / f"{name}{end}").exists() for end in (".pdf", PARSED))

    def _one(self, name: str, emit: Emit) -> Document:
        path, entry = self._folder / f"{name}.pdf", self._entries[name]
        if path.exists():
            return parsed(path, entry, self._options, emit)
        return read_parsed(path.with_suffix(PARSED), entry)


def parsed(path: Path, entry: DocumentEntry, options: Options, emit: Emit) -> Document:
    """Parse a PDF as `nsa ask` does, or take it from the cache of parsed documents.

    Args:
        path: The PDF.
        entry: Its entry, with its hash.
        options: How to parse.
        emit: Receives progress.

    Raises:
        DataError: If its hash differs.
        NsaError: If it cannot be read.
    """
    data = path.read_bytes()
    _check_hash(path, hashlib.sha256(data).hexdigest(), entry)
    name = f"{entry.id}.pdf"
    sources = [Source(name=name, data=data, named=True)]
    cache = DocumentCache(digest(sources), name, options)
    if (found := cache.recall()) is not None:
        return found[0]
    began, notes = time.monotonic(), list[str]()
    document = parse_sources(
        sources,
        name,
        ocr=options.ocr,
        hidden=options.hidden,
        on_page=lambda source, done, total: emit(
            Progress(task=f"Opening {source}", done=done, total=total, unit="pages")
        ),
        on_note=notes.append,
    )
    cache.keep(document, notes, time.monotonic() - began)
    return document


def write_parsed(path: Path, document: Document, entry: DocumentEntry) -> None:
    """Write a parsed document with the hash of its PDF."""
    body = {"sha256": entry.sha256, **document_body(document)}
    with atomic_write(path) as partial:
        partial.write_bytes(lzma.compress(json.dumps(body, ensure_ascii=False).encode()))


def read_parsed(path: Path, entry: DocumentEntry) -> Document:
    """Read a document that `write_parsed` wrote.

    Raises:
        DataError: If it is damaged, or was made of another PDF.
    """
    try:
        body = json.loads(lzma.decompress(path.read_bytes()))
        sha256 = body.pop("sha256")
        document = document_of(body)
    except (OSError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        raise DataError(
            f"{path} is damaged ({error})", hint="parse its PDF again", code="broken"
        ) from error
    _check_hash(path, sha256, entry)
    return document


def _check_hash(path: Path, found: str, entry: DocumentEntry) -> None:
    if found != entry.sha256:
        raise DataError(
            f"{path} is another file than the questions are about: its SHA-256 is {found}, "
            f"not {entry.sha256}",
            hint="collect it again",
            code="broken",
        )


def _joined(documents: Sequence[Document]) -> Document:
    if len(documents) == 1:
        return documents[0]
    return join_documents(documents, " and ".join(each.name for each in documents))
