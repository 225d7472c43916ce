"""The routes that show documents: a list of files, text around a citation, pictures of pages."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.excerpt import excerpt, page_picture
from nsa_cli.serve.fields import RequestError
from nsa_cli.serve.listing import listing

_WIDTH = 1200
_LEAST_WIDTH, _MOST_WIDTH = 100, 3000
"""Pixels of a page's picture."""


class BrowsingRoutes:
    """The routes that show documents.

    Args:
        library: The documents that clients may read.
    """

    def __init__(self, library: DocumentStore) -> None:
        self._library = library

    async def list(self, request: Request) -> Response:
        """List files of the served folder whose path has all words of `query`."""
        query = request.query_params.get("query", "")
        return JSONResponse(await run_in_threadpool(listing, self._library, query))

    async def excerpt(self, request: Request) -> Response:
        """Return the text around a citation.

        Query: `document` (repeatable), `source`, `page`, `line`, and `quote`, which is located on
        the page of a PDF.
        """
        query = request.query_params
        found = await run_in_threadpool(
            excerpt,
            self._library,
            query.getlist("document"),
            query.get("source"),
            page=_number(query, "page"),
            line=_number(query, "line"),
            quote=query.get("quote", ""),
        )
        return JSONResponse(found)

    async def picture(self, request: Request) -> Response:
        """Return a page of a PDF as PNG.

        Query: `document` (repeatable), `source`, `page`, and `width` in pixels.
        """
        query = request.query_params
        width = _number(query, "width") or _WIDTH
        data = await run_in_threadpool(
            page_picture,
            self._library,
            query.getlist("document"),
            query.get("source"),
            page=_number(query, "page") or 1,
            width=min(max(width, _LEAST_WIDTH), _MOST_WIDTH),
        )
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type="image/png", headers=headers)


def _number(query: QueryParams, name: str) -> int | None:
    """A whole number of a query; None if it is missing.

    Raises:
        RequestError: If it is something else.
    """
    value = query.get(name, "")
    if value and not (value.isdecimal() and len(value) < 10):
        raise RequestError(f"{name} must be a whole number, got {value!r}", name)
    return int(value) if value else None
