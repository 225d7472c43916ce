"""Requests, events and errors as JSON messages, each after its length in bytes.

A client sends the options with all questions, the document, and then one request after another.
The server greets it, and answers each request by events; the last one has the result.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from nsa_cli.events import (
    AnswerFinished,
    AnswerText,
    Event,
    Note,
    Progress,
    Stage,
)
from nsa_cli.results import CellCitation, Citation, Computation, MatchInContext, Stats
from nsa_models.errors import NsaError

LENGTH_BYTES = 8
"""Bytes of the length before a message. The first is 0: no message is that long."""

MOST_BYTES = 2**32
"""Maximum bytes of a message."""

GREETING = {"nsa": "ready"}
BUSY = {"kind": "Busy"}
_FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Event):
    """The passages that were found.

    Attributes:
        matches: The passages, best first.
    """

    matches: tuple[MatchInContext, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged(Event):
    """A line of the server's log, for `--verbose` of the client."""

    text: str


_PLAIN = {kind.__name__: kind for kind in (Note, Stage, Progress, Logged)}


class ServerError(NsaError):
    """An error that the server reports."""


def message(body: Any) -> bytes:
    """Return an object as a message."""
    return framed(json.dumps(body).encode())


def framed(data: bytes) -> bytes:
    """Return some bytes after their length."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def length(head: bytes) -> int:
    """Return the length of the message that follows its first bytes.

    Raises:
        ValueError: If no message is that long.
    """
    size = int.from_bytes(head, "big")
    if size > MOST_BYTES:
        raise ValueError(f"a message of {size:,} bytes")
    return size


def event_body(event: Event) -> dict[str, Any]:
    """Return an event as an object.

    Raises:
        ValueError: If it is no event of a question or a search.
    """
    if isinstance(event, AnswerText):  # without probabilities, which no command asks for
        return {"kind": "AnswerText", "text": event.text}
    if isinstance(event, Note | Stage | Progress | Logged | AnswerFinished | Found):
        return {"kind": type(event).__name__, **asdict(event)}
    raise ValueError(f"{type(event).__name__} is not sent")


def event_of(body: dict[str, Any]) -> Event:
    """Return the event of an object from `event_body`.

    Raises:
        KeyError, TypeError, ValueError: If it is another object.
        ServerError: If the request failed.
    """
    kind = body.pop("kind")
    if kind in _PLAIN:
        return _PLAIN[kind](**body)
    if kind == "AnswerText":
        return AnswerText(**body)
    if kind == "AnswerFinished":
        made = body.pop("computation")
        return AnswerFinished(
            **{
                **body,
                "citations": tuple(map(_citation, body["citations"])),
                "stats": Stats(**body["stats"]),
                "warnings": tuple(body["warnings"]),
            },
            computation=None if made is None else Computation(**made),
        )
    if kind == "Found":
        return Found(matches=tuple(MatchInContext(**match) for match in body["matches"]))
    if kind == _FAILED:
        raise _error(**body)
    raise ValueError(f"{kind} is not an event")


def error_body(error: NsaError) -> dict[str, Any]:
    """Return an error as an object, which `event_of` raises."""
    return {
        "kind": _FAILED,
        "message": error.message,
        "hint": error.hint,
        "code": error.code,
        "exit_code": error.exit_code,
    }


def _error(message: str, hint: str, code: str, exit_code: int) -> ServerError:
    error = ServerError(message, hint=hint, code=code)
    error.exit_code = exit_code
    return error


def _citation(body: dict[str, Any]) -> Citation:
    return CellCitation(**body) if "column" in body else Citation(**body)
