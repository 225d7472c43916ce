"""Documents put together from parts: pages, slides, cells, or whole files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.invisible import without_invisible
from nsa_cli.documents.location import printable
from nsa_cli.documents.pages import PageRanges
from nsa_cli.documents.table import Table
from nsa_models.errors import UsageError


class Builder:
    """Collects the text of one file, piece by piece.

    Args:
        name: Of the file, for citations.
        unit: What a piece with a number is, such as `slide`; see `Piece`.
    """

    def __init__(self, name: str, unit: str = "page") -> None:
        self._name = name
        self._unit = unit
        self._texts: list[str] = []
        self._length = 0
        self._pieces: list[Piece] = []
        self._tables: list[Table] = []
        self._touching = False

    @property
    def name(self) -> str:
        """The name of the file, for citations."""
        return self._name

    def between(self, text: str) -> None:
        """Add text that belongs to no piece, so that it is never quoted."""
        self._texts.append(text)
        self._length += len(text)
        self._touching = self._touching and not text

    def add(
        self, text: str, *, page: int | None = None, label: str | None = None, first_line: int = 1
    ) -> None:
        """Add a piece, unless it has no text.

        Args:
            text: Normalized to NFC here.
            page: Its number, or None.
            label: Its own name, where it has one.
            first_line: Number of its first line.
        """
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = unicodedata.normalize("NFC", without_invisible(text))
        text = text.encode("utf-8", "replace").decode()
        first_line += len(text[: len(text) - len(text.lstrip("\n"))])
        text = text.strip("\n")
        if not text.strip():
            return
        if self._touching:
            self.between("\n\n" if page is not None else "\n")
        self._pieces.append(
            Piece(
                source=self._name,
                page=page,
                page_label=label,
                start=self._length,
                end=self._length + len(text),
                first_line=first_line,
                unit=self._unit,
            )
        )
        self.between(text)
        self._touching = True

    def graft(self, document: Document, head: str | None = None) -> None:
        """Add a document that is inside this one.

        Args:
            document: The other one.
            head: Text before it; a line with its name if None.
        """
        if head is None:
            head = f"\n\n==> {printable(document.name)} <==\n\n"
        self.between(unicodedata.normalize("NFC", head))
        self._pieces += [
            replace(piece, start=piece.start + self._length, end=piece.end + self._length)
            for piece in document.pieces
        ]
        self.between(document.text)
        self._tables += document.tables
        self._touching = True

    def add_tables(self, tables: Sequence[Table]) -> None:
        """Add tables whose rows were added as lines."""
        self._tables += tables

    def document(self, warnings: Sequence[str] = ()) -> Document:
        """The document.

        Raises:
            UnreadableError: If no piece has text (`empty`).
        """
        if not self._pieces:
            told = f" ({'; '.join(warnings)})" if warnings else ""
            raise UnreadableError(
                f"{self._name} has no text{told}", hint="name a file with text in it", code="empty"
            )
        return Document(
            name=self._name,
            text="".join(self._texts),
            pieces=tuple(self._pieces),
            warnings=tuple(warnings),
            tables=tuple(self._tables),
        )


def select_pages(document: Document, pages: PageRanges) -> Document:
    """The part of a document on some pages.

    Raises:
        UsageError: If the document has no pages, or none of these.
    """
    numbers = [piece.page for piece in document.pieces if piece.page is not None]
    if not numbers:
        raise UsageError(
            f"{document.name} has no pages", hint="leave --pages out, or name a PDF with it"
        )
    pages.check(numbers, document.name, document.pieces[0].unit)
    kept = [p for p in document.pieces if p.page is not None and p.page in pages]
    joined = _joined(document.name, [(document, piece) for piece in kept], document.warnings)
    places = {(piece.source, piece.page) for piece in kept}
    tables = [each for each in document.tables if (each.source, each.page) in places]
    return replace(joined, tables=tuple(tables))


def _joined(
    name: str, parts: Sequence[tuple[Document, Piece]], warnings: tuple[str, ...]
) -> Document:
    texts: list[str] = []
    pieces: list[Piece] = []
    length = 0
    for document, piece in parts:
        if texts:
            texts.append("\n\n")
            length += 2
        text = document.text[piece.start : piece.end]
        pieces.append(replace(piece, start=length, end=length + len(text)))
        texts.append(text)
        length += len(text)
    return Document(name=name, text="".join(texts), pieces=tuple(pieces), warnings=warnings)


def join_documents(documents: Sequence[Document], name: str) -> Document:
    """Several documents as one, each under a line with its name.

    The lines with the names stand between the pieces, so that they are never quoted.

    Args:
        documents: At least one; one alone is returned as it is.
        name: Of all of them together.
    """
    if len(documents) == 1:
        return documents[0]
    texts: list[str] = []
    pieces: list[Piece] = []
    warnings: list[str] = []
    length = 0
    for number, document in enumerate(documents):
        head = f"{'' if not number else chr(10) * 2}==> {printable(document.name)} <==\n\n"
        head = unicodedata.normalize("NFC", head)
        texts += [head, document.text]
        length += len(head)
        pieces += [
            replace(piece, start=piece.start + length, end=piece.end + length)
            for piece in document.pieces
        ]
        warnings += [f"{document.name}: {warning}" for warning in document.warnings]
        length += len(document.text)
    return Document(
        name=name,
        text="".join(texts),
        pieces=tuple(pieces),
        warnings=tuple(warnings),
        tables=tuple(table for document in documents for table in document.tables),
    )
