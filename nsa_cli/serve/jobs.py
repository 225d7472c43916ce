"""A client's request as the model's thread sees it, and the errors a queue gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nsa_cli.documents import digest
from nsa_cli.documents.sources import Source
from nsa_cli.events import Event
from nsa_models.errors import NsaError

MOST_TOKENS = 3072
"""Tokens of the longest answer: a kept reading has room for it behind the longest question."""


class BusyError(NsaError):
    """Too many questions wait already."""

    default_code = "busy"


class ClosingError(NsaError):
    """The server is about to end."""

    default_code = "closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadThrough(Event):
    """A text was read, and nothing was asked: its tokens, and those that were kept before."""

    document_tokens: int
    reused_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """Nothing comes any more, and why."""

    error: NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is wanted of a text.

    Attributes:
        question: What to answer; None to have the text read, no more.
        turns: Earlier questions and answers.
        instructions: What the answer is to heed.
        max_tokens: Of the answer.
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
    """Somebody who waits.

    Attributes:
        sources: What it is about.
        name: Of all of them together.
        asked: What is wanted.
        deliver: Receives events, from the model's thread; the last is `Finished`,
            `ReadThrough` or `Failed`, unless it was stopped.
        key: The same for the same sources.
    """

    sources: Sequence[Source]
    name: str
    asked: Asked
    deliver: Callable[[Event], None]
    key: bytes = b""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.key = digest(self.sources)

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for it."""
        return self._stopped.is_set()
