"""Answers, chunks of answers, errors and files, in the shapes of OpenAI's API."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nsa_cli.events import AnswerFinished, Progress
from nsa_cli.serve.uploads import Upload
from nsa_models.errors import DoesNotFitError, NsaError, UnreadableError, UsageError

_STATUS: Mapping[str, int] = {
    "busy": 429,
    "closing": 503,
    "document_not_found": 404,
    "document_refused": 403,
    "model_not_found": 404,
    "invalid_api_key": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "invalid_request": 400,
}


def status_of(error: NsaError) -> int:
    """The HTTP status of an error."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    return 400 if isinstance(error, UsageError | UnreadableError | DoesNotFitError) else 500


def error_body(error: NsaError) -> dict[str, Any]:
    """An error as clients expect it."""
    hint = f". {error.hint[0].upper()}{error.hint[1:]}" if error.hint else ""
    status = status_of(error)
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    code = "context_length_exceeded" if error.code == "does_not_fit" else error.code
    return {
        "error": {
            "message": error.message + hint,
            "type": kind,
            "param": getattr(error, "param", None),
            "code": code,
        }
    }


def event(value: Mapping[str, Any] | str) -> str:
    """A server-sent event."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer on its way to a client.

    Attributes:
        model: What answers.
        id: Of the answer.
        created: In seconds since 1970.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, finished: AnswerFinished) -> dict[str, Any]:
        """An answer in one piece."""
        message = {"role": "assistant", "content": finished.answer, **_citations(finished)}
        choice = {"index": 0, "message": message, "finish_reason": finished.finish_reason}
        body = self._body("chat.completion", [{**choice, "logprobs": None}])
        return {**body, "usage": usage(finished)}

    def first(self) -> dict[str, Any]:
        """The chunk that begins an answer."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk with the next words."""
        return self._chunk({"content": text})

    def last(self, finished: AnswerFinished) -> dict[str, Any]:
        """The chunk that ends an answer, with its citations."""
        return self._chunk(_citations(finished), finished.finish_reason)

    def counts(self, finished: AnswerFinished) -> dict[str, Any]:
        """A chunk with counts alone."""
        return {**self._body("chat.completion.chunk", []), "usage": usage(finished)}

    def progress(self, progress: Progress) -> dict[str, Any]:
        """A chunk that says how far reading has come."""
        return {**self._body("chat.completion.chunk", []), "progress": asdict(progress)}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._body("chat.completion.chunk", [choice])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def usage(finished: AnswerFinished) -> dict[str, Any]:
    """Counts of tokens; those that did not have to be read are `cached_tokens`."""
    stats = finished.stats
    asked = stats.document_tokens + stats.question_tokens
    return {
        "prompt_tokens": asked,
        "completion_tokens": stats.answer_tokens,
        "total_tokens": asked + stats.answer_tokens,
        "prompt_tokens_details": {"cached_tokens": stats.reused_tokens},
    }


def file_body(upload: Upload) -> dict[str, Any]:
    """An uploaded document."""
    return {**asdict(upload), "object": "file", "status": "processed"}


def _citations(finished: AnswerFinished) -> dict[str, Any]:
    return {"citations": [asdict(citation) for citation in finished.citations]}
