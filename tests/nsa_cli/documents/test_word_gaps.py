from __future__ import annotations

import io

import pypdf
import pytest
from pypdf import _page
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NumberObject,
)

from nsa_cli.documents.pdf import read_pdf
from nsa_cli.documents.word_gaps import SPACE_WIDTH, gaps_become_spaces

WORDS = "<00010002>{gap}<00030004>"
"""`ab` and `cd` in two-byte codes, with a gap in thousandths of the font size between them."""


def page_of(shown: str, *, wide_code: int = 32) -> pypdf.PdfWriter:
    """A page in a font without a space, in which another glyph has the number of the space."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(612, 792)
    to_unicode = DecodedStreamObject()
    to_unicode.set_data(
        b"begincmap\n1 begincodespacerange\n<0000> <ffff>\nendcodespacerange\n"
        b"4 beginbfchar\n<0001> <0061>\n<0002> <0062>\n<0003> <0063>\n<0004> <0064>\nendbfchar\n"
        b"endcmap"
    )
    widths = ArrayObject([NumberObject(wide_code), ArrayObject([NumberObject(900)])])
    descendant = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/CIDFontType2"),
            NameObject("/BaseFont"): NameObject("/X"),
            NameObject("/W"): widths,
            NameObject("/DW"): NumberObject(500),
            NameObject("/FontDescriptor"): DictionaryObject(
                {NameObject("/FontName"): NameObject("/X"), NameObject("/Flags"): NumberObject(4)}
            ),
        }
    )
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type0"),
            NameObject("/BaseFont"): NameObject("/X"),
            NameObject("/Encoding"): NameObject("/Identity-H"),
            NameObject("/DescendantFonts"): ArrayObject([descendant]),
            NameObject("/ToUnicode"): writer._add_object(to_unicode),
        }
    )
    fonts = DictionaryObject({NameObject("/F1"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 10 Tf 72 720 Td [{shown}] TJ ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    return writer


def text_of(writer: pypdf.PdfWriter) -> str:
    out = io.BytesIO()
    writer.write(out)
    return read_pdf(out.getvalue(), "a.pdf", password=None).text


@pytest.mark.parametrize(
    ("gap", "text"),
    [(-333, "ab cd"), (-250, "ab cd"), (-167, "ab cd"), (-60, "abcd"), (0, "abcd"), (80, "abcd")],
)
def test_word_gaps_become_spaces_and_kerning_does_not(gap: int, text: str) -> None:
    assert text_of(page_of(WORDS.format(gap=gap))) == text


def test_pypdf_still_needs_it() -> None:
    # When this fails, pypdf's issue 3978 is solved and word_gaps.py can go.
    assert page_of(WORDS.format(gap=-250)).pages[0].extract_text() == "abcd"


def test_the_font_class_is_given_back() -> None:
    before = _page.Font  # type: ignore[attr-defined]
    page = page_of(WORDS.format(gap=-250)).pages[0]
    with gaps_become_spaces():
        assert page.extract_text(space_width=SPACE_WIDTH) == "ab cd"
    assert _page.Font is before  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="inside"), gaps_become_spaces():
        raise RuntimeError("inside")
    assert _page.Font is before  # type: ignore[attr-defined]
