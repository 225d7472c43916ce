from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.location import Location

PAGE_TEXT = st.text(alphabet="ab\n", min_size=1, max_size=12)


def paged(pages: list[str], separator: str = "\n\n") -> Document:
    pieces = []
    start = 0
    for number, page in enumerate(pages, start=1):
        end = start + len(page)
        label = "i" if number == 1 else None
        pieces.append(
            Piece(source="b.pdf", page=number, page_label=label, start=start, end=end, first_line=1)
        )
        start = end + len(separator)
    return Document(name="b.pdf", text=separator.join(pages), pieces=tuple(pieces))


def brute_force(document: Document, start: int, end: int) -> Location:
    owners = {
        max(i for i, p in enumerate(document.pieces) if p.start <= char)
        for char in range(start, max(end, start + 1))
    }
    inside = [sum(p.start <= char < p.end for char in range(start, end)) for p in document.pieces]
    best = max(sorted(owners), key=lambda i: inside[i])
    piece = document.pieces[best]
    chars = [c for c in range(start, end) if piece.start <= c < piece.end]
    if not chars:  # inside a separator, or empty
        chars = [min(max(start, piece.start), piece.end)]
    lines = [piece.first_line + document.text[piece.start : c].count("\n") for c in chars]
    return Location(
        source=piece.source,
        page=piece.page,
        page_label=piece.page_label,
        line_start=lines[0],
        line_end=lines[-1],
    )


@given(st.lists(PAGE_TEXT, min_size=1, max_size=5), st.data())
def test_locate_agrees_with_brute_force(pages: list[str], data: st.DataObject) -> None:
    document = paged(pages)
    start = data.draw(st.integers(0, len(document.text)))
    end = data.draw(st.integers(start, len(document.text)))
    assert document.locate(start, end) == brute_force(document, start, end)


def test_a_range_across_pages_is_on_the_page_with_the_larger_part() -> None:
    document = paged(["one\ntwo", "three\nfour"])
    assert document.locate(4, 13) == Location(
        source="b.pdf", page=2, page_label=None, line_start=1, line_end=1
    )
    assert document.locate(0, 10).page == 1
    assert document.locate(0, 10).page_label == "i"
    assert (document.locate(0, 10).line_start, document.locate(0, 10).line_end) == (1, 2)


def test_equal_parts_are_on_the_earlier_page() -> None:
    document = paged(["abc", "abc"])
    assert document.locate(2, 6).page == 1


def test_lines_count_from_the_first_line_of_the_piece() -> None:
    piece = Piece(source="a.log", page=None, page_label=None, start=0, end=5, first_line=100)
    document = Document(name="a.log", text="a\nb\nc", pieces=(piece,))
    assert document.locate(2, 5).line_start == 101
    assert document.locate(2, 5).line_end == 102


def test_a_separator_belongs_to_the_page_before() -> None:
    document = paged(["ab", "cd"])
    assert [document.piece_at(char).page for char in range(7)] == [1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (0, 7), (3, 2), (8, 9)])
def test_ranges_outside_the_text_raise(start: int, end: int) -> None:
    document = paged(["ab", "cd"])
    with pytest.raises(ValueError, match=r"^range"):
        document.locate(start, end)


@pytest.mark.parametrize("bounds", [[], [(0, 0)], [(0, 2), (1, 3)], [(0, 5)], [(2, 4), (0, 1)]])
def test_bad_pieces_raise(bounds: list[tuple[int, int]]) -> None:
    pieces = tuple(
        Piece(source="a", page=None, page_label=None, start=start, end=end, first_line=1)
        for start, end in bounds
    )
    with pytest.raises(ValueError, match="piece"):
        Document(name="a", text="abcd", pieces=pieces)


def test_equality_ignores_the_line_index() -> None:
    first, second = paged(["a\nb"]), paged(["a\nb"])
    first.locate(0, 1)
    assert first == second
    assert "_newlines" not in repr(first)


def test_documents_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        paged(["a"]).text = "b"  # type: ignore[misc]
