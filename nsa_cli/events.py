"""What happens while a question is answered, as small frozen values for a renderer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

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
class Citation:
    """A passage that the model looked at, and where it stands.

    Attributes:
        source: The document as the user named it.
        page: Physical page from 1, or None where there are no pages.
        page_label: The page's own label where it differs.
        line_start: First line, from 1, in the page or file.
        line_end: Last line.
        quote: Verbatim from the text.
        verified: Whether the answer's content is found in the passage.
        score: Share of the model's attention, 0 to 1, among the passages found.
        unit: What `page` counts: `page`, `slide`, `sheet`, `cell` or `chapter`.
    """

    source: str
    page: int | None
    page_label: str | None
    line_start: int
    line_end: int
    quote: str
    verified: bool
    score: float
    unit: str = "page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts in tokens and bytes, times in seconds.

    The cache is the keys and values of the text, and the summaries that blocks were chosen by;
    touched is what the question's attention read of it. Lines are left out of a log that is too
    long.
    """

    document_tokens: int
    reused_tokens: int
    question_tokens: int
    answer_tokens: int
    load_seconds: float
    prefill_seconds: float
    time_to_first_token_seconds: float
    decode_tokens_per_second: float
    peak_memory_bytes: int
    cache_bytes: int
    cache_bytes_touched: int
    left_out_lines: int = 0


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
class Match:
    """A passage that the model's own look lit on.

    Attributes:
        source: The document as the user named it.
        page: Physical page from 1, or None where there are no pages.
        page_label: The page's own label where it differs.
        line_start: First line of the quote, from 1, in the page or file.
        line_end: Its last line.
        quote: Verbatim from the text: the sentence that shares most with the query.
        score: Share of the model's attention, 0 to 1, among the passages found.
        unit: What `page` counts: `page`, `slide`, `sheet`, `cell` or `chapter`.
    """

    source: str
    page: int | None
    page_label: str | None
    line_start: int
    line_end: int
    quote: str
    score: float
    unit: str = "page"


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
