"""Page ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents import Document, PageRanges, parse_document, read_source
from nsa_models.errors import UsageError


def load_document(source: str, *, stdin: Any = None, **named: Any) -> Document:
    """A source, parsed."""
    return parse_document(*read_source(source, stdin=stdin), **named)


FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"
numbers = st.integers(1, 300)
ranges = st.lists(st.tuples(numbers, st.one_of(st.none(), numbers)), min_size=1, max_size=6)


@given(ranges, st.booleans())
def test_pages_are_those_that_were_said(parts: list[tuple[int, int | None]], spaces: bool) -> None:
    said, meant = [], set()
    for first, length in parts:
        if length is None:
            said.append(str(first))
            meant.add(first)
        else:
            said.append(f"{first}-{first + length}")
            meant |= set(range(first, first + length + 1))
    found = PageRanges.parse((", " if spaces else ",").join(said))
    assert {page for page in range(1, 700) if page in found} == meant


@given(st.text(alphabet="0123456789-, a", max_size=8))
def test_anything_is_a_range_or_wrong_usage(text: str) -> None:
    try:
        ranges = PageRanges.parse(text).ranges
    except UsageError:
        return
    assert ranges
    assert all(first >= 1 for first, _ in ranges)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("3-", [3, 4, 10_000], [1, 2]), ("-3", [1, 2, 3], [4]), ("2,7-8", [2, 7, 8], [1, 3, 9])],
)
def test_open_ends(text: str, inside: list[int], outside: list[int]) -> None:
    found = PageRanges.parse(text)
    assert all(page in found for page in inside)
    assert not any(page in found for page in outside)


@pytest.mark.parametrize("text", ["", "x", "0", "5-3", "-", "1,,2", "1-2-3"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for --pages: "):
        PageRanges.parse(text)


def test_pages_of_a_pdf_are_those_of_the_whole() -> None:
    data = FHS.read_bytes()
    whole = load_document(str(FHS))
    part = parse_document("a.pdf", data, pages=PageRanges.parse("14-16,20"))
    assert [piece.page for piece in part.pieces] == [14, 15, 16, 20]
    by_page = {piece.page: whole.text[piece.start : piece.end] for piece in whole.pieces}
    for piece in part.pieces:
        assert part.text[piece.start : piece.end] == by_page[piece.page]


def test_pages_that_are_not_there() -> None:
    with pytest.raises(UsageError, match=r"--pages 60-: a.pdf has pages 1-50"):
        parse_document("a.pdf", FHS.read_bytes(), pages=PageRanges.parse("60-"))
    with pytest.raises(UsageError, match=r"a.txt has no pages"):
        parse_document("a.txt", b"text", pages=PageRanges.parse("1"))
