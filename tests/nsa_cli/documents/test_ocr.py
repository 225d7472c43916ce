"""Scanned pages, read by Tesseract where it is installed."""

from __future__ import annotations

import builtins
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdf
import pytest

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.load import parse_document
from nsa_cli.documents.ocr import check_languages
from nsa_models.errors import UsageError

Run = Callable[..., tuple[int, str, str]]
FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"

engine = pytest.mark.skipif(shutil.which("tesseract") is None, reason="needs tesseract")


def scanned(*pages: int, with_text: int | None = None) -> bytes:
    """Pages of a real document as pictures, and one with its text behind them."""
    pdfium = pytest.importorskip("pypdfium2")
    writer = pypdf.PdfWriter()
    with pdfium.PdfDocument(FHS) as document:
        for number in pages:
            picture = io.BytesIO()
            document[number - 1].render(scale=2).to_pil().save(picture, "PDF", resolution=144)
            writer.append(picture)
    if with_text is not None:
        writer.add_page(pypdf.PdfReader(FHS).pages[with_text - 1])
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.long
@engine
def test_scanned_pages_have_their_page_and_lines() -> None:
    pytest.importorskip("pytesseract")
    seen: list[tuple[int, int]] = []
    document = parse_document(
        "a.pdf",
        scanned(14, with_text=15),
        ocr="eng",
        on_page=lambda done, total: seen.append((done, total)),
    )
    sentence = "The operating system kernel must be located in either / or /boot."
    start = document.text.index(sentence)
    place = document.locate(start, start + len(sentence))
    assert place.page == 1
    assert [piece.page for piece in document.pieces] == [1, 2]
    assert document.warnings == ("page 1 was read by OCR, which may be wrong in places",)
    assert seen == [(1, 2), (2, 2), (1, 1)]


def test_without_it_the_pages_are_named() -> None:
    document = parse_document("a.pdf", scanned(14, with_text=15))
    assert document.warnings == ("page 1 has no text (scanned? --ocr reads them)",)
    with pytest.raises(UnreadableError) as caught:
        parse_document("a.pdf", scanned(14))
    assert caught.value.code == "scanned"
    assert "--ocr eng" in caught.value.hint


def test_pages_with_text_need_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytesseract", None)
    text = io.BytesIO()
    writer = pypdf.PdfWriter()
    writer.add_page(pypdf.PdfReader(FHS).pages[14])
    writer.write(text)
    assert parse_document("a.pdf", text.getvalue(), ocr="eng").warnings == ()


@engine
def test_a_language_that_is_not_known() -> None:
    pytest.importorskip("pytesseract")
    with pytest.raises(UsageError) as caught:
        parse_document("a.pdf", scanned(14), ocr="eng+xyz")
    assert "'xyz'" in caught.value.message
    assert "tesseract-ocr-xyz" in caught.value.hint


def test_without_the_engine() -> None:
    class Missing:
        """What pytesseract is where there is no tesseract."""

        def get_languages(self) -> list[str]:
            raise FileNotFoundError("tesseract")

    with pytest.raises(UnreadableError) as caught:
        check_languages(Missing(), "eng")
    assert caught.value.code == "missing_library"
    assert "apt install tesseract-ocr" in caught.value.hint


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scanned(14)
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name == "pytesseract":
            raise ModuleNotFoundError(name=name)
        return real(name, *more, **others)

    monkeypatch.setitem(sys.modules, "pytesseract", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnreadableError) as caught:
        parse_document("a.pdf", data, ocr="eng")
    assert caught.value.hint == "install it with `pip install pytesseract`"


@pytest.mark.long
@engine
def test_at_the_command_line(nsa: Run, tmp_path: Path) -> None:
    pytest.importorskip("pytesseract")
    path = tmp_path / "a.pdf"
    path.write_bytes(scanned(14))
    assert nsa("ask", str(path), "Where is the kernel?")[0] == 3
    code, out, err = nsa("ask", str(path), "Where is the kernel?", "--ocr", "eng", "--json")
    assert code == 0
    assert json.loads(out)["citations"][0]["page"] == 1
    assert "page 1 was read by OCR" in err
    assert nsa("ask", str(path), "Where is the kernel?")[0] == 3  # not from memory
