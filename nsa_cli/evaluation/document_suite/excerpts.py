"""What a baseline has in its prompt: a part of a document, as a document with its pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nsa_cli.context.prompt import GAP
from nsa_cli.documents import Document, Location, Piece
from nsa_cli.results import Passage
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.passages import shares
from nsa_cli.retrieval.sentences import UNSPACED

CHUNK_WORDS = 200
CHUNKS = 8
"""Words of a chunk, and chunks in the prompt, of the baseline `chunks`."""

_WORD = re.compile(rf"[{UNSPACED}]{{1,2}}|[^\s{UNSPACED}]+")
"""A word; two characters of a script without spaces count as one."""

Place = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A part of a document.

    Attributes:
        document: The part, with the pages and lines of the whole.
        passages: Its passages, in its order, each with a score.
        ranked: Locations of the passages, best first.
    """

    document: Document
    passages: tuple[Passage, ...]
    ranked: tuple[Location, ...]


class Chunks:
    """A document in chunks of 200 words, found by BM25.

    Args:
        document: The document, of one file or of several.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self.spans = _chunk_spans(document)
        self._bm25 = Bm25([document.text[start:end] for start, end in self.spans])

    def best(self, question: str) -> Excerpt:
        """Return the eight best chunks, in the order of the document."""
        scores = self._bm25.scores(question)
        best = scores.topk(min(CHUNKS, len(self.spans))).indices.tolist()
        chosen = sorted(best)
        weights = shares([float(scores[number]) for number in chosen])
        ranked = tuple(self._document.locate(*self.spans[number]) for number in best)
        return _excerpt(self._document, [self.spans[number] for number in chosen], weights, ranked)


def _chunk_spans(document: Document) -> list[tuple[int, int]]:
    """Return the characters of each chunk; a chunk is of one file."""
    spans = []
    for _, pieces in groupby(document.pieces, key=lambda piece: piece.source):
        own = list(pieces)
        words = list(_WORD.finditer(document.text, own[0].start, own[-1].end))
        for first in range(0, len(words), CHUNK_WORDS):
            part = words[first : first + CHUNK_WORDS]
            spans.append((part[0].start(), part[-1].end()))
    return spans


def gold_pages(document: Document, places: Sequence[Place]) -> Excerpt | None:
    """Return the pages that hold the answer; None if none exist, or they have no text.

    Args:
        document: The document.
        places: Groups of pages by file; all pages of all groups are taken.
    """
    wanted = {(name, page) for name, pages in places for page in pages}
    pieces = [
        piece
        for piece in document.pieces
        if (piece.source.removesuffix(".pdf"), piece.page) in wanted
    ]
    if not pieces:
        return None
    spans = [(piece.start, piece.end) for piece in pieces]
    ranked = tuple(document.locate(*span) for span in spans)
    return _excerpt(document, spans, [1 / len(spans)] * len(spans), ranked)


def _excerpt(
    document: Document,
    spans: Sequence[tuple[int, int]],
    weights: Sequence[float],
    ranked: tuple[Location, ...],
) -> Excerpt:
    """Cut spans out of a document; a gap is shown between spans that do not touch."""
    text, pieces, passages = "", list[Piece](), list[Passage]()
    for number, (start, end) in enumerate(spans):
        if number:
            between = document.text[spans[number - 1][1] : start]
            text += GAP if between.strip() else between
        begin = len(text)
        text += document.text[start:end]
        for piece in document.pieces:
            first, stop = max(start, piece.start), min(end, piece.end)
            if first < stop:
                line = document.locate(first, first).line_start
                moved = begin + first - start
                pieces.append(
                    replace(piece, start=moved, end=moved + stop - first, first_line=line)
                )
        passages.append(Passage(start=begin, end=len(text), score=weights[number]))
    return Excerpt(
        document=Document(name=document.name, text=text, pieces=tuple(pieces)),
        passages=tuple(passages),
        ranked=ranked,
    )
