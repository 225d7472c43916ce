"""Splitting a document's tokens into pages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.context.tokens import TokenizedText, joined
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_cli.retrieval.pages import PageTokens, page_scores, page_text, pages_of, within


def document(*lengths: int) -> Document:
    """Pages with the given numbers of characters."""
    pieces, start = [], 0
    for number, length in enumerate(lengths, 1):
        end = start + length
        pieces.append(
            Piece(source="a", page=number, page_label=None, start=start, end=end, first_line=1)
        )
        start = end
    return Document(name="a", text="x" * start, pieces=tuple(pieces))


def window(first: int, last: int, head: int = 5) -> TokenizedText:
    """A window over characters `first` to `last`, one token each, after the prompt's beginning."""
    characters = np.concatenate([np.full(head, -1), np.arange(first, last)])
    return TokenizedText(
        ids=np.zeros(len(characters), np.int32),
        characters=characters,
        document_tokens=last - first,
        end=last,
    )


def ranges(pages: list[PageTokens]) -> list[tuple[int, int, int]]:
    return [(page.window, page.start, page.stop) for page in pages]


def test_short_pages_are_joined_and_long_ones_split() -> None:
    paper = document(60, 60, 60, 500, 1600, 40)
    pages = pages_of([window(0, 2320)], paper, 768)
    assert ranges(pages) == [
        (0, 5, 185),  # three short pages
        (0, 185, 685),
        (0, 685, 1218),
        (0, 1218, 1751),
        (0, 1751, 2285),
        (0, 2285, 2325),  # the last page has no next one
    ]
    assert page_text(pages[1], [window(0, 2320)], paper) == "x" * 500


def test_shared_pages_of_windows_are_used_once() -> None:
    paper = document(*[200] * 10)
    texts = [window(0, 1100), window(900, 2000)]
    pages = pages_of(texts, paper, 768)
    assert ranges(pages) == [
        *((0, 5 + start, 205 + start) for start in range(0, 1000, 200)),
        (0, 1005, 1105),  # half of the sixth page
        (1, 105, 305),  # the whole sixth page
        *((1, 305 + start, 505 + start) for start in range(0, 800, 200)),
    ]


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=12))
def test_every_token_is_on_one_page(lengths: list[int]) -> None:
    paper = document(*lengths)
    pages = pages_of([window(0, sum(lengths))], paper, 768)
    assert pages[0].start == 5
    assert pages[-1].stop == 5 + sum(lengths)
    assert all(a.stop == b.start for a, b in itertools.pairwise(pages))
    assert all(0 < len(page) <= 768 for page in pages)


def test_a_page_has_the_score_of_its_best_block() -> None:
    paper = document(*[200] * 10)
    texts = [window(0, 1100), window(900, 2000)]
    text = joined(texts, 64)
    scores = torch.zeros(-(-len(text.ids) // 64))
    scores[1], scores[18 + 5] = 1.0, 2.0  # the second window begins at block 18
    found = page_scores(scores, pages_of(texts, paper, 768), text, 64).tolist()
    assert found == [1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("tokens", "taken"), [(100, [3]), (300, [0, 3]), (350, [0, 3]), (900, [2, 3])]
)
def test_the_best_pages_that_fit_are_selected_in_order(tokens: int, taken: list[int]) -> None:
    sizes = [100, 300, 700, 200]
    pages = [PageTokens(window=0, start=0, stop=size) for size in sizes]
    found = within(pages, [3, 2, 0, 1], tokens)
    assert found == [pages[index] for index in taken]
