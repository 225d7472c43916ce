"""Office packages that their libraries refuse: other names, missing parts, damaged parts."""

from __future__ import annotations

import datetime
import io
import re
import zipfile

import docx
import openpyxl
import pptx
import pytest

from nsa_cli.documents import parse_document
from nsa_models.errors import NsaError
from tests.nsa_cli.documents.formats.test_office import deck, rewritten, saved

_MAIN = "openxmlformats-officedocument.presentationml.presentation.main"


def letter() -> bytes:
    document = docx.Document()
    document.add_paragraph("The rent is 940 euros.")
    document.add_paragraph("The term is three years.")
    return saved(document)


def accounts() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Item", "Paid", "Share"])
    sheet.append(["Roof", datetime.date(2024, 3, 17), 0.25])
    sheet["B2"].number_format = "yyyy-mm-dd"
    sheet["C2"].number_format = "0.0%"
    return saved(book)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".ppsx", "openxmlformats-officedocument.presentationml.slideshow.main"),
        (".potx", "openxmlformats-officedocument.presentationml.template.main"),
        (".pptm", "ms-powerpoint.presentation.macroEnabled.main"),
        (".ppsm", "ms-powerpoint.slideshow.macroEnabled.main"),
        (".potm", "ms-powerpoint.template.macroEnabled.main"),
    ],
)
def test_slide_shows_templates_and_macros(suffix: str, kind: str) -> None:
    def change(_: str, content: bytes) -> bytes:
        return content.replace(_MAIN.encode(), kind.encode())

    document = parse_document("a" + suffix, rewritten(saved(deck()), change))
    assert "Secret plan" in document.text
    assert document.warnings == ()


def test_a_missing_picture_does_not_hide_the_text() -> None:
    def change(name: str, content: bytes) -> bytes:
        if name != "word/_rels/document.xml.rels":
            return content
        kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/image"
        link = b'<Relationship Id="rId99" Type="%s" Target="media/gone.png"/>' % kind
        return content.replace(b"</Relationships>", link + b"</Relationships>")

    document = parse_document("a.docx", rewritten(letter(), change))
    assert "The rent is 940 euros." in document.text
    assert "repaired" in document.warnings[0]
    assert "gone.png" in document.warnings[0]


def test_xml_that_is_not_well_formed_is_read_as_far_as_it_goes() -> None:
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"</w:sectPr>", b"") if name == "word/document.xml" else content

    document = parse_document("a.docx", rewritten(letter(), change))
    assert document.text.splitlines()[:2] == ["The rent is 940 euros.", "The term is three years."]
    assert "text may be missing" in document.warnings[0]


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("xl/styles.xml", rb"<cellStyle ", rb'<cellStyle ZMIENNA="1" '),
        ("docProps/core.xml", rb"(W3CDTF\">)[^<]*", rb"\1yesterday"),
    ],
)
def test_styles_and_properties_do_not_hide_cells(part: str, old: bytes, new: bytes) -> None:
    def change(name: str, content: bytes) -> bytes:
        return re.sub(old, new, content) if name == part else content

    data = rewritten(accounts(), change)
    with pytest.raises(Exception, match=r".+"):
        openpyxl.load_workbook(io.BytesIO(data), read_only=True)
    document = parse_document("a.xlsx", data)
    assert "Item: Roof | Paid: 2024-03-17 | Share: 25%" in document.text
    assert len(document.warnings) == 1


def test_names_with_backslashes_and_in_another_case() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(accounts())) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name.lower().replace("/", "\\"), old.read(name))
    document = parse_document("a.xlsx", file.getvalue())
    assert "Item: Roof | Paid: 2024-03-17 | Share: 25%" in document.text


def test_a_repair_that_does_not_help_tells_the_first_damage() -> None:
    def change(name: str, content: bytes) -> bytes:
        return b"no XML" if name == "ppt/presentation.xml" else content

    with pytest.raises(NsaError, match="is a damaged PowerPoint presentation"):
        parse_document("a.pptx", rewritten(saved(pptx.Presentation()), change))


def test_entities_of_a_document_type_are_not_expanded_by_a_repair() -> None:
    def change(name: str, content: bytes) -> bytes:
        if name != "word/document.xml":
            return content
        start = content.index(b"<w:document")
        kind = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'
        return content[:start] + kind + content[start:].replace(b"three years", b"&c; years")

    with pytest.raises(NsaError, match="is a damaged Word document"):
        parse_document("a.docx", rewritten(letter(), change))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.docx", "a Word document (.docx)"),
        ("a.xlsx", "an Excel workbook (.xlsx)"),
    ],
)
def test_a_file_that_is_cut_off_says_so(name: str, what: str) -> None:
    whole = letter() if name == "a.docx" else accounts()
    with pytest.raises(NsaError) as caught:
        parse_document(name, whole[: len(whole) * 2 // 3])
    assert caught.value.message == (f"{name} looks like {what} that is cut off: its end is missing")
    assert caught.value.code == "broken"


def test_a_binary_workbook_is_called_one() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.bin", b"\x83\x01\x00\x00")
    with pytest.raises(NsaError, match=r"looks like a binary Excel workbook \(\.xlsb\)"):
        parse_document("a.xlsb", file.getvalue())
