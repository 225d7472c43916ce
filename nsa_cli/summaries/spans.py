"""The sentences of a document as a summary needs them: whole, and without running headers."""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

from nsa_cli.documents import Document
from nsa_cli.retrieval.number_words import MONTHS
from nsa_cli.retrieval.sentences import sentences

_LINE = re.compile(r"^.*\S.*$", re.MULTILINE)
_DIGITS = re.compile(r"\d+")
_EDGE_LINES = 4
"""Lines at the beginning and at the end of a page that may be its header or footer."""

_LEAST_PAGES, _LEAST_SHARE = 3, 0.05
"""Minimum pages, and share of all pages, with the same line."""

_CODE_SUFFIXES = """
.c .cc .cpp .cs .go .h .hpp .java .js .jsx .kt .lua .m .php .pl .py .rb .rs .scala .sh .swift
.ts .tsx
"""
_CODE = frozenset(_CODE_SUFFIXES.split())
_COMMENT = re.compile(
    r"\"{3}(?P<d>(?:[^\"]|\"(?!\"\"))*)\"{3}|'{3}(?P<s>(?:[^']|'(?!''))*)'{3}"
    r"|/\*+(?P<b>(?:[^*]|\*(?!/))*)\*+/|(?P<l>(?:^[ \t]*(?:#(?!!)|//)[^\n]*\n?)+)",
    re.MULTILINE,
)
_MARK = re.compile(r"[ \t]*(?:#+|//+[/!]?|\*+)?\s*")

_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|Nos|Art|Sec|Fig|Eq|vs|cf|pp|approx|Hon|Gen|Col|Lt|Sgt|e\.g|i\.e"
    r"|z\. ?B|d\. ?h|bzw|Nr|Abs|vgl|ca|al|Mme|MM|[A-Za-z])\.$"
)
_DAY = re.compile(r"(?<!\d)\d{1,2}\.$")
_MONTH = re.compile(rf"(?i:{'|'.join(sorted(MONTHS, key=len, reverse=True))})\b")
_LONGEST_OPEN = 400
"""Characters up to which a sentence goes on after a full stop."""

_THEN_LOWER, _THEN_UPPER = re.compile(r"\.\s+[a-zà-ÿ]"), re.compile(r"\.\s+[A-ZÀ-Þ]")

_OPENS_LOWER = re.compile(r"[a-zà-ÿ](?![.)])")
_APART = re.compile(r"\n\s*\n")


class SentenceSpans:
    """Finds the sentences of ranges of a document.

    Args:
        document: The document.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._running = sorted(running_lines(document))
        lower, upper = (len(each.findall(document.text)) for each in (_THEN_LOWER, _THEN_UPPER))
        self._has_capitals = upper > lower  # a chat may begin no sentence with a capital
        self._code = any(is_code(piece.source) for piece in document.pieces)

    def of(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the sentences of a range, stripped; those with a header or footer are left out.

        Source code has sentences in its comments alone. No sentence ends after an abbreviation, an
        initial or a day, in parentheses, or before a lowercase letter.

        Args:
            start: First character.
            end: One past the last.
        """
        for first, last in self._prose(start, end) if self._code else [(start, end)]:
            yield from self._in_prose(first, last)

    def _prose(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the comments of source code in a range, and text that is not code."""
        text = self._document.text
        for piece in self._document.pieces:
            first, last = max(start, piece.start), min(end, piece.end)
            if first >= last:
                continue
            if not is_code(piece.source):
                yield first, last
                continue
            for match in _COMMENT.finditer(text, first, last):
                begin, stop = match.span(match.lastgroup or 0)
                if mark := _MARK.match(text, begin, stop):
                    yield mark.end(), stop

    def _in_prose(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        text, edges = self._document.text, self._document.edges(start, end)
        found = sentences(text, start, end, edges, longest=1 << 30)
        last: tuple[int, int] | None = None
        for span in found:
            if last is not None and self._goes_on(last, span, edges):
                last = (last[0], span[1])
                continue
            if last is not None and not self._has_running(*last):
                yield last
            last = span
        if last is not None and not self._has_running(*last):
            yield last

    def _goes_on(self, first: tuple[int, int], second: tuple[int, int], edges: set[int]) -> bool:
        """Whether a sentence goes on in the next one."""
        text, (_, end), (start, _) = self._document.text, first, second
        if any(end <= edge <= start for edge in edges) or _APART.search(text, end, start):
            return False
        if text[end - 1] != "." or end - first[0] > _LONGEST_OPEN:
            return False
        so_far = text[first[0] : end]
        if so_far.count("(") > so_far.count(")"):
            return True
        tail = so_far[-8:]
        if _DAY.search(tail):
            return _MONTH.match(text, start) is not None
        is_lower = self._has_capitals and _OPENS_LOWER.match(text, start) is not None
        return is_lower or _ABBREVIATION.search(tail) is not None

    def _has_running(self, start: int, end: int) -> bool:
        at = bisect.bisect_left(self._running, (start, start))
        before = self._running[at - 1][1] > start if at else False
        return before or (at < len(self._running) and self._running[at][0] < end)


def is_code(source: str) -> bool:
    """Whether the name of a file is one of source code."""
    return PurePath(source).suffix.lower() in _CODE


def without_comment_marks(text: str) -> str:
    """Return a comment without the marks before its lines."""
    return "\n".join(_MARK.sub("", line, count=1) for line in text.split("\n"))


def running_lines(document: Document) -> list[tuple[int, int]]:
    """Return the lines at the edges of pages that repeat, apart from numbers, as characters."""
    pages = [piece for piece in document.pieces if piece.page is not None and piece.unit == "page"]
    if len(pages) < _LEAST_PAGES:
        return []
    edges: list[dict[str, list[tuple[int, int]]]] = []
    for page in pages:
        lines = [match.span() for match in _LINE.finditer(document.text, page.start, page.end)]
        own: dict[str, list[tuple[int, int]]] = {}
        for start, end in dict.fromkeys([*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]):
            line = " ".join(_DIGITS.sub("#", document.text[start:end]).split())
            own.setdefault(line, []).append((start, end))
        edges.append(own)
    counts = Counter(itertools.chain.from_iterable(edges))
    least = max(_LEAST_PAGES, _LEAST_SHARE * len(pages))
    return [
        span
        for own in edges
        for line, spans in own.items()
        if counts[line] >= least
        for span in spans
    ]
