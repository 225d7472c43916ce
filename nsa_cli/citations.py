"""Passages become citations: a verbatim quote, its place, and whether it bears the answer out."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator, Sequence

from nsa_cli.documents import Document
from nsa_cli.events import Citation
from nsa_cli.evidence import Passage

_LONGEST_QUOTE = 240
_WORD = re.compile(r"[/~.]?\w[\w./+@:<>'’-]*", re.UNICODE)
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n\s*\n|\n(?=\s*[•*\-–·]\s)|[。！？]")
_NUMBERING = re.compile(r"\s*(?:[\d.]+|[A-Za-z]\.|[(\[]?\w{1,3}[)\]])")
"""The number of a section or of an item, which belongs to what follows it."""
_SHORT_LINE = re.compile(r"^.{1,48}(?<![,;:-])\n(?=[A-Z0-9/<])", re.MULTILINE)
"""A heading or a cell of a table: it ends before the next line's capital, without a full stop."""
_RECORD = re.compile(
    r"""\n(?=[\[("']?(?:
        \d{4}[-/.]\d\d[-/.]\d\d | \d\d[:/.]\d\d[:/.]\d\d
        | (?:[A-Z][a-z]{2}\s)?[A-Z][a-z]{2}\s+\d{1,2}\s\d\d: | \d{6,10}\s | \{"
    ))""",
    re.VERBOSE,
)
"""A line of a log, which stands for itself: it begins with a time, or is an object of JSON."""
_COMMON = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "all",
        "also",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "cannot",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "during",
        "each",
        "either",
        "few",
        "for",
        "from",
        "further",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "however",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "may",
        "me",
        "might",
        "more",
        "most",
        "must",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "same",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "upon",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "yes",
        "document",
        "text",
        "answer",
        "question",
    ]
)


def words(text: str) -> set[str]:
    """Content words and figures of a text, folded for comparison."""
    found = (match.group().rstrip(".:'’-<>").casefold() for match in _WORD.finditer(text))
    return {word for word in found if word and word not in _COMMON}


def _is_figure(word: str) -> bool:
    return any(character.isdigit() for character in word)


def bears_out(answer: str, question: str, passage: str) -> bool:
    """Whether what an answer adds to its question is found in a passage.

    All figures of the answer must be there, and two thirds of the content words that the
    question did not have; where the answer adds none, two thirds of all it says. A path or an
    identifier says as much as two words.
    """
    said, there = words(answer), words(passage)
    flat = " ".join(passage.casefold().split())
    new = said - words(question) or said
    if not new:
        return False
    figures = {word for word in new if _is_figure(word)}
    present = {
        word
        for word in new
        if word in there or (word not in figures and len(word) > 3 and word in flat)
    }
    return figures <= present and 3 * _weight(present) >= 2 * _weight(new)


def _weight(found: set[str]) -> int:
    """Words of a set, paths and identifiers twice."""
    return sum(2 if "/" in word or "_" in word else 1 for word in found)


def cite(
    document: Document,
    passages: Sequence[Passage],
    answer: str,
    question: str,
    *,
    at_most: int = 3,
) -> tuple[Citation, ...]:
    """Turn passages into citations, those that bear the answer out first.

    Args:
        document: The text.
        passages: What the model looked at.
        answer: What it said.
        question: What was asked.
        at_most: Citations to give.
    """
    cited = []
    for passage in passages:
        start, end = best_sentence(document, passage, answer, question)
        if start == end:
            continue
        place = document.locate(start, end)
        cited.append(
            Citation(
                source=place.source,
                page=place.page,
                page_label=place.page_label,
                line_start=place.line_start,
                line_end=place.line_end,
                quote=document.text[start:end],
                verified=bears_out(answer, question, document.text[passage.start : passage.end]),
                score=round(passage.score, 4),
                unit=place.unit,
            )
        )
    cited.sort(key=lambda citation: (not citation.verified, -citation.score))
    return tuple(cited[:at_most])


def best_sentence(
    document: Document, passage: Passage, answer: str, question: str
) -> tuple[int, int]:
    """The sentence of a passage that shares most with answer and question, as characters.

    It lies in one piece of the document; the range is empty where there is none.
    """
    said, asked = words(answer), words(question)

    def worth(span: tuple[int, int]) -> float:
        here = words(document.text[span[0] : span[1]])
        new = (here & said) - asked
        figures = sum(_is_figure(word) for word in new)
        total = 2.0 * _weight(new) + 2.0 * figures + len(here & asked)
        return total / math.sqrt(8 + len(here))

    edges = document.edges(passage.start, passage.end)
    spans = [
        (start, end)
        for start, end in _sentences(document.text, passage.start, passage.end, edges)
        if (piece := document.piece_at(start)).start <= start and end <= piece.end
    ]
    return max(spans, key=worth, default=(passage.start, passage.start))


def _sentences(
    text: str, start: int, end: int, edges: Collection[int] = ()
) -> Iterator[tuple[int, int]]:
    """Sentences of text[start:end] without the blanks around them, long ones cut at a blank.

    None goes past any of `edges`.
    """
    breaks = {
        m.end()
        for m in _SENTENCE_END.finditer(text, start, end)
        if not _NUMBERING.fullmatch(text, text.rfind("\n", 0, m.start()) + 1, m.start())
    }
    breaks.update(m.end() for m in _SHORT_LINE.finditer(text, start, end))
    breaks.update(m.end() for m in _RECORD.finditer(text, start, end))
    breaks.update(edges)
    cuts = [start, *sorted(breaks - {start, end}), end]
    for first, last in itertools.pairwise(cuts):
        while first < last:
            stop = last
            if last - first > _LONGEST_QUOTE:
                blank = max(
                    text.rfind(" ", first, first + _LONGEST_QUOTE),
                    text.rfind("\n", first, first + _LONGEST_QUOTE),
                )
                stop = blank if blank > first else first + _LONGEST_QUOTE
            piece = text[first:stop]
            left = first + len(piece) - len(piece.lstrip())
            right = first + len(piece.rstrip())
            if left < right:
                yield left, right
            first = stop
