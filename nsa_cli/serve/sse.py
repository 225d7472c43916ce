"""What the model's thread says, as events of the server's loop and as a stream to a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nsa_cli.events import AnswerFinished, AnswerText, Event, Note, Progress
from nsa_cli.serve.formats import Reply, error_body, event
from nsa_cli.serve.jobs import Failed, Job, ReadThrough
from nsa_cli.serve.requests import Wanted
from nsa_cli.serve.scheduler import Scheduler

_SETTLE_SECONDS = 1.0
"""How long a stream waits before it begins, so that an early failure still has its own status."""

_ALIVE_SECONDS = 15.0
"""How often a stream without news says that it is alive."""

_LAST = (AnswerFinished, ReadThrough, Failed)


class Waiter:
    """Waits for a job's events; made and used in the loop, filled from the model's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._seen: list[Event] = []
        self._job: Job | None = None

    def deliver(self, event: Event) -> None:
        """Take an event; called from the model's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def begin(self, worker: Scheduler, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            NsaError: If the server takes no more.
        """
        worker.submit(job)
        self._job = job

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._job is not None:
            self._job.stop()

    async def settle(self) -> None:
        """Wait a moment for the first event that tells how it goes.

        Raises:
            NsaError: If it went wrong already.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                while True:
                    found = await self._events.get()
                    self._seen.append(found)
                    if isinstance(found, Failed):
                        raise found.error
                    if not isinstance(found, Note | Progress) or _is_reading(found):
                        return

    async def events(self) -> AsyncIterator[Event | None]:
        """All events to the last; None where nothing happened for a while."""
        for found in self._seen:
            yield found
            if isinstance(found, _LAST):
                return
        while True:
            try:
                found = await asyncio.wait_for(self._events.get(), _ALIVE_SECONDS)
            except TimeoutError:
                yield None
                continue
            yield found
            if isinstance(found, _LAST):
                return

    async def last(self) -> Event:
        """The last event."""
        while not isinstance(found := await self._events.get(), _LAST):
            pass
        return found


def _is_reading(event: Event) -> bool:
    return isinstance(event, Progress) and event.unit == "tokens"


class EventStream(StreamingResponse):
    """Server-sent events; when the client goes away, nobody waits for the job any more."""

    def __init__(self, waiter: Waiter, events: AsyncIterator[str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._waiter = waiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._waiter.stop()


async def answer_events(waiter: Waiter, reply: Reply, said: Wanted) -> AsyncIterator[str]:
    """An answer in chunks."""
    yield event(reply.first())
    async for found in waiter.events():
        match found:
            case AnswerText():
                yield event(reply.piece(found.text))
            case Progress() if said.progress:
                yield event(reply.progress(found))
            case Progress():
                yield f": {found.unit} {found.done} of {found.total}\n\n"
            case AnswerFinished():
                yield event(reply.last(found))
                if said.usage:
                    yield event(reply.counts(found))
                yield event("[DONE]")
            case Failed():
                yield event(error_body(found.error))
            case None:
                yield ": waiting\n\n"


async def reading_events(waiter: Waiter) -> AsyncIterator[str]:
    """How far the reading of a text has come."""
    async for found in waiter.events():
        match found:
            case Progress():
                yield event({"progress": asdict(found)})
            case Note():
                yield event({"note": found.text})
            case ReadThrough():
                yield event({"done": asdict(found)})
                yield event("[DONE]")
            case Failed():
                yield event(error_body(found.error))
            case None:
                yield ": waiting\n\n"


async def gone(request: Request) -> None:
    """Wait until a client goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
