"""Glyph numbers that pass as text, and text that looks odd and is none of them."""

from __future__ import annotations

import pytest

from nsa_cli.documents import parse_document
from nsa_cli.documents.pdf.language import is_language, odd_share
from tests.documents.raw_pdf import FIRST_MORE, codes, page_pdf, show, two_byte_font

SECRET = "The crane fee is 900 euros and is due in May"
CHARACTERS = "".join(dict.fromkeys(SECRET))
UNREADABLE = "(fonts without a mapping to Unicode); --ocr reads what the page shows"


def pdf(shown: str, *, mapped_to: str | None = None, before: str = "") -> bytes:
    """A page with a text in a font whose codes are mapped to other characters, or to none."""
    return page_pdf(
        before + f"BT /F2 12 Tf 72 600 Td {codes(shown, CHARACTERS)} Tj ET",
        resources=f"/F2 {FIRST_MORE} 0 R",
        more=two_byte_font(mapped_to or CHARACTERS, mapped=mapped_to is not None),
    )


def test_codes_without_a_mapping_are_told() -> None:
    document = parse_document("a.pdf", pdf(SECRET, before=show("Page 1", 72, 700)))
    (warning,) = document.warnings
    assert warning == f"page 1 has 90% unreadable characters {UNREADABLE}"
    assert "Page 1" in document.text


def test_a_mapping_to_private_characters_is_told() -> None:
    private = "".join(chr(0xE000 + at) for at in range(len(CHARACTERS)))
    document = parse_document("a.pdf", pdf(SECRET, mapped_to=private))
    assert document.warnings == (f"page 1 has no readable text {UNREADABLE}",)


def test_a_mapping_to_dingbats_is_told() -> None:
    dingbats = "".join(chr(0x2761 + at) for at in range(len(CHARACTERS)))
    document = parse_document("a.pdf", pdf(SECRET, mapped_to=dingbats))
    assert document.warnings == (f"page 1 has no readable text {UNREADABLE}",)


def test_a_right_mapping_is_read() -> None:
    document = parse_document("a.pdf", pdf(SECRET, mapped_to=CHARACTERS))
    assert document.text == SECRET
    assert document.warnings == ()


def test_marks_without_a_mapping_are_not_told() -> None:
    marks = "".join(
        f"BT /F2 12 Tf 60 {640 - 14 * at} Td <0001> Tj ET\n"
        + show("An ordinary item of a list", 72, 640 - 14 * at)
        for at in range(20)
    )
    data = page_pdf(marks, resources=f"/F2 {FIRST_MORE} 0 R", more=two_byte_font("x", mapped=False))
    document = parse_document("a.pdf", data)
    assert document.text.count("An ordinary item of a list") == 20
    assert document.warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        "Ideology as ritual, by Avram Lyon, Monday, December 5, 2011",
        "Výbava na přání",
        "Uvolnění vinkulace –",
        "Factuurdatum:",
        "Le vérificateur d’avis utilise une technologie",
        "の削除・インストールについて",
        "关于红军作战的原则",
        "계약 기간은 삼 년이다.",
        "Масса и масштаб",
        "שלום עולם",
        "ABSCHNITT DREI",
    ],
)
def test_languages(text: str) -> None:
    assert is_language(text)
    assert odd_share(text) == 0


@pytest.mark.parametrize(
    "text",
    [
        "0SVIQ MTWYQ HSPSV WMX EQIX",  # Lorem ipsum, four letters off
        "9ROXPHV 6XPPD &RGH",  # codes of glyphs 29 off
        "$%&´µDEF¶",
        "킜킰톁톁킰 킜킰톁톈톂킰킱",  # Cyrillic, its bytes shifted
        "̽ଋҨǥƹ̽ୡȥဎഁୡࣧҨဌʾ",
        "ɍɝɥɨɜɚɹ",
        "䋴䋮䋶糫 Ǎ蒭鍍伴俘緌鍍伴俘",
        "! '()*+ ,-./",
        "\ufffd\ufffd\ufffd\ufffd",
        "",
    ],
)
def test_no_languages(text: str) -> None:
    assert not is_language(text)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("/g114/g134/g112", 1.0),
        ("(cid:12)(cid:7)", 1.0),
        ("ab \ue001\ue002", 0.5),
        ("✔ done ❚❘❙❚❘❙❚❘❙", 0.0),
        ("a path /x12/ and /etc/rc0", 0.0),
        ("", 0.0),
    ],
)
def test_share_of_characters_that_no_text_has(text: str, share: float) -> None:
    assert odd_share(text) == pytest.approx(share)
