"""The answers to two parts of a question become one answer with the citations of both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents.text import read_text
from nsa_cli.engine.generate import GeneratedAnswer
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.engine.two_parts import PartAnswer, has_both, joined, parts_of, passages_of_two
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.citations import Cited
from nsa_cli.retrieval.passages import AnswerAttention

ASKED = "How many pages has report 3 according to the list, and according to the letter?"


def citation(quote: str, *, verified: bool) -> Citation:
    document = read_text(quote.encode(), "a.txt")
    place = document.locate(0, len(quote))
    return Citation(
        source=place.source,
        page=place.page,
        page_label=place.page_label,
        line_start=place.line_start,
        line_end=place.line_end,
        unit=place.unit,
        quote=quote,
        score=1.0,
        verified=verified,
    )


def part(name: str, text: str, *quotes: str, verified: bool = True) -> PartAnswer:
    tokens = TokenizedText(
        ids=torch.zeros(4, dtype=torch.long).numpy(),
        characters=torch.zeros(4, dtype=torch.long).numpy(),
        document_tokens=4,
        end=4,
    )
    generated = GeneratedAnswer(
        text=text,
        tokens=3,
        attention=AnswerAttention(mass=torch.zeros(1), text=tokens, size=64),
        finish_reason="stop",
        first_token_seconds=0.1,
        tokens_per_second=9.0,
    )
    citations = tuple(citation(quote, verified=verified) for quote in quotes)
    return PartAnswer(name, generated, Cited(citations, [Passage(start=0, end=4, score=1.0)]))


def test_two_answers_are_joined_with_a_citation_of_each() -> None:
    one = part("according to the list", "12 pages.", "Report 3: 12 pages", "Other")
    two = part("according to the letter", "14 pages.", "It has 14 pages.")
    found = joined([one, two])
    assert found is not None
    generated, cited = found
    assert generated.text == (
        "According to the list: 12 pages. [1]\nAccording to the letter: 14 pages. [2]"
    )
    assert [each.quote for each in cited.citations] == [
        "Report 3: 12 pages",
        "It has 14 pages.",
        "Other",
    ]
    assert all(each.verified for each in cited.citations)
    assert generated.tokens == 6


def test_citations_are_verified_only_where_both_parts_are() -> None:
    one = part("", "12 pages.", "Report 3: 12 pages")
    two = part("", "14 pages.", "It has 14 pages.", verified=False)
    found = joined([one, two])
    assert found is not None
    assert found[0].text == "12 pages. [1]\n14 pages. [2]"
    assert not any(each.verified for each in found[1].citations)


def test_one_sentence_for_both_is_cited_once() -> None:
    one, two = part("", "12.", "12 and 14"), part("", "14.", "12 and 14")
    found = joined([one, two])
    assert found is not None
    assert found[0].text == "12. [1]\n14. [1]"
    assert len(found[1].citations) == 1


def test_the_same_answer_twice_is_no_answer_to_two_parts() -> None:
    assert joined([part("", "12 pages.", "a"), part("", "12 Pages.", "b")]) is None


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        ("12 pages, and 14 in the letter", True),
        ("12 pages", False),
        ("Report 3 has 12 pages", False),  # 3 is in the question
        ("Twelve pages, or 12", False),
        ("12 pages in chapter 4, and none in section 5.2", False),
        ("None", False),
    ],
)
def test_an_answer_with_two_new_numbers_has_both(answer: str, has: bool) -> None:
    assert has_both(answer, ASKED) is has


def test_a_question_with_instructions_or_a_form_has_no_parts(opened: OpenDocument) -> None:
    question = opened.prompts.question(ASKED)
    assert len(parts_of(opened, question, opened.options)) == 2
    told = replace(opened.options, schema={"type": "object"})
    assert parts_of(opened, question, told) == ()
    long = replace(opened.options, max_tokens=opened.room)
    assert parts_of(opened, question, long) == ()
    later = opened.prompts.question(ASKED, [("Who wrote it?", "Ann.")])
    assert parts_of(opened, later, opened.options) == ()


def test_each_part_gets_its_own_passages(opened: OpenDocument) -> None:
    question = opened.prompts.question("What is report 3, and what is report 17? Give both.")
    simple = opened.prompts.question("Who wrote report 17?")
    parts = parts_of(opened, opened.prompts.question(ASKED), opened.options)
    scores = opened.scores(question)
    found = passages_of_two(opened, question, opened.options, scores, parts)
    if opened.is_short:
        assert found is None
    else:
        assert found is not None
        assert sum(each.score for each in found) == pytest.approx(1.0)
        assert found == sorted(found, key=lambda each: each.start)
    assert passages_of_two(opened, simple, opened.options, opened.scores(simple), ()) is None
