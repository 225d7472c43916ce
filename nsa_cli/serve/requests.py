"""What a request says: the question, the conversation before it, and the documents it is about.

A long message is a document itself, so that any client can send one; the text that the model
reads is then the same each time, and is read once.
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
"""Characters from which on a message is a document."""

_LONGEST_QUESTION = 1000
"""Characters of a paragraph that can be the question about the rest of its message."""

_MOST_DOCUMENTS = 100

_WITHOUT_EFFECT = (
    *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier"),
    "prompt_cache_key",
)
"""What clients send that changes no answer."""

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
"""What is understood, and has one meaning only here."""

_UNDERSTOOD = (
    *("model", "messages", "documents", "stream", "stream_options", "max_tokens"),
    *("max_completion_tokens", "temperature", "seed"),
)


class RequestError(NsaError):
    """A request does not say something that can be done; `param` is what is wrong in it."""

    exit_code = 2
    default_code = "invalid_request"

    def __init__(self, message: str, *, param: str | None, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint, code=code)
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request.

    Attributes:
        asked: The question and how to answer it.
        documents: Names of documents.
        texts: Long messages, which are documents too.
        stream: Whether the answer is to come in chunks.
        usage: Whether a chunk with counts is to follow it.
        progress: Whether chunks are to tell how far reading has come.
    """

    asked: Asked
    documents: tuple[str, ...]
    texts: tuple[Source, ...]
    stream: bool
    usage: bool
    progress: bool


def parse_json(body: bytes) -> dict[str, Any]:
    """A request's body.

    Raises:
        RequestError: If it is no JSON object.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the request is no JSON", param=None, hint="send an object") from error
    if not isinstance(found, dict):
        raise RequestError("the request is no JSON object", param=None, hint="send an object")
    return found


def documents_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of documents that a request has.

    Raises:
        RequestError: If they are no list of names.
    """
    found = body.get("documents", [])
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise RequestError(
            "documents must be a list of file ids or paths",
            param="documents",
            hint='such as "documents": ["file-…"]',
        )
    if len(found) > _MOST_DOCUMENTS:
        raise RequestError(
            f"{len(found)} documents are too many",
            param="documents",
            hint=f"name {_MOST_DOCUMENTS} at most, or a folder",
        )
    return tuple(dict.fromkeys(found))


def wanted(body: Mapping[str, Any], *, model: str, max_tokens: int) -> Wanted:
    """What a request for an answer says.

    Args:
        body: From `parse_json`.
        model: The name of the model that is served.
        max_tokens: Of an answer, where the request does not say.

    Raises:
        RequestError: If it cannot be done.
    """
    _check_fields(body)
    named = body.get("model", model)
    if named != model:
        raise RequestError(
            f"there is no model {named!r}",
            param="model",
            hint=f"the model here is {model}",
            code="model_not_found",
        )
    stream = _value(body, "stream", False, bool, "true or false")
    extras = _value(body, "stream_options", {}, dict, "an object")
    if extras and not stream:
        raise RequestError("stream_options needs stream", param="stream_options")
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise RequestError(f"max_tokens is {limit!r}", param="max_tokens", hint="say a number")
    heat = _value(body, "temperature", 0, (int, float), "a number")
    if not 0 <= heat <= 2 or not math.isfinite(heat):
        raise RequestError(f"temperature is {heat!r}", param="temperature", hint="say 0 to 2")
    question, turns, instructions, texts = _conversation(body.get("messages"))
    return Wanted(
        asked=Asked(
            question=question,
            turns=tuple(turns),
            instructions=instructions,
            max_tokens=min(limit, MOST_TOKENS),
            temperature=float(heat),
            seed=_value(body, "seed", None, int, "a whole number"),
        ),
        documents=documents_of(body),
        texts=tuple(texts),
        stream=stream,
        usage=bool(extras.get("include_usage")),
        progress=bool(extras.get("include_progress")),
    )


def _check_fields(body: Mapping[str, Any]) -> None:
    """Refuse what would be answered otherwise than it is meant."""
    for name, value in body.items():
        if name in _UNDERSTOOD or name in _WITHOUT_EFFECT or value is None:
            continue
        if name not in _NEUTRAL:
            raise RequestError(f"{name!r} is not understood here", param=name, hint="leave it out")
        if value not in _NEUTRAL[name]:
            raise RequestError(
                f"{name} is {json.dumps(value)[:80]}, and can only be "
                f"{json.dumps(_NEUTRAL[name][0])}",
                param=name,
                hint="leave it out",
            )


def _value(body: Mapping[str, Any], name: str, default: Any, kind: Any, say: str) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RequestError(f"{name} is {json.dumps(value)[:80]}", param=name, hint=f"say {say}")
    return value


def _conversation(
    messages: Any,
) -> tuple[str, list[tuple[str, str]], str, list[Source]]:
    """Question, earlier turns, instructions and long texts of some messages."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("there are no messages", param="messages", hint="send a list of them")
    said = [_message(message, number) for number, message in enumerate(messages)]
    if said[-1][0] != "user":
        raise RequestError(
            "the last message is not the user's", param="messages", hint="end with the question"
        )
    texts: list[Source] = []
    instructions: list[str] = []
    turns: list[tuple[str, str]] = []
    asked: str | None = None
    for number, (role, content) in enumerate(said):
        last = number == len(said) - 1
        if role != "assistant" and len(content) > LONG:
            text, rest = _divided(content)
            if last and not rest:
                raise RequestError(
                    "the question cannot be told from the text",
                    param="messages",
                    hint="ask it in a message or a paragraph of its own",
                )
            data = text.encode("utf-8", "replace")
            texts.append(Source(name=f"message {number + 1}", data=data, named=True))
            content = rest
        if role == "assistant":
            if asked:
                turns.append((asked, content))
            asked = None
        elif role == "user":
            asked = content or asked
        elif content:
            instructions.append(content)
    if not asked or not asked.strip():
        raise RequestError("the question is empty", param="messages", hint="ask something")
    return asked.strip(), turns, "\n".join(instructions), texts


def _divided(content: str) -> tuple[str, str]:
    """A text and the question behind or before it, which may be empty."""
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
    """Role and text of a message."""
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise RequestError(f"{where} is no object", param=where)
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise RequestError(
            f"{where}.role is {role!r}", param=where, hint="say system, user or assistant"
        )
    content = message.get("content")
    if isinstance(content, str):
        return role, content
    if isinstance(content, Sequence) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    ):
        return role, "\n\n".join(part["text"] for part in content)
    raise RequestError(
        f"{where}.content is no text", param=where, hint="send text; documents are uploaded"
    )


def only_documents(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The documents of a request that asks nothing.

    Raises:
        RequestError: If there is none, or anything else besides.
    """
    for name in body:
        if name != "documents":
            raise RequestError(f"{name!r} is not understood here", param=name, hint="leave it out")
    found = documents_of(body)
    if not found:
        raise RequestError("no document is named", param="documents", hint="name one")
    return found
