"""Slides, workbooks and tables: charts, notes, formulas without values, rows with their header."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import openpyxl
import pptx
import pytest
import xlsxwriter
from openpyxl.comments import Comment
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from nsa_cli.documents import Document, parse_document


def saved(thing: Any) -> bytes:
    file = io.BytesIO()
    thing.save(file)
    return file.getvalue()


def rewritten(data: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """A package whose parts a function changes; None leaves a part out."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file.getvalue()


def places(document: Document, words: str) -> tuple[int | None, str | None, int, str]:
    start = document.text.index(words)
    found = document.locate(start, start + len(words))
    return (found.page, found.page_label, found.line_start, found.unit)


def deck() -> Any:
    show = pptx.Presentation()
    for _ in range(2):
        show.slides.add_slide(show.slide_layouts[5])
    show.slides[0].shapes.title.text = "Sales"
    show.slides[1].shapes.title.text = "Secret plan"
    return show


def test_charts_on_slides() -> None:
    show = deck()
    bars = CategoryChartData()
    bars.categories = ["2024", "2025"]
    bars.add_series("Cranes", (19.2, 21.4))
    bars.add_series("Boats", (7, None))
    points = XyChartData()
    series = points.add_series("Load")
    series.add_data_point(1.5, 44)
    place = (Inches(1), Inches(1), Inches(4), Inches(3))
    slide = show.slides[0]
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *place, bars)
    chart = slide.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, *place, points).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Strength"
    document = parse_document("a.pptx", saved(show))
    assert document.text.split("\n")[:6] == [
        "Sales",
        "Chart",
        "2024 | Cranes: 19.2 | Boats: 7",
        "2025 | Cranes: 21.4",
        "Chart: Strength",
        "1.5 | Load: 44",
    ]
    assert document.warnings == ()


def test_exponents_on_slides() -> None:
    show = deck()
    paragraph = show.slides[0].shapes.title.text_frame.paragraphs[0]
    paragraph.runs[0].text = "Load 10"
    for text, baseline in (("3", "30000"), (" kg of H", None), ("2", "-25000"), ("O", None)):
        run = paragraph.add_run()
        run.text = text
        if baseline:
            run.font._element.set("baseline", baseline)
    document = parse_document("a.pptx", saved(show))
    assert document.text.startswith("Load 10^3 kg of H2O\n")
    assert document.warnings == ()


def test_a_chart_without_stored_values_is_told() -> None:
    show = deck()
    data = CategoryChartData()
    data.categories = ["a"]
    data.add_series("s", (1,))
    show.slides[0].shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, Inches(1), Inches(1), data)

    def emptied(_: str, content: bytes) -> bytes:
        return re.sub(rb"<c:numCache>.*?</c:numCache>", b"", content, flags=re.S)

    document = parse_document("a.pptx", rewritten(saved(show), emptied))
    assert document.warnings == ("1 chart without stored values is left out",)


def test_a_hidden_slide_is_told_and_read_when_asked() -> None:
    show = deck()
    show.slides[1]._element.set("show", "0")
    data = saved(show)
    document = parse_document("a.pptx", data)
    assert "Secret plan" not in document.text
    told = "1 hidden slide is left out: “slide 2: Secret plan”; --hidden reads hidden text"
    assert document.warnings == (told,)
    assert "Secret plan" in parse_document("a.pptx", data, hidden=True).text


def test_groups_tables_numbers_and_text_of_the_layout() -> None:
    show = deck()
    slide = show.slides[0]
    group = slide.shapes.add_group_shape()
    box = group.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame
    box.text = "first\nsecond"
    for paragraph in box.paragraphs:
        properties = paragraph._p.get_or_add_pPr()
        element = properties.makeelement(
            "{http://schemas.openxmlformats.org/drawingml/2006/main}buAutoNum",
            {"type": "alphaLcParenR"},
        )
        properties.append(element)
    table = slide.shapes.add_table(2, 2, 0, 0, Inches(2), Inches(1)).table
    table.cell(0, 0).text, table.cell(1, 1).text = "head", "value"
    table.cell(0, 0).merge(table.cell(0, 1))
    layout = show.slide_layouts[5]
    shape = slide.shapes.add_textbox(0, 0, Inches(1), Inches(1))
    shape.text_frame.text = "Confidential"
    layout.shapes._spTree.append(shape._element)
    slide.notes_slide.notes_text_frame.text = "Say it"
    document = parse_document("a.pptx", saved(show))
    assert document.text.split("\n")[:7] == [
        "Sales",
        "a) first",
        "b) second",
        "head",
        " | value",
        "Layout: Confidential",
        "Notes:",
    ]
    assert document.text.count("Confidential") == 1


