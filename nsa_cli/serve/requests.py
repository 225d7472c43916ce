"""Parsing of request bodies: what is asked, of which documents, and in which form to answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nsa_cli.documents.sources import Source
from nsa_cli.serve.content import Conversation, Message, converse, parse_message
from nsa_cli.serve.fields import (
    RequestError,
    check_fields,
    check_model,
    choices_of,
    logprobs_of,
    max_tokens_of,
    number_of,
    schema_of,
    stops_of,
    top_logprobs_of,
    value_of,
)
from nsa_cli.serve.jobs import Asked

_MOST_DOCUMENTS = 100

_CHAT_FIELDS = (
    *("model", "messages", "documents", "stream", "stream_options", "max_tokens"),
    *("max_completion_tokens", "temperature", "top_p", "seed", "n", "stop", "response_format"),
    *("logprobs", "top_logprobs"),
)
_RESPONSE_FIELDS = (
    *("model", "input", "instructions", "documents", "stream", "max_output_tokens", "include"),
    *("temperature", "top_p", "seed", "text", "top_logprobs", "metadata", "stream_options"),
)
_LOGPROBS = "message.output_text.logprobs"
"""The value in `include` that asks for probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """A parsed request for an answer.

    Attributes:
        asked: The question, earlier turns and generation options.
        documents: Names of documents.
        texts: Long messages and files in messages, as documents.
        stream: Whether to send the answer in chunks.
        usage: Whether to send a last chunk with token counts.
        progress: Whether to send chunks with the progress of reading.
        warnings: Fields that were ignored.
        echo: Fields that a response repeats.
    """

    asked: Asked
    documents: tuple[str, ...]
    texts: tuple[Source, ...]
    stream: bool
    usage: bool = False
    progress: bool = False
    warnings: tuple[str, ...] = ()
    echo: Mapping[str, Any]


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
    found = body.get("documents")
    if found is None:
        found = []
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


def parse_chat_request(body: Mapping[str, Any], *, model: str, max_tokens: int) -> AnswerRequest:
    """Parse a request for a chat completion.

    Args:
        body: The result of `parse_json`.
        model: Name of the served model.
        max_tokens: Default length of an answer.

    Raises:
        RequestError: If the request is invalid or unsupported.
    """
    warnings = check_fields(body, _CHAT_FIELDS)
    check_model(body, model)
    stream = value_of(body, "stream", False, bool, "true or false")
    extras = value_of(body, "stream_options", {}, dict, "an object")
    form = value_of(body, "response_format", {"type": "text"}, dict, "an object")
    wrapped = form.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    found = body.get("messages")
    if not isinstance(found, list) or not found:
        raise RequestError("no messages", "messages", hint="send a list of messages")
    messages = [parse_message(each, f"messages[{at}]") for at, each in enumerate(found)]
    documents = documents_of(body)
    said = converse(messages, "messages", documents=bool(documents))
    return AnswerRequest(
        asked=replace(
            _asked(body, said),
            max_tokens=max_tokens_of(body, ("max_completion_tokens", "max_tokens"), max_tokens),
            stop=stops_of(body),
            choices=choices_of(body),
            logprobs=logprobs_of(body),
            schema=schema_of(form.get("type"), schema, "response_format"),
        ),
        documents=tuple(dict.fromkeys((*documents, *said.files))),
        texts=said.sources,
        stream=stream,
        usage=bool(extras.get("include_usage")),
        progress=bool(extras.get("include_progress")),
        warnings=warnings,
        echo={},
    )


def parse_response_request(
    body: Mapping[str, Any], *, model: str, max_tokens: int
) -> AnswerRequest:
    """Parse a request for a response; arguments and errors as for `parse_chat_request`."""
    warnings = check_fields(body, _RESPONSE_FIELDS)
    check_model(body, model)
    text = value_of(body, "text", {}, dict, "an object")
    form = value_of(text, "format", {"type": "text"}, dict, "an object")
    include = value_of(body, "include", [], list, "a list")
    instructions = value_of(body, "instructions", "", str, "a string")
    messages = _input(body.get("input"))
    if instructions:
        messages.insert(0, Message(role="system", text=instructions))
    documents = documents_of(body)
    said = converse(messages, "input", documents=bool(documents))
    limit = max_tokens_of(body, ("max_output_tokens",), max_tokens)
    top = top_logprobs_of(body)
    asked = replace(
        _asked(body, said),
        max_tokens=limit,
        logprobs=top if _LOGPROBS in include or top else None,
        schema=schema_of(form.get("type"), form.get("schema"), "text.format"),
    )
    return AnswerRequest(
        asked=asked,
        documents=tuple(dict.fromkeys((*documents, *said.files))),
        texts=said.sources,
        stream=value_of(body, "stream", False, bool, "true or false"),
        warnings=warnings,
        echo={
            "instructions": instructions or None,
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": value_of(body, "metadata", {}, dict, "an object"),
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "text": {"format": form},
        },
    )


def _input(found: Any) -> list[Message]:
    """The messages of the field `input`."""
    if isinstance(found, str):
        found = [{"role": "user", "content": found}]
    if not isinstance(found, list) or not found:
        raise RequestError("no input", "input", hint="send a string or a list of messages")
    messages = []
    for at, item in enumerate(found):
        kind = item.get("type", "message") if isinstance(item, dict) else "message"
        if kind == "reasoning":
            continue
        if kind != "message":
            raise RequestError(
                f"input[{at}] has the type {kind!r}; this server calls no tools",
                f"input[{at}]",
                hint="send messages",
            )
        messages.append(parse_message(item, f"input[{at}]"))
    return messages


def _asked(body: Mapping[str, Any], said: Conversation) -> Asked:
    """The question with the options that both APIs share."""
    return Asked(
        question=said.question,
        turns=said.turns,
        instructions=said.instructions,
        said=said.said,
        temperature=number_of(body, "temperature", 0, 0, 2),
        top_p=number_of(body, "top_p", 1, 0, 1),
        seed=value_of(body, "seed", None, int, "a whole number"),
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
