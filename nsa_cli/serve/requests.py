"""Parsing of requests: the question, earlier turns, documents and options.

A long message becomes a document, so that any client can send one. Its text stays the same in
later turns, so the model reads it once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nsa_cli.documents.sources import Source
from nsa_cli.serve.jobs import MOST_TOKENS, Asked
from nsa_models.errors import NsaError

LONG = 2000
"""Characters from which a message becomes a document."""

_LONGEST_QUESTION = 1000
"""Most characters of a paragraph that asks about the rest of its message."""

_MOST_DOCUMENTS = 100

_IGNORED = (
    *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier"),
    "prompt_cache_key",
)
"""Fields without effect on answers."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1, 1.0),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logprobs": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "stop": ([],),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Fields that accept only the listed values."""

_SUPPORTED = (
    *("model", "messages", "documents", "stream", "stream_options", "max_tokens"),
    *("max_completion_tokens", "temperature", "seed"),
)


class RequestError(NsaError):
    """An invalid request; `param` names the field."""

    exit_code = 2
    default_code = "invalid_request"

    def __init__(self, message: str, param: str | None, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint, code=code)
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A parsed request for an answer.

    Attributes:
        asked: The question, earlier turns and generation options.
        documents: Names of documents.
        texts: Long messages, as documents.
        stream: Whether to send the answer in chunks.
        usage: Whether to send a last chunk with token counts.
        progress: Whether to send chunks with the progress of reading.
    """

    asked: Asked
    documents: tuple[str, ...]
    texts: tuple[Source, ...]
    stream: bool
    usage: bool
    progress: bool


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body.

    Raises:
        RequestError: If the body is not a JSON object.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            "the request body is not valid JSON", None, hint="send a JSON object"
        ) from error
    if not isinstance(found, dict):
        raise RequestError("the request body is not a JSON object", None, hint="send a JSON object")
    return found


def documents_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The document names of a request.

    Raises:
        RequestError: If they are not a list of names, or too many.
    """
    found = body.get("documents", [])
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise RequestError(
            "documents must be a list of file ids or paths",
            "documents",
            hint='for example "documents": ["file-…"]',
        )
    if len(found) > _MOST_DOCUMENTS:
        raise RequestError(
            f"too many documents: {len(found)}",
            "documents",
            hint=f"name at most {_MOST_DOCUMENTS}, or a folder",
        )
    return tuple(dict.fromkeys(found))


def parse_chat_request(body: Mapping[str, Any], *, model: str, max_tokens: int) -> ChatRequest:
    """Parse a request for an answer.

    Args:
        body: The result of `parse_json`.
        model: Name of the served model.
        max_tokens: Default length of an answer.

    Raises:
        RequestError: If the request is invalid or unsupported.
    """
    _check_fields(body)
    name = body.get("model", model)
    if name != model:
        raise RequestError(
            f"model {name!r} not found",
            "model",
            hint=f"this server runs {model}",
            code="model_not_found",
        )
    stream = _value(body, "stream", False, bool, "true or false")
    extras = _value(body, "stream_options", {}, dict, "an object")
    if extras and not stream:
        raise RequestError(
            "stream_options needs stream", "stream_options", hint="set stream to true"
        )
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise RequestError(
            f"max_tokens must be a positive whole number, got {limit!r}", "max_tokens"
        )
    temperature = _value(body, "temperature", 0, (int, float), "a number")
    if not 0 <= temperature <= 2 or not math.isfinite(temperature):
        raise RequestError(
            f"temperature must be between 0 and 2, got {temperature!r}", "temperature"
        )
    question, turns, instructions, texts = _conversation(body.get("messages"))
    return ChatRequest(
        asked=Asked(
            question=question,
            turns=tuple(turns),
            instructions=instructions,
            max_tokens=min(limit, MOST_TOKENS),
            temperature=float(temperature),
            seed=_value(body, "seed", None, int, "a whole number"),
        ),
        documents=documents_of(body),
        texts=tuple(texts),
        stream=stream,
        usage=bool(extras.get("include_usage")),
        progress=bool(extras.get("include_progress")),
    )


def _check_fields(body: Mapping[str, Any]) -> None:
    """Refuse fields and values that this server does not support."""
    for name, value in body.items():
        if name in _SUPPORTED or name in _IGNORED or value is None:
            continue
        if name not in _NEUTRAL:
            raise RequestError(f"{name!r} is not supported", name, hint="omit it")
        if value not in _NEUTRAL[name]:
            raise RequestError(
                f"{name} must be {json.dumps(_NEUTRAL[name][0])}, got {json.dumps(value)[:80]}",
                name,
                hint="omit it",
            )


def _value(body: Mapping[str, Any], name: str, default: Any, kind: Any, form: str) -> Any:
    """The value of a field, or the default; `form` describes it in the error."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RequestError(f"{name} must be {form}, got {json.dumps(value)[:80]}", name)
    return value


def _conversation(
    messages: Any,
) -> tuple[str, list[tuple[str, str]], str, list[Source]]:
    """The question, earlier turns, instructions and long texts of the messages."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("no messages", "messages", hint="send a list of messages")
    parsed = [_message(message, number) for number, message in enumerate(messages)]
    if parsed[-1][0] != "user":
        raise RequestError(
            "the last message is not from the user",
            "messages",
            hint="end with the question",
        )
    texts: list[Source] = []
    instructions: list[str] = []
    turns: list[tuple[str, str]] = []
    question: str | None = None
    for number, (role, content) in enumerate(parsed):
        last = number == len(parsed) - 1
        if role != "assistant" and len(content) > LONG:
            text, rest = _split_question(content)
            if last and not rest:
                raise RequestError(
                    "no question found in the long message",
                    "messages",
                    hint="ask in a separate message or paragraph",
                )
            data = text.encode("utf-8", "replace")
            texts.append(Source(name=f"message {number + 1}", data=data, named=True))
            content = rest
        if role == "assistant":
            if question:
                turns.append((question, content))
            question = None
        elif role == "user":
            question = content or question
        elif content:
            instructions.append(content)
    if not question or not question.strip():
        raise RequestError("the question is empty", "messages", hint="ask something")
    return question.strip(), turns, "\n".join(instructions), texts


def _split_question(content: str) -> tuple[str, str]:
    """A text and the question after or before it; the question may be empty."""
    before, gap, last = content.rstrip().rpartition("\n\n")
    if gap and len(last.strip()) <= _LONGEST_QUESTION and last.rstrip().endswith("?"):
        return before, last.strip()
    first, gap_after, after = content.lstrip().partition("\n\n")
    if gap_after and len(first.strip()) <= _LONGEST_QUESTION and first.rstrip().endswith("?"):
        return after, first.strip()
    if gap and len(last.strip()) <= _LONGEST_QUESTION:
        return before, last.strip()
    return content, ""


def _message(message: Any, number: int) -> tuple[str, str]:
    """The role and the text of a message."""
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise RequestError(f"{where} is not an object", where)
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise RequestError(f"{where}.role must be system, user or assistant, got {role!r}", where)
    content = message.get("content")
    if isinstance(content, str):
        return role, content
    if isinstance(content, Sequence) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    ):
        return role, "\n\n".join(part["text"] for part in content)
    raise RequestError(
        f"{where}.content is not text", where, hint="send text, and upload documents"
    )


def only_documents(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The document names of a request without a question.

    Raises:
        RequestError: If the names are missing, or the request has other fields.
    """
    for name in body:
        if name != "documents":
            raise RequestError(f"{name!r} is not supported", name, hint="omit it")
    found = documents_of(body)
    if not found:
        raise RequestError("no document given", "documents", hint="name one")
    return found
