"""Events: what happens while a command runs, as small frozen values for a renderer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nsa_cli.results import Citation, Computation, Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a renderer may show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """A line the user should see."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Event):
    """The beginning of a step whose progress is not counted.

    Attributes:
        name: `opening`, `loading`, `searching`, `passages`, `answering` or `checking`.
        text: What happens, such as `Loading the model`.
    """

    name: str
    text: str


LOADING = Stage(name="loading", text="Loading the model")
SEARCHING = Stage(name="searching", text="Searching the text")
ANSWERING = Stage(name="answering", text="Answering")
CHECKING = Stage(name="checking", text="Checking the answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """Progress of one task; `done == total` ends it.

    Attributes:
        task: Its name, such as `Reading report.pdf`.
        done: Units done.
        total: Units in all.
        unit: `tokens`, `characters`, `bytes`, `pages` or `parts`.
        stage: `reading` for the text, `passages` for the passages that an answer comes from,
            `opening` for documents, `loading` for the model.
        beside: Whether the task runs beside those of the other events.
    """

    task: str
    done: int
    total: int
    unit: str
    stage: str = "reading"
    beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress(Event):
    """Progress of a batch.

    Attributes:
        done: Documents done.
        total: Documents in all.
        name: The current document; empty at the end.
    """

    done: int
    total: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token of an answer with its probability.

    Attributes:
        token: Its bytes.
        logprob: Natural logarithm of the probability that the model gave it.
        top: The likeliest tokens with theirs, best first.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText(Event):
    """The next piece of the answer.

    Attributes:
        text: The piece.
        tokens: Its tokens, if their probabilities were asked for.
    """

    text: str
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFinished(Event):
    """The complete answer.

    Attributes:
        answer: The text.
        citations: Citations, best first.
        model: Name or path of the model.
        attention: Attention settings of prefill (`reading`) and answer (`answering`).
        finish_reason: `stop`, or `length` when the token limit cut the answer.
        stats: Counts and times.
        warnings: What the document lost when it was read, one clause each.
        computation: What nsa computed, if it computed the answer.
        support: Probability, by the model's verifier, that the text supports the answer that was
            decoded; below one half nsa declines instead. None without a verifier.
    """

    answer: str
    citations: tuple[Citation, ...]
    model: str
    attention: dict[str, Any] = field(default_factory=dict)
    finish_reason: str
    stats: Stats
    warnings: tuple[str, ...] = ()
    computation: Computation | None = None
    support: float | None = None


Emit = Callable[[Event], None]
Result = TypeVar("Result")


def drain(steps: Generator[Event, None, Result], emit: Emit) -> Result:
    """Run a generator of events to its end, pass the events on, and return its result."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        emit(event)


def collected(steps: Generator[AnswerText, None, Result]) -> tuple[list[AnswerText], Result]:
    """Run a generator of an answer's text to its end; return the text and the result."""
    shown = list[AnswerText]()
    return shown, drain(steps, shown.append)  # type: ignore[arg-type]


def without_answers(emit: Emit) -> Emit:
    """Return a receiver that passes on all events but the text of answers."""

    def shown(event: Event) -> None:
        if not isinstance(event, AnswerText):
            emit(event)

    return shown
