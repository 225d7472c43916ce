"""Parts of a document that each become statements: its sections, or ranges of one topic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nsa_cli.documents import Document
from nsa_cli.documents.outline import Section, sections
from nsa_cli.retrieval.sentences import sentences
from nsa_cli.summaries.topics import topic_shifts

_SMALL = 0.5
_LARGE = 1.6
"""Parts below and above these shares of the mean length are merged and divided."""

_TITLE_PAGE = 160
"""Minimum characters before the first heading that an outline has a statement for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A range of a document.

    Attributes:
        start: First character.
        end: One past the last character.
        section: Its section; None if it is a topic, several sections or the text before them.
    """

    start: int
    end: int
    section: Section | None = None


def parts_of(document: Document, most: int, *, outline: bool) -> list[Part]:
    """Divide a document into parts, in order.

    Args:
        document: The document.
        most: Maximum parts.
        outline: Whether each section is a part, as many as they are.
    """
    found = sections(document)
    whole = Part(start=0, end=len(document.text))
    if not found:
        return _by_topic(document, whole, most)
    parts = [Part(start=each.start, end=each.end, section=each) for each in found]
    head = len(document.text[: found[0].start].strip())
    if head and (not outline or head >= _TITLE_PAGE):
        parts.insert(0, Part(start=0, end=found[0].start))
    if outline:
        return parts
    mean = len(document.text) / most
    return _divided(document, _merged(parts, most, mean), most, mean)


def _divided(document: Document, parts: list[Part], most: int, mean: float) -> list[Part]:
    """Divide the longest parts at their topic shifts while there may be more parts."""
    undivided = set[Part]()
    while len(parts) < most:
        open_ = [part for part in parts if part not in undivided]
        longest = max(open_, key=lambda part: part.end - part.start, default=None)
        if longest is None or longest.end - longest.start <= _LARGE * mean:
            break
        pieces = round((longest.end - longest.start) / mean)
        own = _by_topic(document, longest, min(pieces, most - len(parts) + 1))
        undivided.update(own)
        at = parts.index(longest)
        parts[at : at + 1] = own
    return parts


def _merged(parts: Sequence[Part], most: int, mean: float) -> list[Part]:
    """Merge the smallest neighbors until few enough remain and none is very small."""
    merged = list(parts)
    while len(merged) > 1:
        sizes = [second.end - first.start for first, second in itertools.pairwise(merged)]
        at = min(range(len(sizes)), key=sizes.__getitem__)
        if len(merged) <= most and sizes[at] > _SMALL * mean:
            break
        merged[at : at + 2] = [Part(start=merged[at].start, end=merged[at + 1].end)]
    return merged


def _by_topic(document: Document, part: Part, most: int) -> list[Part]:
    """Divide a part at its topic shifts."""
    edges = document.edges(part.start, part.end)
    spans = list(sentences(document.text, part.start, part.end, edges))
    starts = [spans[number][0] for number in topic_shifts(document.text, spans, most - 1)]
    cuts = [part.start, *starts, part.end]
    return [replace(part, start=first, end=last) for first, last in itertools.pairwise(cuts)]


def section_at(found: Sequence[Section], char: int) -> Section | None:
    """Return the section that holds a character, or None."""
    return next((each for each in found if each.start <= char < each.end), None)
