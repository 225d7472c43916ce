"""What a command returns: citations, matches, passages, turns, statistics and estimates."""

from __future__ import annotations

from dataclasses import dataclass


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
class Passage:
    """A stretch of the text, as characters, with its share of the attention."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What reading a text takes.

    Attributes:
        tokens: Of the text.
        reused_tokens: Of those, what is kept from earlier.
        seconds: Reading the rest, roughly.
        disk_bytes: What keeping it takes; 0 if it is not kept.
        disk_free_bytes: What is free where it would be kept.
        memory_bytes: What the program needs at least while it reads.
        memory_limit_bytes: What it may take.
        context_tokens: Tokens that the model carries, extended where the text needs it.
    """

    tokens: int
    reused_tokens: int
    seconds: float
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    memory_limit_bytes: int
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question of a conversation, its answer, and the passage that bore most of it."""

    question: str
    answer: str
    passage: Passage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Tokens of a file.

    Attributes:
        source: As citations name it.
        tokens: Of its text.
    """

    source: str
    tokens: int
