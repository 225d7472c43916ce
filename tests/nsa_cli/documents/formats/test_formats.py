"""Office files, books, pages, notebooks and mails, made by their own libraries."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from email.message import EmailMessage
from functools import cache
from typing import Any

import docx
import openpyxl
import pptx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa_cli.documents import Document, PageRanges, parse_document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.formats.web import blocks
from nsa_models.errors import DoesNotFitError, NsaError


def saved(thing: Any) -> bytes:
    file = io.BytesIO()
    thing.save(file)
    return file.getvalue()


def word() -> bytes:
    document = docx.Document()
    document.add_heading("Piers", 1)
    document.add_paragraph("The pier cost 4,200 crowns.")
    table = document.add_table(rows=0, cols=2)
    for row in (("Year", "Cost"), ("1911", "90")):
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_paragraph("The end.")
    return saved(document)


def slides() -> bytes:
    show = pptx.Presentation()
    for number in (1, 2):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = f"Slide title {number}"
        slide.placeholders[1].text = f"Point {number}"
        slide.notes_slide.notes_text_frame.text = f"Say {number}"
    return saved(show)


def workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Costs"
    book.active.append(["Item", "Cost"])
    book.active.append(["Pier", 4200.0])
    book.active["A9"] = "Boat"
    second = book.create_sheet("Empty")
    third = book.create_sheet("More")
    third["B2"] = "here"
    assert second.title == "Empty"
    return saved(book)


def book(chapters: int = 2) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="O/c.opf"/></rootfiles></container>',
        )
        items = "".join(f'<item id="c{n}" href="ch%20{n}.xhtml"/>' for n in range(chapters))
        refs = "".join(f'<itemref idref="c{n}"/>' for n in (*range(chapters), 99))
        archive.writestr(
            "O/c.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest>'
            f"<spine>{refs}</spine></package>",
        )
        for n in range(chapters):
            archive.writestr(f"O/ch {n}.xhtml", f"<html><h1>Part {n}</h1><p>It was {n}.</p></html>")
    return file.getvalue()


def notebook() -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Piers\n", "and boats"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "error", "ename": "KeyError", "evalue": "'x'"},
                {"output_type": "execute_result", "data": {"text/plain": "42"}},
            ],
        },
    ]
    return json.dumps({"cells": cells}).encode()


def mail() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@x.org", "b@x.org", "Überfahrt"
    message.set_content("Dear B,\n\nThe ferry leaves at nine.\n")
    message.add_alternative("<p>The ferry leaves at nine.</p>", subtype="html")
    message.add_attachment(b"\x00", maintype="image", subtype="png", filename="ferry.png")
    return bytes(message)


def place(document: Document, words: str) -> tuple[int | None, str | None, int, str]:
    start = document.text.index(words)
    found = document.locate(start, start + len(words))
    return (found.page, found.page_label, found.line_start, found.unit)


def test_a_word_document() -> None:
    document = parse_document("a.docx", word())
    assert document.text.splitlines() == [
        "# Piers",
        "The pier cost 4,200 crowns.",
        "Year | Cost",
        "1911 | 90",
        "The end.",
    ]
    assert place(document, "1911") == (None, None, 4, "page")


def test_slides() -> None:
    document = parse_document("-", slides())
    assert place(document, "Point 2") == (2, None, 2, "slide")
    assert place(document, "Say 1") == (1, None, 4, "slide")


def test_a_workbook() -> None:
    document = parse_document("a.xlsx", workbook())
    assert place(document, "Pier | 4200") == (1, "Costs", 2, "sheet")
    assert place(document, "Boat") == (1, "Costs", 9, "sheet")
    assert place(document, "here") == (3, "More", 2, "sheet")


def test_a_book() -> None:
    document = parse_document("a.epub", book())
    assert place(document, "It was 1.") == (2, None, 2, "chapter")
    part = parse_document("a.epub", book(), pages=PageRanges.parse("2"))
    assert part.text == "# Part 1\nIt was 1."


def test_a_notebook() -> None:
    document = parse_document("a.ipynb", notebook())
    assert place(document, "and boats") == (1, None, 2, "cell")
    assert [place(document, words)[2] for words in ("print", "KeyError: 'x'", "42")] == [1, 3, 4]


def test_a_mail() -> None:
    document = parse_document("a.eml", mail())
    assert "Subject: Überfahrt" in document.text
    assert document.text.count("The ferry leaves at nine.") == 1
    assert "Attachment: ferry.png" in document.text


def test_a_web_page() -> None:
    page = b"""<!doctype html>
<html><head><title>Piers &amp; boats</title><style>p { color: red }</style>
<script>var x = "<p>no</p>";</script>
<body><h2>The
  pier</h2>
<p>It cost <b>4,200</b>
crowns.<p>Unclosed<ul><li>one<li>two</ul>
<table><tr><td>Year<td>Cost<tr><td>1911<td>90</table>
<pre>x = 1
  y = 2</pre>
"""
    document = parse_document("page", page)
    assert document.text.splitlines() == [
        "Piers & boats",
        "",
        "## The pier",
        "It cost 4,200 crowns.",
        "Unclosed",
        "- one",
        "- two",
        "Year | Cost",
        "1911 | 90",
        "x = 1",
        "  y = 2",
    ]
    lines = [place(document, w)[2] for w in ("Piers", "The pier", "It cost", "- one"[2:], "y = 2")]
    assert lines == [2, 4, 6, 7, 10]


@given(st.text())
def test_any_markup_gives_blocks_on_their_lines(text: str) -> None:
    for block in blocks(f"<p>{text}"):
        assert block.text.strip()
        assert 1 <= block.line <= text.count("\n") + 1


MAKERS = {
    "a.docx": word,
    "a.pptx": slides,
    "a.xlsx": workbook,
    "a.epub": book,
    "a.ipynb": notebook,
    "a.eml": mail,
}


@cache
def whole(name: str) -> bytes:
    return MAKERS[name]()


@pytest.mark.parametrize("name", MAKERS)
@settings(deadline=None)  # a library is imported at the first call
@given(data=st.data())
def test_a_damaged_file_is_told_or_read(name: str, data: st.DataObject) -> None:
    damaged = bytearray(whole(name))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(damaged)))
    refused: NsaError | None = None
    try:
        text = parse_document(name, bytes(damaged[:cut])).text
    except NsaError as error:
        refused = error
    if refused is None:
        assert text.strip()
    else:
        assert refused.exit_code in (3, 4)
        assert refused.hint


@pytest.mark.parametrize("name", ["a.docx", "a.xlsx", "a.epub"])
def test_a_zip_bomb_is_refused(name: str) -> None:
    file = io.BytesIO(MAKERS[name]())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.xml", b"0" * 30_000_000)
    with pytest.raises(DoesNotFitError, match="like a zip bomb") as caught:
        parse_document(name, file.getvalue())
    assert caught.value.code == "zip_bomb"


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("a.docx", "docx", "python-docx"),
        ("a.pptx", "pptx", "python-pptx"),
        ("a.xlsx", "openpyxl", "openpyxl"),
    ],
)
def test_a_library_that_is_missing(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(wanted: str, *more: Any) -> Any:
        if wanted == module:
            raise ImportError(wanted)
        return real(wanted, *more)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(UnreadableError) as caught:
        parse_document(name, MAKERS[name]())
    assert caught.value.code == "missing_library"
    assert f"pip install {package}" in caught.value.hint
