"""The end of a server that nobody asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

_WATCHED = ("/health", "/metrics")
"""Paths that monitors ask regularly; they are no use of the server."""


class Idle:
    """The time since the last request.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running = 0
        self._last = clock()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request until the block ends."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._last = self._clock()

    def left(self, seconds: float) -> float:
        """Seconds until no request has run for `seconds`; all of them while one runs."""
        return seconds if self._running else self._last + seconds - self._clock()

    async def wait(self, seconds: float) -> None:
        """Return when no request has run for `seconds`."""
        while (left := self.left(seconds)) > 0:
            await asyncio.sleep(left)


class IdleMiddleware:
    """Counts HTTP requests until their last byte.

    Args:
        app: The application.
        idle: Counts requests.
    """

    def __init__(self, app: ASGIApp, *, idle: Idle) -> None:
        self._app = app
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"] in _WATCHED:
            await self._app(scope, receive, send)
            return
        with self._idle.request():
            await self._app(scope, receive, send)
