"""Pictures, embedded files and imported documents inside office files: read, or named."""

from __future__ import annotations

import base64
import io
import struct
import sys
import types
import zipfile
import zlib
from typing import Any

import docx
import openpyxl
import pptx
import pytest

from nsa_cli.documents import Document, parse_document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.formats.embedded import take_embedded
from nsa_cli.documents.formats.pictures import find_pictures

_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_OBJECT = (
    "<w:p><w:r><w:object xmlns:o='urn:schemas-microsoft-com:office:office'>"
    f"<o:OLEObject xmlns:r='{_RELATIONS}' ProgID='Package' r:id='new1'/></w:object></w:r></w:p>"
)
_IMPORT = f"<w:altChunk xmlns:r='{_RELATIONS}' r:id='new1'/>"


def picture(width: int = 400, height: int = 120, shade: int = 0) -> bytes:
    """A gray PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([shade]) * width) * height
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def word(*shown: str | bytes) -> bytes:
    """A Word document of paragraphs and pictures."""
    document = docx.Document()
    for each in shown:
        if isinstance(each, str):
            document.add_paragraph(each)
        else:
            document.add_picture(io.BytesIO(each))
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def slides(*shown: list[str | bytes]) -> bytes:
    show = pptx.Presentation()
    for each in shown:
        slide = show.slides.add_slide(show.slide_layouts[6])
        for item in each:
            if isinstance(item, str):
                slide.shapes.add_textbox(0, 0, 10**6, 10**6).text_frame.text = item
            else:
                slide.shapes.add_picture(io.BytesIO(item), 0, 0)
    out = io.BytesIO()
    show.save(out)
    return out.getvalue()


def with_part(data: bytes, xml: str, name: str, kind: str, content: bytes) -> bytes:
    """A Word document with XML before the last paragraph, and a part that it refers to as new1."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as package, zipfile.ZipFile(out, "w") as copy:
        for member in package.namelist():
            text = package.read(member)
            if member == "word/document.xml":
                text = text.replace(b"<w:sectPr", xml.encode() + b"<w:sectPr", 1)
            if member == "word/_rels/document.xml.rels":
                relation = f'<Relationship Id="new1" Type="{_RELATIONS}/{kind}" Target="{name}"/>'
                text = text.replace(b"</Relationships>", relation.encode() + b"</Relationships>")
            if member == "[Content_Types].xml":
                suffix = name.rpartition(".")[2]
                default = f'<Default Extension="{suffix}" ContentType="application/x-{suffix}"/>'
                text = text.replace(b"<Override", default.encode() + b"<Override", 1)
            copy.writestr(member, text)
        copy.writestr(f"word/{name}", content)
    return out.getvalue()


