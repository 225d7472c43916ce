"""Summaries as text and as Markdown."""

from __future__ import annotations

from nsa_cli.documents.location import Location
from nsa_cli.output.summary_page import SummaryPage
from nsa_cli.results import Citation, DocumentSummary, Statement

PLACE = Location(source="a.md", page=None, page_label=None, line_start=3, line_end=3)


def said(text: str, quote: str, section: str | None = None, *, line: int = 4) -> Statement:
    citation = Citation(
        source="a.md",
        page=None,
        page_label=None,
        line_start=line,
        line_end=line,
        quote=quote,
        score=0.5,
        verified=True,
    )
    return Statement(
        section=section, place=PLACE if section else None, text=text, citations=(citation,)
    )


def document(source: str, *statements: Statement, overview: Statement) -> DocumentSummary:
    return DocumentSummary(
        source=source,
        overview=(overview,),
        statements=statements,
        document_tokens=9,
        reused_tokens=0,
    )


OVERVIEW = said("Rent is 9.", "She pays 9.")
ONE = document(
    "a.md",
    said("She pays 9.", "She pays 9.", "Rent"),
    said("It_ends *now*.", "It ends.", "Term", line=7),
    overview=OVERVIEW,
)


def test_text_numbers_each_citation_once() -> None:
    page = SummaryPage(None, markdown=False).whole("a.md", [OVERVIEW], [ONE])
    assert page == (
        "Rent is 9. [1]\n\n"
        "Rent (a.md, line 3)\n- She pays 9. [1]\n\n"
        "Term (a.md, line 3)\n- It_ends *now*. [2]\n\n"
        "[1] a.md, line 4: “She pays 9.”\n"
        "[2] a.md, line 7: “It ends.”\n"
    )


def test_markdown_escapes_markup() -> None:
    page = SummaryPage(20, markdown=True).whole("a.md", [OVERVIEW], [ONE])
    assert page == (
        "# a.md\n\nRent is 9.[^1]\n\n"
        "## Rent (a.md, line 3)\n\n- She pays 9.[^1]\n\n"
        "## Term (a.md, line 3)\n\n- It\\_ends \\*now\\*.[^2]\n\n"
        "[^1]: a.md, line 4: “She pays 9.”\n"
        "[^2]: a.md, line 7: “It ends.”\n"
    )


def test_several_documents_have_a_paragraph_each() -> None:
    other = document("b.md", said("B.", "B."), overview=said("It is B.", "B.", line=9))
    page = SummaryPage(None, markdown=False).whole("x", [OVERVIEW], [ONE, other])
    assert page.startswith(
        "Rent is 9. [1]\n\na.md\n\nRent is 9. [1]\n\nb.md\n\nIt is B. [2]\n\n[1]"
    )


def test_an_outline_of_several_documents_has_their_statements() -> None:
    other = document("b.md", said("B.", "B.", "Part", line=5), overview=said("It is B.", "B."))
    page = SummaryPage(None, markdown=True, outline=True).whole("x", [OVERVIEW], [ONE, other])
    assert "\n\n## a.md\n\nRent is 9.[^1]\n\n### Rent (a.md, line 3)\n\n- She pays 9." in page
    assert "\n\n## b.md\n\nIt is B.[^3]\n\n### Part (a.md, line 3)\n\n- B.[^4]\n\n[^1]: " in page


def test_lines_fit_the_terminal() -> None:
    long = said("word " * 30 + "end.", "word", "Heading " * 8)
    page = SummaryPage(40, markdown=False).whole(
        "a", [long], [document("a", long, OVERVIEW, overview=long)]
    )
    assert max(map(len, page.splitlines())) <= 40


def test_statements_that_the_overview_has_are_not_repeated() -> None:
    whole = document("a.md", OVERVIEW, overview=OVERVIEW)
    page = SummaryPage(None, markdown=False).whole("a.md", [OVERVIEW], [whole])
    assert page == "Rent is 9. [1]\n\n[1] a.md, line 4: “She pays 9.”\n"


def test_an_empty_summary_is_an_empty_text() -> None:
    assert SummaryPage(None, markdown=False).whole("a.md", [], []) == ""
