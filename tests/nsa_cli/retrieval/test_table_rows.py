"""Tables in the text of a page, and their rows about a question."""

from __future__ import annotations

from nsa_cli.documents.text import read_text
from nsa_cli.retrieval.table_rows import rows_about, tables_of

PROSE = (
    "The association looks back on a year in which all of its projects went on as planned before."
)
TABLE = (
    "Statement of activities\n(in euros)\n2015 2014\n"
    "Donations 8,000.50 7,100.00\nMembership dues 532.20 325.90\nOther 12.00 11.00\n"
    "Staff costs 2,916.00 2,554.00\nRent 300.00 290.00\nTotal expenses 3,216.00 2,844.00\n"
)
PAGE = f"{PROSE}\n{TABLE}{PROSE}\n"
START = PAGE.index("Statement")


def test_a_table_has_its_header_and_ends_before_prose() -> None:
    [table] = tables_of(PAGE, 0, len(PAGE))
    assert PAGE[table.start : table.end] == TABLE
    assert PAGE[table.body :].startswith("Donations")
    assert not tables_of(PROSE, 0, len(PROSE))
    assert not tables_of("one 1\ntwo 2\n", 0, 12)


def rows(question: str, start: int, end: int, most: int) -> list[str]:
    document = read_text(PAGE.encode(), "a.txt")
    found = rows_about(document, [(start, end)], question, most, lambda text: len(text.split()))
    return [PAGE[a:b] for a, b in found]


def test_rows_of_a_cut_table_come_with_its_header() -> None:
    end = PAGE.index("Membership")
    [row] = rows("What share of total expenses were staff costs?", START, end, 12)
    assert row == "Total expenses 3,216.00 2,844.00\n"
    found = rows("What share of total expenses were staff costs?", START, end, 40)
    assert found == [
        "Staff costs 2,916.00 2,554.00\n",
        "Total expenses 3,216.00 2,844.00\n",
    ]
    cut = PAGE.index("Rent")
    found = rows("By how much did donations grow?", cut, len(PAGE), 40)
    assert found[0] == TABLE[: TABLE.index("Membership")]


def test_no_row_without_a_word_of_the_question_and_none_that_is_read() -> None:
    assert not rows("How many visitors came?", START, PAGE.index("Membership"), 100)
    assert not rows("How high were staff costs?", 0, len(PAGE), 100)
    assert not rows("How high were staff costs?", START, PAGE.index("Membership"), 3)
