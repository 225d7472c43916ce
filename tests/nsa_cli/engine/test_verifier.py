"""An answer is shown when the model's verifier supports it; otherwise nsa declines."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.documents.sources import Source
from nsa_cli.engine import answer
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.generate import GeneratedAnswer, GenerationOptions
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.engine.verifier import Verifier, WrittenExpression, verifier_of
from nsa_cli.events import AnswerFinished, AnswerText, Event, Stage, collected, drain
from nsa_models.modeling.low_rank import new_matrices
from nsa_models.weights.adapter import Adapter, attach_verifier

REPORT = (
    "Annual report of Harbor Tools. Revenue was 12.4 million euros in 2018 and 14.1 million euros "
    "in 2019.\nThe harbor has a crane. Nobody lives there."
)
GROWTH = "By what percentage did revenue grow from 2018 to 2019?"


class FakeVerifier:
    """Gives a support and an expression, and keeps what it was asked."""

    def __init__(self, support: float | None, expression: str = "") -> None:
        self._support, self._expression = support, expression
        self.asked: list[tuple[str, ...]] = []
        self.earlier: list[tuple[tuple[str, str], ...]] = []
        self.after: float | None = support

    def support(
        self, question: str, said: str, earlier: tuple[tuple[str, str], ...] = ()
    ) -> float | None:
        self.asked.append((question, said))
        self.earlier.append(tuple(earlier))
        return self.after if earlier else self._support

    def expression(self, question: str) -> WrittenExpression | None:
        self.asked.append((question,))
        return WrittenExpression(self._expression, 9) if self._expression else None


def fake(monkeypatch: pytest.MonkeyPatch, *about: object) -> FakeVerifier:
    made = FakeVerifier(*about)  # type: ignore[arg-type]
    monkeypatch.setattr(answer, "verifier_of", lambda *_: made)
    return made


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the model answer with a text."""
    generate = OpenDocument.generate

    def said(*args: Any) -> Generator[AnswerText, None, GeneratedAnswer]:
        generated = yield from generate(*args)
        return replace(generated, text=text, finish_reason="stop")

    monkeypatch.setattr(OpenDocument, "generate", said)


def ask(tiny_model: Path, question: str, text: str = REPORT) -> tuple[AnswerFinished, list[Event]]:
    events: list[Event] = []
    engine = Engine(Options(model=str(tiny_model), store=False, max_tokens=6), events.append)
    source = Source(name="a.txt", data=text.encode(), named=True)
    [found] = engine.ask([source], "a.txt", [question], time.monotonic())
    return found, events


def shown(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, AnswerText))


