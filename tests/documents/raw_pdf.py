"""Small PDFs, written object by object."""

from __future__ import annotations

from collections.abc import Sequence

HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"

FIRST_MORE = 6
"""The number of the first object that a test adds."""


def assemble(objects: Sequence[bytes]) -> bytes:
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


def stream(data: str | bytes, entries: str = "") -> bytes:
    """A stream object with further entries of its dictionary."""
    data = data.encode("cp1252") if isinstance(data, str) else data
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries.encode(), len(data), data)


def page_pdf(
    content: str,
    *,
    page: str = "",
    catalog: str = "",
    resources: str = "",
    more: Sequence[str | bytes] = (),
) -> bytes:
    """A PDF of one page of 612 by 792 points, with Helvetica as /F1.

    Args:
        content: The page's content stream.
        page: Further entries of the page.
        catalog: Further entries of the catalog.
        resources: Further entries of the page's resources; `/Font` entries are added to /F1.
        more: Further objects, from number `FIRST_MORE` on.
    """
    fonts, _, others = resources.partition("|")
    return assemble(
        [
            f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            (
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
                f" /Resources << /Font << /F1 5 0 R {fonts} >> {others} >> {page} >>"
            ).encode(),
            stream(content),
            HELVETICA,
            *(each.encode("cp1252") if isinstance(each, str) else each for each in more),
        ]
    )


def show(text: str, x: float, y: float, *, size: float = 12, font: str = "F1") -> str:
    """Operators that draw a text at a place; parentheses must be balanced."""
    return f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET\n"


def two_byte_font(characters: str, *, first: int = FIRST_MORE, mapped: bool = True) -> list[bytes]:
    """Three objects: a font whose codes 1, 2, … are these characters, all half an em wide.

    Args:
        characters: What the codes stand for.
        first: The number of the first of the objects, which is the font.
        mapped: Whether the font says so in a ToUnicode map.
    """
    pairs = "\n".join(
        f"<{code:04x}> <{char.encode('utf-16-be').hex()}>"
        for code, char in enumerate(characters, start=1)
    )
    to_unicode = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "1 begincodespacerange\n<0000> <ffff>\nendcodespacerange\n"
        f"{len(characters)} beginbfchar\n{pairs}\nendbfchar\nendcmap end end"
    )
    widths = f"1 [{' '.join(['500'] * len(characters))}]"
    font = (
        "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H"
        f" /DescendantFonts [{first + 1} 0 R]"
        f"{f' /ToUnicode {first + 2} 0 R' if mapped else ''} >>"
    )
    descendant = (
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /DW 500"
        f" /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /W [{widths}]"
        " /FontDescriptor << /Type /FontDescriptor /FontName /X /Flags 4 /Ascent 800"
        " /Descent -200 /FontBBox [0 -200 500 800] >> >>"
    )
    return [font.encode(), descendant.encode(), stream(to_unicode)]


def codes(text: str, characters: str) -> str:
    """A hexadecimal string of the codes of a text in `two_byte_font(characters)`."""
    return "<" + "".join(f"{characters.index(char) + 1:04x}" for char in text) + ">"
