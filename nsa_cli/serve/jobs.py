"""Requests as the scheduler sees them, and the events and errors that end them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from nsa_cli.documents import digest
from nsa_cli.documents.sources import Source
from nsa_cli.events import Emit, Event
from nsa_models.errors import NsaError

MOST_TOKENS = 3072
"""Maximum tokens of an answer: a stored KV cache has room for it after the longest question."""


class BusyError(NsaError):
    """Too many requests wait."""

    default_code = "busy"


class ClosingError(NsaError):
    """The server is shutting down."""

    default_code = "closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadThrough(Event):
    """A document was prefilled for a request without a question.

    Attributes:
        document_tokens: Tokens of the document.
        reused_tokens: Tokens whose keys and values were stored.
    """

    document_tokens: int
    reused_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """A request failed, and why."""

    error: NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client asks of a document.

    Attributes:
        question: The question; None to prefill the document only.
        turns: Earlier questions and answers.
        instructions: Instructions of the client.
        max_tokens: Maximum tokens of the answer.
        temperature: 0 is greedy.
        seed: For sampling.
    """

    question: str | None
    turns: tuple[tuple[str, str], ...] = ()
    instructions: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A request in the queue.

    Attributes:
        sources: The sources.
        name: Name of all of them together.
        asked: What the client asks.
        deliver: Receives events in the scheduler's thread; the last is `AnswerFinished`,
            `ReadThrough` or `Failed`, unless the job was stopped.
        key: Digest of the sources.
    """

    sources: Sequence[Source]
    name: str
    asked: Asked
    deliver: Emit
    key: bytes = b""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.key = digest(self.sources)

    def stop(self) -> None:
        """Cancel the job: its client is gone."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether its client is gone."""
        return self._stopped.is_set()
