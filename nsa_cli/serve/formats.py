"""Answers, chunks, errors and files as JSON objects of OpenAI's API."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.events import AnswerFinished, Progress
from nsa_cli.output.hints import hint_for
from nsa_cli.serve.uploads import Upload
from nsa_models.errors import DoesNotFitError, NsaError, UsageError

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
    """An error as a JSON body."""
    hint = f". {advice[0].upper()}{advice[1:]}" if (advice := hint_for(error)) else ""
    status = status_of(error)
    type_ = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    code = "context_length_exceeded" if error.code == "does_not_fit" else error.code
    return {
        "error": {
            "message": error.message + hint,
            "type": type_,
            "param": getattr(error, "param", None),
            "code": code,
        }
    }


def sse_event(value: Mapping[str, Any] | str) -> str:
    """A server-sent event with a text or a JSON object."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Builds the JSON bodies of one answer.

    Attributes:
        model: Name of the model.
        id: Id of the answer.
        created: Time in seconds since 1970.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, finished: AnswerFinished) -> dict[str, Any]:
        """The whole answer."""
        message = {"role": "assistant", "content": finished.answer, **citations(finished)}
        choice = {"index": 0, "message": message, "finish_reason": finished.finish_reason}
        body = self._body("chat.completion", [{**choice, "logprobs": None}])
        return {**body, "usage": usage(finished)}

    def chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        """A chunk with the next part of the message; the last one has a finish reason."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._body("chat.completion.chunk", [choice])

    def usage_chunk(self, finished: AnswerFinished) -> dict[str, Any]:
        """A chunk with token counts only."""
        return {**self._body("chat.completion.chunk", []), "usage": usage(finished)}

    def progress_chunk(self, progress: Progress) -> dict[str, Any]:
        """A chunk with the progress of reading."""
        return {**self._body("chat.completion.chunk", []), "progress": asdict(progress)}

    def _body(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def usage(finished: AnswerFinished) -> dict[str, Any]:
    """Token counts; `cached_tokens` counts those reused from the KV store."""
    stats = finished.stats
    prompt = stats.document_tokens + stats.question_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": stats.answer_tokens,
        "total_tokens": prompt + stats.answer_tokens,
        "prompt_tokens_details": {"cached_tokens": stats.reused_tokens},
    }


def file_body(upload: Upload) -> dict[str, Any]:
    """An uploaded file as a JSON body."""
    return {**asdict(upload), "object": "file", "status": "processed"}


def citations(finished: AnswerFinished) -> dict[str, Any]:
    """The citations, and the warnings and the computation if there are any, as fields."""
    fields: dict[str, Any] = {"citations": [asdict(each) for each in finished.citations]}
    if finished.computation is not None:
        fields["computation"] = asdict(finished.computation)
    return fields | ({"warnings": list(finished.warnings)} if finished.warnings else {})