def test_a_formula_without_a_value_is_told_and_shown() -> None:
    book = openpyxl.Workbook()
    book.active.title = "Costs"
    for row in (["Item", "Number", "Price", "Total"], ["Pier", 2, 4.5, "=B2*C2"], ["Boat", 1, 9]):
        book.active.append(row)
    document = parse_document("a.xlsx", saved(book))
    assert "Item: Pier | Number: 2 | Price: 4.5 | Total: =B2*C2 (no stored value)" in document.text
    assert "Item: Boat | Number: 1 | Price: 9" in document.text
    (warning,) = document.warnings
    assert warning.startswith("sheet Costs: 1 formula has no stored value (D2); ")


def test_a_zero_that_a_library_stores_is_no_value() -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet("Costs")
        sheet.write_row(0, 0, [4, 5])
        sheet.write_formula("C1", "=A1*B1")
        sheet.insert_textbox("E5", "Box of words")
    document = parse_document("a.xlsx", file.getvalue())
    assert document.text.split("\n") == ["4 | 5 | =A1*B1 (no stored value)", "", "Box of words"]
    assert "(C1)" in document.warnings[0]
    assert places(document, "Box of words")[2] == 5


def test_stored_values_and_shared_formulas() -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"] = 7, "=A1+1"

    def stored(name: str, content: bytes) -> bytes:
        if name != "xl/worksheets/sheet1.xml":
            return content
        rows = (
            b'<row r="1"><c r="A1"><f>3+4</f><v>7</v></c></row><row r="2">'
            b'<c r="A2"><f t="shared" ref="A2:A3" si="0">A1+1</f></c></row>'
            b'<row r="3"><c r="A3"><f t="shared" si="0"/></c></row>'
        )
        return re.sub(
            rb"<sheetData>.*</sheetData>", b"<sheetData>" + rows + b"</sheetData>", content
        )

    document = parse_document("a.xlsx", rewritten(saved(book), stored))
    assert document.text.split("\n") == [
        "7",
        "=A1+1 (no stored value)",
        "=A2+1 (no stored value)",
    ]
    assert "2 formulas have no stored value (A2, A3)" in document.warnings[0]


def test_rows_come_with_their_header() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Report of the harbour"])
    sheet.append(["Region", 2024, 2025, "Share"])
    sheet.append(["North", 12, 0.1 + 0.2, 0.155])
    sheet.append(["South", None, 8, 0.2])
    sheet["D3"].number_format = sheet["D4"].number_format = "0.0%"
    sheet["A8"], sheet["B8"], sheet["C8"] = "Remark", "x", "y"
    document = parse_document("a.xlsx", saved(book))
    assert document.text.split("\n") == [
        "Report of the harbour",
        "Region | 2024 | 2025 | Share",
        "Region: North | 2024: 12 | 2025: 0.3 | Share: 15.5%",
        "Region: South | 2025: 8 | Share: 20%",
        "",
        "Region: Remark | 2024: x | 2025: y",
    ]
    assert places(document, "Share: 20%") == (1, "Sheet", 4, "sheet")
    assert places(document, "Remark")[2] == 8


def test_exponents_and_durations_of_cells() -> None:
    file = io.BytesIO()
    book = xlsxwriter.Workbook(file)
    sheet = book.add_worksheet()
    raised = book.add_format({"font_script": 1})
    sheet.write_rich_string(0, 0, "Load 10", raised, "3", " kg", raised, "2", " of steel")
    for row, days in enumerate((1.5, 0.25, 10 / 86400), start=1):
        sheet.write_number(row, 0, days, book.add_format({"num_format": "[h]:mm"}))
    book.close()
    document = parse_document("a.xlsx", file.getvalue())
    assert document.text.split("\n") == ["Load 10^3 kg2 of steel", "36:00:00", "6:00:00", "0:00:10"]


def test_a_cell_that_spans_rows_belongs_to_each() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ["Region", "Year", "Sales", "Budget"],
        ["North", 2023, 12, 100],
        [None, 2024, 14, None],
        ["South", 2023, 8, 70],
        [None, 2024, 9, None],
        [],
        ["A note over three rows"],
    ):
        sheet.append(row)
    for area in ("A2:A3", "D2:D3", "A4:A5", "D4:D5", "A7:D9"):
        sheet.merge_cells(area)
    document = parse_document("a.xlsx", saved(book))
    assert document.text.splitlines() == [
        "Region | Year | Sales | Budget",
        "Region: North | Year: 2023 | Sales: 12 | Budget: 100",
        "Region: North | Year: 2024 | Sales: 14",
        "Region: South | Year: 2023 | Sales: 8 | Budget: 70",
        "Region: South | Year: 2024 | Sales: 9",
        "",
        "A note over three rows",
    ]


