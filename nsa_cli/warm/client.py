"""A client of a running `nsa serve`: sends a parsed document, and asks about it."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from nsa_cli.caches.documents import document_body
from nsa_cli.config.options import Options
from nsa_cli.documents import Document
from nsa_cli.events import AnswerFinished, Event
from nsa_cli.output.logging import log
from nsa_cli.results import MatchInContext
from nsa_cli.warm.address import SENT, is_private
from nsa_cli.warm.protocol import (
    BUSY,
    GREETING,
    LENGTH_BYTES,
    Found,
    Logged,
    ServerError,
    event_of,
    framed,
    length,
    message,
)

_PATIENCE_SECONDS = 2.0
"""Time for the server to greet a client."""

_ELSEWHERE = ("busy", "closing")
"""Codes of errors for which the client does the work itself."""


class NoServerError(Exception):
    """No server does the work; the message says why."""


class Session:
    """Requests about one document.

    Args:
        path: The server's socket.

    Raises:
        NoServerError: If no server answers there.
    """

    def __init__(self, path: Path) -> None:
        if not is_private(path.parent):
            raise NoServerError("no server runs with this model and these settings")
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._peer.settimeout(_PATIENCE_SECONDS)
            self._peer.connect(str(path))
            if self._receive() != GREETING:
                raise NoServerError("the server sends no greeting")
            self._peer.settimeout(None)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self.close()
            raise NoServerError("no server runs with this model and these settings") from error
        except OSError as error:
            self.close()
            raise NoServerError(f"the server does not answer: {error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the session; the server cancels what it does for it."""
        self._peer.close()

    def open(
        self,
        document: Document,
        contents: Sequence[str],
        options: Options,
        questions: Sequence[str] = (),
    ) -> None:
        """Send a document.

        Args:
            document: The document.
            contents: Hashes of its files, by which what is stored is removed.
            options: How to read and answer.
            questions: All questions.

        Raises:
            NoServerError: If the server has ended.
        """
        head = {
            "options": {name: getattr(options, name) for name in SENT},
            "contents": list(contents),
            "questions": list(questions),
            "verbose": log.isEnabledFor(logging.INFO),
        }
        self._send(message(head) + framed(json.dumps(document_body(document)).encode()))

    def answer(self, number: int) -> Generator[Event, None, AnswerFinished]:
        """Answer one of the questions.

        Args:
            number: Its number, counted from 0.

        Yields:
            What happens.

        Raises:
            NoServerError: If the server is busy or has ended.
            NsaError: If the question cannot be answered.
        """
        for event in self._events({"question": number}):
            if isinstance(event, AnswerFinished):
                return event
            yield event
        raise AssertionError("the events do not end")

    def find(self, query: str, top: int) -> Generator[Event, None, list[MatchInContext]]:
        """Find passages; events and errors as for `answer`.

        Args:
            query: Words or a question.
            top: Maximum passages.
        """
        for event in self._events({"query": query, "top": top}):
            if isinstance(event, Found):
                return list(event.matches)
            yield event
        raise AssertionError("the events do not end")

    def _events(self, request: dict[str, Any]) -> Generator[Event, None, None]:
        """Send a request; yield its events without end."""
        self._send(message(request))
        while True:
            body = self._receive()
            if body == BUSY:
                raise NoServerError("the server works for another client")
            try:
                event = event_of(body)
            except ServerError as error:
                if error.code in _ELSEWHERE:
                    raise NoServerError(error.message) from error
                raise
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise NoServerError("the server's message is malformed") from error
            if isinstance(event, Logged):
                log.info("%s", event.text)
            else:
                yield event

    def _send(self, data: bytes) -> None:
        try:
            self._peer.sendall(data)
        except OSError as error:
            raise NoServerError(f"the server has ended: {error}") from error

    def _receive(self) -> dict[str, Any]:
        try:
            body: dict[str, Any] = json.loads(self._exactly(length(self._exactly(LENGTH_BYTES))))
        except TimeoutError:
            raise
        except (EOFError, OSError, ValueError) as error:
            raise NoServerError(f"the server has ended: {error}") from error
        return body

    def _exactly(self, size: int) -> bytes:
        parts, left = list[bytes](), size
        while left:
            part = self._peer.recv(min(left, 1 << 20))
            if not part:
                raise EOFError("connection closed")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def connect(path: Path) -> Session | None:
    """Return a session at a socket, or None where no server answers; `--verbose` says why."""
    try:
        session = Session(path)
    except NoServerError as error:
        log.info("working without `nsa serve`: %s", error)
        return None
    log.info("working through the `nsa serve` at %s", path)
    return session
