"""Rows of answers in a file: one JSON object a line, appended as each answer comes.

A run that is killed loses at most the row that it was writing, and the next run goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nsa_cli.evaluation.line_file import RowFile, RowKey

PAGES = ("pages", "pages-ranked", "pages-kept", "pages-passages")
"""Ways that answer from whole pages of the stored KV cache."""

READING = ("nsa", "words", "more", "blocks", "find", *PAGES)
"""Ways that read the whole document by the settings given."""

BASELINES = ("chunks", "gold", "dense")
"""Ways that read what is in the prompt by dense attention."""

WAYS = (*READING, *BASELINES)
"""Ways to answer: see `ways`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedPage:
    """A citation, or a passage found.

    Attributes:
        source: Name of the file.
        page: Its page; None without pages.
        line: First line on the page.
        quote: The quote; empty for a passage.
        verified: Whether the citation is verified.
    """

    source: str
    page: int | None
    line: int
    quote: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """An answer to a question by one way.

    Attributes:
        question: Name of the question.
        digest: SHA-256 of the question.
        set_digest: SHA-256 of the set of questions.
        way: One of `WAYS`.
        setting: Model and options that make a difference, in words.
        answer: The answer; empty for `find`.
        citations: Citations of the answer, best first.
        found: Passages that were found or are in the prompt, best first.
        finish_reason: `stop` or `length`.
        read_tokens: Tokens that were prefilled of the document.
        answer_tokens: Tokens of the answer.
        read_seconds: Reading the document, once for all its questions.
        answer_seconds: From the question to the end of the answer.
        commit: Commit of the program.
        device: Name of the device.
        computed: Whether an expression was asked for, also where it was declined.
        support: The verifier's probability that the answer is supported, of a declined one too.
        signals: Likelihoods with and without the document, if asked for: see `AnswerSignals`.
    """

    question: str
    digest: str
    set_digest: str
    way: str
    setting: str
    answer: str
    citations: tuple[CitedPage, ...]
    found: tuple[CitedPage, ...]
    finish_reason: str
    read_tokens: int
    answer_tokens: int
    read_seconds: float
    answer_seconds: float
    commit: str
    device: str
    computed: bool = False
    support: float | None = None
    signals: dict[str, float] | None = None

    @property
    def key(self) -> RowKey:
        """Identity of a row: question as it was asked, way and setting."""
        return self.digest, self.way, self.setting


class AnswerRows(RowFile[AnswerRow]):
    """Rows of answers in memory, and in a file if one is named.

    Args:
        path: The file, resumed if it exists; None for none.

    Raises:
        NsaError: If the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, _row, "documents")

    def add(self, row: AnswerRow, scores: dict[str, Any]) -> None:
        """Add a row, and write it to the disk at once with its scores.

        Raises:
            NsaError: If the file cannot be written.
        """
        self.append(row, {**asdict(row), "scores": scores})


def _row(found: dict[str, Any]) -> AnswerRow:
    """Parse a row."""
    names = {each.name for each in fields(AnswerRow)}
    given = {name: value for name, value in found.items() if name in names}
    for name in ("citations", "found"):
        given[name] = tuple(CitedPage(**each) for each in given[name])
    return AnswerRow(**given)
