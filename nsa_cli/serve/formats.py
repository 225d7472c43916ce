"""Answers, chunks, errors and files as JSON objects of OpenAI's API."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.events import AnswerFinished, Progress, Stage, TokenLogprob
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
    "invalid_schema": 400,
    "missing_library": 400,
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
class Choice:
    """One answer with the tokens whose probabilities were asked for."""

    finished: AnswerFinished
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Builds the JSON bodies of one chat completion.

    Attributes:
        model: Name of the model.
        warnings: Fields of the request that were ignored.
        logprobs: Whether the client asked for probabilities.
        id: Id of the answer.
        created: Time in seconds since 1970.
    """

    model: str
    warnings: tuple[str, ...] = ()
    logprobs: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The whole answer."""
        found = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": choice.finished.answer,
                    "refusal": None,
                    **citations(choice.finished),
                },
                "finish_reason": choice.finished.finish_reason,
                "logprobs": self._logprobs(choice.tokens),
            }
            for index, choice in enumerate(choices)
        ]
        body = self._body("chat.completion", found)
        used = usage([choice.finished for choice in choices])
        return {**body, "usage": used, **self._warned()}

    def chunk(
        self,
        delta: dict[str, Any],
        reason: str | None = None,
        *,
        index: int = 0,
        tokens: Sequence[TokenLogprob] = (),
    ) -> dict[str, Any]:
        """A chunk with the next part of a message; the last one has a finish reason."""
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(tokens) if tokens else None,
            "finish_reason": reason,
        }
        body = self._body("chat.completion.chunk", [choice])
        return body if reason is None else {**body, **self._warned()}

    def usage_chunk(self, answers: Sequence[AnswerFinished]) -> dict[str, Any]:
        """A chunk with token counts only."""
        return {**self._body("chat.completion.chunk", []), "usage": usage(answers)}

    def progress_chunk(self, progress: Progress) -> dict[str, Any]:
        """A chunk with the progress of reading."""
        return {**self._body("chat.completion.chunk", []), "progress": asdict(progress)}

    def stage_chunk(self, stage: Stage) -> dict[str, Any]:
        """A chunk that names a step whose progress is not counted."""
        return {**self._body("chat.completion.chunk", []), "stage": asdict(stage)}

    def _body(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        return {"content": logprob_list(tokens), "refusal": None} if self.logprobs else None

    def _warned(self) -> dict[str, Any]:
        return {"warnings": list(self.warnings)} if self.warnings else {}


def logprob_list(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens with their probabilities as JSON."""

    def one(token: bytes, logprob: float) -> dict[str, Any]:
        text = token.decode("utf-8", "replace")
        return {"token": text, "logprob": logprob, "bytes": list(token)}

    return [
        {**one(each.token, each.logprob), "top_logprobs": [one(*other) for other in each.top]}
        for each in tokens
    ]


def usage(answers: Sequence[AnswerFinished]) -> dict[str, Any]:
    """Token counts of one request's answers.

    `cached_tokens` counts those of the document whose keys and values were stored.
    """
    stats = answers[0].stats
    prompt = stats.document_tokens + stats.question_tokens
    answered = sum(each.stats.answer_tokens for each in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answered,
        "total_tokens": prompt + answered,
        "prompt_tokens_details": {"cached_tokens": stats.reused_tokens},
    }


def file_body(upload: Upload) -> dict[str, Any]:
    """An uploaded file as a JSON body."""
    return {**asdict(upload), "object": "file", "status": "processed"}


def citations(finished: AnswerFinished) -> dict[str, Any]:
    """The citations, and any warnings, computation and support, as fields."""
    fields: dict[str, Any] = {"citations": [asdict(each) for each in finished.citations]}
    if finished.computation is not None:
        fields["computation"] = asdict(finished.computation)
    if finished.support is not None:
        fields["support"] = finished.support
    return fields | ({"warnings": list(finished.warnings)} if finished.warnings else {})
