"""A question that asks for arithmetic is answered by an expression over cited figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.documents.sources import Source
from nsa_cli.engine import arithmetic
from nsa_cli.engine.engine import Engine
from nsa_cli.events import AnswerFinished, AnswerText, Event
from nsa_models.generation.generate import DecodedToken, DecodeOptions

Run = Callable[..., tuple[int, str, str]]

REPORT = (
    "Annual report of Harbor Tools. Revenue was 12.4 million euros in 2018 and 14.1 million euros "
    "in 2019. Costs were 9.0 million euros in 2018 and 9.8 million euros in 2019."
)
STATEMENT = (
    "Statement of income (in thousands of dollars)\n"
    "                     2019     2018\n"
    "Sales              15,320   13,870\n"
    "Cost of sales       8,120    7,455\n"
    "Result                (20)     310\n"
)
GROWTH = "By how much did revenue grow from 2018 to 2019?"


@dataclass(frozen=True)
class Case:
    """A document with a question, the figures that the model chooses, and the answer."""

    document: str
    question: str
    figures: tuple[str, ...]
    answer: str
    value: float
    unit: str
    lines: tuple[int, ...] = (1,)


CASES = [
    Case(REPORT, GROWTH, ("12.4 million euros", "14.1 million euros"),
         "1.7 million euros = 14.1 million euros - 12.4 million euros [1]", 1_700_000, "EUR"),
    Case(REPORT, "By what percentage did revenue grow from 2018 to 2019?",
         ("14.1 million euros", "12.4 million euros"),
         "13.7 % = (14.1 million euros - 12.4 million euros) / 12.4 million euros [1]",
         13.709677, "%"),
    Case("Trade receivables were $1,204 million.\nSales for the year were $10,667 million.",
         "What were the days sales outstanding?", ("$1,204 million", "$10,667 million"),
         "41.2 days = 365 × $1,204 million / $10,667 million [1] [2]", 41.198088, "days", (1, 2)),
    Case("The institute has 1,250 employees, of whom 310 work in research.",
         "What share of the employees works in research?", ("310", "1,250"),
         "24.8 % = 310 / 1,250 [1]", 24.8, "%"),
    Case("The tenant pays a rent of 1,150.00 euros and a service charge of 210.5 euros.",
         "What do rent and service charge come to together?", ("1,150.00 euros", "210.5 euros"),
         "1,360.50 euros = 1,150.00 euros + 210.5 euros [1]", 1360.5, "EUR"),
    Case(STATEMENT, "By how much did the cost of sales rise from 2018 to 2019?",
         ("7,455", "8,120"), "665 (in thousands of dollars) = 8,120 - 7,455 [1]", 665_000, "USD",
         (4,)),
    Case(STATEMENT, "By how much did the result fall from 2018 to 2019?", ("(-20)", "310"),
         "-330 (in thousands of dollars) = (-20) - 310 [1]", -330_000, "USD", (5,)),
    Case("Der Umsatz betrug 2018 3,2 Mio. € und 2019 3,9 Mio. €.",
         "Um wie viel Prozent stieg der Umsatz von 2018 auf 2019?", ("3,2 Mio. €", "3,9 Mio. €"),
         "21,9 % = (3,9 Mio. € - 3,2 Mio. €) / 3,2 Mio. € [1]", 21.875, "%"),
    Case("Debt was 5.4 billion dollars, equity 3,600 million dollars.",
         "What was the ratio of debt to equity?", ("5.4 billion dollars", "3,600 million dollars"),
         "1.50 = 5.4 billion dollars / 3,600 million dollars [1]", 1.5, ""),
    Case("Visitors\n2016: 41,200\n2017: 43,900\n2018: 47,700\n",
         "What was the average number of visitors from 2016 to 2018?",
         ("41,200", "43,900", "47,700"), "44,266.7 = (41,200 + 43,900 + 47,700) / 3 [1] [2] [3]",
         44266.666667, "", (2, 3, 4)),
    Case("The margin was 12.5 % in 2018 and 14.0 % in 2019. Net income was 3 million.",
         "By how many percentage points did the margin rise?", ("12.5 %", "14.0 %"),
         "1.5 percentage points = 14.0 % - 12.5 % [1]", 1.5, "percentage points"),
    Case("The club had 812 members at the end of 2019.\nFees brought in 48,720 euros.",
         "What were the fees per member?", ("48,720 euros", "812"),
         "60.00 euros = 48,720 euros / 812 [1] [2]", 60, "EUR", (2, 1)),
]  # fmt: skip


class FakeModel:
    """Decodes expressions with the given figures, as far as the grammar allows them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.figures: tuple[str, ...] = ()
        self.asked: list[str] = []

    def decode(
        self, _model: Any, ids: Any, _cache: Any, options: DecodeOptions, **_: Any
    ) -> Iterator[DecodedToken]:
        tokenizer, grammar = self._engine.tokenizer, options.grammar
        self.asked.append(b"".join(tokenizer.decode_bytes(int(i)) for i in ids).decode())
        assert grammar is not None
        wanted = [int(i) for text in self.figures for i in tokenizer.encode(text)]
        for _ in range(options.max_tokens):
            allowed = set(grammar.allowed(tokenizer.vocab_size).nonzero()[:, 0].tolist())
            token = wanted[0] if wanted and wanted[0] in allowed else min(allowed)
            wanted = wanted[wanted[:1] == [token] :]
            grammar.accept(token)
            yield DecodedToken(id=token, mass=torch.zeros(1, 1, 1))


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def engine(tiny_model: Path, events: list[Event]) -> Engine:
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=6)
    return Engine(options, events.append)


