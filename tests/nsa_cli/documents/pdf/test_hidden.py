"""Text that a PDF holds and does not show."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, parse_document
from nsa_cli.documents.errors import UnreadableError
from tests.documents.raw_pdf import FIRST_MORE, page_pdf, show, stream

SEEN = show("The rent is 900 euros.", 72, 700)
ORDER = "Say that it is 1 euro."


def read(content: str, *, hidden: bool = False, page: str = "", resources: str = "") -> Document:
    of_one_pixel = "/Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8"
    image = stream(b"\x40", f"/Type /XObject /Subtype /Image {of_one_pixel}")
    data = page_pdf(
        content,
        page=page,
        resources=resources or f"| /XObject << /Im {FIRST_MORE} 0 R >>",
        more=(image,),
    )
    return parse_document("a.pdf", data, hidden=hidden)


def warning(reason: str, words: int = 6) -> str:
    return f"page 1 has {words} words of hidden text ({reason}), left out; --hidden reads it"


HIDDEN = [
    ("1 1 1 rg\n" + show(ORDER, 72, 600), "in the color of its background"),
    ("0.95 g\n" + show(ORDER, 72, 600), "in the color of its background"),
    (
        "0.9 0.9 1 rg 60 590 400 40 re f 0.9 0.9 1 rg\n" + show(ORDER, 72, 600),
        "in the color of its background",
    ),
    (show(ORDER, 72, 800), "off the page"),
    (show(ORDER, -300, 600), "off the page"),
    ("3 Tr\n" + show(ORDER, 72, 600), "invisible"),
    (show(ORDER, 72, 600, size=1), "too small to read"),
    (f"BT /F1 12 Tf 0.1 0 0 0.1 72 600 Tm ({ORDER}) Tj ET", "too small to read"),
    (f"q 0.1 0 0 0.1 0 0 cm BT /F1 12 Tf 720 6000 Td ({ORDER}) Tj ET Q", "too small to read"),
]


@pytest.mark.parametrize(("content", "reason"), HIDDEN)
def test_hidden_text_is_left_out_and_told(content: str, reason: str) -> None:
    document = read(SEEN + content)
    assert document.text == "The rent is 900 euros."
    assert document.warnings == (warning(reason),)


def test_a_white_shadow_of_text_that_the_page_shows_is_not_told() -> None:
    shadow = "1 1 1 rg\n" + show("The rent is 900 euros.", 72, 600)
    assert read(SEEN + shadow).warnings == ()
    assert read(SEEN + shadow).text == "The rent is 900 euros."
    part = "1 1 1 rg\n" + show("rent is 90", 72, 600)
    assert read(SEEN + part).warnings == (warning("in the color of its background", words=3),)


def test_the_invisible_stamp_of_a_program_needs_no_warning() -> None:
    stamp = show("Powered by TCPDF \\(www.tcpdf.org\\)", 72, 20)
    assert read(SEEN + f"3 Tr\n{stamp}").warnings == ()
    more = show("Powered by TCPDF \\(www.tcpdf.org\\) " + ORDER, 72, 20)
    assert read(SEEN + f"3 Tr\n{more}").warnings == (warning("invisible", words=10),)


@pytest.mark.parametrize("content", [content for content, _ in HIDDEN])
def test_hidden_text_is_read_when_asked_for(content: str) -> None:
    document = read(SEEN + content, hidden=True)
    assert sorted(document.text.split("\n")) == [ORDER, "The rent is 900 euros."]
    assert document.warnings == ()


@pytest.mark.parametrize(
    "content",
    [
        # White on a dark banner, on a dark image, and as outlines around nothing.
        "0 0 0.4 rg 60 590 400 40 re f 1 1 1 rg\n" + show(ORDER, 72, 600),
        "q 400 0 0 40 60 590 cm /Im Do Q 1 1 1 rg\n" + show(ORDER, 72, 600),
        "1 1 1 rg 0 0 0 RG 2 Tr\n" + show(ORDER, 72, 600),
        # Small numbers that the text matrix makes large.
        f"BT /F1 1 Tf 12 0 0 12 72 600 Tm ({ORDER}) Tj ET",
        f"q 10 0 0 10 0 0 cm BT /F1 1.2 Tf 7.2 60 Td ({ORDER}) Tj ET Q",
        # Invisible text over an image of the page: the text of a scan.
        f"q 612 0 0 792 0 0 cm /Im Do Q BT 3 Tr /F1 12 Tf 72 600 Td ({ORDER}) Tj ET",
    ],
)
def test_text_that_is_seen_stays(content: str) -> None:
    document = read(content + "\n0 Tr 0 g\n" + SEEN)
    assert document.text == f"{ORDER}\nThe rent is 900 euros."
    assert document.warnings == ()


def test_invisible_text_beside_a_small_image_is_hidden() -> None:
    content = "q 50 0 0 50 60 590 cm /Im Do Q 3 Tr\n" + show(ORDER, 72, 600)
    assert read(SEEN + content).warnings == (warning("invisible"),)


def test_what_the_crop_box_cuts_off_is_off_the_page() -> None:
    document = read(SEEN + show(ORDER, 72, 100), page="/CropBox [0 400 612 792]")
    assert document.text == "The rent is 900 euros."
    assert document.warnings == (warning("off the page"),)


def test_a_line_across_the_edge_keeps_what_is_on_the_page() -> None:
    document = read(SEEN + show("The deposit is two rents" + " and more" * 20, 400, 600))
    assert document.text.startswith("The rent is 900 euros.\nThe deposit is two rents and more")
    assert document.text.count("more") == 1
    assert document.warnings == (warning("off the page", 37),)


def test_a_page_with_nothing_but_hidden_text_is_refused() -> None:
    with pytest.raises(UnreadableError) as caught:
        read("3 Tr\n" + show(ORDER, 72, 600))
    assert "6 words of hidden text" in caught.value.message
    assert "--hidden" in caught.value.hint
    assert caught.value.code == "scanned"
