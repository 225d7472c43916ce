"""Requests as the scheduler sees them, and the events and errors that end them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents import digest
from nsa_cli.documents.sources import Source
from nsa_cli.events import AnswerFinished, Emit, Event
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
        warnings: What the document lost when it was read, one clause each.
    """

    document_tokens: int
    reused_tokens: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """A request failed, and why."""

    error: NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFinished(Event):
    """An answer that is not the last of its request."""

    finished: AnswerFinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client asks of a document.

    Attributes:
        question: The question; None to prefill the document only.
        turns: Earlier questions and answers.
        instructions: Instructions of the client.
        max_tokens: Maximum tokens of the answer.
        temperature: 0 is greedy.
        seed: For sampling; the second answer takes the next number, and so on.
        top_p: Sampling takes the likeliest tokens whose probabilities sum to this share.
        stop: Strings before which the answer ends.
        choices: Number of answers.
        logprobs: Likeliest tokens to return with each token; None for no probabilities.
        schema: JSON schema that the answer matches; None for free text.
        said: Roles and texts of the conversation, for an answer without a document.
    """

    question: str | None
    turns: tuple[tuple[str, str], ...] = ()
    instructions: str = ""
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    choices: int = 1
    logprobs: int | None = None
    schema: Mapping[str, Any] | None = None
    said: tuple[tuple[str, str], ...] = ()

    @property
    def cacheable(self) -> bool:
        """Whether the answer cache may hold the answer."""
        return self.free and not (self.turns or self.instructions)

    @property
    def free(self) -> bool:
        """Whether one answer in free text is asked for, without the model's probabilities."""
        plain = self.choices == 1 and self.schema is None and self.logprobs is None
        return plain and not self.stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work for `nsa ask` or `nsa find`.

    Attributes:
        steps: Begins it: yields what happens, and returns the last event.
    """

    steps: Callable[[], Generator[Event, None, Event]]


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """A request in the queue.

    Attributes:
        sources: The sources; with none, the question is answered without a document.
        name: Name of all of them together.
        asked: What the client asks, or work for a command.
        deliver: Receives events in the scheduler's thread; the last is `AnswerFinished`,
            `Found`, `ReadThrough` or `Failed`, unless the job was stopped.
        key: Digest of the sources, or of the document of a command.
    """

    sources: Sequence[Source]
    name: str
    asked: Asked | Work
    deliver: Emit
    key: bytes = b""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.key = self.key or digest(self.sources)

    @property
    def request(self) -> Asked:
        """What an HTTP client asks."""
        assert isinstance(self.asked, Asked)
        return self.asked

    def stop(self) -> None:
        """Cancel the job: its client is gone."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether its client is gone."""
        return self._stopped.is_set()
