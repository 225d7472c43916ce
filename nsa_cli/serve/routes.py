"""The HTTP routes of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nsa_cli.caches.answers import answers_folder
from nsa_cli.caches.documents import parsed_folder
from nsa_cli.documents.urls.kept import web_folder
from nsa_cli.kv_store.inventory import disk_bytes
from nsa_cli.serve.answers import AnswerRoutes
from nsa_cli.serve.assets import FOLDER, Assets
from nsa_cli.serve.browsing import BrowsingRoutes
from nsa_cli.serve.documents import DocumentStore
from nsa_cli.serve.fields import RequestError
from nsa_cli.serve.formats import error_body, file_body, status_of
from nsa_cli.serve.idle import Idle, IdleMiddleware
from nsa_cli.serve.metrics import Metrics, MetricsMiddleware
from nsa_cli.serve.middleware import AccessMiddleware
from nsa_cli.serve.scheduler import Scheduler
from nsa_models.errors import NsaError
from nsa_models.paths import readings_folder


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
        self._answers = AnswerRoutes(scheduler, library, max_tokens)
        self._metrics = Metrics()
        self._browsing = BrowsingRoutes(library)
        self._assets = Assets()

    def app(
        self,
        *,
        api_key: str | None,
        most_bytes: int,
        log: Callable[[str], None] | None = None,
        idle: Idle | None = None,
        beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> Starlette:
        """The ASGI application.

        Args:
            api_key: The key that clients need, or None.
            most_bytes: Limit of a request's body.
            log: Receives a line for each request, or None.
            idle: Counts requests.
            beside: Runs while the application does.
        """
        routes = self._routes()
        paths = {route.endpoint: route.path for route in routes}

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            async with beside():
                yield
            self._scheduler.close()
            self._library.uploads.close()

        return Starlette(
            routes=routes,
            middleware=[
                *([] if idle is None else [Middleware(IdleMiddleware, idle=idle)]),
                Middleware(
                    MetricsMiddleware,
                    metrics=self._metrics,
                    routes=lambda endpoint: paths.get(endpoint, "other"),
                    log=log,
                ),
                Middleware(AccessMiddleware, api_key=api_key, most_bytes=most_bytes),
            ],
            exception_handlers={
                NsaError: _error_response,
                HTTPException: _http_error_response,
                Exception: _unexpected_response,
            },
            lifespan=lifespan,
        )

    def _routes(self) -> list[Route]:
        return [
            Route("/", self._assets.index),
            Route(f"{FOLDER}{{name}}", self._assets.part),
            Route("/health", self._health),
            Route("/metrics", self._counts),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
            Route("/v1/chat/completions", self._answers.chat, methods=["POST"]),
            Route("/v1/responses", self._answers.responses, methods=["POST"]),
            Route("/v1/files", self._files, methods=["GET"]),
            Route("/v1/files", self._upload, methods=["POST"]),
            Route("/v1/files/{id}", self._file, methods=["GET"]),
            Route("/v1/files/{id}", self._remove, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self._content, methods=["GET"]),
            Route("/v1/documents", self._browsing.list, methods=["GET"]),
            Route("/v1/documents/read", self._answers.read, methods=["POST"]),
            Route("/v1/documents/excerpt", self._browsing.excerpt, methods=["GET"]),
            Route("/v1/documents/page", self._browsing.picture, methods=["GET"]),
        ]

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

    async def _health(self, _request: Request) -> Response:
        """Whether the server runs; needs no API key."""
        alive = self._scheduler.alive
        body = {"status": "ok" if alive else "stopped", "model": self._scheduler.model}
        return JSONResponse(body, 200 if alive else 503)

    async def _counts(self, _request: Request) -> Response:
        """Counts of requests, tokens and bytes, in the text format of Prometheus."""
        kept = await run_in_threadpool(_cache_bytes)
        uploads = sum(upload.bytes for upload in self._library.uploads.all())
        gauges: dict[str, tuple[str, Mapping[str, float]]] = {
            "nsa_queue_length": (
                "Requests that wait for the model.",
                {"": self._scheduler.waiting},
            ),
            "nsa_cache_bytes": ("Bytes on disk by kind.", kept),
            "nsa_upload_bytes": ("Bytes of uploaded files.", {"": uploads}),
        }
        return PlainTextResponse(self._metrics.text(gauges), media_type="text/plain; version=0.0.4")

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


def _cache_bytes() -> dict[str, float]:
    """Bytes on disk of stored documents, readings and answers, by Prometheus label."""
    folders = {
        "readings": readings_folder(),
        "documents": parsed_folder(),
        "answers": answers_folder(),
        "web": web_folder(),
    }
    return {f'{{kind="{kind}"}}': disk_bytes(folder) for kind, folder in folders.items()}


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
