"""Topic shifts and parts of a document."""

from __future__ import annotations

import itertools

import pytest

from nsa_cli.documents import Document, Piece
from nsa_cli.retrieval.sentences import sentences
from nsa_cli.summaries.parts import parts_of
from nsa_cli.summaries.topics import topic_shifts

SEA = "The harbor pilot steers ships past the quay wall while tugs pull cargo vessels seaward."
BREAD = "The baker kneads rye dough with yeast before loaves enter the oven at dawn."
LAW = "The court heard the appeal because counsel filed evidence against the verdict."


def told(*topics: str, each: int = 12) -> str:
    """A text with some sentences of each topic, their words in changing order."""
    lines = []
    for topic in topics:
        words = topic.rstrip(".").split()
        lines += [" ".join([*words[n % 9 :], *words[: n % 9]]) + "." for n in range(each)]
    return "\n".join(lines) + "\n"


def document(text: str) -> Document:
    piece = Piece(source="a.txt", page=None, page_label=None, start=0, end=len(text), first_line=1)
    return Document(name="a.txt", text=text, pieces=(piece,))


def shifts(text: str, most: int) -> list[int]:
    return topic_shifts(text, list(sentences(text, 0, len(text))), most)


def test_shifts_are_where_the_words_change() -> None:
    found = shifts(told(SEA, BREAD, LAW), 2)
    assert len(found) == 2
    for at, gold in zip(found, (12, 24), strict=True):
        assert abs(at - gold) <= 2


def test_no_more_shifts_than_asked_for() -> None:
    text = told(SEA, BREAD, LAW, SEA)
    assert len(shifts(text, 1)) == 1
    assert shifts(text, 0) == []


def test_a_text_of_one_topic_has_no_shift() -> None:
    assert shifts("The same words again and again here.\n" * 60, 4) == []
    assert shifts("", 4) == []
    assert shifts(told(SEA, each=2), 4) == []


def test_parts_without_headings_are_topics() -> None:
    text = told(SEA, BREAD, LAW)
    parts = parts_of(document(text), 3, outline=False)
    assert next(part.start for part in parts) == 0
    assert parts[-1].end == len(text)
    assert all(a.end == b.start for a, b in itertools.pairwise(parts))
    assert "baker" in text[parts[1].start : parts[1].end]
    assert len(parts) == 3


def test_parts_are_sections_and_the_text_before_them() -> None:
    head = f"Lease of a warehouse\n{SEA}\n\n"
    text = f"{head}# Term\n\n{told(BREAD, each=4)}\n# Rent\n\n{told(LAW, each=4)}"
    parts = parts_of(document(text), 12, outline=False)
    assert [part.section and part.section.title for part in parts][-2:] == ["Term", "Rent"]
    assert (parts[0].start, parts[0].section) == (0, None)
    outline = parts_of(document(text), 1, outline=True)
    assert [part.section and part.section.title for part in outline] == ["Term", "Rent"]


def test_small_sections_are_merged_and_large_ones_divided() -> None:
    small = "".join(f"# Part {n}\n\n{SEA}\n\n" for n in range(6))
    text = f"{small}# Large\n\n{told(SEA, BREAD, LAW, each=20)}"
    parts = parts_of(document(text), 5, outline=False)
    assert len(parts) <= 5
    assert parts[0].end > text.index("# Part 3")
    assert sum(part.start >= text.index("# Large") for part in parts) >= 2
    assert parts[-1].end == len(text)


@pytest.mark.parametrize("most", [1, 2, 7, 30])
def test_parts_cover_a_document(most: int) -> None:
    text = "".join(f"# Heading {n}\n\n{told(SEA, BREAD, each=n)}\n" for n in range(1, 9))
    parts = parts_of(document(text), most, outline=False)
    assert len(parts) <= most
    assert "".join(text[part.start : part.end] for part in parts) == text
