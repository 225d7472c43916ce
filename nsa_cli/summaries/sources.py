"""The sentences of a document that support a written sentence as a whole."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from nsa_cli.documents import Document
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.sentences import (
    LONGEST_QUOTE,
    content_words,
    is_figure,
    word_weight,
)
from nsa_cli.summaries.candidates import LONGEST
from nsa_cli.summaries.checks import covers, has_facts
from nsa_cli.summaries.spans import SentenceSpans
from nsa_cli.summaries.speakers import Speakers

_MOST = 3
"""Maximum quotes that one sentence may need."""

_LEAST_NEW = 2
"""Minimum words of a sentence that a further quote adds, once the others support it."""

_LONG = 8
"""Letters from which on one word is enough."""

_LEAST_WORDS = 2
"""Minimum content words of a quote: `Yes, it is.` supports nothing."""

_BY_NAMED = 1.5
"""Factor for what is said by a speaker whom the sentence names."""

_HEADING = 0.5
"""Factor for the worth of a heading as a quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A sentence of a document that may support another.

    Attributes:
        start: First character.
        end: One past the last.
        text: The sentence, after its speaker's label if it has one.
        words: Its content words, without those of the label.
        speaker: Who says it, or an empty text.
        score: Score of its passage.
        worth: Factor of its worth as a quote.
    """

    start: int
    end: int
    text: str
    words: frozenset[str]
    speaker: str
    score: float
    worth: float


class Supported(NamedTuple):
    """What supports a sentence.

    Attributes:
        start: First character of the quote that it shares most with.
        citations: One to three; empty if nothing supports it.
    """

    start: int
    citations: tuple[Citation, ...]


class Sources:
    """Finds the quotes that support a sentence.

    Args:
        document: The document.
        spans: Its sentences.
        speakers: Its speakers.
        headings: Where its headings begin.
        names: Words that are names at the beginning of a sentence, too.
    """

    def __init__(
        self,
        document: Document,
        spans: SentenceSpans,
        speakers: Speakers,
        headings: Collection[int],
        names: Collection[str],
    ) -> None:
        self._document = document
        self._spans = spans
        self._speakers = speakers
        self._headings = headings
        self._names = names

    def of(self, sentence: str, passages: Sequence[Passage]) -> Supported:
        """Return citations whose quotes together support a whole sentence.

        The first quote is the one that the sentence shares most with. The sentence has every
        figure, date and obligation of that quote; a speaker whom it names says it or is in it.

        Args:
            sentence: The sentence.
            passages: The passages that it was written from.
        """
        named = self._named(sentence)
        left = content_words(sentence) - content_words(" ".join(named))
        open_ = [quoted for passage in passages for quoted in self._quotes(passage)]
        chosen: list[Quoted] = []
        while open_ and len(chosen) < _MOST:
            best = max(open_, key=lambda each: _worth(each, left, named))
            new = best.words & left
            adds = len(new) >= _LEAST_NEW or any(len(word) >= _LONG for word in new)
            if not new or (not adds and self._holds(sentence, chosen)):
                break
            open_.remove(best)
            left -= best.words
            chosen.append(best)
        if not (
            chosen
            and self._holds(sentence, chosen)
            and has_facts(sentence, chosen[0].text)
            and _is_told_by(chosen[0], named)
        ):
            return Supported(-1, ())
        cited = [self._cited(each) for each in chosen if not _is_within(each, chosen)]
        return Supported(chosen[0].start, tuple(cited))

    def _named(self, sentence: str) -> list[str]:
        """The speakers of a transcript whom a sentence names."""
        if not self._speakers.is_transcript:
            return []
        words = content_words(sentence)
        return [name for name in self._speakers.names() if content_words(name) <= words]

    def _holds(self, sentence: str, chosen: Sequence[Quoted]) -> bool:
        return covers(sentence, "\n".join(each.text for each in chosen), self._names)

    def _quotes(self, passage: Passage) -> list[Quoted]:
        """The whole sentences of a passage, those at its ends included."""
        document = self._document
        first, last = document.piece_at(passage.start), document.piece_at(max(0, passage.end - 1))
        start = max(first.start, passage.start - LONGEST)
        end = min(last.end, passage.end + LONGEST)
        found = []
        for a, b in self._spans.of(start, end):
            is_cut = (a == start > first.start) or (b == end < last.end)
            is_inside = a < passage.end and b > passage.start and b <= document.piece_at(a).end
            if is_inside and not is_cut and b - a <= LONGEST:
                found.append(self._quoted(a, b, passage.score))
        return [each for each in found if len(each.words) >= _LEAST_WORDS]

    def _quoted(self, start: int, end: int, score: float) -> Quoted:
        text = self._document.text
        begins, own = start, " ".join(text[start:end].split())
        stop, label = self._speakers.label(start, end)
        if not self._speakers.is_transcript or not label:
            stop, label = -1, ""
        if label and stop <= start:
            own = f"{label}: {own}"
            turn = max(text.rfind("\n", 0, stop) + 1, self._document.piece_at(start).start)
            begins = turn if end - turn <= LONGEST_QUOTE else start
        return Quoted(
            start=begins,
            end=end,
            text=own,
            words=frozenset(content_words(own) - content_words(label)),
            speaker=label,
            score=score,
            worth=_HEADING if start in self._headings else 1.0,
        )

    def _cited(self, quoted: Quoted) -> Citation:
        return Citation(
            **asdict(self._document.locate(quoted.start, quoted.end)),
            quote=self._document.text[quoted.start : quoted.end],
            score=round(quoted.score, 4),
            verified=True,
        )


def _is_within(quoted: Quoted, others: Sequence[Quoted]) -> bool:
    """Whether a longer quote begins at the same turn and has all of a quote."""
    return any(each.start <= quoted.start and quoted.end < each.end for each in others)


def _is_told_by(quoted: Quoted, named: Sequence[str]) -> bool:
    """Whether one of some speakers says a quote, or is named in it; True without speakers."""
    return not named or any(
        quoted.speaker == name or content_words(name) <= quoted.words for name in named
    )


def _worth(quoted: Quoted, left: set[str], named: Sequence[str]) -> float:
    """The share of a sentence's remaining words that a quote has, for its length."""
    here = quoted.words & left
    figures = sum(map(is_figure, here))
    factor = quoted.worth * (_BY_NAMED if quoted.speaker in named else 1.0)
    return factor * (word_weight(set(here)) + figures) / math.sqrt(8 + len(quoted.words))
