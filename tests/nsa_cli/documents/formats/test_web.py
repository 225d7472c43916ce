"""Web pages, XML and notebooks: what is shown, in the charset that is declared."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from nsa_cli.documents import parse_document
from nsa_cli.documents.formats.web_hidden import hiding_rules


def page(body: str, head: str = "") -> str:
    return f"<!doctype html><html><head>{head}</head><body>{body}</body></html>"


@pytest.mark.parametrize(
    ("encoding", "declared", "text"),
    [
        ("koi8-r", '<meta charset="koi8-r">', "Срок договора три года"),
        ("cp1250", "<meta charset=windows-1250>", "Smlouva končí příští září"),
        ("iso8859-7", '<meta content="text/html; charset=ISO-8859-7">', "Το ενοίκιο είναι χίλια"),
        ("big5", '<meta charset="big5">', "合約期限為三年"),
        ("euc-kr", '<meta charset="ks_c_5601-1987">', "계약 기간은 삼 년이다"),
        ("cp1252", '<meta charset="iso-8859-1">', "Das Gerät – „gewiß“ – kostet 5 €"),
        ("utf-8", '<meta charset="windows-1252">', "Größe, Überfahrt, März, Öl"),
        ("utf-8", '<meta charset="no-such-charset">', "Größe und Maß"),
    ],
)
def test_the_declared_charset(encoding: str, declared: str, text: str) -> None:
    document = parse_document("a.html", page(f"<p>{text}</p>", declared).encode(encoding))
    assert document.text == text


def test_a_wrong_charset_is_told() -> None:
    data = page("<p>Größe und Maß</p>", '<meta charset="no-such">').encode()
    assert "declared charset 'no-such' is not known" in parse_document("a", data).warnings[0]
    data = page("<p>Größe, Überfahrt, März, Öl</p>", '<meta charset="koi8-r">').encode()
    assert "declared as koi8-r, but valid UTF-8" in parse_document("a", data).warnings[0]


@pytest.mark.parametrize("encoding", ["utf-16", "iso8859-5", "shift_jis"])
def test_xml_in_its_charset(encoding: str) -> None:
    text = "<?xml version='1.0' encoding='ENCODING'?><doc><p>Договор</p></doc>"
    data = text.replace("ENCODING", encoding).encode(encoding)
    assert "<p>Договор</p>" in parse_document("a.xml", data).text


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>secret</p>",
        '<p hidden="">secret<p>',
        '<div style="color:red; DISPLAY : NONE">a <b>secret</b><br>of <img alt="x"></div>',
        '<span style="visibility: hidden">secret</span>',
        "<ul hidden><li>secret<li>more</ul>",
        '<p class="x y">secret</p>',
        '<p id="z">secret</p>',
        "<aside>secret</aside>",
    ],
)
def test_hidden_text(hidden: str) -> None:
    style = "<style>/* .w{} */ .y, #z { display: none } aside{visibility:hidden} </style>"
    data = page(f"<p>Before.</p>{hidden}<p>After.</p>", style).encode()
    document = parse_document("a.html", data)
    assert document.text == "Before.\nAfter."
    assert "1 hidden passage is left out" in document.warnings[0]
    assert "secret" in parse_document("a.html", data, hidden=True).text


@pytest.mark.parametrize(
    "body",
    [
        "<ul><li hidden>x<li>Seen.</ul>",
        "<div><p hidden>x</div><p>Seen.</p>",
        "<table><tr><td hidden>x<td>Seen.</table>",
        '<p hidden="until-found">Seen.</p>',
        '<p class="shown" style="display:block">Seen.</p>',
        "<details><summary>Seen.</summary></details>",
    ],
)
def test_text_beside_hidden_text_is_seen(body: str) -> None:
    style = "<style>.shown{display:none} @media print { p { display: none } } .a .b{display:none}"
    document = parse_document("a.html", page(body, f"{style}</style>").encode())
    assert "Seen." in document.text


def test_style_rules() -> None:
    assert hiding_rules("@import 'x'; .a{display:none}.b .c{display:none} d{color:red}") == {".a"}


def test_forms_and_drawings() -> None:
    body = (
        "<label>Name <input value='Anna'></label><input type=hidden value=secret>"
        "<input type=checkbox checked> agreed<svg><title>no</title><text>Pier <tspan>7</tspan>"
        "</text></svg><p>End.</p>"
    )
    assert parse_document("a.html", page(body).encode()).text.split("\n") == [
        "Name Anna ☒ agreed",
        "Pier 7",
        "End.",
    ]


def test_a_chapter_in_its_charset_and_one_that_is_missing() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="c.opf"/></rootfiles></container>',
        )
        archive.writestr(
            "c.opf",
            '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml"/>'
            '<item id="b" href="b.xhtml"/></manifest><spine><itemref idref="a"/>'
            '<itemref idref="b"/></spine></package>',
        )
        text = '<?xml version="1.0" encoding="iso-8859-5"?><html><p>Договор</p></html>'
        archive.writestr("a.xhtml", text.encode("iso8859-5"))
    document = parse_document("a.epub", file.getvalue())
    assert document.text == "Договор"
    assert document.warnings == ("1 missing chapter is left out: “b.xhtml”",)


def notebook(*outputs: dict[str, object], **cell: object) -> bytes:
    whole = {"cell_type": "code", "source": "x", "outputs": list(outputs)} | cell
    return json.dumps({"nbformat": 4, "cells": [whole]}).encode()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"output_type": "display_data", "data": {"text/html": "<b>loss</b> 0.07"}}, "loss 0.07"),
        (
            {
                "output_type": "display_data",
                "data": {"text/html": ["<p>ten</p>"], "text/plain": "<IPython.HTML object>"},
            },
            "ten",
        ),
        ({"output_type": "execute_result", "data": {"text/plain": ["4", "2"]}}, "42"),
        ({"output_type": "display_data", "data": {"application/json": {"a": "é"}}}, '{"a": "é"}'),
        ({"output_type": "stream", "text": "\x1b[1mbold\x1b[0m\n"}, "bold"),
        ({"output_type": "error", "ename": "E", "evalue": "v", "traceback": []}, "E: v"),
        (
            {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["line 8", "E: v"]},
            "line 8\nE: v",
        ),
        ({"output_type": "pyout", "html": "<i>old</i> 3"}, "old 3"),
    ],
)
def test_outputs_of_notebooks(output: dict[str, object], text: str) -> None:
    assert parse_document("a.ipynb", notebook(output)).text == f"x\n{text}"


def test_an_output_that_cannot_be_read_is_told() -> None:
    data = notebook({"output_type": "display_data", "data": {"image/png": "iVBOR"}})
    assert parse_document("a.ipynb", data).warnings == ("1 output (image/png) is left out",)


def test_a_notebook_of_format_3() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Piers"]},
        {
            "cell_type": "code",
            "input": ["print(", "1)"],
            "outputs": [
                {"output_type": "stream", "stream": "stdout", "text": ["1\n"]},
                {
                    "output_type": "pyerr",
                    "ename": "E",
                    "evalue": "v",
                    "traceback": ["\x1b[31mat 9"],
                },
            ],
        },
    ]
    data = json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}).encode()
    document = parse_document("a.ipynb", data)
    assert document.text == "## Piers\n\nprint(1)\n1\nat 9\nE: v"
    assert document.locate(document.text.index("at 9"), len(document.text)).page == 2


def test_cells_stay_in_their_columns() -> None:
    page = b"""<table><thead><tr><th>Item<th colspan=2>Price</thead>
