"""Logs too long for a model: of lines that differ only in their numbers, some are read.

A million lines of a log are mostly of a few hundred kinds. What tells something is what is rare,
so the first lines of every kind are kept, as many of each as there is room for, and with them the
last lines of the log as they are. Each kept line keeps its number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from nsa_cli.documents.document import Document, Piece

_VARIABLE = re.compile(r"(?<![\w-])(?:[^\W\d]|-)*+\d[\w-]*+")
"""A word with a digit in it: part of a time, an address, an identifier, a size.

What is tried is never given back, so that the time does not grow faster than the text."""

_MOST_KINDS = 1 / 3
"""A text with more kinds than this share of its lines is no log, and is left whole."""

_END_SHARE = 1 / 4
"""Share of the room that the last lines get, of any kind."""

_LOG_NAME = re.compile(r"\.log(?![a-z])|(?<![a-z])log\d*$")
_LOG_SUFFIXES = frozenset(["", ".txt", ".text", ".out", ".err", ".trace", ".dump"])
"""Files that are logs if half their lines look like those of a log; `.1` counts as well."""

_RECORDS = frozenset([".json", ".jsonl", ".ndjson", ".xml"])
_TABLES = frozenset([".csv", ".tsv", ".tab"])

_GRAVE = r"\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b"
_LOG_LINE = re.compile(
    rf"\d\d:\d\d:\d\d|\d{{4}}-\d\d-\d\d[T ]|^\W?\s*\d+\.\d{{3,}}\]|^\d{{10}}\b|{_GRAVE}",
    re.MULTILINE,
)
"""What a line of a log holds: a time, or how grave it is."""

_GRAVE_LINE = re.compile(_GRAVE)
_GRAVE_RECORD = re.compile(
    r"""["'<\s](?:level|severity|levelname|log_?level|priority|stream)["'=>\s]""", re.IGNORECASE
)
"""What a record of a log holds and one of an order or a contract does not."""

_SEPARATORS = ",;\t|"
_LEAST_SEPARATORS = 2
"""Lines that all have as many separators, and at least so many, are the rows of a table."""

_TABLE_LINES = 0.9
_LOG_LINES = 1 / 2
_LOOKED_AT = 65_536

_CHUNK = 1 << 22
"""Characters that are looked at in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What is left of a log.

    Attributes:
        document: The lines that are kept, each run of them a piece that knows its first line.
        lines: Of the whole text, those that are not blank.
        kept: Of these.
        each: Lines kept of each kind, if it has so many.
    """

    document: Document
    lines: int
    kept: int
    each: int


