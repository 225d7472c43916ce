"""The web page: its files, and what a browser may load for it."""

from __future__ import annotations

from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = "/page/"
"""Where the page's own files are served."""

_PAGE = "page.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The content security policy: files of this server only, no inline code."""

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Assets:
    """The page's files, read once; they contain no data and need no API key."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        for each in resources.files("nsa_cli.serve").joinpath("page").iterdir():
            kind = _TYPES.get(f".{each.name.rpartition('.')[2]}")
            if kind is not None:
                self._files[each.name] = (each.read_bytes(), kind)

    async def index(self, _request: Request) -> Response:
        """The page for the browser."""
        return self._file(_PAGE)

    async def part(self, request: Request) -> Response:
        """A style sheet or a script of the page; needs no API key."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise HTTPException(404, f"the page has no file {name!r}")
        data, kind = self._files[name]
        return Response(data, media_type=kind, headers=_HEADERS)
