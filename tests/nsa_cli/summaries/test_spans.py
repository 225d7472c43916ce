"""Sentences of a document as a summary needs them."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, Piece
from nsa_cli.summaries.spans import SentenceSpans, running_lines, without_comment_marks


def document_of(parts: list[str], source: str = "a.pdf", unit: str = "page") -> Document:
    pieces, start, texts = [], 0, []
    for number, text in enumerate(parts, 1):
        pieces.append(
            Piece(
                source=source,
                page=number if unit == "page" else None,
                page_label=None,
                start=start,
                end=start + len(text),
                first_line=1,
            )
        )
        texts.append(text)
        start += len(text) + 2
    return Document(name=source, text="\n\n".join(texts), pieces=tuple(pieces))


def said(document: Document) -> list[str]:
    spans = SentenceSpans(document).of(0, len(document.text))
    return [" ".join(document.text[start:end].split()) for start, end in spans]


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Berg repaired the crane.",
        "Michael D. Kennedy convened the meeting at 10 a.m. on Monday.",
        "It fell because of a weaker U.S. dollar.",
        "Die Bilanz zum 31. Dezember 2021 ist geprüft.",
        "Nach § 8 Abs. 2 Nr. 3 ist sie geprüft.",
        "Skates eat crabs (Orlov 1998, p. 3; Kemper et al. 2017. See below) and fish.",
    ],
)
def test_a_full_stop_within_a_sentence(text: str) -> None:
    assert said(document_of([f"{text} The pier is new."], unit="line")) == [
        text,
        "The pier is new.",
    ]


def test_sentences_end() -> None:
    text = "It has 31. The crane is Plan 7. And more.\n\nthe next paragraph. 5. Rent is due."
    assert said(document_of([text], unit="line"))[:4] == [
        "It has 31.",
        "The crane is Plan 7.",
        "And more.",
        "the next paragraph.",
    ]
    assert said(document_of(["The rate was 76.1 percent.\ne. Audit"], unit="line")) == [
        "The rate was 76.1 percent.",
        "e. Audit",
    ]


def test_a_text_without_capitals_has_sentences() -> None:
    text = "the pier is new. " * 40
    assert said(document_of([text.strip()], unit="line")) == ["the pier is new."] * 40


def test_a_sentence_goes_on_only_so_long() -> None:
    text = "The pier (it is new. " + "It has a crane. " * 60 + "The end."
    found = said(document_of([text], unit="line"))
    assert found[-1] == "The end."
    assert max(map(len, found)) < 450


def test_running_headers_are_left_out() -> None:
    document = document_of(
        [
            f"Harbor Terms Page | {page}\nThe pier has {page}0 cranes and boats.\n© Harbor, Inc."
            for page in range(1, 5)
        ]
    )
    lines = [document.text[start:end] for start, end in running_lines(document)]
    assert "Harbor Terms Page | 2" in lines
    assert "© Harbor, Inc." in lines
    assert all("Harbor Terms" not in text and "©" not in text for text in said(document))


def test_two_pages_have_no_running_header() -> None:
    assert running_lines(document_of(["Harbor Terms\nOne.", "Harbor Terms\nTwo."])) == []


def test_code_says_what_its_comments_say() -> None:
    code = '''import os

# The port of the server,
# counted from zero.
PORT = 8

def close():
    """Close the port. It stays closed."""
    os.close(PORT)
'''
    document = document_of([code], source="port.py", unit="line")
    plain = [without_comment_marks(text) for text in said(document)]
    assert plain == [
        "The port of the server, # counted from zero.",
        "Close the port.",
        "It stays closed.",
    ]
    [(start, end), *_] = SentenceSpans(document).of(0, len(code))
    assert without_comment_marks(code[start:end]) == "The port of the server,\ncounted from zero."


def test_other_files_beside_code_are_read_whole() -> None:
    document = document_of(["The port is closed."], source="port.txt", unit="line")
    assert said(document) == ["The port is closed."]
