"""The routes of the server."""

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
from nsa_cli.events import AnswerFinished
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.excerpt import excerpt
from nsa_cli.serve.formats import Reply, error_body, file_body, status_of
from nsa_cli.serve.jobs import Asked, Failed, Job
from nsa_cli.serve.middleware import AccessMiddleware
from nsa_cli.serve.requests import RequestError, Wanted, only_documents, parse_json, wanted
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.sse import EventStream, Waiter, answer_events, gone, reading_events
from nsa_models.errors import NsaError

_CLIENT_GONE = 499
"""Nobody sees it; it is what others write down for a client that went away."""


class Server:
    """What the routes share.

    Args:
        worker: The model's thread, started already.
        library: What may be asked about.
        max_tokens: Of an answer, where a request does not say.
    """

    def __init__(self, worker: Scheduler, library: DocumentStore, max_tokens: int) -> None:
        self._worker = worker
        self._library = library
        self._max_tokens = max_tokens
        page = resources.files("nsa_cli.serve").joinpath("page.html").read_text("utf-8")
        self._page, self._policy = page, _policy(page)

    def app(self, *, api_key: str | None, most_bytes: int) -> Starlette:
        """The application.

        Args:
            api_key: What clients must show, or None.
            most_bytes: Of a request.
        """

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            yield
            self._worker.close()
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
                NsaError: _told,
                HTTPException: _told_by_status,
                Exception: _unexpected,
            },
            lifespan=lifespan,
        )

    async def _index(self, _request: Request) -> Response:
        return HTMLResponse(
            self._page,
            headers={
                "Content-Security-Policy": self._policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model_body()]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._worker.model:
            raise RequestError(f"there is no model {name!r}", param="model", code="model_not_found")
        return JSONResponse(self._model_body())

    def _model_body(self) -> dict[str, Any]:
        return {"id": self._worker.model, "object": "model", "created": 0, "owned_by": "nsa"}

    async def _chat(self, request: Request) -> Response:
        said = wanted(
            parse_json(await request.body()),
            model=self._worker.model,
            max_tokens=self._max_tokens,
        )
        waiter = await self._wait_for(said.asked, said.documents, said)
        reply = Reply(model=self._worker.model)
        if said.stream:
            await waiter.settle()
            return EventStream(waiter, answer_events(waiter, reply, said))
        done = asyncio.ensure_future(waiter.last())
        left = asyncio.ensure_future(gone(request))
        try:
            await asyncio.wait({done, left}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                return Response(status_code=_CLIENT_GONE)
            last = done.result()
        finally:
            waiter.stop()
            for task in (done, left):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
        if isinstance(last, Failed):
            raise last.error
        assert isinstance(last, AnswerFinished)
        return JSONResponse(reply.whole(last))

    async def _read(self, request: Request) -> Response:
        names = only_documents(parse_json(await request.body()))
        waiter = await self._wait_for(Asked(question=None, max_tokens=self._max_tokens), names)
        await waiter.settle()
        return EventStream(waiter, reading_events(waiter))

    async def _wait_for(
        self, asked: Asked, names: Sequence[str], said: Wanted | None = None
    ) -> Waiter:
        """Let the model have a job, once all that it is about is there."""
        sources = await run_in_threadpool(self._library.sources, names)
        if said is not None:
            sources += said.texts
        if not sources:
            raise RequestError(
                "no document is named",
                param="documents",
                hint='name one, such as "documents": ["file-…"], or send a long text as a message',
            )
        name = title([source.name for source in sources], 1)
        waiter = Waiter()
        job = await run_in_threadpool(
            Job, sources=sources, name=name, asked=asked, deliver=waiter.deliver
        )
        waiter.begin(self._worker, job)
        return waiter

    async def _upload(self, request: Request) -> Response:
        async with request.form(max_files=1, max_fields=4) as form:
            sent = form.get("file")
            if not isinstance(sent, UploadFile):
                raise RequestError(
                    "there is no file", param="file", hint="send it as multipart/form-data"
                )
            data = await sent.read()
            if not data:
                raise RequestError("the file is empty", param="file")
            purpose = str(form.get("purpose", "user_data"))[:40]
            upload = await run_in_threadpool(
                self._library.uploads.add, sent.filename or "", data, purpose
            )
        return JSONResponse(file_body(upload))

    async def _files(self, _request: Request) -> Response:
        files = [file_body(upload) for upload in self._library.uploads.all()]
        return JSONResponse({"object": "list", "data": files, "has_more": False})

    async def _file(self, request: Request) -> Response:
        return JSONResponse(file_body(self._library.uploads.get(request.path_params["id"])))

    async def _remove(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        self._library.uploads.remove(id_)
        return JSONResponse({"id": id_, "object": "file", "deleted": True})

    async def _content(self, request: Request) -> Response:
        data = await run_in_threadpool(self._library.uploads.read, request.path_params["id"])
        kind = "application/pdf" if data.startswith(b"%PDF-") else "application/octet-stream"
        return Response(data, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})

    async def _excerpt(self, request: Request) -> Response:
        query = request.query_params
        numbers = {}
        for name in ("page", "line"):
            value = query.get(name, "")
            if value and not (value.isdecimal() and len(value) < 10):
                raise RequestError(f"{name} is {value!r}", param=name, hint="say a number")
            numbers[name] = int(value) if value else None
        found = await run_in_threadpool(
            excerpt, self._library, query.getlist("document"), query.get("source"), **numbers
        )
        return JSONResponse(found)


async def _told(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NsaError)
    return JSONResponse(error_body(error), status_of(error))


async def _told_by_status(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    body = error_body(NsaError(str(error.detail), code=code))
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _unexpected(_request: Request, error: Exception) -> Response:
    said = NsaError(f"{type(error).__name__} in the server", hint="report it", code="internal")
    return JSONResponse(error_body(said), 500)


def _policy(page: str) -> str:
    """What the page may do: run its own script and style, and speak with this server."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (hashlib.sha256(each.encode()).digest() for each in found)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "connect-src 'self'; img-src data:; frame-src blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
