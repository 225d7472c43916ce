"""Access checks before all routes: origin, host, API key and body size."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nsa_cli.serve.assets import FOLDER
from nsa_cli.serve.formats import error_body, status_of
from nsa_models.errors import NsaError

_OPEN = ("/", "/health")
"""Paths that need no key: the page, and whether the server runs; the page's files need none."""


class AccessError(NsaError):
    """A refused request; `code` gives the reason."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class AccessMiddleware:
    """Refuses requests of other origins, without the API key, or with large bodies.

    A page of another site in a browser on this machine can send requests here. Such a request
    names its site in `Origin` or, after DNS rebinding, in `Host`.

    Args:
        app: The application.
        api_key: The required key, or None.
        most_bytes: Limit of a request's body.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, most_bytes: int) -> None:
        self._app = app
        self._api_key = api_key
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                raise self._too_large()
            return message

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
            await self._app(scope, receive_limited, send_noted)
        except AccessError as error:
            if started:
                raise
            response = JSONResponse(
                error_body(error), status_of(error), headers={"Connection": "close"}
            )
            await response(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
            raise AccessError(f"requests from {origin} are not allowed", code="forbidden")
        if self._api_key is None:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not is_loopback(host):
                raise AccessError(f"host {host!r} is not a loopback address", code="forbidden")
        elif path not in _OPEN and not path.startswith(FOLDER):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(
                key.strip().encode("latin-1"), self._api_key.encode()
            ):
                raise AccessError(
                    "the API key is missing or wrong",
                    hint="send it as `Authorization: Bearer KEY`",
                    code="invalid_api_key",
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most_bytes:
            raise self._too_large()

    def _too_large(self) -> AccessError:
        return AccessError(
            f"the request is larger than {self._most_bytes / 1e6:,.0f} MB",
            hint="send less, or restart the server with a larger --upload-limit",
            code="too_large",
        )
