"""Passages become citations: a verbatim quote, its place, and whether it bears the answer out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nsa_cli.documents import Document
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.sentences import is_figure, sentences, word_weight, words


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
    figures = {word for word in new if is_figure(word)}
    present = {
        word
        for word in new
        if word in there or (word not in figures and len(word) > 3 and word in flat)
    }
    return figures <= present and 3 * word_weight(present) >= 2 * word_weight(new)


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
        figures = sum(is_figure(word) for word in new)
        total = 2.0 * word_weight(new) + 2.0 * figures + len(here & asked)
        return total / math.sqrt(8 + len(here))

    edges = document.edges(passage.start, passage.end)
    spans = [
        (start, end)
        for start, end in sentences(document.text, passage.start, passage.end, edges)
        if (piece := document.piece_at(start)).start <= start and end <= piece.end
    ]
    return max(spans, key=worth, default=(passage.start, passage.start))
