"""The Unix socket over which `nsa ask` and `nsa find` use the server's model.

A client sends a parsed document and asks about it, as `nsa_cli.warm.protocol` describes. The
socket gives no access to files: the client has read the document itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nsa_cli.caches.documents import document_of
from nsa_cli.engine.parse import Parsed
from nsa_cli.engine.work import Asking, find_steps
from nsa_cli.events import Emit, Event
from nsa_cli.output.logging import log
from nsa_cli.serve.idle import Idle
from nsa_cli.serve.jobs import Failed, Job, Work
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.sse import JobEvents
from nsa_cli.warm.address import SENT, is_available, is_same_user, listen, socket_path
from nsa_cli.warm.protocol import (
    BUSY,
    GREETING,
    LENGTH_BYTES,
    Found,
    Logged,
    error_body,
    event_body,
    length,
    message,
)
from nsa_models.errors import NsaError


class WarmServer:
    """Answers the commands of this user.

    Args:
        scheduler: The model's thread.
        idle: Counts requests.
    """

    def __init__(self, scheduler: Scheduler, idle: Idle) -> None:
        self._scheduler = scheduler
        self._idle = idle
        self._listener: socket.socket | None = None
        self._inode = 0
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> Path:
        """The socket."""
        engine = self._scheduler.engine
        return socket_path(engine.folder, engine.answers_with, engine.options)

    def listen(self) -> None:
        """Make the socket; log why where that is impossible, and serve HTTP alone."""
        try:
            if is_available():
                self._listener = listen(self.path)
                self._inode = self.path.lstat().st_ino
                log.info("`nsa ask` and `nsa find` use this server at %s", self.path)
        except OSError as error:
            log.info("`nsa ask` and `nsa find` do not use this server: %s", error)

    @asynccontextmanager
    async def accepting(self) -> AsyncIterator[None]:
        """Serve clients until the block ends, which removes the socket."""
        if self._listener is None:
            yield
            return
        server = await asyncio.start_unix_server(self._connected, sock=self._listener)
        try:
            yield
        finally:
            server.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            self.close()  # SIGTERM ends the process when the event loop has ended

    def close(self) -> None:
        """Remove the socket, unless it is another server's by now."""
        if self._listener is None:
            return
        self._listener.close()
        with suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it goes."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if is_same_user(writer.get_extra_info("socket")):
                await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client is gone
        except (ValueError, KeyError, TypeError, IndexError) as error:
            log.info("a request is malformed: %s: %s", type(error).__name__, error)
        except asyncio.CancelledError:
            writer.transport.abort()  # a client that reads nothing does not delay the end
            raise
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._clients.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(message(GREETING))
        head = await _read(reader, await reader.readexactly(1))
        data = await _read(reader, await reader.readexactly(1))
        session = await asyncio.to_thread(_Session, self._scheduler, head, data)
        is_first = True
        following = asyncio.ensure_future(reader.read(1))
        try:
            while first := await following:
                asked = json.loads(await _read(reader, first))
                following = asyncio.ensure_future(reader.read(1))  # or the client's end
                if is_first and self._scheduler.is_busy(session.key):
                    writer.write(message(BUSY))
                    await writer.drain()
                    return
                is_first = False
                with self._idle.request():
                    await self._answer(session.work(asked), session.key, writer, following)
        finally:
            following.cancel()

    async def _answer(
        self,
        work: Work,
        key: bytes,
        writer: asyncio.StreamWriter,
        following: asyncio.Future[bytes],
    ) -> None:
        """Do some work and send its events; the client's end cancels it."""
        events = JobEvents()
        job = Job(sources=(), name="", asked=work, deliver=events.deliver, key=key)
        try:
            events.submit(self._scheduler, job)
        except NsaError as error:
            writer.write(message(error_body(error)))
            await writer.drain()
            return
        sending = asyncio.ensure_future(_send(events, writer))
        try:
            either: set[asyncio.Future[Any]] = {sending, following}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            job.stop()
            sending.cancel()


class _Forward(logging.Handler):
    """Sends the messages of the model's thread as events.

    Args:
        emit: Receives them.
    """

    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._emit = emit
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message."""
        if record.thread == self._thread:
            self._emit(Logged(text=record.getMessage()))


class _Session:
    """A client's document.

    Args:
        scheduler: The model's thread.
        head: The first message: options, questions, and hashes of the files.
        data: The second: the document.

    Raises:
        ValueError, KeyError, TypeError: If a message is malformed.
    """

    def __init__(self, scheduler: Scheduler, head: bytes, data: bytes) -> None:
        body = json.loads(head)
        sent = {name: body["options"][name] for name in SENT}
        options = replace(scheduler.engine.options, **sent)
        content = hashlib.sha256(data).digest()
        self._parsed = Parsed(document_of(json.loads(data)), content, body["contents"])
        self._engine = scheduler.engine_with(options)
        self._count = len(body["questions"])
        self._asking = Asking(self._engine, self._parsed, body["questions"])
        self._is_verbose = bool(body["verbose"])
        self.key = hashlib.sha256(content + json.dumps(sent, sort_keys=True).encode()).digest()

    def work(self, asked: dict[str, Any]) -> Work:
        """The work of a request.

        Raises:
            ValueError, KeyError, TypeError: If it is malformed.
        """
        if "query" in asked:
            query, top = str(asked["query"]), int(asked["top"])
            return Work(steps=lambda: self._logged(self._found(query, top)))
        number = int(asked["question"])
        if not 0 <= number < self._count:
            raise ValueError(f"no question {number}")
        return Work(steps=lambda: self._logged(self._asking.steps(number)))

    def _logged(self, steps: Generator[Event, None, Event]) -> Generator[Event, None, Event]:
        """Run some steps; a client that logs each step gets the server's log of them."""
        if not self._is_verbose:
            return (yield from steps)
        handler, level = _Forward(self._engine.emit), log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            return (yield from steps)
        finally:
            log.removeHandler(handler)
            log.setLevel(level)

    def _found(self, query: str, top: int) -> Generator[Event, None, Event]:
        matches = yield from find_steps(self._engine, self._parsed, query, top)
        return Found(matches=tuple(matches))


async def _read(reader: asyncio.StreamReader, first: bytes) -> bytes:
    """Read a message whose first byte is read already.

    Raises:
        ValueError: If it is too long.
        asyncio.IncompleteReadError: If the client is gone.
    """
    rest = await reader.readexactly(LENGTH_BYTES - len(first))
    return await reader.readexactly(length(first + rest))


async def _send(events: JobEvents, writer: asyncio.StreamWriter) -> None:
    """Send the events of a job to the last."""
    async for event in events.events():
        if event is None:
            continue
        body = error_body(event.error) if isinstance(event, Failed) else event_body(event)
        writer.write(message(body))
        await writer.drain()
