"""The sentences of a document that support a written sentence as a whole."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

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

_HEADING = 0.5
"""Factor for the worth of a heading as a quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A sentence of a document that may support another.

    Attributes:
        start: First character.
        end: One past the last.
        text: The sentence, after its speaker's label if it has one.
        words: Its content words.
        score: Score of its passage.
        worth: Factor of its worth as a quote.
    """

    start: int
    end: int
    text: str
    words: frozenset[str]
    score: float
    worth: float


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

    def of(self, sentence: str, passages: Sequence[Passage]) -> list[Citation]:
        """Return citations whose quotes together support a whole sentence.

        The first quote is the one that the sentence shares most with. The sentence has every
        figure, date and obligation of that quote.

        Args:
            sentence: The sentence.
            passages: The passages that it was written from.

        Returns:
            One to three citations; empty if they do not support the sentence.
        """
        left = content_words(sentence)
        open_ = [quoted for passage in passages for quoted in self._quotes(passage)]
        chosen: list[Quoted] = []
        while open_ and len(chosen) < _MOST:
            best = max(open_, key=lambda each: _worth(each, left))
            new = best.words & left
            adds = len(new) >= _LEAST_NEW or any(len(word) >= _LONG for word in new)
            if not new or (not adds and self._holds(sentence, chosen)):
                break
            open_.remove(best)
            left -= best.words
            chosen.append(best)
        if not chosen or not self._holds(sentence, chosen):
            return []
        if not has_facts(sentence, chosen[0].text):
            return []
        return [self._cited(each) for each in chosen if not _is_within(each, chosen)]

    def _holds(self, sentence: str, chosen: Sequence[Quoted]) -> bool:
        return covers(sentence, "\n".join(each.text for each in chosen), self._names)

    def _quotes(self, passage: Passage) -> list[Quoted]:
        text, found = self._document.text, []
        for start, end in self._spans.of(passage.start, passage.end):
            piece = self._document.piece_at(start)
            if end > piece.end or end - start > LONGEST:
                continue
            begins, own = start, " ".join(text[start:end].split())
            stop, label = self._speakers.label(start, end) if self._is_spoken() else (-1, "")
            if label and stop <= start:
                own = f"{label}: {own}"
                turn = text.rfind("\n", 0, stop) + 1
                begins = turn if turn >= piece.start and end - turn <= LONGEST_QUOTE else start
            found.append(
                Quoted(
                    start=begins,
                    end=end,
                    text=own,
                    words=frozenset(content_words(own)),
                    score=passage.score,
                    worth=_HEADING if start in self._headings else 1.0,
                )
            )
        return found

    def _is_spoken(self) -> bool:
        return self._speakers.is_transcript

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


def _worth(quoted: Quoted, left: set[str]) -> float:
    """How much of what is left of a sentence a quote has, for its length."""
    here = quoted.words & left
    figures = sum(map(is_figure, here))
    return quoted.worth * (word_weight(set(here)) + figures) / math.sqrt(8 + len(quoted.words))
