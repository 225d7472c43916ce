"""Tables of documents: their header, their rows, and where these are in the text."""

from __future__ import annotations

import io
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents.build import join_documents, select_pages
from nsa_cli.documents.document import Document
from nsa_cli.documents.load import parse_document
from nsa_cli.documents.pages import PageRanges

FIXTURES = Path(__file__).parents[3] / "fixtures" / "documents"
CSV = "Region,2024,2025\nNorth,12,14\nSouth,8,9\nEast,,3\n"


def line_of(document: Document, row: int, table: int = 0) -> str:
    """The line of the text that a row of a table became."""
    found = document.tables[table]
    span = document.line_span(found.source, found.page, found.rows[row].number)
    assert span is not None
    return document.text[slice(*span)]


def test_a_csv_file_is_a_table() -> None:
    document = parse_document("a.csv", CSV.encode())
    [table] = document.tables
    assert table.header == ["Region", "2024", "2025"]
    assert [(row.number, list(row.cells)) for row in table.rows] == [
        (2, ["North", "12", "14"]),
        (3, ["South", "8", "9"]),
        (4, ["East", "", "3"]),
    ]
    assert (table.source, table.page, table.delimiter, table.decimal) == ("a.csv", None, ",", None)
    assert line_of(document, 2) == "Region: East | 2025: 3"


def test_two_columns_keep_their_text() -> None:
    document = parse_document("a.csv", b"month,revenue\nJan,100\nFeb,90\n")
    assert document.text == "month,revenue\nJan,100\nFeb,90\n"
    assert line_of(document, 1) == "Feb,90"


def test_a_file_without_a_header_is_no_table() -> None:
    assert not parse_document("a.csv", b"1,2,3\n4,5,6\n").tables
    assert not parse_document("a.txt", CSV.encode()).tables


def book() -> bytes:
    made = openpyxl.Workbook()
    first = made.active
    first.title = "Notes"
    first.append(["All figures in thousands"])
    sheet = made.create_sheet("Sales")
    for line in CSV.splitlines():
        sheet.append([int(cell) if cell.isdigit() else cell or None for cell in line.split(",")])
    sheet.append([])
    sheet.append(["West", 5, 6])
    sheet.append([])
    sheet.append(["A remark below."])
    sheet.append([])
    for line in ("Product,Price,Sold", "Tea,2.5,7", "Milk,1.25,3"):
        sheet.append([float(cell) if cell[0].isdigit() else cell for cell in line.split(",")])
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def test_a_sheet_may_hold_several_tables() -> None:
    document = parse_document("b.xlsx", book())
    first, second = document.tables
    assert (first.page, first.title, first.decimal) == (2, "Sales", ".")
    assert [row.number for row in first.rows] == [2, 3, 4, 6]
    assert [row.number for row in second.rows] == [11, 12]
    assert second.header == ["Product", "Price", "Sold"]
    assert line_of(document, 3) == "Region: West | 2024: 5 | 2025: 6"
    assert line_of(document, 1, table=1) == "Product: Milk | Price: 1.25 | Sold: 3"


def test_pages_and_files_keep_their_tables() -> None:
    document = parse_document("b.xlsx", book())
    assert not select_pages(document, PageRanges.parse("1")).tables
    picked = select_pages(document, PageRanges.parse("2"))
    assert line_of(picked, 3) == "Region: West | 2024: 5 | 2025: 6"
    joined = join_documents([parse_document("a.csv", CSV.encode()), document], "2 files")
    assert [table.source for table in joined.tables] == ["a.csv", "b.xlsx", "b.xlsx"]
    assert line_of(joined, 0) == "Region: North | 2024: 12 | 2025: 14"
    assert line_of(joined, 0, table=2) == "Product: Tea | Price: 2.5 | Sold: 7"


@pytest.mark.parametrize("name", ["costs.ods", "costs.xls"])
def test_other_spreadsheets_are_tables(name: str) -> None:
    document = parse_document(name, (FIXTURES / name).read_bytes())
    assert document.tables
    for table in document.tables:
        for row in table.rows:
            span = document.line_span(table.source, table.page, row.number)
            assert span is not None
            line = document.text[slice(*span)]
            assert all(cell in line for cell in row.cells)


CELLS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=6)


@given(st.lists(st.tuples(CELLS, CELLS, st.integers(0, 99)), min_size=1, max_size=12))
def test_each_row_is_found_at_its_line(rows: list[tuple[str, str, int]]) -> None:
    import csv

    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("A", "B", "C"), *rows])
    document = parse_document("a.csv", out.getvalue().encode())
    for table in document.tables:
        for row in table.rows:
            span = document.line_span("a.csv", None, row.number)
            assert span is not None
            location = document.locate(*span)
            assert location.line_start == location.line_end == row.number
            line = document.text[slice(*span)]
            assert all(cell in line for cell in row.cells)


def test_a_line_that_is_not_there() -> None:
    document = parse_document("a.csv", CSV.encode())
    assert document.line_span("a.csv", None, 99) is None
    assert document.line_span("b.csv", None, 1) is None