class Sifted:
    """The lines of a text by their kinds: those of one kind differ only in their numbers.

    Kinds are found in each file by itself.

    Args:
        document: Text files alone.
        on_progress: Called with the characters looked at, and those in all.

    Attributes:
        kinds: Number of kinds of lines, counted for each file.
    """

    def __init__(
        self, document: Document, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        seen: dict[str, int] = {}
        source: str | None = None
        self.kinds = 0
        ranks: list[int] = []
        lengths: list[int] = []
        self._document = document
        self._counts: list[int] = []
        for piece in document.pieces:
            before = len(ranks)
            if piece.source != source:
                self.kinds += len(seen.keys() - {""})
                seen, source = {}, piece.source
            for start, end in _chunks(document.text, piece):
                text = document.text[start:end]
                lengths += map(len, text.split("\n"))
                for kind in _VARIABLE.sub("#", text).split("\n"):
                    rank = seen.get(kind, 0)
                    seen[kind] = rank + 1
                    ranks.append(rank)
                if on_progress is not None:
                    on_progress(end, len(document.text))
            self._counts.append(len(ranks) - before)
        self.kinds += len(seen.keys() - {""})
        self._ranks = np.array(ranks)
        self._costs = np.array(lengths) + 1
        self._filled = self._costs > 1

    @property
    def repeats(self) -> bool:
        """Whether the lines repeat as those of a log do, and all files are logs.

        A table is none, however alike its rows are.
        """
        few = self.kinds <= _MOST_KINDS * int(np.count_nonzero(self._filled))
        return few and may_be_log(self._document)

    def within(self, most: int) -> Folded | None:
        """As many lines as there is room for, the rarest first.

        Args:
            most: Characters to keep at most.

        Returns:
            None if even one line of each kind is more than that.
        """
        needed = np.cumsum(np.bincount(self._ranks, weights=self._costs))
        each = int(np.searchsorted(needed, most * (1 - _END_SHARE), side="right"))
        if each == 0:
            return None
        from_end = np.cumsum(self._costs[::-1])[::-1]
        kept = ((self._ranks < each) | (from_end <= most * _END_SHARE)) & self._filled
        lines, of_these = int(np.count_nonzero(self._filled)), int(np.count_nonzero(kept))
        document = replace(self._only(kept), left_out_lines=lines - of_these)
        return Folded(document=document, lines=lines, kept=of_these, each=each)

    def _only(self, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Document:
        """A document of some of the lines; the text between its pieces stays."""
        whole = self._document
        texts: list[str] = []
        pieces: list[Piece] = []
        length = line = last = 0
        for piece, count in zip(whole.pieces, self._counts, strict=True):
            texts.append(whole.text[last : piece.start])
            length += piece.start - last
            costs = self._costs[line : line + count]
            starts = piece.start + np.cumsum(costs) - costs
            numbers = np.flatnonzero(kept[line : line + count])
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
            for run in runs if len(numbers) else ():
                text = whole.text[starts[run[0]] : starts[run[-1]] + costs[run[-1]] - 1]
                first_line = piece.first_line + int(run[0])
                end = length + len(text)
                pieces.append(replace(piece, start=length, end=end, first_line=first_line))
                texts += [text, "\n"]
                length = end + 1
            last = piece.end
            line += count
        return replace(whole, text="".join(texts), pieces=tuple(pieces))


def may_be_log(document: Document) -> bool:
    """Whether each file of a document has the name or the lines of a log.

    One other file among logs is enough for False: no row of a table and no clause of a contract
    is left out for the sake of the logs beside it.
    """
    first: dict[str, Piece] = {}
    for piece in document.pieces:
        first.setdefault(piece.source, piece)
        if piece.page is not None:
            return False
    return bool(first) and all(_is_log(document, piece) for piece in first.values())


def _is_log(document: Document, piece: Piece) -> bool:
    name = PurePath(piece.source).name.lower()
    suffix = PurePath(name).suffix
    if suffix in _TABLES:
        return False
    if _LOG_NAME.search(name):
        return True
    head = document.text[piece.start : min(piece.end, piece.start + _LOOKED_AT)]
    lines = [line for line in head.split("\n") if line.strip()]
    if suffix in _RECORDS:
        return _most(lines, _GRAVE_RECORD)
    if suffix not in _LOG_SUFFIXES and not suffix[1:2].isdigit():
        return False
    return _most(lines, _GRAVE_LINE) or (_most(lines, _LOG_LINE) and not _is_table(lines))


def _most(lines: Sequence[str], pattern: re.Pattern[str]) -> bool:
    """Whether a pattern is in half of some lines."""
    return sum(1 for line in lines if pattern.search(line)) >= _LOG_LINES * max(1, len(lines))


def _is_table(lines: Sequence[str]) -> bool:
    """Whether lines have a fixed number of separators, as the rows of a table without quotes."""
    for separator in _SEPARATORS:
        counts = Counter(line.count(separator) for line in lines)
        number, often = counts.most_common(1)[0]
        if number >= _LEAST_SEPARATORS and often >= _TABLE_LINES * len(lines):
            return True
    return False


def _chunks(text: str, piece: Piece) -> list[tuple[int, int]]:
    """A piece in parts that end before a line feed, which belongs to none."""
    parts = []
    start = piece.start
    while piece.end - start > _CHUNK:
        newline = text.find("\n", start + _CHUNK, piece.end)
        if newline < 0:
            break
        parts.append((start, newline))
        start = newline + 1
    return [*parts, (start, piece.end)]
