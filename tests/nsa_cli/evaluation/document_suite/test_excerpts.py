"""What the baselines have in their prompt."""

from __future__ import annotations

from nsa_cli.documents import Document, Piece
from nsa_cli.documents.build import join_documents
from nsa_cli.evaluation.document_suite.excerpts import CHUNKS, Chunks, gold_pages


def paged(name: str, pages: list[str]) -> Document:
    text, pieces = "", []
    for number, page in enumerate(pages, 1):
        text += "\f" if text else ""
        pieces.append(
            Piece(
                source=name,
                page=number,
                page_label=None,
                start=len(text),
                end=len(text) + len(page),
                first_line=1,
            )
        )
        text += page
    return Document(name=name, text=text, pieces=tuple(pieces))


def words(first: int, count: int) -> str:
    """Lines of ten words, all different."""
    numbers = [f"w{number}" for number in range(first, first + count)]
    return "\n".join(" ".join(numbers[at : at + 10]) for at in range(0, count, 10))


LONG = paged("long.pdf", [words(number * 300, 300) for number in range(10)])


def test_chunks_have_200_words_of_one_file() -> None:
    whole = join_documents([LONG, paged("b.pdf", ["one two three"])], "both")
    spans = Chunks(whole).spans
    assert [len(whole.text[a:b].split()) for a, b in spans] == [200] * 15 + [3]


def test_the_best_chunks_come_in_the_order_of_the_document() -> None:
    asked = " ".join(f"w{number}" for number in (2900, 2901, 10, 450, 1250, 1650, 1850, 2250, 2450))
    found = Chunks(LONG).best(asked)
    assert len(found.passages) == len(found.ranked) == CHUNKS
    assert found.ranked[0].page == 10  # two words of the question
    texts = [found.document.text[each.start : each.end] for each in found.passages]
    assert [len(text.split()) for text in texts] == [200] * CHUNKS
    assert all(text in LONG.text for text in texts)
    assert texts[0].startswith("w0 ")
    assert texts[-1].endswith("w2999")
    assert sum(each.score for each in found.passages) > 0.999
    assert "\n...\n" in found.document.text


def test_pages_and_lines_are_those_of_the_whole() -> None:
    found = Chunks(LONG).best("w450")
    at = found.document.text.index("w450")
    assert found.document.locate(at, at + 4) == LONG.locate(
        LONG.text.index("w450"), LONG.text.index("w450") + 4
    )
    assert found.document.locate(at, at + 4).line_start == 16


def test_gold_pages() -> None:
    found = gold_pages(LONG, [("long", (3,)), ("long", (7, 8)), ("other", (1,))])
    assert found is not None
    assert [piece.page for piece in found.document.pieces] == [3, 7, 8]
    assert found.document.text.count("\n...\n") == 1  # pages 7 and 8 touch
    assert gold_pages(LONG, [("long", (11,))]) is None
    assert gold_pages(LONG, []) is None


def test_a_script_without_spaces_is_cut_too() -> None:
    whole = paged("ja.pdf", ["これは長い文書です。" * 100])
    spans = Chunks(whole).spans
    assert len(spans) > 2
    assert "".join(whole.text[a:b] for a, b in spans) == whole.text
