"""What a command returns: citations, matches, passages, turns, statistics and estimates."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from nsa_cli.documents.location import Location

EXPRESSION = "expression"
"""Operation of a computation with figures of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Location):
    """A passage that `nsa find` returns.

    Attributes:
        quote: The sentence that shares most with the query, verbatim from the text.
        score: Share of the attention, 0 to 1, among the passages found.
    """

    quote: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchInContext(Match):
    """A match with the text around it.

    Attributes:
        before: Text of the same page or file before the quote.
        after: Text of the same page or file after it.
    """

    before: str
    after: str

    def match(self) -> Match:
        """Return the match without its context."""
        return Match(**{each.name: getattr(self, each.name) for each in fields(Match)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation(Match):
    """A passage that an answer cites.

    Attributes:
        verified: Whether the passage supports the answer.
    """

    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCitation(Citation):
    """A row of a table that a computed answer cites.

    Attributes:
        column: Name of the column that counts, or None.
        cell: Address of the cell in a sheet, such as `D17`; None in a text file.
    """

    column: str | None
    cell: str | None

    @property
    def within(self) -> str:
        """The cell or the column."""
        named = f"cell {self.cell}" if self.cell else ""
        return f"{named} ({self.column})" if named and self.column else named or self.column or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computation:
    """What nsa computed from a table, or from figures of a text.

    Attributes:
        table: The table: its file, and its sheet; empty for figures of a text.
        operation: `count`, `distinct`, `sum`, `mean`, `median`, `min`, `max`, `top`, `bottom`,
            `share` or `values`; `expression` for figures of a text; empty for a table's refusal.
        description: The operation in words, with the rows and their conditions; or the expression.
        value: The result: a number, a date, a list of cells, or a list of groups.
        rows: Rows that it was computed from; 0 for figures of a text.
        refused: Why nothing was computed, or None.
        unit: Unit of the value, such as `EUR`, `%` or `days`; empty without.
    """

    table: str
    operation: str
    description: str
    value: Any
    rows: int
    refused: str | None
    unit: str = ""

    @property
    def is_expression(self) -> bool:
        """Whether the model chose the figures that the program computed with."""
        return self.operation == EXPRESSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One sentence of a summary.

    Attributes:
        section: The heading of its section, or None.
        place: Where that section begins, or None.
        text: The sentence.
        citations: Its sources, those that support it first.
        verbatim: Whether it is a sentence of the document, which the model did not write.
    """

    section: str | None
    place: Location | None
    text: str
    citations: tuple[Citation, ...]
    verbatim: bool = False

    @property
    def is_supported(self) -> bool:
        """Whether a citation supports it."""
        return any(citation.verified for citation in self.citations)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSummary:
    """The summary of one document.

    Attributes:
        source: Name of the document.
        overview: The sentences of its paragraph.
        statements: Its statements, in the order of the document.
        document_tokens: Tokens of the document.
        reused_tokens: Tokens whose keys and values were stored.
        warnings: What the document lost when it was read, one clause each.
        is_kept: Whether it was written before.
    """

    source: str
    overview: tuple[Statement, ...]
    statements: tuple[Statement, ...]
    document_tokens: int
    reused_tokens: int
    warnings: tuple[str, ...] = ()
    is_kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage of the document.

    Attributes:
        start: First character.
        end: One past the last character.
        score: Share of the attention, 0 to 1, among the passages found.
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question of a conversation with its answer.

    Attributes:
        question: The question.
        answer: Its answer.
        passage: The passage that the answer attended to most, or None.
    """

    question: str
    answer: str
    passage: Passage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts in tokens and bytes, times in seconds.

    Attributes:
        document_tokens: Tokens of the document.
        reused_tokens: Those of them whose keys and values were stored.
        question_tokens: Tokens of the question with its instruction.
        answer_tokens: Tokens of the answer.
        load_seconds: Loading the model.
        prefill_seconds: Prefilling the document.
        time_to_first_token_seconds: From the question to the first token of the answer.
        decode_tokens_per_second: Of the tokens after the first.
        peak_memory_bytes: Of the process.
        cache_bytes: Keys and values of the document, and the compressed keys that were scored.
        cache_bytes_touched: What the question's attention read of them.
        left_out_lines: Lines of a long log that were not read.
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
class Estimate:
    """What prefilling a document takes.

    Attributes:
        tokens: Tokens of the document.
        reused_tokens: Those of them whose keys and values are stored.
        seconds: Prefilling the rest, roughly.
        disk_bytes: Storing the keys and values; 0 if they are not stored.
        disk_free_bytes: Free space where they would be stored.
        memory_bytes: What the program needs at least.
        memory_limit_bytes: What it may take.
        context_tokens: The model's context, extended where the document needs it.
        answer_seconds: Answering all questions, roughly; 0 if none is asked.
    """

    tokens: int
    reused_tokens: int
    seconds: float
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    memory_limit_bytes: int
    context_tokens: int
    answer_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTokens:
    """Tokens of a file.

    Attributes:
        source: Name of the file, as citations have it.
        tokens: Tokens of its text.
    """

    source: str
    tokens: int
