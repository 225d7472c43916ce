"""One HTTP request and its response, within limits of size and time."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import NoReturn
from urllib.parse import SplitResult

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.urls.access import Limits, WebAccess
from nsa_cli.documents.urls.addresses import connect
from nsa_models.errors import DoesNotFitError

_CHUNK = 65_536
_GZIP = ("gzip", "x-gzip")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response.

    Attributes:
        status: Its status code.
        headers: Its headers.
        body: Its bytes, decompressed; empty unless the status is 200.
    """

    status: int
    headers: Message
    body: bytes


class _Connection(http.client.HTTPConnection):
    """A connection to a checked address, which a watch closes when its time is over."""

    def __init__(self, parts: SplitResult, host: str, access: WebAccess, timeout: float) -> None:
        super().__init__(host, parts.port or _PORTS[parts.scheme])
        self.default_port = _PORTS[parts.scheme]
        self._secure = parts.scheme == "https"
        self._access = access
        self._patience = timeout
        self._opened: socket.socket | None = None
        self.stopped = False

    def connect(self) -> None:
        """Connect, with TLS for https."""
        allow_private = self._access.allow_private
        sock = connect(self.host, self.port, allow_private=allow_private, timeout=self._patience)
        self.sock: socket.socket = sock
        if self._secure:
            self.sock = _tls().wrap_socket(sock, server_hostname=self.host)
        self._opened = self.sock  # `getresponse` forgets a socket that it alone reads from
        if self.stopped:
            raise TimeoutError

    def stop(self) -> None:
        """End all reading, from another thread."""
        self.stopped = True
        if self._opened is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._opened, socket.SHUT_RDWR)


def request(
    url: str,
    parts: SplitResult,
    headers: Mapping[str, str],
    access: WebAccess,
    deadline: float,
) -> Response:
    """Request a URL, without following a redirect.

    Args:
        url: The URL, for messages.
        parts: The same, with host and path in ASCII.
        headers: Headers of the request.
        access: How URLs are fetched.
        deadline: When the time is over, by `time.monotonic`.

    Raises:
        UnreadableError: If the host cannot be reached or is refused, or the response is late,
            truncated or malformed.
        DoesNotFitError: If the response is too large.
    """
    limits = access.limits
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_slow(url, limits)
    host = (parts.hostname or "").strip("[]")
    connection = _Connection(parts, host, access, min(limits.idle_seconds, left))
    watch = threading.Timer(left, connection.stop)
    watch.daemon = True
    watch.start()
    try:
        with _told(url, connection, limits):
            path = parts.path or "/"
            connection.request(
                "GET", f"{path}?{parts.query}" if parts.query else path, None, headers
            )
            with connection.getresponse() as response:
                body = b""
                if response.status == HTTPStatus.OK:
                    sent = _body(response, url, access)
                    body = _decoded(sent, response.headers, url, limits)
                return Response(status=response.status, headers=response.headers, body=body)
    finally:
        watch.cancel()
        connection.close()


@contextmanager
def _told(url: str, connection: _Connection, limits: Limits) -> Iterator[None]:
    """Turn failures of the connection into errors that name the URL."""
    try:
        yield
    except (UnreadableError, DoesNotFitError) as error:
        if connection.stopped:
            raise _too_slow(url, limits) from error
        raise
    except ssl.SSLCertVerificationError as error:
        raise UnreadableError(
            f"the certificate of {connection.host} cannot be verified ({error.verify_message})",
            hint="check the address; to read it anyway, download it first",
            code="certificate",
        ) from error
    except http.client.IncompleteRead as error:
        if connection.stopped:
            raise _too_slow(url, limits) from error
        raise _truncated(url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if connection.stopped or isinstance(error, TimeoutError):
            raise _too_slow(url, limits) from error
        raise UnreadableError(
            f"{url} cannot be fetched ({str(error) or type(error).__name__})",
            hint="try again, or download it first",
            code="unreachable",
        ) from error


def _body(response: http.client.HTTPResponse, url: str, access: WebAccess) -> bytes:
    """Read a body whole, before decompression."""
    most, expected = access.limits.bytes, response.length
    if expected is not None and expected > most:
        _refuse_large(url, most)
    parts, received = [], 0
    while expected is None or received < expected:
        chunk = response.read1(_CHUNK if expected is None else min(_CHUNK, expected - received))
        if not chunk:
            break
        parts.append(chunk)
        received += len(chunk)
        if received > most:
            _refuse_large(url, most)
        if access.on_progress is not None and expected:
            access.on_progress(url, received, expected)
    if expected is not None and received < expected:
        raise _truncated(url, f" after {received:,} of {expected:,} bytes")
    return b"".join(parts)


def _decoded(body: bytes, headers: Message, url: str, limits: Limits) -> bytes:
    """Decompress a body whose headers say that it is compressed."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return body
    if encoding not in _GZIP:
        raise UnreadableError(
            f"{url}: the server sent the encoding {encoding}, which nsa does not read",
            hint="download it first",
            code="broken",
        )
    parts, size = [], 0
    while body:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            part = member.decompress(body, limits.bytes - size + 1)
        except zlib.error as error:
            raise UnreadableError(
                f"{url} is damaged ({error})", hint="try again", code="broken"
            ) from error
        size += len(part)
        if size > limits.bytes:
            _refuse_large(url, limits.bytes)
        if not member.eof:
            raise _truncated(url)
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # a Python without the system's certificates
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


def _truncated(url: str, where: str = "") -> UnreadableError:
    return UnreadableError(
        f"the connection to {url} ended{where or ' too early'}", hint="try again", code="broken"
    )


def _too_slow(url: str, limits: Limits) -> UnreadableError:
    return UnreadableError(
        f"{url} is too slow: it did not arrive in {limits.seconds:g} s, "
        f"or nothing came for {limits.idle_seconds:g} s",
        hint="try again, or download it first",
        code="timeout",
    )


def _refuse_large(url: str, most: int) -> NoReturn:
    raise DoesNotFitError(
        f"{url} holds more than {most / 1e6:g} MB", hint="download it first", code="too_large"
    )
