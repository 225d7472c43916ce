from __future__ import annotations

import io
import logging
import re
import unicodedata
from pathlib import Path

import pypdf
import pypdfium2
import pytest

from nsa_cli.documents.document import Document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.pdf import PAGE_BREAK, read_pdf
from nsa_cli.documents.pdf.glyphs import GlyphReader

FHS = Path(__file__).parents[4] / "examples" / "fhs-3.0.pdf"

ENCODING = "<< /Type /Encoding /BaseEncoding /WinAnsiEncoding /Differences [1 /fi /fl /ff] >>"
LATIN = f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding {ENCODING} >>"


def assemble(objects: list[bytes]) -> bytes:
    """A PDF file of objects 1, 2, …; the first is the catalog."""
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    xref = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % xref)


def stream(data: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(data), data)


DRAWN = "drawn"
"""A page without text that shows something."""


def make_pdf(pages: list[str], *, labels: str = "", more: list[bytes] | None = None) -> bytes:
    """A PDF that shows each page's lines in font /F1; `more` are objects from number 4 on."""
    more = more or []
    first = 4 + len(more)
    kids = b" ".join(b"%d 0 R" % (first + 2 * i) for i in range(len(pages)))
    catalog = f"<< /Type /Catalog /Pages 2 0 R {labels} >>".encode()
    objects = [catalog, b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages))]
    objects += [LATIN.encode(), *more]
    for i, page in enumerate(pages):
        escaped = [re.sub(r"([\\()])", r"\\\1", line) for line in page.split("\n")]
        shown = " T* ".join(f"({line}) Tj" for line in escaped) if page else ""
        drawn = "100 100 200 200 re f" if page == DRAWN else ""
        shown = "" if drawn else shown
        content = f"{drawn} BT /F1 12 Tf 14 TL 72 720 Td {shown} ET".encode("cp1252")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (first + 2 * i + 1)
        )
        objects.append(stream(content))
    return assemble(objects)


def encrypted(data: bytes, password: str, algorithm: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, "owner", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def read(data: bytes, name: str = "a.pdf", password: str | None = None) -> Document:
    return read_pdf(data, name, password=password)


def refusal(data: bytes, name: str = "a.pdf", password: str | None = None) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        read(data, name, password)
    assert caught.value.message.startswith(name)
    assert not caught.value.message.endswith(".")
    assert caught.value.hint
    return caught.value


def test_pages_become_pieces_with_a_blank_line_between() -> None:
    document = read(make_pdf(["Title\nfirst line", "second page"]))
    assert document.text == "Title\nfirst line\n\nsecond page"
    assert [document.text[p.start : p.end] for p in document.pieces] == [
        "Title\nfirst line",
        "second page",
    ]
    assert [(p.source, p.page, p.page_label) for p in document.pieces] == [
        ("a.pdf", 1, None),
        ("a.pdf", 2, None),
    ]
    assert document.warnings == ()


def test_a_path_reads_like_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(["one"]))
    assert read_pdf(path, "a.pdf", password=None) == read(path.read_bytes())


def test_labels_are_kept_where_they_differ_from_the_number() -> None:
    labels = "/PageLabels << /Nums [0 << /S /r >> 2 << /S /D /St 3 >> 3 << /P (A-) /S /D >>] >>"
    document = read(make_pdf(["a", "b", "c", "d"], labels=labels))
    assert [piece.page_label for piece in document.pieces] == ["i", "ii", None, "A-1"]


def test_damaged_labels_are_told_and_the_text_is_read() -> None:
    document = read(make_pdf(["a", "b"], labels="/PageLabels << /Nums [0 << /S 9 >>] >>"))
    assert document.text == "a\n\nb"
    assert [piece.page_label for piece in document.pieces] == [None, None]
    assert document.warnings == ("the page labels are damaged",)


def test_labels_that_pypdf_fails_at_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_reader: pypdf.PdfReader) -> list[str]:
        raise RecursionError("labels of labels")

    monkeypatch.setattr(pypdf.PdfReader, "page_labels", property(fail))
    document = read(make_pdf(["a"]))
    assert document.text == "a"
    assert document.warnings == ("the page labels are damaged",)


def test_broken_words_are_mended() -> None:
    assert read(make_pdf(["the config-\nuration file"])).text == "the configuration\nfile"


