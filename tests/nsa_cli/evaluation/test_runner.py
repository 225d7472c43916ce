"""Asking through the session of `nsa ask`: an oracle scores everything, a random model runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.options import Options
from nsa_cli.engine import answer, open_document
from nsa_cli.engine.generate import GenerationOptions
from nsa_cli.evaluation import suites
from nsa_cli.evaluation.runner import evaluate, quoted
from nsa_cli.evaluation.suites import Plan
from nsa_cli.events import BatchProgress, Event, Note
from nsa_cli.results import Citation, Passage
from nsa_models.errors import DoesNotFitError
from nsa_models.tasks import Example, needle
from nsa_models.tasks.haystack import documentation
from nsa_models.weights.load import load_config

HAYSTACK = documentation(30_000, seed=5)
EVERY = ("needle", "similar", "values", "variables", "aggregation")


def plan(*suites: str, lengths: tuple[int, ...] = (1500,), limit: int = 2) -> Plan:
    return Plan(
        suites=suites or EVERY,
        lengths=lengths,
        depths=2,
        limit=limit,
        seed=0,
        haystack=HAYSTACK,
    )


def options(model: Path, **more: Any) -> Options:
    return Options(model=str(model), max_tokens=3, store=False, **more)


@pytest.fixture(autouse=True)
def little_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the documentation is most of what a small evaluation takes."""
    monkeypatch.setattr(suites, "_VARIETY", 20_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    """All examples that are asked, as they are made."""
    examples: list[Example] = []
    make = Plan.make

    def remembered(self: Plan, *arguments: Any) -> tuple[Example, ...]:
        examples.extend(found := make(self, *arguments))
        return found

    monkeypatch.setattr(Plan, "make", remembered)
    return examples


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch, made: list[Example]) -> Iterator[None]:
    """Finds the gold spans and says the gold answers, through all the rest of the program."""
    answer_steps = answer.answer_steps
    asked: list[Example] = []

    def answering(opened: Any, question: Any, *more: Any, **named: Any) -> Any:
        asked.append(next(e for e in reversed(made) if e.question == question.text))
        return answer_steps(opened, question, *more, **named)

    def look(opened: Any, *_: Any) -> list[Passage]:
        example = asked[-1]
        assert opened.document.text == example.context
        return [
            Passage(start=a, end=b, score=1 / len(example.evidence)) for a, b in example.evidence
        ]

    def generate(*arguments: Any) -> Any:
        found = yield from real(*arguments)
        return replace(found, text=f"{asked[-1].target}.")

    real = open_document.generate
    monkeypatch.setattr(answer, "answer_steps", answering)
    monkeypatch.setattr(open_document.OpenDocument, "passages", look)
    monkeypatch.setattr(open_document, "generate", generate)
    yield
    assert asked


@pytest.mark.usefixtures("oracle")
def test_the_oracle_has_everything_right(tiny_model: Path) -> None:
    records = list(evaluate(plan(), [options(tiny_model)], ["model"], lambda _: None))
    assert [record.suite for record in records] == [
        *["needle"] * 4,
        *(suite for suite in EVERY[1:] for _ in range(2)),
    ]
    for record in records:
        assert record.score.contains_gold
        assert record.score.exact_match
        assert record.score.f1 == 1.0
        assert record.citation_rank == 1
        assert record.setting.blocks == "all"
        assert 0.6 * record.length < record.tokens < record.length


def test_budgets_share_a_reading_and_attentions_do_not(
    tiny_model: Path, made: list[Example]
) -> None:
    events: list[Event] = []
    ways = [options(tiny_model), options(tiny_model, dense=True)]
    records = list(evaluate(plan("values"), ways, [4, None], events.append))
    settings = [(r.setting.attention, r.setting.blocks, r.question) for r in records]
    questions = [example.question for example in made[:2]]
    assert settings == [
        (kind, blocks, question)
        for kind in ("nsa", "dense")
        for blocks in ("4", "all")
        for question in questions
    ]
    assert len(made) == 2 * 2
    assert len({r.read_seconds for r in records}) == 2
    overall = [event for event in events if isinstance(event, BatchProgress)]
    assert [event.name for event in overall][-1] == ""
    assert overall[-1].done == overall[-1].total
    assert not [event for event in events if isinstance(event, Note)]


def test_answers_are_those_of_ask(tiny_model: Path, made: list[Example], asker: Any) -> None:
    [record, *_] = evaluate(plan("similar", limit=1), [options(tiny_model)], [6], lambda _: None)
    path = asker.cache.parent / "text.txt"
    path.write_text(made[0].context, "utf-8")
    finished = asker(path, record.question, max_tokens=3, answer_blocks=6)
    assert finished.answer == record.answer


def test_a_text_that_no_model_carries_is_refused_before_any_is_read(
    tiny_model: Path, other_model: Path
) -> None:
    events: list[Event] = []
    ways = [options(tiny_model), replace(options(other_model), yarn=True)]
    with pytest.raises(DoesNotFitError, match=r"20,000 tokens are more than the 16,384"):
        list(evaluate(plan("needle", lengths=(1500, 20_000)), ways, ["model"], events.append))
    assert not events


def test_the_same_note_is_told_once(tiny_model: Path) -> None:
    events: list[Event] = []
    run = evaluate(
        plan("needle", lengths=(5000,), limit=1), [options(tiny_model)], [8], events.append
    )
    assert len(list(run)) == 2
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 1
    assert "2 windows" in notes[0]


def test_a_budget_of_blocks_changes_no_configuration(tiny_model: Path) -> None:
    config, _ = load_config(tiny_model, answer_select_count=7)
    for budget, count in ((3, 3), (None, None), ("model", 7)):
        settings = GenerationOptions(answer_blocks=budget).attention(config)  # type: ignore[arg-type]
        assert settings == replace(config.answer_settings(), select_count=count)
        assert config.answer_select_count == 7