def read(data: bytes, name: str = "a.docx", ocr: str | None = None) -> Document:
    return parse_document(name, data, ocr=ocr)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OCR engine that sees how dark a picture is."""
    module = types.ModuleType("pytesseract")
    module.get_languages = lambda: ["eng", "osd"]  # type: ignore[attr-defined]

    def see(seen: Any, lang: str) -> str:
        assert (lang, seen.mode) == ("eng", "L")
        shade = seen.getpixel((0, 0))
        return f"shade {shade}\n" if shade < 255 else " \n"

    module.image_to_string = see  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytesseract", module)


def test_pictures_of_a_word_document_are_named_with_their_place() -> None:
    found = read(word("Floor plan", picture(), "Rent", picture(shade=9), picture(20, 20), "End"))
    assert found.text == "Floor plan\nRent\nEnd"
    [warning] = found.warnings
    assert warning == (
        "2 pictures may hold text that is not read (after “Floor plan”, after “Rent”); "
        "--ocr reads them"
    )


def test_pictures_of_slides_and_sheets() -> None:
    logo = picture(shade=77)
    show = slides(["One", logo], ["Two", logo, picture()], ["Three", logo])
    assert read(show, "a.pptx").warnings == (
        "1 picture may hold text that is not read (slide 2); --ocr reads it",
    )
    book = openpyxl.Workbook()
    book.active.title = "Costs"
    book.active["A1"] = "sum"
    from openpyxl.drawing.image import Image

    pytest.importorskip("PIL")
    book.active.add_image(Image(io.BytesIO(picture())), "B2")
    out = io.BytesIO()
    book.save(out)
    assert read(out.getvalue(), "a.xlsx").warnings == (
        "1 picture may hold text that is not read (sheet Costs); --ocr reads it",
    )


def test_pictures_inside_a_web_page() -> None:
    inside = base64.b64encode(picture()).decode()
    page = f"<p>Rent</p><img src='data:image/png;base64,{inside}'><img src='logo.png'>"
    found = read(page.encode(), "a.html")
    assert found.warnings == ("1 picture may hold text that is not read; --ocr reads it",)


@pytest.mark.usefixtures("engine")
def test_pictures_are_read_by_ocr() -> None:
    broken = picture(shade=3)[:60] + b"\0" * 200
    data = word("Plan", picture(shade=7), picture(shade=255))
    found = read(data, ocr="eng")
    assert found.text.endswith("==> a.docx/image1.png <==\n\nshade 7")
    assert found.text.startswith("Plan\n")
    assert [piece.source for piece in found.pieces] == ["a.docx", "a.docx/image1.png"]
    [warning] = found.warnings
    assert warning == "the text of 1 picture was read by OCR, which may be wrong in places"
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as package, zipfile.ZipFile(out, "w") as copy:
        for member in package.namelist():
            image = member.endswith("image2.png")
            copy.writestr(member, broken if image else package.read(member))
    told = read(out.getvalue(), ocr="eng").warnings
    assert told[1].startswith("1 picture may hold text that is not read")


@pytest.mark.usefixtures("engine")
def test_a_document_of_pictures_alone() -> None:
    found = read(word(picture(shade=7)), ocr="eng")
    assert found.text.endswith("shade 7")
    with pytest.raises(UnreadableError) as caught:
        read(word(picture()))
    assert caught.value.code == "empty"


def test_a_damaged_package_has_no_pictures() -> None:
    assert find_pictures(b"PK\3\4 nothing", "word") == []


def native(name: str, data: bytes) -> bytes:
    """The stream that the packager of Windows writes."""
    body = b"\2\0" + name.encode() + b"\0C:\\" + name.encode() + b"\0" + b"\0\0\3\0"
    body += struct.pack("<I", 4) + b"tmp\0" + struct.pack("<I", len(data)) + data
    return struct.pack("<I", len(body)) + body


class Part:
    def __init__(self, name: str, blob: bytes) -> None:
        self.partname, self.blob = name, blob


class Taken:
    def __init__(self) -> None:
        self.files: list[tuple[str | None, bytes]] = []

    def take(self, filename: str | None, kind: str, data: bytes) -> list[str]:
        assert kind
        self.files.append((filename, data))
        return []


def test_embedded_files_are_read_by_their_own_format() -> None:
    inside = word("The annex has a clause.")
    data = with_part(word("Main text"), _OBJECT, "embeddings/annex.docx", "package", inside)
    found = read(data)
    assert found.text.endswith("==> a.docx/annex.docx <==\n\nThe annex has a clause.")
    assert found.warnings == ()
    broken = with_part(word("Main text"), _OBJECT, "embeddings/annex.docx", "package", b"PK\3\4no")
    assert "attachment annex.docx is not read" in read(broken).warnings[0]
    unknown = with_part(word("Main text"), _OBJECT, "embeddings/oleObject1.bin", "oleObject", b"?")
    assert read(unknown).warnings == ("1 embedded object (Package) is left out",)


@pytest.mark.parametrize("streams", [{"\x01Ole10Native": native("fees.txt", b"Fee: 40")}, {}])
def test_files_in_compound_objects(
    streams: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Container:
        def __init__(self, _: Any) -> None: ...
        def __enter__(self) -> Container:
            return self

        def __exit__(self, *_: object) -> None: ...
        def exists(self, name: str) -> bool:
            return name in streams

        def openstream(self, name: str) -> io.BytesIO:
            return io.BytesIO(streams[name])

    monkeypatch.setattr("olefile.OleFileIO", Container)
    taken = Taken()
    part = Part("/word/embeddings/oleObject1.bin", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    assert take_embedded(part, taken) is bool(streams)  # type: ignore[arg-type]
    assert taken.files == ([("fees.txt", b"Fee: 40")] if streams else [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chunk.html", b"<html><body><p>The imported clause.</p></body></html>"),
        ("chunk.docx", word("The imported clause.")),
        ("chunk.txt", b"The imported clause.\n"),
        ("chunk.rtf", rb"{\rtf1\ansi The imported clause.\par}"),
    ],
)
def test_imported_documents_stand_at_their_place(name: str, content: bytes) -> None:
    found = read(with_part(word("Main text"), _IMPORT, name, "aFChunk", content))
    assert found.text.splitlines() == ["Main text", "The imported clause."]
    assert found.warnings == ()
