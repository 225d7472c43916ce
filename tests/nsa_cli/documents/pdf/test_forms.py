"""What annotations, form fields and attached files of a PDF hold."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, parse_document
from tests.documents.raw_pdf import FIRST_MORE, page_pdf, show, stream

RECT = "/Rect [150 695 400 715]"
LABEL = show("Tenant:", 72, 700) + show("Signed in May.", 72, 600)


def read(data: bytes, name: str = "a.pdf") -> Document:
    return parse_document(name, data)


def annotated(*annotations: str, content: str = LABEL, more: tuple[str | bytes, ...] = ()) -> bytes:
    """A page with annotations, which are the objects from number `FIRST_MORE` on."""
    count = len(annotations)
    references = " ".join(f"{FIRST_MORE + at} 0 R" for at in range(count))
    return page_pdf(
        content,
        page=f"/Annots [{references}]",
        catalog=f"/AcroForm << /Fields [{references}] /DR << /Font << /Helv 5 0 R >> >> >>",
        more=(*annotations, *more),
    )


def drawn(text: str) -> bytes:
    """An appearance that draws a text."""
    entries = "/Type /XObject /Subtype /Form /BBox [0 0 250 20]"
    return stream(
        f"BT /F1 12 Tf 2 5 Td ({text}) Tj ET", entries + " /Resources << /Font << /F1 5 0 R >> >>"
    )


def widget(kind: str, entries: str) -> str:
    return f"<< /Type /Annot /Subtype /Widget /FT /{kind} /T (f) {RECT} {entries} >>"


@pytest.mark.parametrize(
    ("kind", "entries", "value"),
    [
        ("Tx", "/V (Jane Roe)", "Jane Roe"),
        ("Tx", "/V <FEFF004A00F6007200670020004D0061>", "Jörg Ma"),
        ("Ch", "/V (Paris)", "Paris"),
        ("Ch", "/Ff 2097152 /V [(Paris) (Rome)]", "Paris, Rome"),
        ("Btn", "/V /Yes /AS /Yes", "☒"),
    ],
)
def test_a_value_without_an_appearance_stands_beside_its_label(
    kind: str, entries: str, value: str
) -> None:
    document = read(annotated(widget(kind, entries)))
    assert document.text == f"Tenant: {value}\nSigned in May."
    assert document.warnings == ()


def test_a_value_that_is_drawn_is_read_once() -> None:
    field = widget("Tx", f"/V (Jane Roe) /AP << /N {FIRST_MORE + 1} 0 R >>")
    document = read(annotated(field, more=(drawn("Jane Roe"),)))
    assert document.text == "Tenant: Jane Roe\nSigned in May."


def test_what_is_drawn_and_what_the_field_says_are_both_read() -> None:
    field = widget("Tx", f"/V (1200) /AP << /N {FIRST_MORE + 1} 0 R >>")
    document = read(annotated(field, more=(drawn("EUR 900"),)))
    assert "EUR 900" in document.text
    assert "1200" in document.text


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("Tx", "/Ff 8192 /V (secret)"),  # a password
        ("Tx", "/F 2 /V (secret)"),  # a hidden field
        ("Btn", "/V /Off /AS /Off"),
        ("Btn", "/Ff 65536 /AS /secret"),  # a push button
    ],
)
def test_what_a_form_does_not_show_is_not_read(kind: str, entries: str) -> None:
    document = read(annotated(widget(kind, entries)))
    assert "secret" not in document.text
    assert document.text.replace(" ******", "") == "Tenant:\nSigned in May."
    assert document.warnings == ()


def test_fields_that_cannot_be_read_are_counted() -> None:
    broken = widget("Tx", "/V << /Odd true >>")
    document = read(annotated(broken, broken, widget("Tx", "/V (Jane)")))
    assert "Jane" in document.text
    assert document.warnings == ("page 1 has 2 form fields that cannot be read",)


@pytest.mark.parametrize("kind", ["FreeText", "Stamp"])
def test_what_an_annotation_draws_is_at_its_place(kind: str) -> None:
    shown = f"<< /Type /Annot /Subtype /{kind} {RECT} /AP << /N {FIRST_MORE + 1} 0 R >> >>"
    document = read(annotated(shown, more=(drawn("APPROVED"),)))
    assert document.text == "Tenant: APPROVED\nSigned in May."


def test_free_text_without_an_appearance_is_at_its_place() -> None:
    low = "/Rect [72 640 300 660]"
    note = f"<< /Type /Annot /Subtype /FreeText {low} /Contents (Rent is due in advance.) >>"
    document = read(annotated(note))
    assert document.text == "Tenant:\nRent is due in advance.\nSigned in May."


def test_comments_follow_their_page_with_their_author() -> None:
    note = f"<< /Type /Annot /Subtype /Text {RECT} /T (Ann) /Contents (Is this agreed?) >>"
    mark = f"<< /Type /Annot /Subtype /Highlight {RECT} /Contents (Check.) >>"
    document = read(annotated(note, mark))
    assert document.text == (
        "Tenant:\nSigned in May.\nComment by Ann: Is this agreed?\nComment: Check."
    )


def test_links_are_not_read() -> None:
    link = f"<< /Type /Annot /Subtype /Link {RECT} /Contents (a tooltip) >>"
    assert read(annotated(link)).text == "Tenant:\nSigned in May."


TEMPLATE = """<template xmlns="http://www.xfa.org/schema/xfa-template/3.3/"><subform name="lease">
<pageSet><pageArea><draw><value><text>Form 12</text></value></draw></pageArea></pageSet>
<draw><value><exData contentType="text/html"><body xmlns="http://www.w3.org/1999/xhtml">
<p>Lease of a <b>crane</b></p><p>Part one</p></body></exData></value></draw>
<draw presence="hidden"><value><text>Never shown</text></value></draw>
<draw><value><image>aGVsbG8=</image></value></draw>
<field name="rent"><caption><value><text>Rent</text></value></caption>
<value><integer>5</integer></value></field>
<field name="term"><caption><value><text>Term</text></value></caption>
<value><text>1 year</text></value></field>
<field name="secret"><ui><passwordEdit/></ui>
<caption><value><text>Code</text></value></caption></field>
<field name="unit"><caption><value><text>Unit</text></value></caption>
<items><text>per day</text><text>per week</text></items>
<items save="1"><text>01</text><text>02</text></items></field>
<field name="paid"><ui><checkButton/></ui><caption><value><text>Paid</text></value></caption>
<items><integer>1</integer><integer>0</integer></items></field>
<exclGroup name="kind">
<field><caption><value><text>New</text></value></caption><items><text>N</text></items></field>
<field><caption><value><text>Used</text></value></caption><items><text>U</text></items></field>
</exclGroup>
<subform name="row"><occur min="0" max="-1"/>
<field name="part"><caption><value><text>Part</text></value></caption></field></subform>
<subform name="other"><occur min="0"/><draw><value><text>Nor this</text></value></draw></subform>
</subform></template>"""
DATA = """<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><lease>
<rent>900</rent><secret>1234</secret><unit>02</unit><paid>1</paid><kind>U</kind>
<row><part>Hook</part></row><row><part>Rope & wire</part></row>
<note>as agreed</note></lease></xfa:data></xfa:datasets>"""
SHOWN = """Form 12
Lease of a crane
Part one
Rent 900
Term 1 year
Code
Unit per week
Paid ☒
New
Used ☒
Part Hook
Part Rope & wire
note: as agreed"""


def xfa(packets: str, *more: str) -> Document:
    form = f"/NeedsRendering true /AcroForm << /Fields [] /XFA {packets} >>"
    return read(page_pdf(show("Please wait.", 72, 700), catalog=form, more=list(map(stream, more))))


def test_a_form_that_only_adobe_shows_is_read() -> None:
    first = FIRST_MORE
    document = xfa(f"[(template) {first} 0 R (datasets) {first + 1} 0 R]", TEMPLATE, DATA)
    assert document.text == f"Please wait.\n\n{SHOWN}"
    assert document.warnings == ()
    start = document.text.index("Rent 900")
    place = document.locate(start, start + 8)
    assert (place.source, place.line_start) == ("a.pdf/form.txt", 4)


def test_a_form_in_one_stream_is_read() -> None:
    whole = f"<xdp>{TEMPLATE}{DATA}</xdp>"
    assert xfa(f"{FIRST_MORE} 0 R", whole).text == f"Please wait.\n\n{SHOWN}"


def test_a_form_without_words_needs_no_warning() -> None:
    document = xfa(f"[(template) {FIRST_MORE} 0 R]", "<template><subform/></template>")
    assert (document.text, document.warnings) == ("Please wait.", ())


@pytest.mark.parametrize(
    "template", ["<template>", "<!DOCTYPE t [<!ENTITY e 'x'>]><template>&e;</template>", ""]
)
def test_a_form_that_cannot_be_read_is_told(template: str) -> None:
    document = xfa(f"[(template) {FIRST_MORE} 0 R]", template)
    assert document.text == "Please wait."
    assert document.warnings == ("the pages are drawn by an XFA form, which cannot be read",)


def attached(name: str, data: bytes, *, by_annotation: bool = False) -> bytes:
    """A page with an embedded file."""
    number = FIRST_MORE
    specification = f"<< /Type /Filespec /F ({name}) /UF ({name}) /EF << /F {number + 1} 0 R >> >>"
    embedded = stream(data, "/Type /EmbeddedFile")
    if by_annotation:
        note = f"<< /Type /Annot /Subtype /FileAttachment {RECT} /FS {number} 0 R >>"
        return page_pdf(
            LABEL, page=f"/Annots [{number + 2} 0 R]", more=(specification, embedded, note)
        )
    names = f"/Names << /EmbeddedFiles << /Names [({name}) {number} 0 R] >> >>"
    return page_pdf(LABEL, catalog=names, more=(specification, embedded))


@pytest.mark.parametrize("by_annotation", [False, True])
def test_attached_files_are_read_after_the_pages(by_annotation: bool) -> None:
    data = attached("fees.txt", b"The crane fee\nis 900 euros.", by_annotation=by_annotation)
    document = read(data)
    start = document.text.index("is 900 euros.")
    place = document.locate(start, start + 13)
    assert (place.source, place.page, place.line_start) == ("a.pdf/fees.txt", None, 2)
    assert document.warnings == ()


def test_an_attached_pdf_has_its_own_pages() -> None:
    inner = attached("terms.txt", b"never read")
    document = read(attached("inner.pdf", inner))
    assert [(piece.source, piece.page) for piece in document.pieces] == [
        ("a.pdf", 1),
        ("a.pdf/inner.pdf", 1),
    ]
    assert document.warnings == ("a.pdf/inner.pdf: 1 attached file was not read (terms.txt)",)


def test_attached_files_that_cannot_be_read_are_named() -> None:
    document = read(attached("photo.bin", b"\x00\x01\x02" * 50))
    assert document.text == "Tenant:\nSigned in May."
    assert document.warnings == ("1 attached file was not read (photo.bin)",)


def test_an_attached_picture_is_named_in_the_text() -> None:
    document = read(attached("logo.png", b"\x89PNG\r\n\x1a\n\x00"))
    assert document.text.split("\n")[-1] == "Attached file: logo.png"
    assert document.warnings == ()


def test_a_damaged_list_of_attached_files_is_told() -> None:
    data = page_pdf(LABEL, catalog="/Names << /EmbeddedFiles << /Names [(a) 99 0 R (b) 7] >> >>")
    assert read(data).text == "Tenant:\nSigned in May."
