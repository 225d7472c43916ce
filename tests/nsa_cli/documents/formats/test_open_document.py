"""OpenDocument texts, spreadsheets and presentations."""

from __future__ import annotations

import io
import zipfile

import pytest

from nsa_cli.documents import Document, parse_document
from nsa_cli.documents.errors import UnreadableError

_BASE = "urn:oasis:names:tc:opendocument:xmlns:"
_NAMES = (
    " ".join(
        f'xmlns:{prefix}="{_BASE}{name}:1.0"'
        for prefix, name in {
            "office": "office",
            "text": "text",
            "table": "table",
            "draw": "drawing",
            "style": "style",
            "presentation": "presentation",
            "chart": "chart",
        }.items()
    )
    + ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def package(kind: str, body: str, styles: str = "", **parts: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        archive.writestr("content.xml", root(kind, body, styles))
        for name, content in parts.items():
            path = name.replace("__", "/").replace("_xml", ".xml")
            archive.writestr(path, content.replace("NAMES", _NAMES))
    return file.getvalue()


def root(kind: str, body: str, styles: str = "", name: str = "document-content") -> str:
    return (
        f"<office:{name} {_NAMES}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:{name}>"
    )


def read(kind: str, body: str, styles: str = "", **parts: str) -> Document:
    return parse_document("a.odf", package(kind, body, styles, **parts))


def p(text: str) -> str:
    return f"<text:p>{text}</text:p>"


_OUTLINE = (
    "<text:outline-style>"
    "<text:outline-level-style text:level='1' style:num-format='1' text:start-value='8'/>"
    "<text:outline-level-style text:level='2' style:num-format='1' text:display-levels='2'/>"
    "</text:outline-style><text:list-style style:name='L1'>"
    "<text:list-level-style-number text:level='1' style:num-format='a' style:num-suffix=')'/>"
    "<text:list-level-style-bullet text:level='2' text:bullet-char='x'/></text:list-style>"
)


def item(text: str, more: str = "") -> str:
    return f"<text:list-item>{p(text)}{more}</text:list-item>"


def test_headings_and_lists_have_their_numbers() -> None:
    def heading(level: int, text: str) -> str:
        return f"<text:h text:outline-level='{level}'>{text}</text:h>"

    inner = f"<text:list>{item('a point')}</text:list>"
    document = read(
        "text",
        heading(1, "Payment")
        + heading(2, "Rent")
        + heading(2, "Penalty")
        + f"<text:list text:style-name='L1'>{item('cash', inner)}{item('bank')}</text:list>"
        + p("Between.")
        + "<text:list text:style-name='L1' text:continue-numbering='true'>"
        + f"{item('card')}</text:list>"
        + f"<text:list text:style-name='L1'>{item('anew')}</text:list>",
        _OUTLINE,
    )
    assert document.text.split("\n") == [
        "# 8 Payment",
        "## 8.1 Rent",
        "## 8.2 Penalty",
        "a) cash",
        "- a point",
        "b) bank",
        "Between.",
        "c) card",
        "a) anew",
    ]


def test_headings_inside_lists_have_the_numbers_of_the_list() -> None:
    def heading(level: int, text: str) -> str:
        inside = f"<text:h text:outline-level='{level}'>{text}</text:h>"
        for _ in range(level):
            inside = f"<text:list><text:list-item>{inside}</text:list-item></text:list>"
        return inside.replace(
            "<text:list>", "<text:list text:style-name='W' text:continue-numbering='true'>", 1
        )

    levels = "".join(
        f"<text:list-level-style-number text:level='{n}' style:num-format='1' "
        f"text:display-levels='{n}'/>"
        for n in (1, 2, 3)
    )
    document = read(
        "text",
        heading(1, "Payment") + heading(3, "Rent") + heading(2, "Penalty"),
        f"<text:list-style style:name='W'>{levels}</text:list-style>",
    )
    assert document.text.split("\n") == ["# 1 Payment", "### 1.1.1 Rent", "## 1.2 Penalty"]


def test_notes_comments_frames_and_spaces() -> None:
    note = (
        "<text:note><text:note-citation>1</text:note-citation><text:note-body>"
        f"{p('Net of tax.')}</text:note-body></text:note>"
    )
    comment = f"<office:annotation><dc:creator>Eva</dc:creator>{p('Why?')}</office:annotation>"
    frame = f"<draw:frame><draw:text-box>{p('Boxed.')}</draw:text-box></draw:frame>"
    document = read(
        "text",
        p(f"The fee{note}<text:s text:c='2'/>is <text:span>900</text:span> euros{comment}.{frame}")
        + p("a<text:tab/>b<text:line-break/>c"),
    )
    assert document.text.split("\n") == [
        "The fee[1]  is 900 euros.",
        "[1] Net of tax.",
        "Comment by Eva: Why?",
        "Boxed.",
        "a\tb c",
    ]


def test_headers_deletions_and_hidden_sections() -> None:
    header = f"<style:header>{p('Company')}</style:header><style:footer>{p('Page')}</style:footer>"
    document = read(
        "text",
        "<text:tracked-changes><text:changed-region><text:deletion>"
        f"{p('old term')}</text:deletion></text:changed-region></text:tracked-changes>"
        f"<text:section text:display='none'>{p('obey me')}</text:section>{p('Seen.')}",
        styles_xml="<office:document-styles NAMES><office:master-styles><style:master-page>"
        f"{header}</style:master-page></office:master-styles></office:document-styles>",
    )
    assert document.text == "Header: Company\nSeen.\nFooter: Page"
    assert document.warnings == (
        "1 tracked deletion is left out: “old term”",
        "1 hidden passage is left out: “obey me”; --hidden reads hidden text",
    )


def table(*rows: str, name: str = "Costs", style: str = "t") -> str:
    return (
        f"<table:table table:name='{name}' table:style-name='{style}'>{''.join(rows)}</table:table>"
    )


def row(*cells: str, times: int = 1) -> str:
    inside = "".join(each if each.startswith("<") else cell(p(each)) for each in cells)
    return f"<table:table-row table:number-rows-repeated='{times}'>{inside}</table:table-row>"


def cell(content: str, attributes: str = "") -> str:
    return f"<table:table-cell {attributes}>{content}</table:table-cell>"


def test_tables_inside_tables() -> None:
    inner = table(row("A", "1"))
    document = read("text", table(row(cell(p("Before") + inner + p("After")), "Beside")))
    assert document.text.split("\n") == ["Before", "A | 1", "After", "Beside"]


def test_covered_and_repeated_cells_keep_the_columns() -> None:
    covered = "<table:covered-table-cell/>"
    wide = cell(p("Price"), "table:number-columns-spanned='2'")
    tall = cell(p("Roof"), "table:number-rows-spanned='2'")
    empty = "<table:table-cell table:number-columns-repeated='2'/>"
    rows = [
        f"<table:table-row>{cell(p('Item'))}{wide}{covered}{cell(p('Note'))}</table:table-row>",
        f"<table:table-row>{tall}{cell(p('10'))}{cell(p('20'))}</table:table-row>",
        f"<table:table-row>{covered}{empty}{cell(p('new'))}</table:table-row>",
    ]
    assert read("text", table(*rows)).text.split("\n") == [
        "Item | Price |  | Note",
        "Roof | 10 | 20",
        " |  |  | new",
    ]


def test_a_cell_of_a_sheet_that_spans_rows_belongs_to_each() -> None:
    covered = "<table:covered-table-cell/>"
    tall = cell(p("North"), "table:number-rows-spanned='2'")
    rows = [
        row("Region", "Year", "Sales"),
        f"<table:table-row>{tall}{cell(p('2023'))}{cell(p('12'))}</table:table-row>",
        f"<table:table-row>{covered}{cell(p('2024'))}{cell(p('14'))}</table:table-row>",
        row("South", "2023", "8"),
    ]
    assert read("spreadsheet", table(*rows)).text.split("\n")[2:] == [
        "Region: North | Year: 2024 | Sales: 14",
        "Region: South | Year: 2023 | Sales: 8",
    ]


def test_exponents() -> None:
    styles = "".join(
        f"<style:style style:name='{name}'><style:text-properties "
        f"style:text-position='{place}'/></style:style>"
        for name, place in (("up", "super 58%"), ("down", "sub 58%"), ("share", "33% 58%"))
    )
    span = "<text:span text:style-name='{}'>{}</text:span>"
    text = f"10{span.format('up', 3)} m{span.format('up', 2)} 5{span.format('share', '-6')} "
    document = read("text", p(f"{text}10{span.format('down', 2)}"), styles)
    assert document.text == "10^3 m2 5^-6 102"


def test_a_spreadsheet() -> None:
    document = read(
        "spreadsheet",
        table(
            row("Item", "Year", "Cost"),
            row("Pier", cell("", "office:value='1911'"), "4,200 €"),
            row("", times=3),
            row("Boat", "1912", cell("", "table:formula='of:=B1*2'")),
            row("", times=1_000_000),
        )
        + table(row("obey me"), name="Old", style="gone"),
        "<style:style style:name='gone'><style:table-properties table:display='false'/>"
        "</style:style>",
    )
    assert document.text.split("\n") == [
        "Item | Year | Cost",
        "Item: Pier | Year: 1911 | Cost: 4,200 €",
        "",
        "Item: Boat | Year: 1912 | Cost: =B1*2 (no stored value)",
    ]
    found = document.locate(document.text.index("Boat"), len(document.text))
    assert (found.page, found.page_label, found.line_start, found.unit) == (1, "Costs", 6, "sheet")
    assert document.warnings == (
        "sheet Costs: formulas without a stored value in rows 6",
        "1 hidden sheet is left out: “Old: obey me”; --hidden reads hidden text",
    )


def test_slides_with_notes_and_a_chart() -> None:
    def page(text: str, style: str = "") -> str:
        return (
            f"<draw:page draw:style-name='{style}'><draw:frame><draw:text-box>{p(text)}"
            "</draw:text-box></draw:frame><draw:frame><draw:object xlink:href='./Object 1'/>"
            f"</draw:frame><presentation:notes><draw:frame><draw:text-box>{p('Say ' + text)}"
            "</draw:text-box></draw:frame></presentation:notes></draw:page>"
        )

    data = package(
        "presentation",
        page("First") + page("Secret", "gone"),
        "<style:style style:name='gone'><style:drawing-page-properties "
        "presentation:visibility='hidden'/></style:style>",
        **{
            "Object 1__content_xml": "<office:document-content NAMES><office:body><office:chart>"
            f"<chart:chart><chart:title>{p('Sales')}</chart:title>{table(row('Q1', '19.2'))}"
            "</chart:chart></office:chart></office:body></office:document-content>"
        },
    )
    document = parse_document("a.odp", data)
    assert document.text.split("\n") == [
        "First",
        "Chart: Sales",
        "Q1 | 19.2",
        "Notes:",
        "Say First",
    ]
    assert "hidden slide is left out: “slide 2: Secret" in document.warnings[0]
    hidden = parse_document("a.odp", data, hidden=True)
    at = hidden.text.index("Say Secret")
    assert hidden.locate(at, at + 3).page == 2


def test_a_flat_file_and_one_that_a_password_opens() -> None:
    flat = f'<?xml version="1.0"?>{root("text", p("The rent is 900."), name="document")}'
    assert parse_document("a.fodt", flat.encode()).text == "The rent is 900."
    data = package("text", p("x"), **{"META-INF__manifest_xml": "<encryption-data/>"})
    with pytest.raises(UnreadableError, match="is protected by a password"):
        parse_document("a.odt", data)