def test_ligatures_become_letters() -> None:
    assert read(make_pdf(["\x01le \x02ow o\x03er"])).text == "file flow offer"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1. Purpose ........ 3", "1. Purpose ... 3"),
        ("1. Purpose........3", "1. Purpose ... 3"),
        ("1. Purpose . . . . . . 3", "1. Purpose ... 3"),
        ("Purpose .....", "Purpose ..."),
        ("wait .... there", "wait .... there"),
        ("well... yes", "well... yes"),
    ],
)
def test_leader_dots_are_collapsed(line: str, text: str) -> None:
    assert read(make_pdf([line])).text == text


def test_spaces_at_line_ends_go() -> None:
    assert read(make_pdf(["one  \ntwo   "])).text == "one\ntwo"


def composite_font(code_to_utf16: dict[int, str], widths: str) -> tuple[list[bytes], bytes]:
    """Objects 4 to 6: a font of two-byte codes, as TeX embeds it; and the font dictionary."""
    chars = "\n".join(f"<{code:04x}> <{text}>" for code, text in code_to_utf16.items())
    to_unicode = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "1 begincodespacerange\n<0000> <ffff>\nendcodespacerange\n"
        f"{len(code_to_utf16)} beginbfchar\n{chars}\nendbfchar\nendcmap end end"
    )
    descendant = (
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /DW 500"
        f" /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /W [{widths}]"
        " /FontDescriptor << /Type /FontDescriptor /FontName /X /Flags 4 >> >>"
    )
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H"
        b" /DescendantFonts [5 0 R] /ToUnicode 4 0 R >>"
    )
    return [stream(to_unicode.encode()), descendant.encode(), font], b"6 0 R"


def composite_pdf(code_to_utf16: dict[int, str], shown: str, widths: str = "1 [500]") -> bytes:
    more, font = composite_font(code_to_utf16, widths)
    data = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [7 0 R] /Count 1 >>",
        b"null",
        *more,
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 8 0 R"
        b" /Resources << /Font << /F1 %s >> >> >>" % font,
        stream(f"BT /F1 10 Tf 72 720 Td [{shown}] TJ ET".encode()),
    ]
    return assemble(data)


def test_characters_that_cannot_be_shown_go() -> None:
    codes = {1: "0041", 2: "0000", 3: "d835", 4: "0007", 5: "0042", 6: "d835dc00"}
    document = read(composite_pdf(codes, "<000100020003000400050006>"))
    assert document.text == "AB\U0001d400"


def test_text_is_normalized_to_nfc() -> None:
    document = read(composite_pdf({1: "006f", 2: "0308"}, "<00010002>"))
    assert document.text == "ö"


def test_pages_without_text_are_named() -> None:
    document = read(make_pdf(["a", DRAWN, DRAWN, "b", DRAWN, "c"]))
    assert document.warnings == ("pages 2-3, 5 have no text (scanned? --ocr reads them)",)
    assert [piece.page for piece in document.pieces] == [1, 4, 6]
    assert document.text == "a\n\nb\n\nc"


def test_blank_pages_are_not_named() -> None:
    document = read(make_pdf(["a", "", " ", DRAWN, "c"]))
    assert document.warnings == ("page 4 has no text (scanned? --ocr reads them)",)


def test_a_pdf_without_any_text_is_scanned() -> None:
    error = refusal(make_pdf(["", ""]), "my scan.pdf")
    assert error.code == "scanned"
    assert "ocrmypdf 'my scan.pdf' out.pdf" in error.hint


def test_a_pdf_without_pages_is_empty() -> None:
    assert refusal(make_pdf([])).code == "empty"