<tr><td rowspan=2><p>Roof</p></td><td><p>10</p></td><td><div>20</div></td></tr>
<tr><td>30</td><td></td></tr>
<tr><td></td><td>Only</td><td>50</td></tr>
<tr><td><ul><li>a</li><li>b</li></ul></td><td rowspan=1000000000>60</td></tr></table>"""
    assert parse_document("a.html", page).text.splitlines() == [
        "Item | Price",
        "Roof | 10 | 20",
        "Roof | 30",
        " | Only | 50",
        "a b | 60",
    ]


def test_a_table_that_lays_out_a_page_comes_cell_by_cell() -> None:
    long = "A sentence of the page. " * 30
    page = f"""<table><tr><td><h2>Menu</h2><p>One</p></td>
<td><table><tr><td>x</td><td>y</td></tr></table><p>after</p></td></tr>
<tr><td>left</td><td><p>{long}</p><p>next</p></td></tr></table>"""
    assert parse_document("a.html", page.encode()).text.split("\n") == [
        "## Menu",
        "One",
        "x | y",
        "after",
        "left",
        long.strip(),
        "next",
    ]


def test_a_row_is_cited_by_its_own_line() -> None:
    page = b"<table>\n<tr>\n<td>\n<p>Roof</p></td>\n<td>10</td></tr>\n<tr><td>Door<td>7</table>"
    document = parse_document("a.html", page)
    assert document.text == "Roof | 10\nDoor | 7"
    assert document.locate(0, 4).line_start == 4
    assert document.locate(10, 14).line_start == 6


def test_exponents_marks_of_notes_and_readings() -> None:
    page = "<p>10<sup>3</sup> m<sup>2</sup> in 2019<sup>1</sup>, 5<sup>-6</sup>, 2<sup>nd</sup>"
    ruby = "<p><ruby>東<rp>(</rp><rt>とう</rt><rp>)</rp></ruby>京"
    assert parse_document("a.html", (page + ruby).encode()).text.split("\n") == [
        "10^3 m2 in 2019^1, 5^-6, 2nd",
        "東(とう)京",
    ]


def test_soft_hyphens_part_no_words() -> None:
    assert parse_document("a.html", b"<p>Miet&shy;vertrag, see <wbr>below").text == (
        "Mietvertrag, see below"
    )
