"""Pages are drawn, and quotes are found on them."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import pypdf
import pytest

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.pdf import read_pdf
from nsa_cli.documents.pdf.picture import draw_page, find_characters, is_pdf, lay_out_page

FHS = Path(__file__).parents[4] / "examples" / "fhs-3.0.pdf"
QUOTE = "The operating system kernel must be located in either / or /boot."


@pytest.fixture(scope="module")
def data() -> bytes:
    """A PDF of 50 pages."""
    return FHS.read_bytes()


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height, and lines of red, green and blue, each after the byte 0."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, body, size = 8, b"", (0, 0)
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        chunk = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + chunk) == struct.unpack(">I", png[at + 8 + length :][:4])[0]
        if kind == b"IHDR":
            size = struct.unpack(">II", chunk[:8])
        body += chunk if kind == b"IDAT" else b""
        at += 12 + length
    return *size, zlib.decompress(body)


def dark_share(png: bytes, box: tuple[float, float, float, float]) -> float:
    """Share of dark pixels within left, top, right and bottom, as shares of the picture."""
    width, height, lines = pixels(png)
    left, top, right, bottom = box
    rows = range(int(top * height), int(bottom * height))
    columns = range(int(left * width), int(right * width))
    values = [lines[row * (1 + 3 * width) + 1 + 3 * column] for row in rows for column in columns]
    return sum(value < 128 for value in values) / len(values)


def test_a_page_is_drawn(data: bytes) -> None:
    png = draw_page(data, 14, "fhs.pdf", width=300)
    width, height, lines = pixels(png)
    assert (width, height) == (300, 389)
    assert len(lines) == height * (1 + 3 * width)
    assert lines[1:4] == b"\xff\xff\xff"
    assert 0.005 < dark_share(png, (0, 0, 1, 1)) < 0.5  # letters
    assert draw_page(data, 13, "fhs.pdf", width=300) != png


def test_a_mark_covers_its_words_and_nothing_else(data: bytes) -> None:
    layout = lay_out_page(data, 14, "fhs.pdf", quote=QUOTE)
    assert (layout.width, layout.height, layout.pages) == (612, 792, 50)
    [mark] = layout.marks
    png = draw_page(data, 14, "fhs.pdf", width=1200)
    right, bottom = mark.left + mark.width, mark.top + mark.height
    assert dark_share(png, (mark.left, mark.top, right, bottom)) > 0.05
    assert dark_share(png, (0, mark.top, mark.left - 0.005, bottom)) == 0
    assert dark_share(png, (right + 0.02, mark.top, 1, bottom)) == 0
    assert mark.height < 0.03


def test_a_quote_of_several_lines_has_a_mark_for_each(data: bytes) -> None:
    document = read_pdf(data, "fhs.pdf", password=None)
    [page] = [piece for piece in document.pieces if piece.page == 14]
    lines = document.text[page.start : page.end].split("\n")
    at = lines.index(QUOTE)
    layout = lay_out_page(data, 14, "fhs.pdf", quote="\n".join(lines[at : at + 3]))
    assert len(layout.marks) == 3
    tops = [mark.top for mark in layout.marks]
    assert tops == sorted(tops)
    assert len(set(tops)) == 3


def test_any_part_of_a_text_is_found_on_its_page(data: bytes) -> None:
    document = read_pdf(data, "fhs.pdf", password=None)
    picked = random.Random(1)
    for _ in range(40):
        piece = picked.choice(document.pieces)
        text = document.text[piece.start : piece.end]
        start = picked.randrange(max(1, len(text) - 150))
        quote = text[start : start + 150]
        if sum(map(str.isalnum, quote)) < 30:
            continue
        assert piece.page is not None
        layout = lay_out_page(data, piece.page, "fhs.pdf", quote=quote, before=text[:start])
        assert layout.marks, (piece.page, quote)
        for mark in layout.marks:
            assert 0 <= mark.left < mark.left + mark.width <= 1
            assert 0 <= mark.top < mark.top + mark.height <= 1


def test_a_mark_turns_with_its_page(data: bytes, tmp_path: Path) -> None:
    writer = pypdf.PdfWriter()
    writer.add_page(pypdf.PdfReader(FHS).pages[13].rotate(90))
    writer.write(tmp_path / "turned.pdf")
    turned = lay_out_page((tmp_path / "turned.pdf").read_bytes(), 1, "turned.pdf", quote=QUOTE)
    upright = lay_out_page(data, 14, "fhs.pdf", quote=QUOTE)
    assert (turned.width, turned.height) == (upright.height, upright.width)
    [before], [after] = upright.marks, turned.marks
    assert after.top == pytest.approx(before.left, abs=0.01)
    assert after.left == pytest.approx(1 - before.top - before.height, abs=0.01)
    assert after.height == pytest.approx(before.width, abs=0.01)


def test_another_quote_is_not_marked(data: bytes) -> None:
    assert lay_out_page(data, 14, "fhs.pdf", quote="Ferries leave at seven.").marks == ()
    assert lay_out_page(data, 14, "fhs.pdf", quote="—").marks == ()
    assert lay_out_page(data, 14, "fhs.pdf").marks == ()


@pytest.mark.parametrize(
    ("shown", "quote", "before", "expected"),
    [
        ("The ferry. The ferry.", "the ferry", "", "The ferry"),
        ("one two one", "one", "one two ", "one"),
        ("a ﬁne con-\r\ntract", "fine contract", "", "ﬁnecontract"),
        ("Café", "cafe\u0301", "", "Café"),
        ("left side right side", "right side\nleft side", "", "leftsiderightside"),
        ("x", "", "", ""),
    ],
)
def test_characters_of_a_quote(shown: str, quote: str, before: str, expected: str) -> None:
    found = find_characters(shown, quote, before)
    letters = "".join(shown[at] for at in found)
    assert letters.replace(" ", "") == expected.replace(" ", "")


def test_repeated_words_are_told_apart_by_what_comes_before() -> None:
    shown = "The end. The end. The end."
    assert find_characters(shown, "The end", "")[0] == 0
    assert find_characters(shown, "The end", "The end. ")[0] == 9
    assert find_characters(shown, "The end", "The end. The end. The end. ")[0] == 18


def test_no_such_page(data: bytes) -> None:
    for number in (0, 51):
        with pytest.raises(UnreadableError, match=f"has no page {number}"):
            draw_page(data, number, "fhs.pdf", width=300)
    with pytest.raises(UnreadableError, match="cannot be drawn"):
        draw_page(b"%PDF-1.7 nothing", 1, "a.pdf", width=300)


def test_a_very_large_page_is_drawn_smaller(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("nsa_cli.documents.pdf.picture._MOST_PIXELS", 10_000)
    width, height, _ = pixels(draw_page(data, 1, "fhs.pdf", width=3000))
    assert width * height < 11_000


def test_a_pdf_is_told_by_its_first_bytes(data: bytes) -> None:
    assert is_pdf(data)
    assert is_pdf(b"From: a mail\n" + data)
    assert not is_pdf(b"a text about %PDF")
