"""Messages of requests: the question, earlier turns, instructions and documents.

A long message becomes a document, so that any client can send one. Its text stays the same in
later turns, so the model reads it once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from nsa_cli.documents.names import is_url
from nsa_cli.documents.sources import Source
from nsa_cli.serve.fields import RequestError
from nsa_cli.serve.uploads import plain_name

LONG = 2000
"""Characters from which a message becomes a document."""

_LONGEST_QUESTION = 1000
"""Most characters of a paragraph that asks about the rest of its message."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXTS = ("text", "input_text", "output_text")
_FILES = ("file", "input_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a client.

    Attributes:
        role: `system`, `user` or `assistant`.
        text: Its text.
        files: Ids of uploads and URLs in it.
        sources: Files that the message holds.
    """

    role: str
    text: str
    files: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What the messages of a request say.

    Attributes:
        question: The question.
        turns: Earlier questions and answers.
        instructions: Instructions of the client.
        files: Ids of uploads and URLs in the messages.
        sources: Files in the messages, and long messages, as documents.
        said: Roles and texts of all messages, for an answer without a document.
    """

    question: str
    turns: tuple[tuple[str, str], ...]
    instructions: str
    files: tuple[str, ...]
    sources: tuple[Source, ...]
    said: tuple[tuple[str, str], ...]


def parse_message(message: Any, where: str) -> Message:
    """Parse a message of either API.

    Args:
        message: The message.
        where: Its place, for errors.

    Raises:
        RequestError: If it is not a message, or has other parts than text and files.
    """
    if not isinstance(message, dict):
        raise RequestError(f"{where} is not an object", where)
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise RequestError(
            f"{where}.role must be system, user or assistant, got {message.get('role')!r}", where
        )
    content = message.get("content")
    if content is None and role == "assistant":
        content = ""
    if isinstance(content, str):
        return Message(role=role, text=content)
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise RequestError(f"{where}.content is not text", where, hint="send text and files")
    texts, files, sources = [], list[str](), list[Source]()
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "refusal":
            continue
        elif kind in _FILES:
            found = _file(part["file"] if isinstance(part.get("file"), dict) else part, where)
            if isinstance(found, str):
                files.append(found)
            else:
                sources.append(found)
        else:
            raise RequestError(
                f"{where}.content has a part of type {kind!r}, which is not text",
                where,
                hint="send text and files",
            )
    return Message(role=role, text="\n\n".join(texts), files=tuple(files), sources=tuple(sources))


def converse(messages: Sequence[Message], param: str, *, documents: bool) -> Conversation:
    """Split messages into the question, earlier turns, instructions and documents.

    Args:
        messages: The messages, in order.
        param: Name of their field, for errors.
        documents: Whether the request names documents besides.

    Raises:
        RequestError: If the last message is not a question of the user.
    """
    if not messages:
        raise RequestError(f"no {param}", param, hint="send a list of messages")
    if messages[-1].role != "user":
        raise RequestError(
            "the last message is not from the user", param, hint="end with the question"
        )
    documents = documents or any(each.files or each.sources for each in messages)
    long = [each for each in messages if each.role != "assistant" and len(each.text) > LONG]
    last = messages[-1]
    if not documents and long == [last] and not _split_question(last.text)[1]:
        long = []  # an instruction with its text in one paragraph: plain chat
    instructions: list[str] = []
    turns: list[tuple[str, str]] = []
    sources: list[Source] = []
    question: str | None = None
    for number, message in enumerate(messages, 1):
        sources += message.sources
        text = message.text
        if any(message is each for each in long):
            body, text = _split_question(text)
            if message is last and not text:
                raise RequestError(
                    "no question found in the long message",
                    param,
                    hint="ask in a separate message or paragraph",
                )
            data = body.encode("utf-8", "replace")
            sources.append(Source(name=f"message {number}", data=data, named=True))
        if message.role == "assistant":
            if question:
                turns.append((question, text))
            question = None
        elif message.role == "user":
            question = text or question
        elif text:
            instructions.append(text)
    if not question or not question.strip():
        raise RequestError("the question is empty", param, hint="ask something")
    return Conversation(
        question=question.strip(),
        turns=tuple(turns),
        instructions="\n".join(instructions),
        files=tuple(each for message in messages for each in message.files),
        sources=tuple(sources),
        said=tuple((each.role, each.text) for each in messages if each.text),
    )


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


def _file(part: Mapping[str, Any], where: str) -> str | Source:
    """The upload id, the URL or the content of a file part."""
    if isinstance(part.get("file_id"), str) and part["file_id"]:
        return str(part["file_id"])
    url = part.get("file_url")
    if url is not None:
        if not isinstance(url, str) or not is_url(url):
            raise RequestError(f"{where}.file_url is not a URL", where, hint="send file_data")
        return url
    data = part.get("file_data")
    if not isinstance(data, str) or not data:
        raise RequestError(f"{where} has a file without file_id and file_data", where)
    found = _decoded(data)
    if not found:
        raise RequestError(
            f"{where}.file_data is not base64", where, hint="send data:TYPE;base64,DATA"
        )
    return Source(name=plain_name(str(part.get("filename") or "")), data=found, named=True)


def _decoded(data: str) -> bytes:
    """The bytes of a data URL or of base64; nothing if it is neither."""
    head, comma, rest = data.partition(",")
    try:
        if comma and head.startswith("data:") and not head.endswith(";base64"):
            return unquote_to_bytes(rest)
        return base64.b64decode(rest if comma else data, validate=True)
    except (binascii.Error, ValueError):
        return b""
