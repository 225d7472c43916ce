"""Pages of a prefilled document, as ranges of tokens that an answer can be decoded from.

A text without pages is cut into parts as long as a page.

Letters: N selection blocks, P pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents import Document

_LEAST_TOKENS = 128
"""A shorter page is joined with the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTokens:
    """Tokens of a page, of a few short pages, or of a part of a long one.

    Attributes:
        window: Index of the context window.
        start: First token in the window's text.
        stop: One past the last token.
    """

    window: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def pages_of(texts: Sequence[TokenizedText], document: Document, most: int) -> list[PageTokens]:
    """Cut the context windows of a document into pages, in the order of the document.

    Args:
        texts: The text of each window. A page that is whole in the window before is left out.
        document: The document.
        most: Maximum tokens of a page; a longer one is cut into equal parts.
    """
    pages: list[PageTokens] = []
    covered = 0  # characters of the windows before
    for window, text in enumerate(texts):
        own = np.flatnonzero(text.characters >= 0)
        new = [piece.start for piece in document.pieces if piece.end > covered]
        if not len(own) or not new:
            continue
        first, last = int(own[0]), int(own[-1]) + 1
        characters = text.characters[first:last]
        starts = [first + int(start) for start in np.searchsorted(characters, new)]
        cuts = sorted({starts[0], last, *(start for start in starts if start < last)})
        pages += [PageTokens(window=window, start=a, stop=b) for a, b in _sized(cuts, most)]
        covered = int(characters[-1]) + 1
    return pages


def _sized(cuts: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Join short ranges between cuts with the next, and cut long ones."""
    begin = cuts[0]
    for _, stop in pairwise(cuts):
        if stop - begin < _LEAST_TOKENS and stop != cuts[-1]:
            continue
        parts = -(-(stop - begin) // most)
        edges = [begin + (stop - begin) * part // parts for part in range(parts + 1)]
        yield from pairwise(edges)
        begin = stop


def page_blocks(page: PageTokens, text: TokenizedText, size: int) -> slice:
    """Return the blocks of the joined text that a page has tokens in.

    Args:
        page: The page.
        text: The tokens of the document, those of all windows joined.
        size: Tokens of a block.
    """
    start = text.starts[page.window] + page.start
    return slice(start // size, -(-(start + len(page)) // size))


def page_scores(
    scores: Tensor, pages: Sequence[PageTokens], text: TokenizedText, size: int
) -> Tensor:
    """Return the best block score of each page: (P,).

    Args:
        scores: (N,), from `Retriever.scores`.
        pages: The pages.
        text: The tokens of the document, those of all windows joined.
        size: Tokens of a block.
    """
    found = torch.zeros(len(pages))
    for number, page in enumerate(pages):
        found[number] = scores[page_blocks(page, text, size)].max()
    return found


def page_text(page: PageTokens, texts: Sequence[TokenizedText], document: Document) -> str:
    """Return the characters of a page."""
    span = texts[page.window].span(page.start, page.stop)
    return "" if span is None else document.text[span[0] : span[1]]


def within(pages: Sequence[PageTokens], ranked: Sequence[int], tokens: int) -> list[int]:
    """Return the indices of the best pages that fit a number of tokens, in document order.

    Args:
        pages: The pages.
        ranked: Their indices, best first; the first page is always taken.
        tokens: Maximum tokens of all taken pages.
    """
    taken: list[int] = []
    left = tokens
    for index in ranked:
        if taken and len(pages[index]) > left:
            continue
        taken.append(index)
        left -= len(pages[index])
    return sorted(taken)
