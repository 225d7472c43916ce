"""What glyphs stand for, where PDFium takes them for other characters."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, parse_document
from nsa_cli.documents.pdf.encodings import FontTables, mend_bytes, mend_numbers, symbol
from nsa_cli.documents.pdf.language import stretched_share
from nsa_cli.documents.pdf.layout import page_text
from nsa_cli.documents.pdf.readable import unreadable_share
from nsa_cli.documents.pdf.runs import NUMBERS, UPRIGHT, Run, RunBuilder, Style
from tests.documents.raw_pdf import FIRST_MORE, page_pdf, show, stream


def read(data: bytes) -> Document:
    return parse_document("a.pdf", data)


def type3(names: str, *, extra: str = "") -> list[str | bytes]:
    """A Type 3 font whose bytes from 65 on have glyphs of these names, each a square."""
    procedures = " ".join(f"{name} {FIRST_MORE + 1} 0 R" for name in set(names.split()))
    count = len(names.split())
    return [
        (
            f"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 600 600] "
            f"/FontMatrix [.001 0 0 .001 0 0]"
            f" /FirstChar 65 /LastChar {64 + count} /Widths [{'600 ' * count}]"
            f" /Encoding << /Differences [65 {names}] >> /CharProcs << {procedures} >> {extra} >>"
        ),
        stream("600 0 0 0 600 600 d1 50 0 500 500 re f"),
    ]


def test_the_names_of_the_glyphs_of_a_type_3_font_are_read() -> None:
    more = type3("/beta /H /alpha /uni03A9")
    text = show("flux", 72, 700) + show("BCAD", 72, 600, font="F2")
    found = read(page_pdf(text, resources=f"/F2 {FIRST_MORE} 0 R", more=more))
    assert found.text == "flux\nHαβΩ"
    assert found.warnings == ()


def test_names_that_say_nothing_leave_the_bytes_as_they_are() -> None:
    """The fonts of bitmaps that TeX made name each glyph by its byte, and others `.notdef`."""
    more = type3("/a65 /.notdef /a67 /a68 /a69")
    text = show("flux", 72, 700) + show("A ACE DEED", 72, 600, font="F2")
    found = read(page_pdf(text, resources=f"/F2 {FIRST_MORE} 0 R", more=more))
    assert found.text == "flux\nA ACE DEED"


def test_names_that_say_nothing_are_told() -> None:
    more = type3("/a1 /a2 /a3 /a4")
    text = show("BBCC CBBC BCBC CCBB", 72, 600, font="F2")
    found = read(page_pdf(text, resources=f"/F2 {FIRST_MORE} 0 R", more=more))
    assert "unreadable" in found.warnings[0] or "no readable text" in found.warnings[0]


@pytest.mark.parametrize(
    ("names", "mapped", "expected"),
    [
        ("/ffi", "<41><41><0000>", "diffifficult"),
        ("/ffi", "<41> <0000>", "diffifficult"),
        ("/ffi /fl", "<41><41><0000>\n<42><42><0000>", "dicult"),  # It may be either.
    ],
)
def test_ligatures_that_quartz_maps_to_nothing(names: str, mapped: str, expected: str) -> None:
    kind = "range" if mapped.count("<") == 3 * mapped.count("0000") else "char"
    to_unicode = stream(
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "1 begincodespacerange\n<00> <FF>\nendcodespacerange\n"
        f"{mapped.count('0000')} beginbf{kind}\n{mapped}\nendbf{kind}\nendcmap end end"
    )
    font = (
        "<< /Type /Font /Subtype /Type1 /BaseFont /ABCDEF+CMR10 /FirstChar 65 /LastChar 66"
        f" /Widths [833 556] /Encoding << /Differences [65 {names}] >>"
        f" /ToUnicode {FIRST_MORE + 1} 0 R >>"
    )
    # Two of them, since PDFium drops a single glyph that its own fonts lack.
    text = "BT /F1 12 Tf 72 700 Td (di) Tj /F2 12 Tf (AA) Tj /F1 12 Tf (cult) Tj ET"
    found = read(page_pdf(text, resources=f"/F2 {FIRST_MORE} 0 R", more=[font, to_unicode]))
    assert found.text == expected


def run(text: str, *, unmapped: bool = True) -> Run:
    """A run of glyphs that are half an em wide."""
    builder = RunBuilder()
    builder.object(Style(10.0, UPRIGHT))
    for at, char in enumerate(text):
        builder.glyph(ord(char), 5.0 * at, 5.0 * at + 5, 700.0, not unmapped)
    return builder.finish()[0]


def test_glyph_numbers_in_the_order_of_ascii_are_read() -> None:
    words = "The rent is due on the first day of each month"
    numbers = "".join(chr(ord(char) - 29) for char in words)
    found = run(numbers)
    found.style.pointer = 1
    mend_numbers([found], {}, {})
    assert (found.string(), found.unmapped) == (words, 0)


def test_glyph_numbers_in_names_are_read_where_they_make_words() -> None:
    words = "The rent is due on the first day of each month"
    codes = {char: 2 + at for at, char in enumerate(dict.fromkeys(words))}
    numbers = {chr(code): ord(char) - 29 for char, code in codes.items()}
    found = run("".join(chr(codes[char]) for char in words))
    found.style.pointer = 1
    mend_numbers([found], {1: 7}, {7: numbers})
    assert found.string() == words
    kept = run(words)
    kept.style.pointer = 1
    mend_numbers([kept], {1: 7}, {7: {char: 200 + at for at, char in enumerate(words)}})
    assert kept.string() == words


def test_glyph_numbers_in_another_order_are_not_guessed() -> None:
    found = run("".join(chr(5 + at * 7 % 90) for at in range(60)))
    found.style.pointer = 1
    before = found.unmapped
    mend_numbers([found], {}, {})
    assert found.unmapped == before
    assert all(char < chr(NUMBERS) for char in found.text)


@pytest.mark.parametrize(
    ("words", "as_mac"),
    [
        ("Käferhofen im Allgäu, größer", True),
        ("le téléphone a été coupé", True),
        ("ordinary words", True),
        ("Käferhofen im Allgäu, größer", False),
        ("le téléphone a été coupé", False),
    ],
)
def test_bytes_without_an_encoding_are_those_that_make_words(words: str, as_mac: bool) -> None:
    found = run(words.encode("cp1252").decode("mac_roman") if as_mac else words, unmapped=False)
    mend_bytes([found])
    assert found.string() == words


def test_private_characters_of_fonts_of_symbols() -> None:
    assert symbol("\uf02b", "SymbolMT") == "+"
    assert symbol("\uf0b7", "ABCDEF+Symbol") == "•"
    assert symbol("\uf0fe", "Wingdings") == "☑"
    assert symbol("\uf041", "Unknown") == "\uf041"


def test_a_page_that_pypdf_does_not_find_has_no_tables() -> None:
    tables = FontTables(None)
    assert tables.of("Helvetica") == {}
    assert not tables.has_bytes("Helvetica")


def test_strokes_that_pass_as_letters() -> None:
    arabic = "وعليه فإن الحكومة المصرية تضع هذا البرنامج لبناء الإنسان وتحسين جودة الحياة "
    assert stretched_share(arabic * 4) == 0.0
    assert stretched_share(arabic.replace("ا", "اووو") * 4) > 0.2
    assert stretched_share("و" * 50) == 0.0


@pytest.mark.parametrize(
    ("heading", "share"),
    [
        ("차세대체킹방지기술차세대체킹", 0.0),
        ("차\ue357세대\ue342체킹\ue32a방지\ue406\ue422기술", 5 / 14),
        ("차\ue357세대\ue342체킹\ue32a방지\ue406기술차세대체킹방지기술차세대체킹방지기술", 0.0),
        ("•The rent is due •on the •first day •of each •month", 0.0),
    ],
)
def test_glyphs_without_a_meaning_among_others_are_told(heading: str, share: float) -> None:
    """As in a font that says for some of its glyphs which characters they are."""
    builder = RunBuilder()
    builder.object(Style(10.0, UPRIGHT))
    for at, char in enumerate(heading):
        if char == " ":
            builder.white(0x20, own=True)
            continue
        known = char != "•" and not "\ue000" <= char <= "\uf8ff"
        builder.glyph(ord(char), 10.0 * at, 10.0 * at + 10, 700.0, known)
    runs = builder.finish()
    assert unreadable_share(runs, page_text(runs)) == pytest.approx(share)
