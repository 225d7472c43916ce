"""Passages become citations: a verbatim quote, its location, and whether it supports the answer."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from nsa_cli.documents import Document
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.claims import is_of_another_year, is_supported
from nsa_cli.retrieval.passages import AnswerAttention, add_answer_attention
from nsa_cli.retrieval.sentences import (
    LONGEST_QUOTE,
    UNSPACED,
    is_contents_entry,
    is_figure,
    sentences,
    word_weight,
)
from nsa_cli.retrieval.stems import stems

_CONTENTS_WORTH = 0.25
"""Share of its worth that an entry of a table of contents has as a quote."""

_TITLE_WORDS = 3
_UNSPACED = re.compile(f"[{UNSPACED}]")
_LONG_ENOUGH = 8
"""Content words of a sentence that is no heading: where no sentence shares a word, it is quoted."""


class Cited(NamedTuple):
    """Citations of an answer.

    Attributes:
        citations: Those that support the answer first, then by score.
        passages: The passages with the answer's attention added to their scores.
    """

    citations: tuple[Citation, ...]
    passages: Sequence[Passage]

    def unverified(self) -> Cited:
        """The same, with no citation verified."""
        return self._replace(
            citations=tuple(replace(each, verified=False) for each in self.citations)
        )


def cite(
    document: Document,
    passages: Sequence[Passage],
    answer: str,
    question: str,
    *,
    attention: AnswerAttention | None = None,
    at_most: int = 3,
) -> Cited:
    """Turn passages into citations.

    Args:
        document: The document.
        passages: The passages that the answer was decoded from.
        answer: The answer.
        question: The question.
        attention: The answer's attention, which counts for half of each score; None to leave the
            scores as they are.
        at_most: Maximum citations.
    """
    if attention is not None:
        passages = add_answer_attention(passages, attention)
    citations = []
    for passage in passages:
        start, end = best_quote(document, passage, answer, question)
        if start == end:
            continue
        citations.append(
            Citation(
                **asdict(document.locate(start, end)),
                quote=(quote := document.text[start:end]),
                score=round(passage.score, 4),
                verified=not is_of_another_year(question, quote)
                and is_supported(answer, question, document.text[passage.start : passage.end]),
            )
        )
    citations = _about_the_question(citations, question)
    citations.sort(key=lambda citation: (not citation.verified, -citation.score))
    return Cited(tuple(citations[:at_most]), passages)


def _about_the_question(citations: Sequence[Citation], question: str) -> list[Citation]:
    """Take the mark from quotes without a word of the question, if another one has both."""
    asked = stems(question)
    shares = [bool(asked & stems(each.quote)) for each in citations]
    if not any(each.verified and here for each, here in zip(citations, shares, strict=True)):
        return list(citations)
    return [
        replace(each, verified=each.verified and here)
        for each, here in zip(citations, shares, strict=True)
    ]


def best_quote(document: Document, passage: Passage, answer: str, question: str) -> tuple[int, int]:
    """Return the sentence of a passage that shares most with answer and question, as characters.

    It is inside one piece of the document; the range is empty if the passage has no sentence.
    """
    spans = whole_sentences(document, passage)
    if not spans:
        return passage.start, passage.start
    said, asked = stems(answer), stems(question)
    words = {span: stems(document.text[span[0] : span[1]]) for span in spans}
    rarity = _rarity(words.values())

    def worth(span: tuple[int, int]) -> tuple[float, int]:
        here = words[span]
        new = (here & said) - asked
        figures = sum(is_figure(word) for word in new)
        added = sum(rarity[word] * word_weight({word}) for word in new)
        total = 2.0 * added + 2.0 * figures + sum(rarity[word] for word in here & asked)
        total *= _CONTENTS_WORTH if is_contents_entry(document.text[span[0] : span[1]]) else 1.0
        return total / math.sqrt(8 + len(here)), min(len(here), _LONG_ENOUGH)

    best = max(spans, key=worth)
    return _with_line(document, best, spans)


def whole_sentences(document: Document, passage: Passage) -> list[tuple[int, int]]:
    """Return the characters of the sentences of a passage that are inside one piece of the text."""
    edges = document.edges(passage.start, passage.end)
    return [
        (start, end)
        for start, end in sentences(document.text, passage.start, passage.end, edges)
        if (piece := document.piece_at(start)).start <= start and end <= piece.end
    ]


def _rarity(sentences_words: Collection[set[str]]) -> dict[str, float]:
    """How much each word tells sentences apart: 1 for a word of one sentence, less for others."""
    count = len(sentences_words)
    found = Counter(word for words in sentences_words for word in words)
    return {
        word: math.log(1 + count / times) / math.log(1 + count) for word, times in found.items()
    }


def _with_line(
    document: Document, quote: tuple[int, int], spans: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Extend a title that begins a line, of a word or two, by the rest of the line."""
    start, end = quote
    text = document.text[start:end]
    begins = start == 0 or document.text[start - 1] == "\n"
    if not begins or len(text.split()) > _TITLE_WORDS or _UNSPACED.search(text):
        return quote
    newline = document.text.find("\n", end)
    last = min(document.piece_at(start).end, start + LONGEST_QUOTE)
    last = min(last, newline) if newline >= 0 else last
    return start, max((b for a, b in spans if a >= end and b <= last), default=end)