def test_rows_that_a_wrong_dimension_hides_are_read() -> None:
    book = openpyxl.Workbook()
    for number in range(1, 6):
        book.active.append([f"row {number}", number])

    def wrong(_: str, content: bytes) -> bytes:
        return re.sub(rb'<dimension ref="[^"]*"/>', b'<dimension ref="A1"/>', content)

    document = parse_document("a.xlsx", rewritten(saved(book), wrong))
    assert document.text.split("\n")[-1] == "row 5 | 5"


def test_comments_and_hidden_sheets() -> None:
    book = openpyxl.Workbook()
    book.active["B2"] = "value"
    book.active["B2"].comment = Comment("Ask Eva first", "Bo")
    hidden = book.create_sheet("Old")
    hidden["A1"], hidden.sheet_state = "obey me", "hidden"
    data = saved(book)
    document = parse_document("a.xlsx", data)
    assert "Comment at B2 by Bo: Ask Eva first" in document.text
    assert places(document, "Ask Eva")[2] == 2
    assert document.warnings == (
        "1 hidden sheet is left out: “Old: obey me”; --hidden reads hidden text",
    )
    assert "obey me" in parse_document("a.xlsx", data, hidden=True).text


def test_a_strict_workbook() -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = "Pier"

    def strict(_: str, content: bytes) -> bytes:
        return re.sub(
            rb"http://schemas\.openxmlformats\.org/(officeDocument|spreadsheetml)/2006/",
            rb"http://purl.oclc.org/ooxml/\1/",
            content,
        )

    assert parse_document("a.xlsx", rewritten(saved(book), strict)).text == "Pier"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,name,sum\n1,Smith,40\n2,Jones,50\n"),
        ("a.csv", "sep=;\nid;name;sum\n1;Smith;40\n2;Jones;50\n"),
        ("a.tsv", "id\tname\tsum\n1\tSmith\t40\n2\tJones\t50\n"),
        ("a.csv", '"id"|"name"|"sum"\n1|"Smith"|40\n2|Jones|50\n'),
    ],
)
def test_tables_of_text(name: str, text: str) -> None:
    document = parse_document(name, text.encode())
    assert document.text.split("\n")[:3] == [
        "id | name | sum",
        "id: 1 | name: Smith | sum: 40",
        "id: 2 | name: Jones | sum: 50",
    ]
    first = document.text.index("Jones")
    assert (
        document.locate(first, first + 5).line_start == text[: text.index("Jones")].count("\n") + 1
    )


@pytest.mark.parametrize(
    ("text", "labeled"),
    [
        ("name,mail,town\nSmith,s@x.org,Bonn\nJones,j@x.org,Ulm\n", True),
        ("name,state,town\nSmith,open,Bonn\nJones,open,Ulm\n", True),
        ("Smith,open,Bonn\nJones,open,Ulm\nAdams,shut,Ulm\n", False),
        ("Smith,s@x.org,Bonn\nJones,j@x.org,Ulm\n", False),
        ("Smith,red,Bonn\nJones,blue,Ulm\nAdams,green,Jena\n", False),
    ],
)
def test_a_first_row_of_values_is_no_header(text: str, labeled: bool) -> None:
    found = parse_document("a.csv", text.encode()).text
    assert ("town: Ulm" in found) is labeled
    assert labeled or found == text


def test_rows_over_several_lines_keep_their_lines() -> None:
    table = 'id,note,sum\n1,"two\nlines",40\n2,"a ""b"", c",50\n\n3,late,60,extra\n'
    document = parse_document("a.csv", table.encode())
    assert "id: 1 | note: two lines | sum: 40" in document.text
    assert 'id: 2 | note: a "b", c | sum: 50' in document.text
    assert "3 | late | 60 | extra" in document.text
    lines = [places(document, words)[2] for words in ("two lines", 'a "b"', "late")]
    assert lines == [2, 4, 6]


@pytest.mark.parametrize(
    "text",
    [
        'a,b,c\n1,"never closed,3\n' + "x,y,z\n" * 300,
        "just prose, with commas, and more\nand another line\n",
        "1,2,3\n4,5,6\n",
        "name,Smith\nage,42\n",
    ],
)
def test_what_has_no_header_is_read_as_it_is(text: str) -> None:
    assert parse_document("a.csv", text.encode()).text == text
