"""The text around a citation, for a page to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsa_cli.serve.documents import DocumentStore, RefusedError
from nsa_cli.serve.requests import RequestError

_AROUND = 300
"""Lines before and after the one that is asked for."""

_MOST_CHARACTERS = 200_000


def excerpt(
    library: DocumentStore,
    names: Sequence[str],
    source: str | None,
    *,
    page: int | None,
    line: int | None,
) -> dict[str, Any]:
    """A page, or the lines around one.

    Args:
        library: What may be looked at.
        names: Of the documents that the citation came from.
        source: The one among them, as the citation names it; the first when None.
        page: As the citation says it.
        line: Likewise; the first one when None.

    Raises:
        NsaError: If it is not there.
    """
    if not names:
        raise RequestError("no document is named", param="document", hint="name one")
    sources = library.sources(names)
    own = [each for each in sources if source is None or each.name == source][:1]
    if not own:
        raise RefusedError(f"there is no {source!r} among them", code="document_not_found")
    document = library.document(own, own[0].name)
    pieces = [each for each in document.pieces if page is None or each.page == page]
    wanted = line if line is not None else 0
    piece = next((each for each in reversed(pieces) if each.first_line <= wanted), None)
    piece = piece or next(iter(pieces), None)
    if piece is None:
        raise RefusedError(
            f"{own[0].name} has no {document.pieces[0].unit} {page}", code="document_not_found"
        )
    lines = document.text[piece.start : piece.end].split("\n")
    at = max(0, wanted - piece.first_line)
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
