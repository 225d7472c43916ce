"""Statements of a summary: cited sentences for each part of a document.

The model writes the first sentence of a part from the passages that it attends to. A sentence that
its citation does not support, or that drops or changes a figure, a date or an obligation of the
sentence it cites, is replaced by the document's own. Further sentences of the document follow as
long as they hold facts that the summary lacks and its length allows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from nsa_cli.config.summary_length import SummaryLength
from nsa_cli.documents.outline import Section, sections
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import Progress, drain
from nsa_cli.results import Citation, Passage, Statement
from nsa_cli.retrieval.citations import cite
from nsa_cli.retrieval.facts import facts_of, name_words
from nsa_cli.retrieval.passages import best_runs, passages_of
from nsa_cli.retrieval.ranking import block_spans
from nsa_cli.retrieval.sentences import content_words
from nsa_cli.summaries.candidates import (
    LONGEST,
    Attended,
    Candidate,
    Candidates,
    Said,
    says_enough,
    word_count,
)
from nsa_cli.summaries.checks import first_sentence, is_whole, keeps_facts
from nsa_cli.summaries.parts import Part, parts_of, section_at
from nsa_cli.summaries.prompts import ABOUT, statement_request

STATEMENT_TOKENS = 80
_LEAST_TOKENS = 150
"""Minimum tokens per part; a short document gets fewer parts."""

_BLOCKS = 4
_MARGIN = 1
_SLACK = 1.2
"""Factor by which the statements of a part may exceed its words."""

_KNOWN = 0.8
"""Share of the content words of a generated sentence that an earlier statement may not have."""


def statements(
    opened: OpenDocument, length: SummaryLength, *, focus: str | None, outline: bool
) -> Iterator[Statement]:
    """Summarize a document part by part.

    Args:
        opened: The document.
        length: How long the summary is.
        focus: A topic to summarize, or None.
        outline: Whether the parts are the document's own sections, as many as they are.

    Yields:
        Statements in the order of the document.
    """
    writer = _Writer(opened, focus)
    most = min(length.parts, max(1, opened.text.document_tokens // _LEAST_TOKENS))
    parts = parts_of(opened.document, most, outline=outline)
    if focus and not outline:
        parts = writer.focused(parts_of(opened.document, 3 * most, outline=False), most)
    words = length.statement_words / max(1, min(len(parts), length.parts))
    task = f"Summarizing {opened.document.name}"
    for number, part in enumerate(parts):
        opened.emit(Progress(task=task, done=number, total=len(parts), unit="parts"))
        yield from writer.write(part, words)
    opened.emit(Progress(task=task, done=len(parts), total=len(parts), unit="parts"))


class _Writer:
    """Writes the statements of one document.

    Args:
        opened: The document.
        focus: A topic, or None.
    """

    def __init__(self, opened: OpenDocument, focus: str | None) -> None:
        self._opened = opened
        self._focus = focus
        self._said = Said()
        self._sections = sections(opened.document)
        self._scores = self._score(focus)
        spans = block_spans(opened.text, opened.block_tokens)
        self._attended = Attended(spans, self._scores.tolist())
        self._names = name_words(opened.document.text)
        self._candidates = Candidates(opened.document, self._attended, self._names)
        self._asked = opened.prompts.question(statement_request(focus))

    def _score(self, focus: str | None) -> Tensor:
        """Score the blocks: by attention alone, or for a topic by attention and BM25."""
        opened = self._opened
        if focus:
            return opened.scores(opened.prompts.question(focus)).hybrid
        return opened.retriever.attention(opened.prompts.question(ABOUT))

    def focused(self, parts: Sequence[Part], most: int) -> list[Part]:
        """Return the parts that a topic attends to most, in the order of the document."""
        scored = [self._attended.of(part.start, part.end) for part in parts]
        best = sorted(range(len(parts)), key=lambda at: -scored[at])[:most]
        return [parts[at] for at in sorted(best) if scored[at] > 0]

    def write(self, part: Part, words: float) -> list[Statement]:
        """Write the statements of a part, in the order of the document.

        Args:
            part: The part.
            words: How many words they have in all, about.
        """
        candidates = self._relevant(self._candidates.of(part))
        first = self._generated(part)
        made = [] if first is None else [first]
        used = 0.0 if first is None else float(word_count(first[1].text))
        left = list(candidates)
        while left:
            best = max(left, key=lambda each: each.gain(self._said))
            left.remove(best)
            size = word_count(best.text)
            is_long = used + size > _SLACK * words
            if best.repeats(self._said) or (made and (is_long or not best.is_new(self._said))):
                continue
            made.append((best.start, self._verbatim(best)))
            self._said.add(best.text, best.facts)
            used += size
        return [statement for _, statement in sorted(made, key=lambda each: each[0])]

    def _relevant(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates about the topic; all without a topic."""
        if not self._focus:
            return candidates
        asked = content_words(self._focus)
        return [each for each in candidates if each.words & asked]

    def _generated(self, part: Part) -> tuple[int, Statement] | None:
        """Let the model write a sentence; None if it does not keep what its source says."""
        opened = self._opened
        passages = self._passages(part)
        if not passages:
            return None
        options = replace(opened.options, max_tokens=STATEMENT_TOKENS)
        steps = opened.generate(opened.excerpts(passages), self._asked, options, time.monotonic())
        generated = drain(steps, opened.emit)
        sentence = first_sentence(generated.text)
        if len(sentence) > LONGEST or not is_whole(sentence):
            return None
        if not says_enough(sentence, content_words(sentence)):
            return None
        cited = cite(
            opened.document,
            passages,
            sentence,
            self._focus or "",
            attention=generated.attention,
            at_most=1,
        ).citations
        if not cited or not cited[0].verified:
            return None
        if not keeps_facts(sentence, cited[0].quote) or self._said.has(
            content_words(sentence), _KNOWN
        ):
            return None
        self._said.add(sentence, facts_of(sentence, self._names))
        start = _start_of(opened, passages, cited[0])
        return start, self._statement(start, sentence, cited, verbatim=False)

    def _verbatim(self, chosen: Candidate) -> Statement:
        document = self._opened.document
        citation = Citation(
            **asdict(document.locate(chosen.start, chosen.end)),
            quote=document.text[chosen.start : chosen.end],
            score=round(min(1.0, chosen.worth), 4),
            verified=True,
        )
        return self._statement(chosen.start, chosen.text, (citation,), verbatim=True)

    def _statement(
        self, start: int, text: str, citations: tuple[Citation, ...], *, verbatim: bool
    ) -> Statement:
        section: Section | None = section_at(self._sections, start)
        document = self._opened.document
        return Statement(
            section=section.title if section else None,
            place=document.locate(section.start, section.start) if section else None,
            text=text,
            citations=citations,
            verbatim=verbatim,
        )

    def _passages(self, part: Part) -> list[Passage]:
        """Return the passages of a part that the model attends to most."""
        opened, size = self._opened, self._opened.block_tokens
        characters = opened.text.characters
        own = ((characters >= part.start) & (characters < part.end)).nonzero()[0]
        if not len(own):
            return []
        first, stop = int(own[0]) // size, int(own[-1]) // size + 1
        inside = torch.zeros_like(self._scores)
        inside[first:stop] = self._scores[first:stop].clamp(min=1e-9)
        head = [first] if part.section is not None else []
        runs = [
            (max(a, first), min(b, stop), score)
            for a, b, score in best_runs(inside, _BLOCKS, _MARGIN, head)
            if b > first and a < stop
        ]
        passages = passages_of(runs, opened.text, opened.document, size)
        cut = [
            replace(each, start=max(each.start, part.start), end=min(each.end, part.end))
            for each in passages
        ]
        return [each for each in cut if opened.document.text[each.start : each.end].strip()]


def _start_of(opened: OpenDocument, passages: Sequence[Passage], citation: Citation) -> int:
    """Where the quote of a citation begins in the document."""
    for passage in passages:
        at = opened.document.text.find(citation.quote, passage.start, passage.end)
        if at >= 0:
            return at
    return passages[0].start
