"""Rows of summaries in a file: one JSON object a line, appended as each summary comes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nsa_cli.evaluation.line_file import RowFile, RowKey

WAYS = ("nsa", "beginning", "map-reduce")
"""Ways to summarize: see `ways`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSentence:
    """A sentence of a summary.

    Attributes:
        text: The sentence.
        quotes: The quotes of its citations.
        verified: Whether the passage of a citation supports it, as answers are checked.
        verbatim: Whether it is a sentence of the document that nsa chose.
        overview: Whether it is in the overview paragraph; False for a statement below it.
    """

    text: str
    quotes: tuple[str, ...]
    verified: bool
    verbatim: bool = False
    overview: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """A summary of a meeting by one way.

    Attributes:
        meeting: Title of the meeting.
        digest: SHA-256 of the meeting and its reference.
        way: One of `WAYS`.
        setting: Model and options that make a difference, in words.
        sentences: The sentences.
        read_tokens: Tokens that were prefilled: of the text, and of what the model had written.
        written_tokens: Tokens that the model wrote.
        seconds: From the text to the summary.
        commit: Commit of the program.
        device: Name of the device.
    """

    meeting: str
    digest: str
    way: str
    setting: str
    sentences: tuple[RowSentence, ...]
    read_tokens: int
    written_tokens: int
    seconds: float
    commit: str
    device: str

    @property
    def key(self) -> RowKey:
        """Identity of a row."""
        return self.digest, self.way, self.setting


class SummaryRows(RowFile[SummaryRow]):
    """Rows of summaries in memory, and in a file if one is named.

    Args:
        path: The file, resumed if it exists; None for none.

    Raises:
        NsaError: If the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, _row, "summaries")

    def add(self, row: SummaryRow) -> None:
        """Add a row, and write it to the disk at once.

        Raises:
            NsaError: If the file cannot be written.
        """
        self.append(row, asdict(row))


def _row(found: dict[str, Any]) -> SummaryRow:
    """Parse a row."""
    names = {each.name for each in fields(SummaryRow)}
    given = {name: value for name, value in found.items() if name in names}
    given["sentences"] = tuple(
        RowSentence(**{**each, "quotes": tuple(each["quotes"])}) for each in given["sentences"]
    )
    return SummaryRow(**given)