def test_an_unsupported_answer_is_never_shown(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(monkeypatch, 0.2)
    found, events = ask(tiny_model, "Is there a crane?")
    [(question, said)] = made.asked
    assert question == "Is there a crane?"
    assert said
    assert found.answer == ("The document does not say. It says: “The harbor has a crane.” [1]")
    assert shown(events) == found.answer
    assert found.support == 0.2
    assert [each.line_start for each in found.citations] == [2]
    assert not found.citations[0].verified
    assert [each.name for each in events if isinstance(each, Stage)][-2:] == [
        "answering",
        "checking",
    ]


@pytest.mark.parametrize(("support", "may_verify"), [(0.6, False), (0.95, True), (None, False)])
def test_a_supported_answer_is_shown_and_a_well_supported_one_may_be_verified(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, support: float | None, may_verify: bool
) -> None:
    monkeypatch.setattr("nsa_cli.retrieval.citations.is_supported", lambda *_: True)
    plain, _ = ask(tiny_model, "Is there a crane?")
    fake(monkeypatch, support)
    found, events = ask(tiny_model, "Is there a crane?")
    assert found.answer == plain.answer == shown(events).rstrip()
    assert found.support == support
    assert plain.citations
    assert all(each.verified for each in plain.citations)
    assert [each.verified for each in found.citations] == [may_verify] * len(plain.citations)


@pytest.mark.parametrize(
    ("support", "is_supported", "said", "declined"),
    [
        (0.55, True, "The harbor has a crane.", False),
        (0.55, False, "The harbor has a crane.", True),
        (0.65, False, "The harbor has a crane.", False),
        (0.55, False, "14.1 - 12.4 = 1.7", False),
        (0.55, False, "Der Hafen hat einen Kran, der in der Mitte ist.", False),
        (None, False, "The harbor has a crane.", False),
    ],
)
def test_an_answer_without_a_passage_needs_more_support(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    support: float | None,
    is_supported: bool,
    said: str,
    declined: bool,
) -> None:
    """An expression and an answer in another language are in no passage."""
    monkeypatch.setattr("nsa_cli.retrieval.citations.is_supported", lambda *_: is_supported)
    fake(monkeypatch, support)
    says(monkeypatch, said)
    question = "Hat der Hafen einen Kran?" if said.startswith("Der") else "Is there a crane?"
    found, _ = ask(tiny_model, question)
    assert found.answer.startswith("The document does not say.") == declined


@pytest.mark.parametrize(
    ("support", "is_short", "declined", "verified"),
    [
        (0.4, True, False, False),
        (0.4, False, True, False),
        (0.3, True, True, False),
        (0.85, True, False, True),
        (0.85, False, False, False),
        (0.9, False, False, True),
    ],
)
def test_an_answer_from_a_whole_text_needs_less_support(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    support: float,
    is_short: bool,
    declined: bool,
    verified: bool,
) -> None:
    monkeypatch.setattr("nsa_cli.retrieval.citations.is_supported", lambda *_: True)
    monkeypatch.setattr(OpenDocument, "is_short", is_short)
    fake(monkeypatch, support)
    says(monkeypatch, "The harbor has a crane.")
    found, _ = ask(tiny_model, "What does the harbor have?")
    assert found.answer.startswith("The document does not say.") == declined
    assert any(each.verified for each in found.citations) == verified


def test_a_question_for_how_many_is_not_answered_without_a_number(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.retrieval.citations.is_supported", lambda *_: True)
    fake(monkeypatch, 0.95)
    says(monkeypatch, "The harbor has cranes.")
    found, _ = ask(tiny_model, "How many cranes are there?")
    assert found.answer.startswith("The document does not say.")


def test_a_quote_that_states_no_result_takes_the_mark(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.retrieval.citations.is_supported", lambda *_: True)
    fake(monkeypatch, 0.95)
    says(monkeypatch, "14.1 million euros")
    found, _ = ask(tiny_model, GROWTH)
    assert found.answer.startswith("14.1 million")
    assert not any(each.verified for each in found.citations)


def test_a_rate_is_multiplied_by_what_the_question_counts(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, 0.2)  # a month's fee is no answer by itself
    says(monkeypatch, "52 EUR")
    fees = "The membership costs 52 EUR a month.\nA guest pays 9 EUR."
    found, events = ask(tiny_model, "How much does a membership cost for a whole year?", fees)
    assert found.answer == shown(events) == "624 EUR = 12 × 52 EUR [1]"
    assert found.computation is not None
    assert (found.computation.value, found.computation.unit) == (624, "EUR")
    assert [each.line_start for each in found.citations] == [1]
    found, _ = ask(tiny_model, "How much does a membership cost?", fees)
    assert found.computation is None


LEAVE = (
    "Staff may carry over 5 days of unused leave.\n\n"
    "Annex: up to 8 days of unused leave may be carried over.\n"
)
BOTH = "How much unused leave may be carried over? The text and the annex disagree: give both."


def test_the_other_value_is_quoted_where_a_question_asks_for_two(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, 0.95)
    says(monkeypatch, "5 days")
    found, events = ask(tiny_model, BOTH, LEAVE)
    [place] = [at for at, each in enumerate(found.citations, 1) if each.line_start == 3]
    added = ". It also says: “Annex: up to 8 days of unused leave may be carried over.”"
    assert found.answer == f"5 days{added} [{place}]"
    assert shown(events).endswith(f"{added} [{place}]")
    assert len({each.quote for each in found.citations}) == len(found.citations) <= 3


def test_one_value_is_enough_where_a_question_asks_for_one(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, 0.95)
    says(monkeypatch, "5 days")
    found, _ = ask(tiny_model, "How many days of unused leave may be carried over?", LEAVE)
    assert found.answer == "5 days"


def test_an_expression_of_the_verifier_is_computed(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, 0.9, "(14.1 - 12.4) / 12.4 * 100")
    found, events = ask(tiny_model, GROWTH)
    expected = "13.7 % = (14.1 million euros - 12.4 million euros) / 12.4 million euros [1]"
    assert found.answer == shown(events) == expected
    assert found.computation is not None
    assert found.computation.value == pytest.approx(13.709677)
    assert [each.verified for each in found.citations] == [False]


@pytest.mark.parametrize(
    "expression", ["", "14.1 - 99.9", "14.1", "revenue / 2", "(14.1 - 12.4", "14.1 - 12.4"]
)
def test_without_an_expression_of_figures_of_the_text_the_model_answers_in_words(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    made = fake(monkeypatch, 0.9, expression)
    found, _ = ask(tiny_model, GROWTH)
    assert found.computation is None
    assert [len(each) for each in made.asked] == [1, 2]


def test_the_program_computes_the_expression_of_an_answer_in_words(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, 0.9, "14.1 - 99.9")
    says(monkeypatch, "It grew by (14.1 - 12.4) / 12.4 * 100% = 37 %.")
    found, events = ask(tiny_model, GROWTH)
    assert found.answer.startswith("13.7 % = (14.1 million euros - 12.4 million euros)")
    assert shown(events) == found.answer
    assert not any(each.verified for each in found.citations)


def test_a_question_without_arithmetic_asks_for_no_expression(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(monkeypatch, 0.9, "14.1 - 12.4")
    assert ask(tiny_model, "Is there a crane?")[0].computation is None
    assert [len(each) for each in made.asked] == [2]


def test_the_checks_leave_the_context_and_the_model_as_they_were(opened: OpenDocument) -> None:
    options = GenerationOptions()
    settings = options.attention(opened.model.config)
    context = opened.whole()
    assert verifier_of(opened, context, settings) is None
    matrices = new_matrices(opened.model, rank=2, seed=0)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"lora.{name}": torch.randn(matrix.shape, generator=generator)
        for name, matrix in matrices.items()
    }
    attach_verifier(
        opened.model, Adapter(base="", settings={}, scale=1.0, tensors=tensors, about={})
    )
    verifier = verifier_of(opened, context, settings)
    assert isinstance(verifier, Verifier)
    length, ids = context.cache.length, torch.arange(5)[None]
    with torch.inference_mode():
        before = opened.model(ids, settings=settings).logits
    support = verifier.support("Who wrote report 17?", "Anna.")
    written = verifier.expression("How many more?")
    assert support is not None
    assert 0.0 <= support <= 1.0
    assert verifier.support("Who wrote report 17?", "Anna.") == support
    assert written is None or written.tokens <= 64
    assert context.cache.length == length
    with torch.inference_mode():
        assert torch.equal(opened.model(ids, settings=settings).logits, before)


def test_without_room_there_is_no_check(opened: OpenDocument) -> None:
    settings = GenerationOptions().attention(opened.model.config)
    context = opened.whole()
    matrices = new_matrices(opened.model, rank=1, seed=0)
    tensors = {f"lora.{name}": matrix.detach() for name, matrix in matrices.items()}
    attach_verifier(
        opened.model, Adapter(base="", settings={}, scale=1.0, tensors=tensors, about={})
    )
    verifier = verifier_of(opened, context, settings)
    assert verifier is not None
    words = "word " * (context.cache.capacity - context.cache.length)
    assert verifier.support("Who?", words) is None
    assert verifier.expression(words) is None


def finished_with(
    opened: OpenDocument, earlier: list[tuple[str, str]], instructions: str = ""
) -> AnswerFinished:
    """The answer to a question after earlier turns."""
    asked = opened.prompts.question("And when?", earlier, instructions)
    options = replace(opened.options, compute=True)
    finished, _ = drain(answer.answer_steps(opened, asked, options), opened.emit)
    return finished


def test_a_question_with_instructions_of_a_client_is_not_checked(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(monkeypatch, 0.0)
    assert finished_with(opened, [("Who wrote report 17?", "Anna.")], "Be kind.").support is None
    assert not made.asked


def test_a_follow_up_is_checked_with_the_question_before_it_and_after_its_turn(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(monkeypatch, 0.2)
    turns = [("Is it old?", "No."), ("Who wrote report 17?", "Anna."), ("Where?", "In Ulm.")]
    finished = finished_with(opened, turns)
    assert finished.answer.startswith("The document does not say.")
    assert finished.support == 0.2
    assert [question for question, _ in made.asked] == [
        "Who wrote report 17? Where? And when?",
        "And when?",
    ]
    assert made.earlier == [(), tuple(turns)]


@pytest.mark.parametrize(
    ("joined", "after", "is_shown", "may_verify"),
    [(0.95, 0.2, True, True), (0.6, 0.9, True, False), (0.6, 0.2, False, False)],
)
def test_the_mean_of_two_checks_declines_and_the_first_verifies(
    opened: OpenDocument,
    monkeypatch: pytest.MonkeyPatch,
    joined: float,
    after: float,
    is_shown: bool,
    may_verify: bool,
) -> None:
    monkeypatch.setattr("nsa_cli.retrieval.citations.is_supported", lambda *_: True)
    made = fake(monkeypatch, joined)
    made.after = after
    finished = finished_with(opened, [("Who wrote report 17?", "Anna.")])
    assert finished.support == pytest.approx((joined + after) / 2)
    assert finished.answer.startswith("The document does not say.") != is_shown
    if is_shown:
        assert finished.citations
        assert {each.verified for each in finished.citations} == {may_verify}


@pytest.mark.parametrize(
    ("said", "support", "expected"),
    [
        ("Yes, the harbor has no crane.", 0.7, "The harbor has no crane."),
        ("Yes.", 0.7, "No. It says: “The harbor has no crane.” [1]"),
        ("Yes.", 0.95, "Yes."),
        ("No.", 0.7, "No."),
    ],
)
def test_a_yes_that_the_text_denies_is_not_shown(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    support: float,
    expected: str,
) -> None:

    monkeypatch.setattr(
        answer,
        "collected",
        lambda steps: ([AnswerText(text=said)], replace(collected(steps)[1], text=said)),
    )
    fake(monkeypatch, support)
    text = REPORT.replace("has a crane", "has no crane")
    found, events = ask(tiny_model, "Does the harbor have a crane?", text)
    assert found.answer == shown(events) == expected


TWO = "How high is the crane according to the report, and according to the sign?"


def says_by_question(monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
    """Let the model answer each question with another text."""
    generate = OpenDocument.generate

    def said(*args: Any) -> Generator[AnswerText, None, GeneratedAnswer]:
        generated = yield from generate(*args)
        return replace(generated, text=texts[args[2].text], finish_reason="stop")

    monkeypatch.setattr(OpenDocument, "generate", said)


@pytest.mark.parametrize(
    ("whole", "second", "answered"),
    [
        ("It is 40 meters high.", "42 meters", "parts"),
        ("It is 40 meters by the report, and 42 by the sign.", "42 meters", "whole"),
        ("It is 40 meters high.", "The document does not say.", "whole"),
        ("It is 40 meters high.", "40 meters", "whole"),
    ],
)
def test_a_question_for_two_values_is_answered_by_parts_where_one_is_missing(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, whole: str, second: str, answered: str
) -> None:
    stem = "How high is the crane according to"
    texts = {TWO: whole, f"{stem} the report?": "40 meters", f"{stem} the sign?": second}
    says_by_question(monkeypatch, texts)
    fake(monkeypatch, 0.7)
    found, events = ask(tiny_model, TWO)
    if answered == "parts":
        assert [each.split(" [")[0] for each in found.answer.splitlines()] == [
            "According to the report: 40 meters",
            "According to the sign: 42 meters",
        ]
        assert found.support == 0.7
        assert shown(events) == found.answer
    else:
        assert found.answer.startswith(whole)


@pytest.mark.parametrize(
    ("support", "said", "answer_text"),
    [
        (0.2, "Yes.", "No. It says: “Nobody may climb the crane.” [1]"),
        (0.8, "Yes, visitors may climb it.", "No. It says: “Nobody may climb the crane.” [1]"),
        (0.8, "No.", "No."),
        (0.95, "Yes.", "Yes."),
    ],
)
def test_a_sentence_that_denies_it_answers_for_a_yes(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    support: float,
    said: str,
    answer_text: str,
) -> None:
    says(monkeypatch, said)
    fake(monkeypatch, support)
    text = "The harbor has a crane. Nobody may climb the crane."
    found, events = ask(tiny_model, "May we climb the crane?", text)
    assert found.answer == answer_text
    if said != answer_text:
        assert not any(each.verified for each in found.citations)
        assert shown(events) == answer_text


TABLE = (
    "Harbor Tools, in thousand euros\n"
    "              2018     2019\n"
    "Revenue     12,400   14,100\n"
    "Wages        4,000    4,400\n"
    "Rent           900    1,080\n"
)


@pytest.mark.parametrize("expression", ["", "77 / 4", "(4,400 - 4,000) / 4,000"])
def test_a_row_of_a_table_tells_a_change_over_time(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    fake(monkeypatch, 0.9, expression)
    question = "By what percentage did the rent grow from 2018 to 2019?"
    found, _ = ask(tiny_model, question, TABLE)
    assert found.answer == "20.0 % = (1,080 - 900) / 900 [1]"
    assert found.computation is not None
    assert not found.citations[0].verified
