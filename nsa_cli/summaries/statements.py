"""Statements of a summary: cited sentences for each part of a document.

The model writes sentences about a part from the passages that it attends to. A sentence that its
citations do not support as a whole, or that drops or changes a figure, a date or an obligation of
the sentence it cites, is left out, and sentences of the document take its place. Further sentences
follow as long as they have facts that the summary lacks and its length allows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from nsa_cli.config.summary_length import SummaryLength
from nsa_cli.context.prompt import GAP
from nsa_cli.documents.outline import Section, sections
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import Progress, drain
from nsa_cli.results import Citation, Passage, Statement
from nsa_cli.retrieval.facts import facts_of, name_words
from nsa_cli.retrieval.passages import best_runs, passages_of
from nsa_cli.retrieval.polarity import akin
from nsa_cli.retrieval.ranking import block_spans
from nsa_cli.retrieval.sentences import LONGEST_QUOTE, content_words, sentences
from nsa_cli.summaries.candidates import (
    LONGEST,
    Attended,
    Candidate,
    Candidates,
    Said,
    facts_told,
    says_enough,
)
from nsa_cli.summaries.checks import is_list, is_meta, is_vague, is_whole, sentences_of
from nsa_cli.summaries.choose import choose
from nsa_cli.summaries.parts import Part, parts_of, section_at
from nsa_cli.summaries.prompts import ABOUT, statement_request
from nsa_cli.summaries.sources import Sources
from nsa_cli.summaries.spans import SentenceSpans
from nsa_cli.summaries.speakers import Speakers, list_of_speakers, without_fillers

_STATEMENT_TOKENS = 128
_LEAST_TOKENS = 150
"""Minimum tokens per part; a short document gets fewer parts."""

_LEAST_FOCUSED = 64
"""The same where a topic selects parts, which are small."""

_BLOCKS = 4
_MARGIN = 1
_MOST_GENERATED = 3
"""Sentences that the model may write about a part."""

_VAGUE = 0.5
"""Worth of a written sentence that only names the subject of a conversation; 1 for others."""

_MOST_SPEAKERS = 12
"""Speakers up to which a summary names them."""


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
        most = min(length.parts, max(1, opened.text.document_tokens // _LEAST_FOCUSED))
        parts = writer.focused(parts_of(opened.document, 3 * most, outline=False), most)
    words = length.statement_words * max(1.0, len(parts) / length.parts)
    task = f"Summarizing {opened.document.name}"
    offered = []
    for number, part in enumerate(parts):
        opened.emit(Progress(task=task, done=number, total=len(parts), unit="parts"))
        offered.append(writer.offered(part))
    opened.emit(Progress(task=task, done=len(parts), total=len(parts), unit="parts"))
    yield from writer.speakers()
    for own in choose(offered, words, writer.said):
        yield from map(writer.statement, own)


class _Writer:
    """Writes the statements of one document.

    Args:
        opened: The document.
        focus: A topic, or None.
    """

    def __init__(self, opened: OpenDocument, focus: str | None) -> None:
        self._opened = opened
        self._focus = focus
        self.said = Said()
        self._sections = sections(opened.document)
        self._scores = self._score(focus)
        spans = block_spans(opened.text, opened.block_tokens)
        self._attended = Attended(spans, self._scores.tolist())
        self._names = name_words(opened.document.text)
        self._speakers = Speakers(opened.document.text)
        headings = {each.start for each in self._sections if _begins_with_title(opened, each)}
        common = (
            opened.document,
            SentenceSpans(opened.document),
            self._speakers,
            headings,
            self._names,
        )
        self._sources = Sources(*common)
        self._candidates = Candidates(*common, self._attended)
        self._asked = opened.prompts.request(statement_request(focus))

    def _score(self, focus: str | None) -> Tensor:
        """Score the blocks: by attention alone, or for a topic by attention and BM25."""
        opened = self._opened
        if focus:
            return opened.scores(opened.prompts.question(focus)).hybrid
        return opened.retriever.attention(opened.prompts.question(ABOUT))

    def focused(self, parts: Sequence[Part], most: int) -> list[Part]:
        """Return the parts that a topic attends to most, or names, in the order of the document."""
        scored = [self._attended.of(part.start, part.end) for part in parts]
        best = sorted(range(len(parts)), key=lambda at: -scored[at])[:most]
        asked, text = content_words(self._focus or ""), self._opened.document.text
        return [
            part
            for at, part in enumerate(parts)
            if at in best
            and (scored[at] > 0 or _shares(content_words(text[part.start : part.end]), asked))
        ]

    def offered(self, part: Part) -> list[Candidate]:
        """Return the candidates of a part: sentences of the model, and of the part itself."""
        found = self._candidates.of(part)
        if self._focus:
            asked = content_words(self._focus)
            found = [each for each in found if _shares(each.words, asked)]
        return [*self._generated(part), *found]

    def statement(self, chosen: Candidate) -> Statement:
        """Return a chosen sentence with its citations."""
        if chosen.citations:
            return self._statement(chosen.start, chosen.text, chosen.citations, verbatim=False)
        document = self._opened.document
        start = self._quoted_from(chosen)
        citation = Citation(
            **asdict(document.locate(start, chosen.end)),
            quote=document.text[start : chosen.end],
            score=round(min(1.0, chosen.worth), 4),
            verified=True,
        )
        return self._statement(chosen.start, chosen.text, (citation,), verbatim=True)

    def _quoted_from(self, chosen: Candidate) -> int:
        """Where the quote of a sentence begins: at the label of its speaker, unless that is far."""
        document = self._opened.document
        stop, label = self._speakers.label(chosen.start, chosen.end)
        if not label or not self._speakers.is_transcript or stop > chosen.start:
            return chosen.start
        turn = max(document.text.rfind("\n", 0, stop) + 1, document.piece_at(stop).start)
        return turn if chosen.end - turn <= LONGEST_QUOTE else chosen.start

    def speakers(self) -> list[Statement]:
        """Return a statement that names the speakers of a transcript, or nothing."""
        names = self._speakers.names() if self._speakers.is_transcript else []
        if not names or len(names) > _MOST_SPEAKERS or self._focus:
            return []
        text = list_of_speakers(names)
        self.said.add(text, facts_of(text, self._names))
        document = self._opened.document
        citations = []
        for name in names:
            stop = self._speakers.first_turn(name)
            start = document.text.rfind("\n", 0, stop) + 1
            first = next(sentences(document.text, start, document.piece_at(stop).end))
            citations.append(
                Citation(
                    **asdict(document.locate(*first)),
                    quote=document.text[slice(*first)],
                    score=1.0,
                    verified=True,
                )
            )
        return [self._statement(0, text, tuple(citations), verbatim=False)]

    def _generated(self, part: Part) -> list[Candidate]:
        """Let the model write sentences; those remain that their quotes support as a whole."""
        opened = self._opened
        passages = self._passages(part)
        if not passages:
            return []
        options = replace(opened.options, max_tokens=_STATEMENT_TOKENS)
        context = opened.notes(self._plain(passages), len(self._asked) + options.max_tokens)
        generated = drain(
            opened.generate(context, self._asked, options, time.monotonic()), opened.emit
        )
        found = []
        for written in sentences_of(generated.text)[:_MOST_GENERATED]:
            sentence = without_fillers(written) if self._speakers.is_transcript else written
            words = content_words(sentence)
            if len(sentence) > LONGEST or not is_whole(sentence) or is_meta(sentence):
                continue
            if is_list(sentence):
                continue
            support = self._sources.of(sentence, passages)
            if not support.citations or not says_enough(sentence, words):
                continue
            found.append(
                Candidate(
                    start=support.start,
                    end=passages[-1].end,
                    text=sentence,
                    words=frozenset(words),
                    facts=tuple(facts_told(sentence, self._names)),
                    worth=_VAGUE if is_vague(sentence) else 1.0,
                    citations=support.citations,
                )
            )
        return found

    def _plain(self, passages: Sequence[Passage]) -> str:
        """The text of passages, spoken text without fillers."""
        told = [self._opened.document.text[each.start : each.end].strip() for each in passages]
        if self._speakers.is_transcript:
            told = ["\n".join(map(without_fillers, each.split("\n"))) for each in told]
        return GAP.join(told)

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


def _shares(words: Collection[str], asked: Collection[str]) -> bool:
    """Whether some words have a form of one that is asked for."""
    return any(akin(word, other) for word in words for other in asked)


def _begins_with_title(opened: OpenDocument, section: Section) -> bool:
    """Whether a section begins with its heading; a file of a folder does not."""
    line = opened.document.text[section.start : section.end].split("\n", 1)[0]
    return bool(line.strip()) and " ".join(line.lstrip("# ").split()) in section.title
