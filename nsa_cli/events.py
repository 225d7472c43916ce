"""What happens while a question is answered, as small frozen values for a renderer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nsa_cli.results import Citation, Stats

if TYPE_CHECKING:
    from nsa_cli.documents import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything a renderer may show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """A line the user should see."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far a piece of work has come; `done == total` ends it.

    Attributes:
        task: What is done, such as `Reading report.pdf`.
        done: In `unit`.
        total: In `unit`.
        unit: `tokens`, `characters`, `bytes` or `pages`.
    """

    task: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overall(Event):
    """How far a batch has come.

    Attributes:
        done: Documents that are done.
        total: Documents in all.
        name: The one at hand; empty at the end.
    """

    done: int
    total: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText(Event):
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The whole answer, at the end.

    Attributes:
        answer: The text.
        citations: Ranked, best first.
        model: Its name or path.
        attention: The settings used, for reading and answering.
        finish_reason: `stop`, or `length` when the token limit cut the answer.
        stats: Counts and times.
    """

    answer: str
    citations: tuple[Citation, ...]
    model: str
    attention: dict[str, Any] = field(default_factory=dict)
    finish_reason: str
    stats: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands; the fields are those of a citation."""

    source: str
    page: int | None
    page_label: str | None
    line_start: int
    line_end: int
    unit: str = "page"

    @classmethod
    def of(cls, location: Location) -> Place:
        """The place of a range of characters."""
        return cls(**asdict(location))


Emit = Callable[[Event], None]


def without_answers(emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Show everything but the text of answers as it comes."""

    def shown(event: Event) -> None:
        if not isinstance(event, AnswerText):
            emit(event)

    return shown