def test_a_quote_is_found_in_its_line() -> None:
    text = "It is so.\nOther.\nIt is so.\n"
    lines = [0, 10, 17, 27]
    cited = Citation(
        source="t",
        page=None,
        page_label=None,
        line_start=3,
        line_end=3,
        quote="It is so.",
        verified=True,
        score=1.0,
    )
    assert quoted(text, cited, lines) == (17, 26)
    assert quoted(text, replace(cited, line_start=1), lines) == (0, 9)


Run = Callable[..., tuple[int, str, str]]


def test_the_command_in_json_and_in_files(nsa: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "result.json", tmp_path / "map.png"
    code, shown, err = nsa(
        *("eval", "needle", "values", "--lengths", "1500", "--depths", "2", "--limit", "2"),
        *("--answer-blocks", "4,all", "--json", "--out", str(out), "--plot", str(plot)),
    )
    assert code == 0, err
    result = json.loads(shown)
    assert next(iter(result)) == "accuracy"
    assert [(r["suite"], r["blocks"], r.get("depth")) for r in result["rows"]] == [
        *(("needle", blocks, depth) for depth in (0.0, 1.0) for blocks in ("4", "all")),
        *(("values", blocks, None) for blocks in ("4", "all")),
    ]
    assert all(row["questions"] == 2 for row in result["rows"])
    assert [each["questions"] for each in result["settings"]] == [6, 6]
    written = json.loads(out.read_text())
    assert written["rows"] == result["rows"]
    assert len(written["answers"]) == 12
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


def test_the_command_at_a_terminal(nsa: Run) -> None:
    code, shown, err = nsa("eval", "needle", "--lengths", "1500,2048", "--depths", "3")
    assert code == 0
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("needle ") for line in lines) == 2
    assert [line.split()[0] for line in lines[-3:]] == ["0%", "50%", "100%"]
    assert all("/1" in line for line in lines[-3:])
    assert "nsa: 0% done; needle, 1,500 tokens, depth 0%" in err


def test_questions_from_a_file(nsa: Run, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [
        {
            "title": f"Article {n}",
            "paragraphs": [
                {
                    "text": f"Paragraph {p} of article {n} says word{n}x{p}. " * 4,
                    "questions": [{"question": f"Which {p} in {n}?", "answers": [f"word{n}x{p}"]}],
                }
                for p in range(4)
            ],
        }
        for n in range(12)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    code, shown, _ = nsa(
        *("eval", "questions", "--data", str(path), "--lengths", "2000", "--limit", "3", "--json")
    )
    assert code == 0
    result = json.loads(shown)
    [row] = result["rows"]
    assert (row["suite"], row["questions"], row["length"]) == ("questions", 3, 2000)
    assert result["haystack"] is None


def test_a_haystack_that_is_too_short_is_told_of(nsa: Run, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("A sentence of the haystack, which is short.\n" * 20)
    words = ("eval", "needle", "--lengths", "1500", "--depths", "1", "--haystack", str(path))
    code, _, err = nsa(*words)
    assert code == 0
    assert f"nsa: {path} is shorter than the longest text" in err
    _, _, err = nsa(*words[:5], "1")
    assert "shorter" not in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("needel",), 2, "no suite 'needel'. Did you mean needle?"),
        (("questions",), 2, "questions needs a file. Name it with --data."),
        (("loss", "needle", "--data", "x.jsonl"), 2, "the suite loss runs alone"),
        (("needle", "--data", "x.jsonl"), 2, "--data is for the suites questions, loss"),
        (("needle", "--attention", "dens"), 2, "invalid value for --attention: 'dens'"),
        (("needle", "--answer-blocks", "0"), 2, "invalid value for --answer-blocks: '0'"),
        (("needle", "--answer-blocks", "some"), 2, "invalid value for --answer-blocks: 'some'"),
        (("needle", "--lengths", "4k"), 2, "invalid value for --lengths: '4k'"),
        (("needle", "--out", "none/x.json"), 2, "folder none does not exist"),
        (("needle", "--plot", "none/x.png"), 2, "folder none does not exist"),
        (("questions", "--data", "none.jsonl"), 3, "none.jsonl does not exist"),
        (("needle", "--haystack", "none.txt"), 3, "none.txt does not exist"),
        (("needle", "--lengths", "20000", "--yarn"), 4, "20,000 tokens are more than the 16,384"),
        (("needle", "--lengths", "100"), 2, "0 tokens of text are too few"),
        (("needle", "--lengths", "160"), 2, "of text are too few"),
    ],
)
def test_wrong_usage_in_one_line(
    nsa: Run,
    words: tuple[str, ...],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = nsa("eval", *words)
    assert (found, out) == (code, "")
    assert says in err.splitlines()[-1]


def test_what_was_asked_is_kept_when_it_is_interrupted(
    nsa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_steps = answer.answer_steps
    count = 0

    def stopped(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return answer_steps(*arguments, **named)

    monkeypatch.setattr(answer, "answer_steps", stopped)
    out = tmp_path / "result.json"
    code, _, err = nsa("eval", "values", "--lengths", "1500", "--out", str(out))
    assert code == 130
    assert "--out" in err
    assert len(json.loads(out.read_text())["answers"]) == 2


def test_one_needle_is_made_as_the_generator_makes_it(
    made: list[Example], tiny_model: Path
) -> None:
    list(evaluate(plan("needle", limit=1), [options(tiny_model)], ["model"], lambda _: None))
    [again] = needle(HAYSTACK, tokens=1000, seed=0, split="eval", depth=0.0)
    assert made[0].question == again.question
