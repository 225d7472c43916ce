"""The routes that ask the model: chat completions, responses, and reading ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nsa_cli.documents import title
from nsa_cli.documents.sources import Source
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.fields import RequestError
from nsa_cli.serve.formats import Choice, Reply
from nsa_cli.serve.jobs import Asked, Job
from nsa_cli.serve.metrics import CLIENT_GONE, TokenCounts, counts_of
from nsa_cli.serve.requests import (
    AnswerRequest,
    only_documents,
    parse_chat_request,
    parse_json,
    parse_response_request,
)
from nsa_cli.serve.responses import ResponseReply, response_events
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.sse import (
    EventStream,
    JobEvents,
    chat_events,
    reading_events,
    wait_for_disconnect,
)
from nsa_cli.serve.uploads import is_upload
from nsa_models.errors import NsaError


class AnswerRoutes:
    """The routes that ask the model.

    Args:
        scheduler: The model's thread, already started.
        library: The documents that clients may ask about.
        max_tokens: Default length of an answer.
    """

    def __init__(self, scheduler: Scheduler, library: DocumentStore, max_tokens: int) -> None:
        self._scheduler = scheduler
        self._library = library
        self._max_tokens = max_tokens

    async def chat(self, request: Request) -> Response:
        """Answer the last message, about `documents` if any, whole or as a stream."""
        asked = parse_chat_request(
            parse_json(await request.body()),
            model=self._scheduler.model,
            max_tokens=self._max_tokens,
        )
        job = await self._submit(asked.asked, asked.documents, asked.texts)
        reply = Reply(
            model=self._scheduler.model,
            warnings=asked.warnings,
            logprobs=asked.asked.logprobs is not None,
        )
        spent = counts_of(request.scope)
        if asked.stream:
            return await _streamed(job, chat_events(job, reply, asked, spent))
        choices = await _choices(job, request, spent)
        return _gone() if choices is None else JSONResponse(reply.complete(choices))

    async def responses(self, request: Request) -> Response:
        """Answer as OpenAI's Responses API does, whole or as a stream."""
        asked = parse_response_request(
            parse_json(await request.body()),
            model=self._scheduler.model,
            max_tokens=self._max_tokens,
        )
        job = await self._submit(asked.asked, asked.documents, asked.texts)
        reply = ResponseReply(
            model=self._scheduler.model,
            echo=asked.echo,
            warnings=asked.warnings,
            files=self._ids(asked),
        )
        spent = counts_of(request.scope)
        if asked.stream:
            return await _streamed(job, response_events(job, reply, spent))
        choices = await _choices(job, request, spent)
        return _gone() if choices is None else JSONResponse(reply.body(choices[0]))

    async def read(self, request: Request) -> Response:
        """Read `documents` ahead of a question; server-sent events tell the progress."""
        names = only_documents(parse_json(await request.body()))
        job = await self._submit(Asked(question=None, max_tokens=self._max_tokens), names)
        return await _streamed(job, reading_events(job, counts_of(request.scope)))

    def _ids(self, asked: AnswerRequest) -> dict[str, str]:
        """Ids of a request's uploads by file name."""
        uploads = [name for name in asked.documents if is_upload(name)]
        return {self._library.uploads.get(name).filename: name for name in uploads}

    async def _submit(
        self, asked: Asked, names: Sequence[str], texts: Sequence[Source] = ()
    ) -> JobEvents:
        """Submit a job about named documents and texts."""
        if asked.schema is not None:
            await run_in_threadpool(_check_schema, asked)
        sources = [*await run_in_threadpool(self._library.sources, names), *texts]
        if not sources and names:
            raise RequestError("the documents have no files", "documents")
        name = (
            title([source.name for source in sources], len(sources)) if sources else "conversation"
        )
        events = JobEvents()
        job = await run_in_threadpool(
            Job, sources=sources, name=name, asked=asked, deliver=events.deliver
        )
        events.submit(self._scheduler, job)
        return events


def _check_schema(asked: Asked) -> None:
    """Check the JSON schema before the model reads.

    Raises:
        RequestError: If it cannot be used, or the library for it is missing.
    """
    from nsa_models.generation.json_grammar import check_schema

    assert asked.schema is not None
    try:
        check_schema(asked.schema)
    except NsaError as error:
        hint = error.hint or "simplify the schema, or use json_object"
        raise RequestError(error.message, "response_format", hint=hint, code=error.code) from error


async def _streamed(job: JobEvents, events: AsyncIterator[str]) -> Response:
    """A stream of events, once the job has not failed early."""
    try:
        await job.wait_for_start()
    except BaseException:
        job.stop()
        raise
    return EventStream(job, events)


async def _choices(job: JobEvents, request: Request, spent: TokenCounts) -> list[Choice] | None:
    """The answers of a job; None if the client disconnects before.

    Raises:
        NsaError: If the job fails.
    """
    done = asyncio.ensure_future(job.choices())
    disconnected = asyncio.ensure_future(wait_for_disconnect(request))
    try:
        await asyncio.wait({done, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            return None
        choices = done.result()
        spent.add([choice.finished for choice in choices])
        return choices
    finally:
        job.stop()
        for task in (done, disconnected):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _gone() -> Response:
    return Response(status_code=CLIENT_GONE)
