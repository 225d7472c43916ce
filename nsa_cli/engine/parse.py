"""Sources become one document, from the document cache if they were parsed before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from nsa_cli.caches.documents import DocumentCache
from nsa_cli.caches.json_files import content_hash
from nsa_cli.config.options import Options
from nsa_cli.documents import Document, PageRanges, parse_sources
from nsa_cli.documents.sources import Source
from nsa_cli.events import Emit, Note, Progress
from nsa_cli.output.logging import log


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed document.

    Attributes:
        document: The document.
        content: Digest of its sources; the same document has the same digest.
        contents: Hashes of its files, by which what is stored is removed.
    """

    document: Document
    content: bytes
    contents: Sequence[str]


class Parser:
    """Parses sources, and holds the last document.

    Args:
        options: How to read.
        emit: Receives progress in pages, notes and warnings.
    """

    def __init__(self, options: Options, emit: Emit) -> None:
        self._options = options
        self._emit = emit
        self._last: tuple[bytes, Document] | None = None

    def parse(self, sources: Sequence[Source], name: str, content: bytes) -> Document:
        """Parse sources into one document; arguments and errors as for `Engine.parse`."""
        if self._last is not None and self._last[0] == content:
            return self._last[1]
        began = time.monotonic()
        cache = DocumentCache(content, name, self._options)
        found = cache.recall()
        if found is None:
            document, notes = self._parse(sources, name)
            spent = time.monotonic() - began
            cache.keep(document, notes, spent, contents_of(sources))
        else:
            document, notes = found
            for text in notes:
                self._emit(Note(text=text))
        log.info(
            "%s: %s characters in %s pieces, opened in %.1f s",
            name,
            f"{len(document.text):,}",
            f"{len(document.pieces):,}",
            time.monotonic() - began,
        )
        single = len({piece.source for piece in document.pieces}) == 1
        for warning in document.warnings:
            where = f"{document.pieces[0].source}: " if single else ""
            self._emit(Note(text=where + warning))
        self._last = (content, document)
        return document

    def _parse(self, sources: Sequence[Source], name: str) -> tuple[Document, list[str]]:
        """Parse sources; returns the document, and the notes that were emitted."""
        pages, notes = self._options.pages, list[str]()

        def note(text: str) -> None:
            notes.append(text)
            self._emit(Note(text=text))

        document = parse_sources(
            sources,
            name,
            password=self._options.password,
            pages=PageRanges.parse(pages) if pages is not None else None,
            ocr=self._options.ocr,
            hidden=self._options.hidden,
            on_page=lambda source, done, total: self._emit(
                Progress(
                    task=f"Opening {source}", done=done, total=total, unit="pages", stage="opening"
                )
            ),
            on_note=note,
        )
        return document, notes


def contents_of(sources: Sequence[Source]) -> list[str]:
    """Hashes of the files of some sources, each once."""
    return list(dict.fromkeys(content_hash(source.data) for source in sources))
