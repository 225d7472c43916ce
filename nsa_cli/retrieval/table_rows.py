"""Tables in the text of a page: runs of lines with figures, and the lines that head them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nsa_cli.documents import Document
from nsa_cli.retrieval.sentences import content_words, is_figure

_NUMBER = re.compile(r"(?<![\w.,])[($€£¥]*[-−]?\d[\d.,'’]*%?\)?(?![\w])")
_YEAR = re.compile(r"(?:19|20)\d\d")
"""A line of years alone heads the columns."""

_WORD = re.compile(r"[^\W\d_]{2,}")
_PROSE_WORDS = 11
"""Words of a line that make it a line of prose, unless every third of them has a figure."""

_WORDS_PER_FIGURE = 3
_LEAST_ROWS = 3
"""Lines with figures that make a table."""

_MOST_LABELS = 3
"""Lines without figures between two rows: parts of long labels, headings of groups, blank lines."""

_HEADER_LINES = 4
"""Maximum lines before the first row that belong to a table: caption, units, columns."""

_REACH = 6000
"""Characters before and after a span in which a table that it cuts is looked for."""

_STEM = 5
_GAP_TOKENS = 4
_TOTAL = re.compile(r"\b(?:total|sum|net|gesamt\w*|summe|insgesamt)\b", re.IGNORECASE)
_TOTAL_WORTH = 0.5
"""What a row of totals is worth beside its words."""


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table in a text.

    Attributes:
        start: First character of its header.
        body: First character of its first row.
        end: One past its last character.
    """

    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    figures: int
    words: int

    @property
    def is_prose(self) -> bool:
        return self.words >= _PROSE_WORDS and self.words > _WORDS_PER_FIGURE * self.figures


def tables_of(text: str, start: int, end: int) -> list[TextTable]:
    """Return the tables in text[start:end], a page, in order.

    Args:
        text: The text.
        start: First character of the page.
        end: One past its last character.
    """
    lines = _lines(text, start, end)
    found, run, labels = list[TextTable](), list[int](), 0
    for number, line in enumerate(lines):
        if line.figures and not line.is_prose:
            run.append(number)
            labels = 0
        elif run:
            labels += 1
            if line.is_prose or labels > _MOST_LABELS:
                found += _table(lines, run)
                run, labels = [], 0
    return [*found, *_table(lines, run)]


def _lines(text: str, start: int, end: int) -> list[_Line]:
    lines, at = list[_Line](), start
    for line in text[start:end].splitlines(keepends=True):
        figures = sum(not _YEAR.fullmatch(each) for each in _NUMBER.findall(line))
        lines.append(_Line(at, at + len(line), figures, len(_WORD.findall(line))))
        at += len(line)
    return lines


def _table(lines: Sequence[_Line], run: Sequence[int]) -> list[TextTable]:
    """The table of some rows; none if they are too few."""
    if len(run) < _LEAST_ROWS:
        return []
    first = run[0]
    head = first
    while head > max(0, first - _HEADER_LINES) and not lines[head - 1].is_prose:
        head -= 1
    return [TextTable(lines[head].start, lines[first].start, lines[run[-1]].end)]


def rows_about(
    document: Document,
    spans: Sequence[tuple[int, int]],
    question: str,
    most: int,
    tokens: Callable[[str], int],
) -> list[tuple[int, int]]:
    """Return the rows of cut tables that share most with a question, with the tables' headers.

    Args:
        document: The document.
        spans: What is read of it; tables on these pages count.
        question: The question.
        most: Maximum tokens of all rows and headers.
        tokens: Counts the tokens of a text.

    Returns:
        First character of each row or header, and one past its last, outside the spans.
    """
    text, asked = document.text, _stems(question)
    rows = [
        (line, table, _stems(text[line.start : line.end]))
        for table in _cut_tables(document, spans)
        for line in _lines(text, table.body, table.end)
        if line.figures and not _is_in((line.start, line.end), spans)
    ]
    counts = Counter(stem for *_, stems in rows for stem in stems & asked)

    def worth(row: tuple[_Line, TextTable, set[str]]) -> float:
        shared = sum(math.log(1 + len(rows) / counts[stem]) for stem in row[2] & asked)
        return shared + (_TOTAL_WORTH if _TOTAL.search(text, row[0].start, row[0].end) else 0.0)

    taken, left = list[tuple[int, int]](), most
    for line, table, stems in sorted(rows, key=worth, reverse=True):
        own, head = (line.start, line.end), (table.start, table.body)
        cost = tokens(text[own[0] : own[1]]) + _GAP_TOKENS
        if not stems & asked or cost > left:
            continue
        taken.append(own)
        left -= cost
        cost = tokens(text[head[0] : head[1]]) + _GAP_TOKENS
        if head[0] < head[1] and not _is_in(head, [*spans, *taken]) and cost <= left:
            taken.append(head)
            left -= cost
    return _joined(sorted(taken))


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join lines that follow one another."""
    joined = list[tuple[int, int]]()
    for start, end in spans:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _cut_tables(document: Document, spans: Sequence[tuple[int, int]]) -> list[TextTable]:
    """The tables on the pages of some spans, near them."""
    found = dict[int, TextTable]()
    for start, end in spans:
        for piece in {document.piece_at(start), document.piece_at(max(start, end - 1))}:
            first, last = max(piece.start, start - _REACH), min(piece.end, end + _REACH)
            first = first if first == piece.start else document.text.find("\n", first) + 1
            for table in tables_of(document.text, first, last):
                found.setdefault(table.start, table)
    return list(found.values())


def _is_in(span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= span[0] and span[1] - 1 <= end for start, end in spans)


def _stems(text: str) -> set[str]:
    """The beginnings of a text's content words, without figures."""
    return {word[:_STEM] for word in content_words(text) if not is_figure(word)}
