"""Statements of a summary: each part of a document becomes one cited sentence."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nsa_cli.documents.location import Location
from nsa_cli.documents.outline import Section, sections
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import drain
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.citations import cite
from nsa_cli.retrieval.passages import best_runs, passages_of

LENGTHS = {"short": 3, "medium": 6, "long": 12}
"""Statements of a summary, by its length."""

STATEMENT_TOKENS = 80
_LEAST_TOKENS = 150
"""Minimum tokens per statement; a short document gets fewer statements."""

_BLOCKS = 4
_MARGIN = 1
_SENTENCE_END = re.compile(r"[.!?。！？][\"”’)\]]*(?=\s|$)")
_SAYS = re.compile(
    r"(?:This|The) (?:text|document|passage|section) "
    r"(?:says|states|explains|describes|specifies) that "
)
_ABOUT = "What is this document about, and what are its main points?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One sentence of a summary.

    Attributes:
        section: The heading of its section in an outline, or None.
        place: Where that section begins, or None.
        text: The sentence.
        citations: Its source.
    """

    section: str | None
    place: Location | None
    text: str
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    section: Section | None
    first: int
    stop: int


def request(focus: str | None) -> str:
    """Return the request that the model gets for each part."""
    about = f" about {focus.strip()}" if focus else ""
    return f"What does this text say{about}? Put it into one sentence."


def summarize(
    opened: OpenDocument, *, length: str, focus: str | None, outline: bool
) -> Iterator[Statement]:
    """Summarize a document part by part.

    Args:
        opened: The document.
        length: A key of `LENGTHS`; not used with an outline.
        focus: A topic to summarize, or None.
        outline: Whether the parts are the document's own sections.

    Yields:
        Statements in the order of the document, without those that repeat an earlier one.
    """
    size = opened.block_tokens
    scores = opened.retriever.attention(opened.prompts.question(focus or _ABOUT))
    asked = opened.prompts.question(request(focus))
    options = replace(opened.options, max_tokens=STATEMENT_TOKENS)
    seen: set[str] = set()
    for part in _parts(opened, scores, LENGTHS[length], outline=outline, focused=bool(focus)):
        inside = torch.zeros_like(scores)
        inside[part.first : part.stop] = scores[part.first : part.stop].clamp(min=1e-9)
        head = [part.first] if part.section is not None and part.first < part.stop else []
        runs = [run for run in best_runs(inside, _BLOCKS, _MARGIN, head) if run[1] > part.first]
        runs = [(max(a, part.first), min(b, part.stop), score) for a, b, score in runs]
        passages = passages_of(runs, opened.text, opened.document, size)
        passages = _inside(passages, part.section)
        if not passages:
            continue
        context = opened.excerpts(passages)
        steps = opened.generate(context, asked, options, time.monotonic())
        generated = drain(steps, opened.emit)
        sentence = first_sentence(generated.text)
        if not sentence or sentence.casefold() in seen:
            continue
        seen.add(sentence.casefold())
        cited = cite(
            opened.document,
            passages,
            sentence,
            focus or "",
            attention=generated.attention,
            at_most=1,
        )
        section = part.section
        yield Statement(
            section=section.title if section else None,
            place=opened.document.locate(section.start, section.start) if section else None,
            text=sentence,
            citations=cited.citations,
        )


def _inside(passages: list[Passage], section: Section | None) -> list[Passage]:
    """Cut passages to a section."""
    if section is None:
        return passages
    cut = [
        replace(each, start=max(each.start, section.start), end=min(each.end, section.end))
        for each in passages
    ]
    return [each for each in cut if each.start < each.end]


def first_sentence(text: str) -> str:
    """Return the first sentence of an answer, on one line, without `This text says that`."""
    flat = " ".join(text.split())
    if found := _SAYS.match(flat):
        flat = flat[found.end() :]
        flat = flat[:1].upper() + flat[1:]
    for end in _SENTENCE_END.finditer(flat):
        if end.end() > 20:
            return flat[: end.end()]
    return flat


def _parts(
    opened: OpenDocument, scores: Tensor, count: int, *, outline: bool, focused: bool
) -> list[_Part]:
    """Return the ranges of blocks that each become a sentence."""
    size, text = opened.block_tokens, opened.text
    found = sections(opened.document) if outline else []
    if found:
        return [_part_of(opened, section, size) for section in found]
    own = [
        block
        for block in range(len(scores))
        if text.span(block * size, min((block + 1) * size, len(text.ids))) is not None
    ]
    count = min(count, len(own), max(1, text.document_tokens // _LEAST_TOKENS))
    if focused:
        runs = best_runs(scores, count, _MARGIN)
        return [_Part(section=None, first=first, stop=stop) for first, stop, _ in runs]
    edges = [own[0] + (own[-1] + 1 - own[0]) * number // count for number in range(count + 1)]
    return [
        _Part(section=None, first=first, stop=stop)
        for first, stop in itertools.pairwise(edges)
        if first < stop
    ]


def _part_of(opened: OpenDocument, section: Section, size: int) -> _Part:
    characters = opened.text.characters
    inside = ((characters >= section.start) & (characters < section.end)).nonzero()[0]
    if not len(inside):
        return _Part(section=section, first=0, stop=0)
    first = int(inside[0]) // size
    return _Part(section=section, first=first, stop=int(inside[-1]) // size + 1)
