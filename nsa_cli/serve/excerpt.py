"""The text around a citation, for the web page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsa_cli.serve.documents import DocumentStore, RefusedError
from nsa_cli.serve.fields import RequestError

_AROUND = 300
"""Lines before and after the requested line."""

_MOST_CHARACTERS = 200_000


def excerpt(
    library: DocumentStore,
    names: Sequence[str],
    source: str | None,
    *,
    page: int | None,
    line: int | None,
) -> dict[str, Any]:
    """A page, or the lines around a line.

    Args:
        library: The documents that clients may read.
        names: Names of the documents that the citation came from.
        source: Source of the citation; the first source when None.
        page: Page of the citation.
        line: First line of the citation; the first line when None.

    Raises:
        NsaError: If the document or the page does not exist.
    """
    if not names:
        raise RequestError("no document given", "document", hint="name one")
    sources = library.sources(names)
    chosen = [each for each in sources if source is None or each.name == source][:1]
    if not chosen:
        raise RefusedError(f"{source!r} is not among the documents", code="document_not_found")
    document = library.document(chosen, chosen[0].name)
    pieces = [each for each in document.pieces if page is None or each.page == page]
    target = line or 0
    piece = next((each for each in reversed(pieces) if each.first_line <= target), None)
    piece = piece or next(iter(pieces), None)
    if piece is None:
        raise RefusedError(
            f"{chosen[0].name} has no {document.pieces[0].unit} {page}", code="document_not_found"
        )
    lines = document.text[piece.start : piece.end].split("\n")
    at = max(0, target - piece.first_line)
    first, stop = max(0, at - _AROUND), at + _AROUND + 1
    pages = [each.page for each in document.pieces if each.page is not None]
    return {
        "source": piece.source,
        "page": piece.page,
        "page_label": piece.page_label,
        "unit": piece.unit,
        "pages": max(pages, default=None),
        "first_line": piece.first_line + first,
        "lines": piece.first_line + len(lines) - 1,
        "text": "\n".join(lines[first:stop])[:_MOST_CHARACTERS],
    }
