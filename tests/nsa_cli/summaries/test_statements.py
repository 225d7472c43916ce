"""Statements: what the model writes is checked, and replaced where it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength, SummaryRequest
from nsa_cli.documents import read_sources
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.generate import GeneratedAnswer
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.results import Statement
from nsa_cli.retrieval.passages import AnswerAttention
from nsa_cli.retrieval.retriever import Retriever
from nsa_cli.summaries.make import open_for_summary, summarize_document
from nsa_cli.summaries.overview import overview, supporting
from nsa_cli.summaries.statements import statements

RENT = "The tenant Mira Lund pays 1,200 crowns for the harbor office."
LEASE = f"{RENT} And, um, the windows look over the old town.\n"
Open = Callable[[str, str], OpenDocument]


@pytest.fixture
def open_says(
    tiny_model: Path, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Open:
    """A function that opens a text with a model that answers each request with a sentence.

    The model attends to all blocks alike.
    """
    del cache_folder

    def opened(text: str, said: str) -> OpenDocument:
        def generate(self: Any, context: Any, *_: Any) -> Iterator[Any]:
            yield from ()
            size = self.block_tokens
            mass = torch.zeros(-(-len(context.text.ids) // size))
            return GeneratedAnswer(
                text=said,
                tokens=9,
                attention=AnswerAttention(mass=mass, text=context.text, size=size),
                finish_reason="stop",
                first_token_seconds=0.0,
                tokens_per_second=0.0,
            )

        def even(self: Any, question: Any) -> torch.Tensor:
            del question
            return torch.ones(-(-len(self._text.ids) // self._model.config.select_block))

        monkeypatch.setattr(OpenDocument, "generate", generate)
        monkeypatch.setattr(Retriever, "attention", even)
        path = tmp_path / "lease.txt"
        path.write_text(text)
        engine = Engine(Options(model=str(tiny_model), store=False), lambda _: None)
        sources = read_sources([str(path)], on_note=print)
        return open_for_summary(engine, sources, "lease.txt", None)

    return opened


def made(opened: OpenDocument, words: int = 30) -> list[Statement]:
    length = SummaryLength(words, exact=True)
    return list(statements(opened, length, focus=None, outline=False))


def test_a_sentence_that_holds_is_kept(open_says: Open) -> None:
    said = "Mira Lund, the tenant of the harbor office, pays 1,200 crowns."
    [statement] = made(open_says(LEASE, said))
    assert (statement.text, statement.verbatim, statement.is_supported) == (said, False, True)
    assert statement.citations[0].quote == RENT


@pytest.mark.parametrize(
    "said",
    [
        "The tenant Mira Lund pays 1,300 crowns for the harbor office.",
        "The tenant Mira Lund pays for the harbor office.",
        "The tenant Mira Lund must pay 1,200 crowns for the harbor office.",
        "Whales sing in the northern ocean at night.",
        "The tenant Mira Lund pays 1,200 crowns for the harbor office and the",
        "",
    ],
)
def test_a_sentence_that_does_not_hold_is_replaced(open_says: Open, said: str) -> None:
    [statement] = made(open_says(LEASE, said))
    assert (statement.text, statement.verbatim, statement.is_supported) == (RENT, True, True)


def test_facts_follow_as_the_length_allows(open_says: Open) -> None:
    more = "The deposit of 3,600 crowns is returned on 31 March 2028."
    opened = open_says(LEASE + more + "\n", "")
    assert [each.text for each in made(opened, words=20)] == [more]
    assert [each.text for each in made(opened, words=60)] == [RENT, more]


def test_the_overview_has_sentences_that_statements_support(open_says: Open) -> None:
    crane = "Jonas Berg must repair the crane by 31 March 2028."
    text = f"{LEASE}{crane}\n"
    said = "Mira Lund pays 1,200 crowns. Whales sing in the northern ocean at night."
    opened = open_says(text, "")
    found = made(opened, words=120)
    assert [each.text for each in found] == [RENT, crane]
    opened = open_says(text, said)
    length = SummaryLength(120, exact=True)
    told = overview(opened, found, length, None)
    assert [each.text for each in told] == [said[: said.index("Whales") - 1], crane]
    assert [each.verbatim for each in told] == [False, True]
    assert all(each.is_supported for each in told)


def test_a_sentence_as_long_as_its_statement_is_the_statement(open_says: Open) -> None:
    crane = "Jonas Berg must repair the crane by 31 March 2028."
    said = "For the harbor office the tenant Mira Lund pays 1,200 crowns."
    opened = open_says(f"{LEASE}{crane}\n", "")
    found = made(opened, words=120)
    opened = open_says(f"{LEASE}{crane}\n", said)
    told = overview(opened, found, SummaryLength(120, exact=True), None)
    assert [each.text for each in told] == [RENT, crane]


def test_a_sentence_may_rest_on_two_statements(open_says: Open) -> None:
    opened = open_says(f"{LEASE}Jonas Berg repairs the crane in June 2021.\n", "")
    found = made(opened, words=120)
    assert supporting("Mira Lund pays 1,200 crowns and Jonas Berg repairs the crane.", found) == [
        0,
        1,
    ]
    assert supporting("Whales sing in the northern ocean.", found) == []
    assert supporting("Mira Lund pays 1,300 crowns.", found) == []
    # The person of one statement, the deed of another.
    assert supporting("Mira Lund repairs the crane every year.", found) == []


def test_a_summary_of_one_statement_is_its_overview(open_says: Open) -> None:
    request = SummaryRequest(length=SummaryLength(30, exact=True))
    summary = summarize_document(open_says(LEASE, ""), request)
    assert summary.overview == summary.statements
    assert summary.source.endswith("lease.txt")


@pytest.mark.long
@pytest.mark.model
def test_a_lease_keeps_its_dates_and_duties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NSA_CACHE_DIR")
    monkeypatch.delenv("NSA_OFFLINE")
    path = tmp_path / "lease.md"
    path.write_text(
        "# 1. Term\n\nThe lease begins on 1 April 2023 and ends on 31 March 2028. The parties hope "
        "for a long and fruitful collaboration.\n\n# 2. Repairs\n\nThe landlord keeps the roof in "
        "order. The tenant must repair the windows at her own cost.\n"
    )
    engine = Engine(Options(model="qwen2.5-coder-0.5b", store=False), lambda _: None)
    sources = read_sources([str(path)], on_note=print)
    opened = open_for_summary(engine, sources, str(path), None)
    request = SummaryRequest(length=SummaryLength(120, exact=True), outline=True)
    summary = summarize_document(opened, request)
    text = " ".join(statement.text for statement in summary.statements)
    assert "31 March 2028" in text
    assert "must repair the windows" in text
    assert {each.section for each in summary.statements} == {"1. Term", "2. Repairs"}
    assert all(each.is_supported for each in (*summary.statements, *summary.overview))
