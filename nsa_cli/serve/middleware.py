"""What stands before all routes: who may ask, and how much may be sent at once."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nsa_cli.serve.formats import error_body, status_of
from nsa_models.errors import NsaError


class GateError(NsaError):
    """A request that is not let in; `code` says why."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as only it can name it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class AccessMiddleware:
    """Lets requests in.

    A page of another site, opened in a browser on this machine, can send requests here: those
    tell where they come from (`Origin`), or, when a name was made to point here, whom they mean
    (`Host`), and are refused.

    Args:
        app: What they are let in to.
        api_key: What they must show, or None.
        most_bytes: Of a request's body.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, most_bytes: int) -> None:
        self._app = app
        self._api_key = api_key
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or say why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most_bytes:
                raise self._too_large()
            return message

        async def told(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
            await self._app(scope, counted, told)
        except GateError as refused:
            if began:
                raise
            response = JSONResponse(
                error_body(refused), status_of(refused), headers={"Connection": "close"}
            )
            await response(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
            raise GateError(f"requests from {origin} are not let in", code="forbidden")
        if self._api_key is None:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not is_loopback(host):
                raise GateError(f"{host!r} is not this machine", code="forbidden")
        elif path != "/":
            kind, _, key = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(
                key.strip().encode("latin-1"), self._api_key.encode()
            ):
                raise GateError(
                    "the API key is missing or wrong",
                    hint="send it as `Authorization: Bearer KEY`",
                    code="invalid_api_key",
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most_bytes:
            raise self._too_large()

    def _too_large(self) -> GateError:
        return GateError(
            f"more than {self._most_bytes / 1e6:,.0f} MB are sent",
            hint="send less, or start the server with a larger --upload-limit",
            code="too_large",
        )
