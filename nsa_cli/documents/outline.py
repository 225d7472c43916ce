"""Sections of a document: files, slides, chapters, headings, definitions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nsa_cli.documents import Document

_MOST = 30
"""Maximum sections; the deepest levels are dropped until no more are left."""

_MARKDOWN = re.compile(r"^(#{1,6})[ \t]+(\S.{0,118}?)[ \t#]*$", re.MULTILINE)
_NUMBERED = re.compile(
    r"^[ \t]{0,3}((?:\d{1,2}|[A-Z])(?:\.\d{1,2})*)\.?[ \t]+([A-Z/][^\n]{1,78}[^\n.,;:])$",
    re.MULTILINE,
)
_RUN_IN = re.compile(
    r"^[ \t]{0,3}(\d{1,2}(?:\.\d{1,2})*)\.?[ \t]+([A-Z][^\n.;:]{1,60})\.(?=\s+[A-Z“\"(0-9])",
    re.MULTILINE,
)
"""A numbered heading on the line of its text, as in contracts: `3. Users. Customer may permit`."""

_NAMED = re.compile(
    r"^[ \t]{0,3}((?:Chapter|Part|Appendix|Section|Article)[ \t]+"
    r"(?:\d{1,3}|[IVXLC]+|[A-Z])\b[^\n]{0,80})$",
    re.MULTILINE,
)
_DEFINED = re.compile(
    r"^(?:export |pub |async |public |static )*"
    r"(?:def|class|func|fn|interface|struct|trait|impl|enum|function)\s+(\w[^\n({:]{0,60})",
    re.MULTILINE,
)
_CONTENTS = re.compile(r"\.\.\.|[ \t]\d{1,4}$")
"""A line of a table of contents ends with a page number."""

_RUNNING = 4
"""Times from which on the same words after a number are a running header and no heading."""

_LEAST_NUMBERED = 3
"""Minimum numbered headings."""

_LETTER = 100
"""Sort position of sections with a letter, such as `A.1`: after those with a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a document under one heading.

    Attributes:
        title: Its heading.
        level: 1 for the outermost.
        start: Its first character.
        end: One past its last.
    """

    title: str
    level: int
    start: int
    end: int


def sections(document: Document) -> list[Section]:
    """Return the sections of a document, in order; empty if it has none.

    Args:
        document: The document.
    """
    starts = _by_piece(document) or _by_heading(document)
    while len(starts) > _MOST and (deepest := max(level for _, level, _ in starts)) > 1:
        kept = [each for each in starts if each[1] < deepest]
        if len(kept) < 2:
            break
        starts = kept
    if len(starts) < 2:
        return []
    ends = [start for start, _, _ in starts[1:]] + [len(document.text)]
    found = [
        Section(title=" ".join(title.split()), level=level, start=start, end=end)
        for (start, level, title), end in zip(starts, ends, strict=True)
        if document.text[start:end].strip()
    ]
    return _merged(found)


def _by_piece(document: Document) -> list[tuple[int, int, str]]:
    """Return the files of a folder, or the slides, sheets or chapters of one file."""
    first = document.pieces[0]
    sources = dict.fromkeys(piece.source for piece in document.pieces)
    if len(sources) > 1:
        starts: dict[str, int] = {}
        for piece in document.pieces:
            starts.setdefault(piece.source, piece.start)
        return [(start, 1, source) for source, start in starts.items()]
    if first.page is None or first.unit in ("page", "cell"):
        return []
    pages: dict[int | None, tuple[int, int, str]] = {}
    for piece in document.pieces:
        line = document.text[piece.start : piece.end].split("\n", 1)[0].lstrip("# ")
        title = piece.page_label or line[:80]
        pages.setdefault(piece.page, (piece.start, 1, title))
    return list(pages.values())


def _by_heading(document: Document) -> list[tuple[int, int, str]]:
    text = document.text
    found = [(m.start(), len(m[1]), m[2]) for m in _MARKDOWN.finditer(text)]
    if len(found) > 1:
        return found
    numbered: dict[str, tuple[int, int, str]] = {}
    repeated = Counter(match[2] for match in _NUMBERED.finditer(text))
    for match in _NUMBERED.finditer(text):
        if _CONTENTS.search(match[2]) is None and repeated[match[2]] < _RUNNING:
            # A table of contents names it first, so the last occurrence is the heading.
            level = 1 + match[1].count(".")
            numbered[match[1]] = (match.start(), level, f"{match[1]} {match[2]}")
    if len(numbered) < _LEAST_NUMBERED:
        for match in _RUN_IN.finditer(text):
            level = 1 + match[1].count(".")
            title = f"{match[1]} {match[2]}"
            numbered.setdefault(match[1], (match.start(), level, title))
    named = [(m.start(), 1, m[1]) for m in _NAMED.finditer(text) if not _CONTENTS.search(m[1][12:])]
    found = _rising(sorted(numbered.values())) if len(numbered) >= _LEAST_NUMBERED else []
    found = sorted(found + named) if len(found) + len(named) > 1 else []
    return found or [(m.start(), 1, m[0].strip()) for m in _DEFINED.finditer(text)]


def _rising(found: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Keep the numbered headings in rising order, which drops items of lists."""
    kept: list[tuple[int, int, str]] = []
    last: list[tuple[int, str]] = []
    for each in found:
        number = each[2].split(" ", 1)[0]
        order = [(int(p), "") if p.isdecimal() else (_LETTER, p) for p in number.split(".")]
        if order > last and order[0][0] <= (last[0][0] if last else 0) + 3 + _LETTER * (
            order[0][0] == _LETTER
        ):
            kept.append(each)
            last = order
    return kept


def _merged(found: Sequence[Section]) -> list[Section]:
    """Merge neighbors until at most `_MOST` sections are left."""
    size = -(-len(found) // _MOST)
    if size == 1:
        return list(found)
    return [
        replace(
            found[first],
            title=f"{found[first].title} – {found[min(first + size, len(found)) - 1].title}",
            end=found[min(first + size, len(found)) - 1].end,
        )
        for first in range(0, len(found), size)
    ]
