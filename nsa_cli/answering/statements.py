"""A summary in one reading.

The look picks what matters in each part, and each part is put into a sentence that is cited.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nsa_cli.documents.outline import Section, sections
from nsa_cli.engine.open_document import OpenText
from nsa_cli.events import Place
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.citations import cite
from nsa_cli.retrieval.passages import best_runs, passages_of, weigh

LENGTHS = {"short": 3, "medium": 6, "long": 12}
"""Statements of a summary, by what `--length` says."""

STATEMENT_TOKENS = 80
_LEAST_TOKENS = 150
"""Tokens that a statement stands for at least; a short text has fewer statements."""

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
        section: The heading that it stands under in an outline, or None.
        place: Where that section begins, or None.
        text: The sentence.
        citations: Where it stands.
    """

    section: str | None
    place: Place | None
    text: str
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    section: Section | None
    first: int
    stop: int


def room(question_tokens: int) -> int:
    """Tokens that a statement needs behind the text."""
    return question_tokens + STATEMENT_TOKENS


def request(focus: str | None) -> str:
    """What the model is asked about each part."""
    about = f" about {focus.strip()}" if focus else ""
    return f"What does this text say{about}? Put it into one sentence."


def summarize(
    text: OpenText, *, length: str, focus: str | None, outline: bool
) -> Iterator[Statement]:
    """Sum up a text that was read.

    Args:
        text: The text.
        length: A key of `LENGTHS`; not used for an outline.
        focus: What to look at in particular.
        outline: Whether to go by the document's own sections.

    Yields:
        Statements, in the order of the text. One that says nothing new is left out.
    """
    prompter = text.session.prompter
    size = text.loaded.model.config.select_block
    look = prompter.question(focus or _ABOUT)
    scores = text.attention(look)
    asked = prompter.question(request(focus))
    said: set[str] = set()
    for part in _parts(text, scores, LENGTHS[length], outline=outline, focused=bool(focus)):
        inside = torch.zeros_like(scores)
        inside[part.first : part.stop] = scores[part.first : part.stop].clamp(min=1e-9)
        head = [part.first] if part.section is not None and part.first < part.stop else []
        runs = [run for run in best_runs(inside, _BLOCKS, _MARGIN, head) if run[1] > part.first]
        runs = [(max(a, part.first), min(b, part.stop), score) for a, b, score in runs]
        passages = _inside(passages_of(runs, text.text, text.document, size), part.section)
        if not passages:
            continue
        source, answer = text.decode(
            passages, asked, time.monotonic(), whole=False, max_tokens=STATEMENT_TOKENS
        )
        sentence = first_sentence(answer.text)
        if not sentence or sentence.casefold() in said:
            continue
        said.add(sentence.casefold())
        weighed = weigh(passages, answer.mass, source, size)
        section = part.section
        yield Statement(
            section=section.title if section else None,
            place=Place.of(text.document.locate(section.start, section.start)) if section else None,
            text=sentence,
            citations=cite(text.document, weighed, sentence, focus or "", at_most=1),
        )


def _inside(passages: list[Passage], section: Section | None) -> list[Passage]:
    """Passages without what they have of other sections."""
    if section is None:
        return passages
    cut = [
        replace(each, start=max(each.start, section.start), end=min(each.end, section.end))
        for each in passages
    ]
    return [each for each in cut if each.start < each.end]


def first_sentence(text: str) -> str:
    """The first sentence of an answer, on one line, without `This text says that`."""
    flat = " ".join(text.split())
    if found := _SAYS.match(flat):
        flat = flat[found.end() :]
        flat = flat[:1].upper() + flat[1:]
    for end in _SENTENCE_END.finditer(flat):
        if end.end() > 20:
            return flat[: end.end()]
    return flat


def _parts(
    text: OpenText, scores: Tensor, count: int, *, outline: bool, focused: bool
) -> list[_Part]:
    """Ranges of blocks that are each put into a sentence."""
    size = text.loaded.model.config.select_block
    found = sections(text.document) if outline else []
    if found:
        return [_part_of(text, section, size) for section in found]
    own = [
        block
        for block in range(len(scores))
        if text.text.span(block * size, min((block + 1) * size, len(text.text.ids))) is not None
    ]
    count = min(count, len(own), max(1, text.text.document_tokens // _LEAST_TOKENS))
    if focused:
        runs = best_runs(scores, count, _MARGIN)
        return [_Part(section=None, first=first, stop=stop) for first, stop, _ in runs]
    edges = [own[0] + (own[-1] + 1 - own[0]) * number // count for number in range(count + 1)]
    return [
        _Part(section=None, first=first, stop=stop)
        for first, stop in itertools.pairwise(edges)
        if first < stop
    ]


def _part_of(text: OpenText, section: Section, size: int) -> _Part:
    characters = text.text.characters
    inside = ((characters >= section.start) & (characters < section.end)).nonzero()[0]
    if not len(inside):
        return _Part(section=section, first=0, stop=0)
    first = int(inside[0]) // size
    return _Part(section=section, first=first, stop=int(inside[-1]) // size + 1)
