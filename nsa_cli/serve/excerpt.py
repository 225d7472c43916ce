"""The text around a citation and the picture of its page, for the web page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nsa_cli.documents import Document, Piece
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.sources import Source
from nsa_cli.serve.documents import DocumentStore, RefusedError
from nsa_cli.serve.fields import RequestError

_AROUND = 300
"""Lines before and after the requested line."""

_MOST_CHARACTERS = 200_000
_MOST_QUOTE = 4000
"""Characters of a quote that is located on a page."""


def excerpt(
    library: DocumentStore,
    names: Sequence[str],
    source: str | None,
    *,
    page: int | None,
    line: int | None,
    quote: str = "",
) -> dict[str, Any]:
    """A page, or the lines around a line.

    Args:
        library: The documents that clients may read.
        names: Names of the documents that the citation came from.
        source: Source of the citation; the first source when None.
        page: Page of the citation.
        line: First line of the citation; the first line when None.
        quote: Quote of the citation, which is located on the page of a PDF; empty for none.

    Raises:
        NsaError: If the document or the page does not exist.
    """
    chosen = _chosen(library, names, source)
    document = library.document([chosen], chosen.name)
    target = line or 0
    piece = _piece(document, source, page, target)
    lines, first, stop = [""], 0, 1
    start = 0
    if piece is not None:
        lines = document.text[piece.start : piece.end].split("\n")
        at = max(0, target - piece.first_line)
        first, stop = max(0, at - _AROUND), at + _AROUND + 1
        start = sum(len(each) + 1 for each in lines[:at])
    picture = _picture(chosen, document, piece, page, quote=quote, start=start)
    if piece is None and picture is None:
        unit = document.pieces[0].unit
        raise RefusedError(f"{chosen.name} has no {unit} {page}", code="document_not_found")
    pages = [each.page for each in document.pieces if each.page is not None]
    pages += [] if picture is None else [picture["pages"]]
    before = 1 if piece is None else piece.first_line
    return {
        "source": chosen.name if piece is None else piece.source,
        "page": page if piece is None else piece.page,
        "page_label": None if piece is None else piece.page_label,
        "unit": "page" if piece is None else piece.unit,
        "pages": max(pages, default=None),
        "first_line": before + first,
        "lines": before + len(lines) - 1,
        "text": "\n".join(lines[first:stop])[:_MOST_CHARACTERS],
        "picture": picture,
    }


def page_picture(
    library: DocumentStore, names: Sequence[str], source: str | None, *, page: int, width: int
) -> bytes:
    """A page of a PDF as PNG.

    Args:
        library: The documents that clients may read.
        names: Names of the documents.
        source: The file among them; the first when None.
        page: Its page, from 1.
        width: Width of the picture in pixels.

    Raises:
        NsaError: If the document or the page does not exist, or the document is not a PDF.
    """
    from nsa_cli.documents.pdf.picture import draw_page, is_pdf

    chosen = _chosen(library, names, source)
    if not is_pdf(chosen.data):
        raise RefusedError(f"{chosen.name} is not a PDF", code="document_not_found")
    try:
        return draw_page(chosen.data, page, chosen.name, width=width)
    except UnreadableError as error:
        raise RefusedError(error.message, hint=error.hint, code="document_not_found") from error


def _chosen(library: DocumentStore, names: Sequence[str], source: str | None) -> Source:
    """The source of a citation among documents; a file inside it has its name as a folder."""
    if not names:
        raise RequestError("no document given", "document", hint="name one")
    found = library.sources(names, seen=True)
    for inside in (False, True):
        for each in found:
            if source is None or source == each.name:
                return each
            if inside and source.startswith(f"{each.name}/"):
                return each
    raise RefusedError(f"{source!r} is not among the documents", code="document_not_found")


def _piece(document: Document, source: str | None, page: int | None, line: int) -> Piece | None:
    """The page of a citation, or the piece that holds its line; None if there is no such page."""
    named = [each for each in document.pieces if each.source == source] or document.pieces
    pieces = [each for each in named if page is None or each.page == page]
    found = next((each for each in reversed(pieces) if each.first_line <= line), None)
    return found or next(iter(pieces), None)


def _picture(
    chosen: Source,
    document: Document,
    piece: Piece | None,
    page: int | None,
    *,
    quote: str,
    start: int,
) -> dict[str, Any] | None:
    """Size of a page and rectangles of a quote on it; None for a document without pages to draw.

    Args:
        chosen: The file.
        document: Its text.
        piece: The page's text; None for a page without text.
        page: The page that was asked for.
        quote: The quote; empty for none.
        start: Where in the page's text the cited line begins.
    """
    from nsa_cli.documents.pdf.picture import is_pdf, lay_out_page

    number = page if piece is None else piece.page
    attached = piece is not None and (piece.source != chosen.name or piece.unit != "page")
    if number is None or attached or not is_pdf(chosen.data):
        return None
    before = ""
    if piece is not None and quote:
        text = document.text[piece.start : piece.end]
        before = text[: max(0, text.find(quote, start))]
    quote = quote[:_MOST_QUOTE]
    try:
        return asdict(lay_out_page(chosen.data, number, chosen.name, quote=quote, before=before))
    except UnreadableError:
        return None
