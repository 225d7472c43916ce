"""Passages from scored blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_cli.results import Passage
from nsa_cli.retrieval import passages
from nsa_cli.retrieval.passages import (
    AnswerAttention,
    add_answer_attention,
    attended_passages,
    best_runs,
    blocks_per,
    merge_passages,
    passages_of,
    shares,
    top_passages,
)


def test_adjacent_passages_merge() -> None:
    text = "one two\nthree four\nfive six\nseven"
    assert passages.widened([(5, 9, 0.25), (16, 17, 0.5), (29, 30, 0.25)], text) == [
        Passage(start=0, end=18, score=0.75),
        Passage(start=28, end=33, score=0.25),
    ]


def test_a_passage_of_a_very_long_line_is_a_part_of_the_line() -> None:
    text = "word " * 20_000
    [passage] = passages.widened([(50_000, 50_300, 1.0)], text)
    assert passage.start <= 50_000
    assert passage.end >= 50_300
    assert passage.end - passage.start < 5_000


def weighted_scores(tokens: int, block: int) -> list[float]:
    """Scores of two passages, in the first block and in `block`, which gets all attention."""
    text = TokenizedText(
        ids=np.zeros(tokens, np.int32), characters=np.arange(tokens) * 10, document_tokens=tokens
    )
    mass = torch.zeros(-(-tokens // 64))
    mass[block] = 1.0
    passages = [
        Passage(start=0, end=640, score=0.5),
        Passage(start=block * 640, end=(block + 1) * 640, score=0.5),
    ]
    attention = AnswerAttention(mass=mass, text=text, size=64)
    return [passage.score for passage in add_answer_attention(passages, attention)]


@pytest.mark.parametrize("tokens", [640, 1024])
def test_the_answers_attention_has_half_the_weight(tokens: int) -> None:
    assert weighted_scores(tokens, 5) == pytest.approx([0.25, 0.75])


def test_weights_of_a_text_that_ends_inside_a_block() -> None:
    text = TokenizedText(
        ids=np.zeros(130, np.int32), characters=np.arange(130), document_tokens=130
    )
    passages = [Passage(start=0, end=64, score=0.5), Passage(start=64, end=128, score=0.5)]
    attention = AnswerAttention(mass=torch.tensor([0.0, 1.0, 0.0]), text=text, size=64)
    scores = [p.score for p in add_answer_attention(passages, attention)]
    assert scores == pytest.approx([0.25, 0.75])


def test_runs_include_neighbors_and_merge() -> None:
    scores = torch.tensor([0.0, 0.0, 0.5, 0.0, 0.4, 0.0, 0.0, 0.0, 0.1, 0.0])
    assert best_runs(scores, 3, 1) == [
        (1, 6, pytest.approx(0.9)),
        (7, 10, pytest.approx(0.1)),
    ]
    assert best_runs(scores, 3, 0) == [
        (2, 3, 0.5),
        (4, 5, pytest.approx(0.4)),
        (8, 9, pytest.approx(0.1)),
    ]


def test_runs_include_only_the_best_blocks() -> None:
    scores = torch.tensor([0.3, 0.0, 0.0, 0.2, 0.0, 0.0, 0.1])
    assert [run[:2] for run in best_runs(scores, 2, 0)] == [(0, 1), (3, 4)]


def test_runs_stay_inside_the_text() -> None:
    scores = torch.tensor([0.3, 0.0, 0.0, 0.0, 0.2])
    assert [run[:2] for run in best_runs(scores, 4, 1)] == [(0, 2), (3, 5)]


def test_a_block_without_a_score_is_not_selected() -> None:
    assert best_runs(torch.zeros(5), 4, 1) == []
    assert best_runs(torch.zeros(0), 4, 1) == []


def test_shares() -> None:
    assert shares([3.0, 1.0]) == [0.75, 0.25]
    assert shares([0.0, 0.0]) == [0.0, 0.0]
    assert shares([]) == []


def text_of(document: Document, tokens: int) -> TokenizedText:
    """A text of `tokens` tokens with equal shares of the document's characters."""
    length = len(document.text)
    return TokenizedText(
        ids=np.zeros(tokens, np.int32),
        characters=np.arange(tokens) * length // tokens,
        document_tokens=tokens,
        end=length,
    )


