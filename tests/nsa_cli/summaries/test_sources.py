"""Quotes that support a sentence as a whole."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, Piece
from nsa_cli.results import Citation, Passage
from nsa_cli.summaries.sources import Sources
from nsa_cli.summaries.spans import SentenceSpans
from nsa_cli.summaries.speakers import Speakers

LEASE = (
    "Rent and repairs of the harbor office\n\n"
    "The tenant Mira Lund pays 1,200 crowns a month for the office. The view is nice. "
    "The tenant must repair the windows at her own cost."
)
TALK = (
    "Chair: We repair the harbor crane first.\nClerk: When does the crane work again?\n"
    "Chair: Well, it works again in the month of June.\nClerk: The harbor office pays for it.\n"
)


def cited(
    text: str, sentence: str, headings: tuple[int, ...] = (), passage: Passage | None = None
) -> list[Citation]:
    piece = Piece(source="a.txt", page=None, page_label=None, start=0, end=len(text), first_line=1)
    document = Document(name="a.txt", text=text, pieces=(piece,))
    sources = Sources(document, SentenceSpans(document), Speakers(text), headings, ())
    return list(sources.of(sentence, [passage or Passage(start=0, end=len(text), score=0.5)])[1])


def test_one_quote() -> None:
    [citation] = cited(LEASE, "Mira Lund pays 1,200 crowns for the office each month.")
    assert citation.quote == "The tenant Mira Lund pays 1,200 crowns a month for the office."
    assert (citation.verified, citation.line_start, citation.score) == (True, 3, 0.5)


def test_the_second_half_has_a_quote_of_its_own() -> None:
    sentence = "Mira Lund pays 1,200 crowns a month and must repair the windows at her own cost."
    assert [each.quote for each in cited(LEASE, sentence)] == [
        "The tenant Mira Lund pays 1,200 crowns a month for the office.",
        "The tenant must repair the windows at her own cost.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Mira Lund pays 1,200 crowns a month and sails to the northern islands each summer.",
        "Mira Lund pays 1,300 crowns a month for the office.",
        "Jonas Berg pays 1,200 crowns a month for the office.",
        "Mira Lund does not pay 1,200 crowns a month for the office.",
        "The tenant repairs the windows at her own cost.",
        "",
    ],
)
def test_what_is_not_said_has_no_quote(sentence: str) -> None:
    assert cited(LEASE, sentence) == []


def test_a_heading_is_quoted_where_nothing_else_serves() -> None:
    sentence = "The tenant must repair the windows of the harbor office at her own cost."
    assert cited(LEASE, sentence, (0,))[0].quote.startswith("The tenant must repair")


def test_a_quote_of_a_transcript_has_its_speaker() -> None:
    [citation] = cited(TALK, "The clerk says that the harbor office pays for it.")
    assert citation.quote == "Clerk: The harbor office pays for it."


def test_a_speaker_who_is_named_has_said_it() -> None:
    assert cited(TALK, "The chair says that the harbor office pays for it.") == []
    assert cited(TALK, "The harbor office pays for it, says the chair of the office.") == []


def test_quotes_at_the_ends_of_a_passage_are_whole() -> None:
    start, end = LEASE.index("Lund"), LEASE.index("windows")
    sentence = "Mira Lund pays 1,200 crowns a month and must repair the windows at her own cost."
    quotes = [
        each.quote for each in cited(LEASE, sentence, (), Passage(start=start, end=end, score=1.0))
    ]
    assert quotes == [
        "The tenant Mira Lund pays 1,200 crowns a month for the office.",
        "The tenant must repair the windows at her own cost.",
    ]