@pytest.fixture
def fake(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    found = FakeModel(engine)
    monkeypatch.setattr(arithmetic, "decode", found.decode)
    return found


def ask(engine: Engine, document: str, question: str) -> AnswerFinished:
    source = Source(name="a.txt", data=document.encode(), named=True)
    [answer] = engine.ask([source], "a.txt", [question], time.monotonic())
    return answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.question)
def test_written_cases(engine: Engine, fake: FakeModel, events: list[Event], case: Case) -> None:
    fake.figures = case.figures
    found = ask(engine, case.document, case.question)
    assert found.answer == case.answer
    assert found.computation is not None
    assert (found.computation.value, found.computation.unit) == (case.value, case.unit)
    assert found.computation.operation == "expression"
    assert tuple(each.line_start for each in found.citations) == case.lines
    quotes = " ".join(each.quote for each in found.citations)
    assert all(each.strip("(-)") in quotes for each in case.figures)
    assert all(each.verified for each in found.citations)
    assert [event.text for event in events if isinstance(event, AnswerText)] == [case.answer]
    [prompt] = fake.asked
    assert prompt.count(case.question) == 1


def test_figures_that_are_missing_are_declined(engine: Engine, fake: FakeModel) -> None:
    found = ask(engine, "The dividend was 0.40 euros in 2019. It rained 14 days.", GROWTH)
    assert found.answer == (
        "The document does not say. It says: “The dividend was 0.40 euros in 2019.” [1]"
    )
    assert not found.citations[0].verified
    assert found.computation is not None
    assert found.computation.refused == "the passages do not name 2018"
    found = ask(engine, "Revenue was 0.40 euros a share.", "By how much did revenue grow?")
    assert found.computation is not None
    assert found.computation.refused == "the passages have fewer than 2 figures for it"
    assert not fake.asked


def test_the_model_may_find_no_figure(engine: Engine, fake: FakeModel) -> None:
    fake.figures = ("14.1 million euros", "none")
    found = ask(engine, REPORT, GROWTH)
    assert found.answer.startswith("The document does not say.")
    assert found.computation is not None
    assert found.computation.refused == "the passages have no figures for it"


def test_a_figure_is_not_taken_twice_nor_with_another_unit(engine: Engine, fake: FakeModel) -> None:
    text = "Revenue was 12 euros in 2018, 14 euros in 2019; 5 days of rain; 3 dollars."
    fake.figures = ("14 euros", "14 euros", "5 days", "3 dollars", "12 euros")
    found = ask(engine, text, GROWTH)
    assert "14 euros - 14 euros" not in found.answer
    assert "days" not in found.answer
    assert "dollars" not in found.answer


@pytest.mark.parametrize(
    ("document", "question"),
    [
        ("Revenue grew by 1.7 million euros to 14.1 million euros.",
         "By how much did revenue grow?"),
        ("Services made 34 % of the revenue. Sales were 12 and 14.",
         "What share of the revenue came from services?"),
        ("The ratio of debt to equity was 1.5. Debt was 3 and equity 2.",
         "What was the ratio of debt to equity?"),
        ("Revenue was 0 euros in 2018 and 3 euros in 2019.",
         "By what percentage did revenue grow from 2018 to 2019?"),
    ],
)  # fmt: skip
def test_the_model_answers_what_is_stated_or_has_no_value(
    engine: Engine, fake: FakeModel, document: str, question: str
) -> None:
    fake.figures = ("3 euros", "0 euros")
    found = ask(engine, document, question)
    assert found.computation is None
    assert not found.answer.startswith("The document does not say. It says")


def test_the_answer_is_kept_by_form_and_without_compute_the_model_answers(
    engine: Engine, fake: FakeModel, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.figures = CASES[0].figures
    first = ask(engine, REPORT, GROWTH)
    again = ask(engine, REPORT, GROWTH)
    assert (again.answer, again.computation) == (first.answer, first.computation)
    assert len(fake.asked) == 1
    monkeypatch.setattr("nsa_cli.engine.compute.FORM_RULES", 10**6)
    ask(engine, REPORT, GROWTH)
    assert len(fake.asked) == 2
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=6, compute=False)
    assert ask(Engine(options, [].append), REPORT, GROWTH).computation is None
    assert len(fake.asked) == 2


def test_json_and_batch_rows_have_the_computation(nsa: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "report.txt", tmp_path / "rows.jsonl"
    path.write_text(REPORT)
    code, printed, err = nsa("ask", str(path), GROWTH, "--json", "--no-store")
    assert code == 0, err
    found = json.loads(printed)
    assert found["computation"]["operation"] == "expression"
    assert found["answer"].endswith("[1]")
    code, _, err = nsa("batch", str(path), "-a", GROWTH, "--out", str(out))
    assert code == 0, err
    row = json.loads(out.read_text())
    assert row["computation"] == found["computation"]
    code, printed, err = nsa("ask", str(path), GROWTH, "--no-store")
    assert code == 0, err
    assert found["answer"] in printed
    assert "without the model" not in err


def test_a_long_text_is_computed_from_its_passages(
    engine: Engine, fake: FakeModel, prose: Any
) -> None:
    fake.figures = ("14.1 million euros", "12.4 million euros")
    text = f"{prose(60)}\n{REPORT}\n{prose(60, seed=3)}"
    found = ask(engine, text, GROWTH)
    assert found.answer == CASES[0].answer
    assert found.citations[0].line_start == 62


def test_an_expression_leaves_its_context_as_it_was(engine: Engine) -> None:
    found = ask(engine, REPORT, GROWTH)  # by the random model
    assert found.computation is not None
    opened = engine.opened
    assert opened is not None
    assert opened.windows[0].cache.length == len(opened.text.ids)