def lines(count: int, *, page: bool) -> Document:
    """A document of numbered lines: one page, or a text file."""
    text = "".join(f"line {number:04}\n" for number in range(count))
    piece = Piece(
        source="a", page=1 if page else None, page_label=None, start=0, end=len(text), first_line=1
    )
    return Document(name="a", text=text, pieces=(piece,))


def test_passages_are_whole_lines_in_document_order() -> None:
    document = lines(2048, page=True)
    scores = torch.zeros(32)
    scores[[20, 5]] = torch.tensor([3.0, 1.0])
    found = top_passages(scores, text_of(document, 2048), document, 64)
    assert [passage.score for passage in found] == [0.25, 0.75]
    assert [document.text[p.start : p.end].splitlines()[0] for p in found] == [
        "line 0256",  # block 4, the neighbor of block 5
        "line 1216",
    ]
    assert all(document.text[p.end] == "\n" for p in found)


def test_the_end_of_a_log_is_always_among_the_passages() -> None:
    scores = torch.zeros(32)
    scores[5] = 1.0
    for page in (False, True):
        document = lines(2048, page=page)
        found = top_passages(scores, text_of(document, 2048), document, 64)
        assert len(found) == (1 if page else 2)
        assert document.text[found[-1].start : found[-1].end].endswith("line 2047\n") is not page


def test_more_blocks_are_selected_if_they_are_smaller() -> None:
    assert [blocks_per(size) for size in (16, 32, 64, 128)] == [4, 2, 1, 1]
    document, scores = lines(2048, page=True), torch.zeros(128)
    scores[60] = 1.0
    [passage] = top_passages(scores, text_of(document, 2048), document, 16)
    found = document.text[passage.start : passage.end].splitlines()
    assert (found[0], found[-1]) == ("line 0896", "line 1040")  # blocks 56 to 64


def test_a_short_document_without_a_score_is_one_passage() -> None:
    document = lines(100, page=True)
    whole = Passage(start=0, end=len(document.text), score=1.0)
    assert top_passages(torch.zeros(2), text_of(document, 100), document, 64) == [whole]
    document = lines(2048, page=True)
    assert top_passages(torch.zeros(32), text_of(document, 2048), document, 64) == []


def test_blocks_of_the_template_have_no_passage() -> None:
    document = lines(100, page=True)
    text = TokenizedText(
        ids=np.zeros(128, np.int32), characters=np.full(128, -1), document_tokens=0
    )
    assert passages_of([(0, 1, 1.0)], text, document, 64) == []


def test_passages_of_an_answer_from_pages_have_its_attention() -> None:
    document = lines(2048, page=True)
    characters = np.concatenate([np.full(4, -1), np.arange(64), np.arange(10_000, 10_124)])
    text = TokenizedText(
        ids=np.zeros(len(characters), np.int32), characters=characters, document_tokens=188
    )
    attention = AnswerAttention(mass=torch.tensor([0.0, 3.0, 1.0, 0.0]), text=text, size=64)
    found = attended_passages(attention, document)
    # The second block contains the end of one page and the beginning of the next.
    assert [document.text[p.start : p.end].splitlines()[0] for p in found] == [
        "line 1000",
        "line 1006",
    ]
    scores = [p.score for p in add_answer_attention(merge_passages([], found), attention)]
    assert scores == pytest.approx([0.369, 0.131], abs=0.005)  # newlines belong to no passage


def test_overlapping_passages_become_one() -> None:
    first = [Passage(start=0, end=10, score=0.25), Passage(start=30, end=40, score=0.75)]
    other = [Passage(start=8, end=20, score=0.0), Passage(start=50, end=60, score=0.0)]
    assert merge_passages(first, other) == [
        Passage(start=0, end=20, score=0.25),
        Passage(start=30, end=40, score=0.75),
        Passage(start=50, end=60, score=0.0),
    ]
    assert merge_passages(first, []) == first
