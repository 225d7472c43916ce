"""Quotes are verbatim, at the cited page and lines, and verified or not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.citations import best_quote, cite
from nsa_cli.retrieval.sentences import content_words


def citations_of(*arguments: Any, **named: Any) -> tuple[Citation, ...]:
    """The citations of an answer."""
    return cite(*arguments, **named).citations


def document(*pages: str) -> Document:
    """A document of pages, the second one labeled `ii`; one page alone is a text file."""
    pieces, text = [], ""
    for number, page in enumerate(pages, 1):
        start = len(text)
        text += page
        pieces.append(
            Piece(
                source="a.pdf",
                page=number if len(pages) > 1 else None,
                page_label="ii" if number == 2 else None,
                start=start,
                end=len(text),
                first_line=1,
            )
        )
        text += "\n\n"
    return Document(name="a.pdf", text=text, pieces=tuple(pieces))


def around(text: str, part: str, score: float = 1.0) -> Passage:
    start = text.index(part)
    return Passage(start=start, end=start + len(part), score=score)


PAGES = (
    "Harbour report\nIn March it rained. The keeper\nwas away.",
    "Costs\nThe new pier cost 4,200 crowns\nand was paid by the guild. Nobody complained.",
    "Annex\nThe pier is 80 ells long.",
)


def test_a_citation_names_page_lines_and_quote() -> None:
    paper = document(*PAGES)
    [citation] = citations_of(
        paper, [around(paper.text, PAGES[1], 0.25)], "4,200 crowns", "What did the pier cost?"
    )
    assert citation.quote == "The new pier cost 4,200 crowns\nand was paid by the guild."
    assert (citation.source, citation.page, citation.page_label) == ("a.pdf", 2, "ii")
    assert (citation.line_start, citation.line_end) == (2, 3)
    assert citation.verified
    assert citation.score == 0.25


def test_verified_citations_come_first_then_the_best() -> None:
    paper = document(*PAGES)
    passages = [
        around(paper.text, PAGES[0], 0.5),
        around(paper.text, PAGES[1], 0.2),
        around(paper.text, PAGES[2], 0.3),
    ]
    cited = citations_of(paper, passages, "4,200 crowns", "What did the pier cost?")
    assert [(c.page, c.verified) for c in cited] == [(2, True), (1, False), (3, False)]
    cited = citations_of(paper, passages, "4,200 crowns", "What did the pier cost?", at_most=2)
    assert [c.page for c in cited] == [2, 1]


def test_a_quote_without_a_word_of_the_question_is_not_verified_beside_one_that_has_them() -> None:
    paper = document("Crew: Ada Long, Bo Lund.\n\nAda Long steered the ferry.")
    passages = [
        around(paper.text, "Crew: Ada Long, Bo Lund.", 0.9),
        around(paper.text, "Ada Long steered the ferry.", 0.1),
    ]
    cited = citations_of(paper, passages, "Ada Long", "Who steered the ferry?")
    assert [(each.quote[:4], each.verified) for each in cited] == [("Ada ", True), ("Crew", False)]
    [alone] = citations_of(paper, passages[:1], "Ada Long", "Who steered the ferry?")
    assert alone.verified


def test_a_quote_is_the_sentence_with_the_answer() -> None:
    text = "First came rain. Then Ada Long built 17 boats. Then came snow."
    paper = document(text)
    [citation] = citations_of(paper, [around(paper.text, text)], "Ada Long", "Who built the boats?")
    assert citation.quote == "Then Ada Long built 17 boats."


def test_chinese_sentences_end_without_a_space() -> None:
    text = "港口很旧。灯塔建于一八九二年。没有人抱怨。"
    paper = document(text)
    [citation] = citations_of(
        paper, [around(paper.text, "灯塔建于一八九二年。")], "一八九二年", "何时？"
    )
    assert citation.quote == "灯塔建于一八九二年。"
    [whole] = citations_of(paper, [around(paper.text, text)], "港口很旧", "如何？")
    assert whole.quote == "港口很旧。"


def test_a_very_long_line_is_cut_at_a_space() -> None:
    text = " ".join(f"item{number}" for number in range(200))
    paper = document(text)
    [citation] = citations_of(paper, [around(paper.text, text)], "item150", "Which item?")
    assert "item150" in citation.quote.split()
    assert len(citation.quote) <= 240
    assert set(citation.quote.split()) <= set(text.split())  # no word is split


def test_a_line_without_spaces_is_cut() -> None:
    text = "x" * 1000
    paper = document(text)
    [citation] = citations_of(paper, [around(paper.text, text)], "anything", "what?")
    assert citation.quote == "x" * 240


def test_a_heading_is_separate_from_the_next_sentence() -> None:
    text = "Opening hours\nThe museum opens at nine."
    paper = document(text)
    [citation] = citations_of(paper, [around(paper.text, text)], "nine", "When does it open?")
    assert citation.quote == "The museum opens at nine."
    assert citation.line_start == citation.line_end == 2


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        (
            "2026-03-02 16:26:03 WARN worker-1 retrying upload, attempt 3 of 3",
            "2026-03-02 16:27:11 ERROR worker-5 exited: signal 9, memory limit exceeded",
            "2026-03-02 16:28:03 WARN worker-1 retrying upload, attempt 1 of 3",
        ),
        (
            "Mar  2 16:26:03 host sshd[17]: Accepted publickey for root from 10.0.0.1 port 52",
            "Mar  2 16:27:11 host kernel: worker-5 exited: signal 9, memory limit exceeded",
            "Mar  2 16:28:03 host sshd[18]: Accepted publickey for root from 10.0.0.1 port 53",
        ),
        (
            '{"time": "2026-03-02T16:26:03Z", "message": "retrying upload, attempt 3 of 3"}',
            '{"time": "2026-03-02T16:27:11Z", "message": "worker-5 exited: signal 9"}',
            '{"time": "2026-03-02T16:28:03Z", "message": "retrying upload, attempt 1 of 3"}',
        ),
        (
            "[Mon Mar 02 16:26:03.5] [error] client denied by server configuration, again",
            "[Mon Mar 02 16:27:11.5] [error] worker-5 exited: signal 9, memory limit exceeded",
            "[Mon Mar 02 16:28:03.5] [error] client denied by server configuration, again",
        ),
    ],
)
def test_a_log_line_is_a_separate_quote(before: str, line: str, after: str) -> None:
    log = document(f"{before}\n{line}\n{after}\n")
    [citation] = citations_of(
        log, [around(log.text, log.text)], "signal 9", "Why did worker-5 exit?"
    )
    assert citation.quote == line
    assert citation.line_start == citation.line_end == 2


def test_a_date_inside_prose_is_not_a_log_line() -> None:
    text = "The second volume of his letters to the keepers appeared on the\n12th of May, sold out."
    paper = document(text)
    [citation] = citations_of(paper, [around(paper.text, paper.text)], "12th of May", "When?")
    assert (citation.line_start, citation.line_end) == (1, 2)


def test_a_blank_passage_is_not_cited() -> None:
    paper = document("word \n \n word")
    assert citations_of(paper, [Passage(start=4, end=8, score=1.0)], "word", "what?") == ()


TEXTS = st.lists(
    st.sampled_from(
        ["a", "Bee", "sea 12", "。", "世界", ". ", "! ", "\n", "\n\n", "- x", "\t", "z" * 300, "Ü,"]
    ),
    min_size=1,
    max_size=40,
).map("".join)


@given(first=TEXTS, second=TEXTS, cuts=st.tuples(st.integers(0, 500), st.integers(0, 500)))
@example(first="a", second="b", cuts=(0, 500))
@settings(max_examples=150, deadline=None)
def test_quotes_are_verbatim_at_their_locations(
    first: str, second: str, cuts: tuple[int, int]
) -> None:
    paper = document(first, second)
    start, end = sorted(min(cut, len(paper.text)) for cut in cuts)
    passage = Passage(start=start, end=end, score=1.0)
    cited = citations_of(paper, [passage], "Bee 12 世界", "sea?")
    assert bool(cited) == bool(paper.text[start:end].strip())
    for citation in cited:
        assert citation.quote == citation.quote.strip() != ""
        assert len(citation.quote) <= 240 or "\n" not in citation.quote
        assert citation.quote in paper.text[start:end]
        page = (first, second)[(citation.page or 0) - 1]
        lines = page.split("\n")[citation.line_start - 1 : citation.line_end]
        shown = "\n".join(lines)
        assert citation.quote in shown or any(
            part and part in shown for part in citation.quote.split("\n")
        )


def test_words_are_folded_and_stop_words_removed() -> None:
    assert content_words("The Keeper's /usr/lib, ~3.5. and STRASSE straße") == {
        "keeper",
        "/usr/lib",
        "~3.5",
        "strasse",
    }


def test_where_no_sentence_shares_a_word_a_heading_is_not_quoted() -> None:
    text = "House rules\n\nNo dogs are allowed in the flat or the yard, and one cat at most.\n"
    paper = document(text)
    start, end = best_quote(paper, Passage(start=0, end=len(text), score=1.0), "", "Are pets ok?")
    assert text[start:end].startswith("No dogs")


def test_a_title_is_quoted_with_the_rest_of_its_line() -> None:
    text = "6 Pets. No dogs. One cat with consent.\n7 Repairs. The tenant bears minor repairs.\n"
    paper = document(text)
    passage = Passage(start=0, end=len(text), score=1.0)
    start, end = best_quote(paper, passage, "", "pets")
    assert text[start:end] == "6 Pets. No dogs. One cat with consent."


def test_an_entry_of_a_table_of_contents_is_no_quote_where_text_says_the_same() -> None:
    text = "3.8 Home directories ... 12\nThe home directories of users are under /home here.\n"
    paper = document(text)
    passage = Passage(start=0, end=len(text), score=1.0)
    start, end = best_quote(paper, passage, "", "Where are home directories?")
    assert text[start:end].startswith("The home")


LEASE = (
    "1. The tenant pays the rent.\n2. The tenant may not keep dogs.\n"
    "3. Smoking is not permitted inside the flat; it is permitted on the balcony."
)
VOTE = "Present: Anna Brandt, Tom Okafor\nApologies: Lucy Chen\nVote: 3 in favor, 1 no (Tom)."


@pytest.mark.parametrize(
    ("text", "question", "answer", "quote"),
    [
        (
            LEASE,
            "May the tenant smoke on the balcony?",
            "The tenant may smoke on the balcony.",
            "Smoking is not permitted inside the flat; it is permitted on the balcony.",
        ),
        (
            "The tenant pays the landlord.\nThe landlord repairs the boiler.\nThe tenant may go.",
            "Who repairs the boiler, the tenant?",
            "The landlord repairs the boiler, not the tenant.",
            "The landlord repairs the boiler.",
        ),
        (VOTE, "Who voted no?", "Tom voted no.", "Vote: 3 in favor, 1 no (Tom)."),
        (
            "Den Kuchen 35 Minuten backen. Der Kuchen ist gut. Einfrieren lässt er sich nicht.",
            "Kann man den Kuchen einfrieren?",
            "Nein.",
            "Einfrieren lässt er sich nicht.",
        ),
        (
            "Le locataire paie le prix. Le véhicule ne doit pas quitter la France.",
            "Est-ce que le véhicule peut quitter la France ?",
            "Non.",
            "Le véhicule ne doit pas quitter la France.",
        ),
        (VOTE, "Who sent apologies?", "Lucy Chen", "Apologies: Lucy Chen"),
    ],
)
def test_a_quote_shares_rare_words_and_forms_of_words(
    text: str, question: str, answer: str, quote: str
) -> None:
    paper = document(text)
    start, end = best_quote(paper, around(paper.text, text), answer, question)
    assert paper.text[start:end].endswith(quote)
    assert quote.startswith(paper.text[start:end].removeprefix("3. "))
