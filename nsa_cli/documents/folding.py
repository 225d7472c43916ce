"""Logs too long for a model: of lines that are alike but for their numbers, some are read.

A million lines of a log are mostly of a few hundred kinds. What tells something is what is rare,
so the first lines of every kind are kept, as many of each as there is room for, and with them the
last lines of the log as they are. Each kept line keeps its number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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

_TABLES = frozenset([".csv", ".tsv", ".tab"])
_RECORDS = frozenset([".json", ".jsonl", ".ndjson", ".xml"])
"""Files of records; some of them are logs."""

_LOG_LINE = re.compile(
    r"\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]|\b(?:DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL)\b"
)
"""What a line of a log holds: a time, or how grave it is."""

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
    """The lines of a text by their kinds: those of one kind are alike but for their numbers.

    Kinds are found in each file by itself.

    Args:
        document: Text files alone.
        on_progress: Called with the characters looked at, and those in all.

    Attributes:
        kinds: How many kinds of lines there are, those of each file counted.
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

        A table is none, however alike its rows are. Of several files, each must look like a log.
        """
        if self.kinds > _MOST_KINDS * int(np.count_nonzero(self._filled)):
            return False
        first: dict[str, Piece] = {}
        for piece in self._document.pieces:
            first.setdefault(piece.source, piece)
        return all(self._is_log(piece, alone=len(first) == 1) for piece in first.values())

    def _is_log(self, piece: Piece, *, alone: bool) -> bool:
        name = PurePath(piece.source).name.lower()
        suffix = PurePath(name).suffix
        if suffix in _TABLES:
            return False
        if (alone and suffix not in _RECORDS) or ".log" in name:
            return True
        head = self._document.text[piece.start : min(piece.end, piece.start + _LOOKED_AT)]
        lines = [line for line in head.split("\n") if line.strip()]
        marked = sum(1 for line in lines if _LOG_LINE.search(line))
        return marked >= _LOG_LINES * len(lines)

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
        """A document of some of the lines; what stands between its pieces stays."""
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
