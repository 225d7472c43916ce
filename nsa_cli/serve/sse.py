"""Events of the model's thread, in the server's event loop and as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nsa_cli.events import (
    AnswerFinished,
    AnswerText,
    Event,
    Note,
    Progress,
    Stage,
    TokenLogprob,
)
from nsa_cli.serve.formats import Choice, Reply, citations, error_body, sse_event
from nsa_cli.serve.jobs import ChoiceFinished, Failed, Job, ReadThrough
from nsa_cli.serve.metrics import TokenCounts
from nsa_cli.serve.requests import AnswerRequest
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.warm.protocol import Found

_SETTLE_SECONDS = 1.0
"""Delay before a stream starts, so that an early failure still sets the HTTP status."""

_ALIVE_SECONDS = 15.0
"""Interval of comments in a stream without events, which keep the connection open."""

_LAST = (AnswerFinished, Found, ReadThrough, Failed)


class JobEvents:
    """The events of one job, from the model's thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._seen: list[Event] = []
        self._job: Job | None = None

    def deliver(self, event: Event) -> None:
        """Add an event; called from the model's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def submit(self, scheduler: Scheduler, job: Job) -> None:
        """Submit the job.

        Raises:
            NsaError: If the scheduler refuses it.
        """
        scheduler.submit(job)
        self._job = job

    def stop(self) -> None:
        """Cancel the job."""
        if self._job is not None:
            self._job.stop()

    async def wait_for_start(self) -> None:
        """Wait up to a second until the model reads or answers.

        Raises:
            NsaError: If the job has failed.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                while True:
                    found = await self._events.get()
                    self._seen.append(found)
                    if isinstance(found, Failed):
                        raise found.error
                    if not isinstance(found, Note | Progress | Stage) or _is_reading(found):
                        return

    async def events(self) -> AsyncIterator[Event | None]:
        """All events to the last; None after an interval without events."""
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

    async def choices(self) -> list[Choice]:
        """All answers of a job.

        Raises:
            NsaError: If the job fails.
        """
        choices: list[Choice] = []
        tokens: list[TokenLogprob] = []
        async for found in self.events():
            if isinstance(found, AnswerText):
                tokens += found.tokens
            elif isinstance(found, Failed):
                raise found.error
            elif isinstance(found, ChoiceFinished | AnswerFinished):
                finished = found.finished if isinstance(found, ChoiceFinished) else found
                choices.append(Choice(finished=finished, tokens=tuple(tokens)))
                tokens = []
        return choices


def _is_reading(event: Event) -> bool:
    """Whether the document is open, so that the model reads it or searches it."""
    if isinstance(event, Stage):
        return event.name not in ("opening", "loading")
    return isinstance(event, Progress) and event.unit == "tokens"


class EventStream(StreamingResponse):
    """A response of server-sent events; a disconnect cancels the job."""

    def __init__(self, job: JobEvents, events: AsyncIterator[str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.stop()


def comment(event: Progress | Stage) -> str:
    """Progress as a comment of a stream, which clients skip."""
    if isinstance(event, Stage):
        return f": {event.name}\n\n"
    return f": {event.unit} {event.done} of {event.total}\n\n"


async def chat_events(
    job: JobEvents, reply: Reply, request: AnswerRequest, spent: TokenCounts
) -> AsyncIterator[str]:
    """The chunks of a chat completion as server-sent events."""
    answers: list[AnswerFinished] = []
    for index in range(request.asked.choices):
        yield sse_event(reply.chunk({"role": "assistant", "content": ""}, index=index))
    async for found in job.events():
        index = len(answers)
        match found:
            case AnswerText():
                delta = {"content": found.text}
                yield sse_event(reply.chunk(delta, index=index, tokens=found.tokens))
            case Progress() if request.progress:
                yield sse_event(reply.progress_chunk(found))
            case Stage() if request.progress:
                yield sse_event(reply.stage_chunk(found))
            case Progress() | Stage():
                yield comment(found)
            case ChoiceFinished() | AnswerFinished():
                one = found.finished if isinstance(found, ChoiceFinished) else found
                answers.append(one)
                yield sse_event(reply.chunk(citations(one), one.finish_reason, index=index))
            case Failed():
                yield sse_event(error_body(found.error))
            case None:
                yield ": waiting\n\n"
    if len(answers) == request.asked.choices:
        spent.add(answers)
        if request.usage:
            yield sse_event(reply.usage_chunk(answers))
        yield sse_event("[DONE]")


async def reading_events(job: JobEvents, spent: TokenCounts) -> AsyncIterator[str]:
    """The progress of reading as server-sent events."""
    async for found in job.events():
        match found:
            case Progress():
                yield sse_event({"progress": asdict(found)})
            case Stage():
                yield sse_event({"stage": asdict(found)})
            case Note():
                yield sse_event({"note": found.text})
            case ReadThrough():
                spent.add_reading(found.document_tokens, found.reused_tokens)
                yield sse_event({"done": asdict(found)})
                yield sse_event("[DONE]")
            case Failed():
                yield sse_event(error_body(found.error))
            case None:
                yield ": waiting\n\n"


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
