"""The server's socket, its start, and a clean end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from nsa_cli.config.options import Options
from nsa_cli.events import Event
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.middleware import is_loopback
from nsa_cli.serve.routes import Server
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.uploads import Uploads
from nsa_models.errors import UsageError

_END_SECONDS = 10
"""How long the end waits for streams, and then for the model's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where and for whom to listen.

    Attributes:
        host: A name or an address.
        port: 0 for any that is free.
        api_key: What clients must show, or None.
        root: The folder whose files may be asked about, or None.
        most_bytes: Of a request.
    """

    host: str
    port: int
    api_key: str | None
    root: Path | None
    most_bytes: int


class _Uvicorn(uvicorn.Server):
    """Stops the model when it is told to end, so that no stream keeps it waiting."""

    def __init__(self, config: uvicorn.Config, worker: Scheduler) -> None:
        super().__init__(config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End: called for SIGINT and SIGTERM."""
        super().handle_exit(sig, frame)
        self._worker.close()


def serve(
    listening: Listening,
    options: Options,
    emit: Callable[[Event], None],
    on_ready: Callable[[str, str], None],
) -> None:
    """Serve until interrupted.

    Args:
        listening: Where and for whom.
        options: How to read and answer.
        emit: Receives the progress of fetching the model.
        on_ready: Called with the address and the model's name when requests are taken.

    Raises:
        UsageError: If it cannot listen there.
        ModelError: If the model cannot be had.
    """
    if listening.api_key is None and not is_loopback(listening.host):
        raise UsageError(
            f"{listening.host} can be reached by others, and there is no API key",
            hint="set NSA_API_KEY or say --api-key",
        )
    with _bound(listening.host, listening.port) as bound:
        library = DocumentStore(listening.root, Uploads(), options.ocr)
        worker = Scheduler(options, emit, library.opened)
        app = Server(worker, library, options.max_tokens).app(
            api_key=listening.api_key, most_bytes=listening.most_bytes
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_END_SECONDS,
        )
        worker.start()
        port = bound.getsockname()[1]
        host = f"[{listening.host}]" if ":" in listening.host else listening.host
        on_ready(f"http://{host}:{port}", worker.model)
        try:
            _Uvicorn(config, worker).run(sockets=[bound])
        finally:
            worker.close()
            worker.join(_END_SECONDS)
            library.uploads.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: If the host is none, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(128)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise UsageError(
            f"{host} port {port} cannot be listened on: {error.strerror or error}",
            hint="choose another with --host or --port",
        ) from error
    return bound
