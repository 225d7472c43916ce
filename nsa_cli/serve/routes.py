"""The HTTP routes of the server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from nsa_cli.documents import title
from nsa_cli.documents.sources import Source
from nsa_cli.events import AnswerFinished
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.excerpt import excerpt
from nsa_cli.serve.formats import Reply, error_body, file_body, status_of
from nsa_cli.serve.jobs import Asked, Failed, Job
from nsa_cli.serve.middleware import AccessMiddleware
from nsa_cli.serve.requests import RequestError, only_documents, parse_chat_request, parse_json
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.sse import (
    EventStream,
    JobEvents,
    answer_events,
    reading_events,
    wait_for_disconnect,
)
from nsa_models.errors import NsaError

_CLIENT_GONE = 499
"""The status that other servers log for a disconnected client; nothing receives it."""


class Server:
    """The routes and the state they share.

    Args:
        scheduler: The model's thread, already started.
        library: The documents that clients may ask about.
        max_tokens: Default length of an answer.
    """

    def __init__(self, scheduler: Scheduler, library: DocumentStore, max_tokens: int) -> None:
        self._scheduler = scheduler
        self._library = library
        self._max_tokens = max_tokens
        page = resources.files("nsa_cli.serve").joinpath("page.html").read_text("utf-8")
        self._page, self._policy = page, _policy(page)

    def app(self, *, api_key: str | None, most_bytes: int) -> Starlette:
        """The ASGI application.

        Args:
            api_key: The key that clients need, or None.
            most_bytes: Limit of a request's body.
        """

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            yield
            self._scheduler.close()
            self._library.uploads.close()

        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/files", self._files, methods=["GET"]),
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files/{id}", self._file, methods=["GET"]),
                Route("/v1/files/{id}", self._remove, methods=["DELETE"]),
                Route("/v1/files/{id}/content", self._content, methods=["GET"]),
                Route("/v1/documents/read", self._read, methods=["POST"]),
                Route("/v1/documents/excerpt", self._excerpt, methods=["GET"]),
            ],
            middleware=[Middleware(AccessMiddleware, api_key=api_key, most_bytes=most_bytes)],
            exception_handlers={
                NsaError: _error_response,
                HTTPException: _http_error_response,
                Exception: _unexpected_response,
            },
            lifespan=lifespan,
        )

    async def _index(self, _request: Request) -> Response:
        """The page for the browser."""
        return HTMLResponse(
            self._page,
            headers={
                "Content-Security-Policy": self._policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )

    async def _models(self, _request: Request) -> Response:
        """List the model that the server runs, as OpenAI's API does."""
        return JSONResponse({"object": "list", "data": [self._model_body()]})

    async def _model(self, request: Request) -> Response:
        """Show the model; 404 for any other name."""
        name = request.path_params["name"]
        if name != self._scheduler.model:
            raise RequestError(f"model {name!r} not found", "model", code="model_not_found")
        return JSONResponse(self._model_body())

    def _model_body(self) -> dict[str, Any]:
        return {"id": self._scheduler.model, "object": "model", "created": 0, "owned_by": "nsa"}

    async def _chat(self, request: Request) -> Response:
        """Answer the last message about `documents`, with citations, whole or as a stream."""
        chat = parse_chat_request(
            parse_json(await request.body()),
            model=self._scheduler.model,
            max_tokens=self._max_tokens,
        )
        job = await self._submit(chat.asked, chat.documents, chat.texts)
        reply = Reply(model=self._scheduler.model)
        if chat.stream:
            await job.wait_for_start()
            return EventStream(job, answer_events(job, reply, chat))
        done = asyncio.ensure_future(job.last())
        disconnected = asyncio.ensure_future(wait_for_disconnect(request))
        try:
            await asyncio.wait({done, disconnected}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                return Response(status_code=_CLIENT_GONE)
            last = done.result()
        finally:
            job.stop()
            for task in (done, disconnected):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, AnswerFinished)
        return JSONResponse(reply.complete(last))

    async def _read(self, request: Request) -> Response:
        """Read `documents` ahead of a question; server-sent events tell the progress."""
        names = only_documents(parse_json(await request.body()))
        job = await self._submit(Asked(question=None, max_tokens=self._max_tokens), names)
        await job.wait_for_start()
        return EventStream(job, reading_events(job))

    async def _submit(
        self, asked: Asked, names: Sequence[str], texts: Sequence[Source] = ()
    ) -> JobEvents:
        """Submit a job about named documents and texts."""
        sources = [*await run_in_threadpool(self._library.sources, names), *texts]
        if not sources:
            raise RequestError(
                "no document given",
                "documents",
                hint='name one, as in "documents": ["file-…"], or send a long text as a message',
            )
        name = title([source.name for source in sources], 1)
        events = JobEvents()
        job = await run_in_threadpool(
            Job, sources=sources, name=name, asked=asked, deliver=events.deliver
        )
        events.submit(self._scheduler, job)
        return events

    async def _upload(self, request: Request) -> Response:
        """Upload a document as the form field `file`; returns its id for `documents`."""
        async with request.form(max_files=1, max_fields=4) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise RequestError("no file given", "file", hint="send it as multipart/form-data")
            data = await file.read()
            if not data:
                raise RequestError("the file is empty", "file")
            purpose = str(form.get("purpose", "user_data"))[:40]
            upload = await run_in_threadpool(
                self._library.uploads.add, file.filename or "", data, purpose
            )
        return JSONResponse(file_body(upload))

    async def _files(self, _request: Request) -> Response:
        """List the uploads, the most recently used first."""
        files = [file_body(upload) for upload in self._library.uploads.all()]
        return JSONResponse({"object": "list", "data": files, "has_more": False})

    async def _file(self, request: Request) -> Response:
        """Show an upload."""
        return JSONResponse(file_body(self._library.uploads.get(request.path_params["id"])))

    async def _remove(self, request: Request) -> Response:
        """Remove an upload."""
        id_ = request.path_params["id"]
        self._library.uploads.remove(id_)
        return JSONResponse({"id": id_, "object": "file", "deleted": True})

    async def _content(self, request: Request) -> Response:
        """Return the bytes of an upload."""
        data = await run_in_threadpool(self._library.uploads.read, request.path_params["id"])
        media_type = "application/pdf" if data.startswith(b"%PDF-") else "application/octet-stream"
        return Response(data, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})

    async def _excerpt(self, request: Request) -> Response:
        """Return the text around a citation: `document` (repeatable), `source`, `page`, `line`."""
        query = request.query_params
        numbers = {}
        for name in ("page", "line"):
            value = query.get(name, "")
            if value and not (value.isdecimal() and len(value) < 10):
                raise RequestError(f"{name} must be a whole number, got {value!r}", name)
            numbers[name] = int(value) if value else None
        found = await run_in_threadpool(
            excerpt, self._library, query.getlist("document"), query.get("source"), **numbers
        )
        return JSONResponse(found)


async def _error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NsaError)
    return JSONResponse(error_body(error), status_of(error))


async def _http_error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    body = error_body(NsaError(str(error.detail), code=code))
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _unexpected_response(_request: Request, error: Exception) -> Response:
    internal = NsaError(f"{type(error).__name__} in the server", hint="report it", code="internal")
    return JSONResponse(error_body(internal), 500)


def _policy(page: str) -> str:
    """The page's content security policy: its own script and style, and this server only."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (hashlib.sha256(each.encode()).digest() for each in found)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; img-src data:; frame-src blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
