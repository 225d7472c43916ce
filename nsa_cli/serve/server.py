"""The server's socket, startup and shutdown."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from nsa_cli.answering.read import web_access
from nsa_cli.config.options import Options
from nsa_cli.events import Emit, Event
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.idle import Idle
from nsa_cli.serve.middleware import is_loopback
from nsa_cli.serve.routes import Server
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.uploads import Uploads
from nsa_cli.serve.warm import WarmServer
from nsa_models.errors import UsageError

_END_SECONDS = 10
"""Time for streams to end at shutdown, and then for the model's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Address and access settings.

    Attributes:
        host: Host name or address.
        port: Port number; 0 picks a free one.
        api_key: The key that clients need, or None.
        root: The folder whose files clients may name, or None.
        most_bytes: Limit of a request's body.
        fetch_urls: Whether URLs that clients name are fetched.
        log: Receives a line for each request, or None.
        idle_seconds: The server ends when no request has run for so long; None to stay.
    """

    host: str
    port: int
    api_key: str | None
    root: Path | None
    most_bytes: int
    fetch_urls: bool = False
    log: Callable[[str], None] | None = None
    idle_seconds: float | None = None


class _Uvicorn(uvicorn.Server):
    """Stops the model at a signal, so that no stream delays the shutdown."""

    def __init__(self, config: uvicorn.Config, scheduler: Scheduler) -> None:
        super().__init__(config)
        self._scheduler = scheduler
        self.was_idle = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGINT and SIGTERM."""
        super().handle_exit(sig, frame)
        self._scheduler.close()

    async def end_when_idle(self, idle: Idle, seconds: float) -> None:
        """Shut down when no request has run for `seconds`."""
        await idle.wait(seconds)
        self.was_idle = self.should_exit = True
        self._scheduler.close()


def serve(
    listening: Listening,
    options: Options,
    emit: Emit,
    on_ready: Callable[[str, str], None],
) -> bool:
    """Serve until interrupted, or until no request has run for a while.

    Args:
        listening: Address and access settings.
        options: Options for reading and answering.
        emit: Receives the progress of fetching the model.
        on_ready: Called with the URL and the model's name when the server accepts requests.

    Returns:
        Whether it ended because there was no request.

    Raises:
        UsageError: If the address is unavailable or needs an API key.
        ModelError: If the model is unavailable.
    """
    _check_access(listening)
    with _bound(listening.host, listening.port) as bound:
        web = web_access(options, _ignore) if listening.fetch_urls else None
        library = DocumentStore(listening.root, Uploads(), options.ocr, web)
        scheduler = Scheduler(options, emit, library.parsed)
        idle = Idle()
        warm = WarmServer(scheduler, idle)
        app = Server(scheduler, library, options.max_tokens).app(
            api_key=listening.api_key,
            most_bytes=listening.most_bytes,
            log=listening.log,
            idle=idle,
            beside=lambda: _beside(warm, server, listening.idle_seconds, idle),
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_END_SECONDS,
        )
        server = _Uvicorn(config, scheduler)
        scheduler.start(loads=True)
        warm.listen()
        port = bound.getsockname()[1]
        host = f"[{listening.host}]" if ":" in listening.host else listening.host
        on_ready(f"http://{host}:{port}", scheduler.model)
        try:
            server.run(sockets=[bound])
        finally:
            warm.close()
            scheduler.close()
            scheduler.join(_END_SECONDS)
            library.uploads.close()
        return server.was_idle


@asynccontextmanager
async def _beside(
    warm: WarmServer, server: _Uvicorn, idle_seconds: float | None, idle: Idle
) -> AsyncIterator[None]:
    """Serve commands of this machine, and watch for the end of requests."""
    ends = None
    if idle_seconds is not None:
        ends = asyncio.ensure_future(server.end_when_idle(idle, idle_seconds))
    async with warm.accepting():
        yield
    if ends is not None:
        ends.cancel()


def _check_access(listening: Listening) -> None:
    """Refuse an address that other machines reach without an API key."""
    if listening.api_key is None and not is_loopback(listening.host):
        raise UsageError(
            f"an API key is required: other machines can reach {listening.host}",
            hint="set NSA_API_KEY or give --api-key",
        )


def _ignore(event: Event) -> None:
    """Ignore the progress of a fetch: it belongs to no client."""
    del event


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: If the host is unknown or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, type_, protocol, _, address = found[0]
        bound = socket.socket(family, type_, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(128)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="choose another with --host or --port",
        ) from error
    return bound
