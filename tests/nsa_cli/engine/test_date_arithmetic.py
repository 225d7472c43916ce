"""A question for a date is answered by an expression over a date and a cited period."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.documents.sources import Source
from nsa_cli.engine import arithmetic
from nsa_cli.engine.engine import Engine
from nsa_cli.events import AnswerFinished, Event
from nsa_models.generation.generate import DecodedToken, DecodeOptions

TERMS = (
    "Terms of purchase. Invoices are due within 30 days of their date.\n"
    "The buyer reports damage within 10 business days of the delivery."
)
LETTER = "The chairs were ordered on 4 March 2024.\nThey were delivered on 21 March 2024."
DUE = "The invoice is dated 14 March 2026. By which date must it be paid?"


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def engine(tiny_model: Path, events: list[Event]) -> Engine:
    return Engine(
        Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=6), events.append
    )


@pytest.fixture
def chosen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that the model chooses, as far as the grammar allows them."""
    texts: list[str] = []

    def decode(
        _model: Any, _ids: Any, _cache: Any, options: DecodeOptions, **_more: Any
    ) -> Iterator[DecodedToken]:
        tokenizer, grammar = engine.tokenizer, options.grammar
        assert grammar is not None
        wanted = [int(i) for text in texts for i in tokenizer.encode(text)]
        for _ in range(options.max_tokens):
            allowed = set(grammar.allowed(tokenizer.vocab_size).nonzero()[:, 0].tolist())
            token = wanted.pop(0) if wanted and wanted[0] in allowed else min(allowed)
            grammar.accept(token)
            yield DecodedToken(id=token, mass=torch.zeros(1, 1, 1))

    monkeypatch.setattr(arithmetic, "decode", decode)
    return texts


def ask(engine: Engine, document: str, question: str) -> AnswerFinished:
    source = Source(name="a.txt", data=document.encode(), named=True)
    [answer] = engine.ask([source], "a.txt", [question], time.monotonic())
    return answer


def test_a_date_is_computed_and_its_period_cited(engine: Engine, chosen: list[str]) -> None:
    chosen += ["+ 30 days"]
    found = ask(engine, TERMS, DUE)
    assert found.answer == "13 April 2026 = 14 March 2026 + 30 days [1]"
    [citation] = found.citations
    assert citation.quote == "Invoices are due within 30 days of their date."
    computation = found.computation
    assert computation is not None
    assert (
        computation.operation,
        computation.description,
        computation.value,
        computation.unit,
    ) == (
        "expression",
        "14 March 2026 + 30 days",
        "2026-04-13",
        "date",
    )


def test_the_time_between_two_dates_is_computed(engine: Engine, chosen: list[str]) -> None:
    chosen += ["4 March 2024", " - ", "21 March 2024"]
    found = ask(engine, LETTER, "How many days passed between the order and the delivery?")
    assert found.answer == "17 days = 21 March 2024 - 4 March 2024 [1] [2]"
    assert found.computation is not None
    assert found.computation.value == 17
    assert [each.line_start for each in found.citations] == [1, 2]


@pytest.mark.parametrize(
    ("document", "options"),
    [(TERMS, ["none"]), ("Invoices are due at once.", []), (TERMS, ["--no-compute"])],
)
def test_otherwise_the_model_answers_in_words(
    tiny_model: Path,
    engine: Engine,
    chosen: list[str],
    events: list[Event],
    document: str,
    options: list[str],
) -> None:
    chosen += options
    if options == ["--no-compute"]:
        tokenizer = engine.tokenizer
        engine = Engine(
            Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=6, compute=False),
            events.append,
        )
        assert engine.tokenizer.vocab_size == tokenizer.vocab_size
    found = ask(engine, document, DUE)
    assert found.computation is None