def test_progress_is_told_after_each_page() -> None:
    told: list[tuple[int, int]] = []
    read_pdf(
        make_pdf(["a", "", "c"]),
        "a.pdf",
        password=None,
        on_page=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_an_error_of_the_callback_is_not_the_files_fault() -> None:
    def cancel(done: int, total: int) -> None:
        raise RuntimeError(f"canceled at {done} of {total}")

    with pytest.raises(RuntimeError, match="canceled at 1 of 1"):
        read_pdf(make_pdf(["a"]), "a.pdf", password=None, on_page=cancel)


@pytest.mark.parametrize("algorithm", ["AES-256", "AES-128", "RC4-128"])
def test_encrypted_pdfs_need_their_password(algorithm: str) -> None:
    data = encrypted(make_pdf(["secret"]), "word", algorithm)
    assert read(data, password="word").text == "secret"
    missing, wrong = refusal(data), refusal(data, password="other")
    assert (missing.code, wrong.code) == ("encrypted", "encrypted")
    assert "--password" in missing.hint
    assert "--password" in wrong.hint
    assert missing.message != wrong.message


@pytest.mark.parametrize("password", [None, "", "anything"])
def test_an_empty_password_opens_without_asking(password: str | None) -> None:
    data = encrypted(make_pdf(["open"]), "", "AES-256")
    assert read(data, password=password).text == "open"


def test_a_password_for_an_open_pdf_is_no_error() -> None:
    assert read(make_pdf(["open"]), password="word").text == "open"


def test_unknown_encryption_is_told() -> None:
    data = make_pdf(["a"]).replace(b"/Root 1 0 R", b"/Root 1 0 R /Encrypt << /Filter /Foo >>")
    error = refusal(data)
    assert error.code == "encrypted"
    assert "--password" not in error.hint


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_broken(share: float) -> None:
    data = FHS.read_bytes()
    error = refusal(data[: int(share * len(data))], "cut short.pdf")
    assert error.code == "broken"
    assert "qpdf 'cut short.pdf'" in error.hint


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.4\n",
        b"%PDF-1.4\n%%EOF",
        b"%PDF-1.7\ntrailer\n<< /Root 1 0 R >>\nstartxref\n0\n%%EOF",
        make_pdf(["a"]).replace(b"/Type /Pages", b"/Kids 7 %     "),
        make_pdf(["a"]).replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"),
    ],
)
def test_damaged_files_are_broken(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal(data).code == "broken"
    assert not caplog.records


@pytest.mark.parametrize("wrong", [b"startxxxx", b""])
def test_a_file_without_its_index_is_repaired(wrong: bytes) -> None:
    """PDFium finds the objects of such a file, and pypdf does not."""
    document = read(make_pdf(["The rent is 900 euros."]).replace(b"startxref", wrong))
    assert document.text == "The rent is 900 euros."
    (warning,) = document.warnings
    assert warning.startswith("the PDF is damaged")


def test_a_damaged_page_is_named() -> None:
    data = make_pdf(["good", "wrong"]).replace(b"(wrong) Tj", b")wrong() Tj")
    document = read(data)
    assert document.text == "good"
    (warning,) = document.warnings
    assert warning.startswith("page 2 is damaged and was not read (")


def test_a_file_of_damaged_pages_is_broken() -> None:
    error = refusal(make_pdf(["", "wrong"]).replace(b"(wrong) Tj", b")wrong() Tj"))
    assert error.code == "broken"
    assert "at page 2" in error.message


@pytest.mark.parametrize("cause", [RecursionError("too deep"), KeyError("/Font"), TypeError()])
def test_whatever_the_libraries_leak_is_broken(
    cause: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> str:
        raise cause

    monkeypatch.setattr(GlyphReader, "runs", fail)
    error = refusal(make_pdf(["a"]))
    assert error.code == "broken"
    assert (str(cause) or "TypeError") in error.message
    assert error.__cause__ is cause


def test_a_page_that_pdfium_cannot_read_is_read_by_pypdf(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> str:
        raise pypdfium2.PdfiumError("cannot open")

    monkeypatch.setattr(pypdfium2.PdfDocument, "get_page", fail)
    assert read(make_pdf(["a", "b"])).text == "a\n\nb"
    monkeypatch.setattr(pypdfium2, "PdfDocument", fail)
    assert read(make_pdf(["a", "b"])).text == "a\n\nb"


def test_memory_errors_are_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> str:
        raise MemoryError

    monkeypatch.setattr(GlyphReader, "runs", fail)
    with pytest.raises(MemoryError):
        read(make_pdf(["a"]))


def test_damage_that_pypdf_works_around_is_a_warning(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = make_pdf(["one", "two"]).replace(b"startxref\n", b"startxref\n9")
    document = read(damaged)
    assert document.text == "one\n\ntwo"
    (warning,) = document.warnings
    assert warning.startswith("the PDF is damaged and some text may be missing or wrong (")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_the_log_of_pypdf_is_given_back() -> None:
    logger = logging.getLogger("pypdf")
    before = (list(logger.handlers), logger.propagate)
    read(make_pdf(["a"]))
    refusal(b"%PDF-")
    assert (list(logger.handlers), logger.propagate) == before


@pytest.fixture(scope="module")
def fhs() -> Document:
    return read_pdf(FHS, "fhs.pdf", password=None)


def test_every_line_of_a_book_is_found_on_its_own_page(fhs: Document) -> None:
    assert [piece.page for piece in fhs.pieces] == list(range(1, 51))
    lines_seen = 0
    for piece in fhs.pieces:
        start = piece.start
        lines = fhs.text[piece.start : piece.end].split("\n")
        for number, line in enumerate(lines, start=1):
            found = fhs.locate(start, start + len(line))
            assert (found.page, found.line_start, found.line_end) == (piece.page, number, number)
            assert found.page_label == piece.page_label
            start += len(line) + 1
            lines_seen += 1
        assert start == piece.end + 1
        assert fhs.text[piece.end : piece.end + 2] in {PAGE_BREAK, ""}
    assert lines_seen > 1500


def test_a_book_has_its_labels_and_words(fhs: Document) -> None:
    labels = [piece.page_label for piece in fhs.pieces]
    assert labels[:8] == [None, None, "i", "ii", "iii", "iv", "v", "1"]
    assert labels[-1] == "43"
    assert fhs.warnings == ()
    start = fhs.text.index("3.5. /boot : Static files of the boot loader ... 7\n")
    assert fhs.locate(start, start + 20).page_label == "ii"
    assert "....." not in fhs.text
    assert not re.search(r"[ \t]\n|\n\n\n", fhs.text)
    assert unicodedata.is_normalized("NFC", fhs.text)


def test_a_book_keeps_its_compounds(fhs: Document) -> None:
    for compound in ("run-\ntime", "non-\nroot", "FHS-\ncompliant", "architecture-\nindependent"):
        assert compound in fhs.text
    assert "startup\ndata. /usr, /opt" in fhs.text


def test_of_a_long_object_stream_only_what_is_needed_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of the structure tree of a tagged PDF."""
    from nsa_cli.documents.pdf import object_streams

    parsed = []
    real = object_streams.read_object
    monkeypatch.setattr(
        object_streams, "read_object", lambda *given: parsed.append(1) or real(*given)
    )
    data = in_object_stream(more=5000)
    assert read(data).text == "a clause"
    assert 0 < len(parsed) < 20


def in_object_stream(more: int) -> bytes:
    """A PDF whose catalog and pages are in an object stream, with `more` other objects."""
    inside = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R"
        b" /Resources << /Font << /F1 4 0 R >> >> >>",
        4: LATIN.encode(),
        **{7 + n: b"<< /S /Span /P %d 0 R >>" % (6 + n) for n in range(more)},
    }
    header, body = b"", b""
    for number, content in inside.items():
        header += b"%d %d " % (number, len(body))
        body += content + b" "
    entries = b"/Type /ObjStm /N %d /First %d" % (len(inside), len(header))
    outside = {
        5: stream(b"BT /F1 12 Tf 72 720 Td (a clause) Tj ET"),
        6: b"<< %s /Length %d >>\nstream\n%s\nendstream"
        % (entries, len(header + body), header + body),
    }
    out = bytearray(b"%PDF-1.7\n")
    places = {}
    for number, content in outside.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    last = 7 + more
    places[last] = len(out)
    index = list(inside)
    rows = bytearray(b"\0" * 7)
    for number in range(1, last + 1):
        if number in places:
            rows += b"\x01" + places[number].to_bytes(4, "big") + b"\0\0"
        else:
            rows += b"\x02" + (6).to_bytes(4, "big") + index.index(number).to_bytes(2, "big")
    out += b"%d 0 obj\n<< /Type /XRef /Size %d /W [1 4 2] /Root 1 0 R /Length %d >>\n" % (
        last,
        last + 1,
        len(rows),
    )
    out += b"stream\n" + rows + b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % places[last]
    return bytes(out)
