"""Asking by each way: a random model runs, an oracle is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.options import Options
from nsa_cli.documents import Document, Piece
from nsa_cli.engine import open_document
from nsa_cli.evaluation.document_suite import runner
from nsa_cli.evaluation.document_suite.questions import chosen, read_questions
from nsa_cli.evaluation.document_suite.report import print_report, report, scored_rows
from nsa_cli.evaluation.document_suite.rows import WAYS, AnswerRows
from nsa_cli.evaluation.document_suite.runner import DocumentPlan, evaluate, setting_of
from nsa_cli.evaluation.document_suite.scores import ScoredRow
from nsa_cli.evaluation.document_suite.sources import DocumentFolder, KnownTexts
from nsa_cli.events import BatchProgress, Event, Note

Run = Callable[..., tuple[int, str, str]]


def options(model: Path, **more: Any) -> Options:
    return Options(model=str(model), max_tokens=3, **more)


def plan(suite: Any, *ways: str, **more: Any) -> DocumentPlan:
    found = read_questions(suite.questions)
    texts = DocumentFolder(suite.documents, found.documents, Options(model="none"))
    return DocumentPlan(
        questions=chosen(found, **more), set_digest=found.digest, ways=ways or WAYS, texts=texts
    )


def ask(
    suite: Any, model: Path, *ways: str, out: Path | None = None, events: Any = None, **more: Any
) -> list[ScoredRow]:
    emit = (lambda _: None) if events is None else events.append
    return list(evaluate(plan(suite, *ways, **more), [options(model)], AnswerRows(out), emit))


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model says all answers, or that the document does not say."""
    said = {
        "lease-01": "The rent is EUR 1,250.50.",
        "lease-02": "three months",
        "lease-03": "The document does not say.",
        "report-01": "2,300 thousand",
        "report-02": "Ada, and 42",
    }
    real = open_document.generate

    def generate(*arguments: Any) -> Any:
        found = yield from real(*arguments)
        question = next(each for each in arguments if hasattr(each, "asked")).text
        name = question.removeprefix("What about ").partition(",")[0]
        return replace(found, text=said[name])

    monkeypatch.setattr(open_document, "generate", generate)


@pytest.mark.usefixtures("oracle")
def test_the_oracle_is_right_by_each_way(suite: Any, tiny_model: Path) -> None:
    events: list[Event] = []
    rows = ask(suite, tiny_model, events=events)
    asked = {(each.question.id, each.row.way) for each in rows}
    names = ["lease-01", "lease-02", "lease-03", "report-01", "report-02"]
    ways = {(name, way) for name in names for way in WAYS}
    assert asked == ways - {("lease-03", "gold")}
    for each in rows:
        assert each.right is (None if each.row.way == "find" else True), each
        assert each.declined is (each.question.id == "lease-03" and each.row.way != "find")
        if each.row.way == "gold":
            assert each.cited
            assert each.found
    progress = [event for event in events if isinstance(event, BatchProgress)]
    assert progress[-1].done == progress[-1].total == len(rows)


def test_signals_are_kept_with_the_answers_of_what_was_read(
    suite: Any, tiny_model: Path, tmp_path: Path
) -> None:
    asked = replace(plan(suite, "nsa", "pages", "gold", only=("lease-01",)), signals=True)
    rows = list(evaluate(asked, [options(tiny_model)], AnswerRows(tmp_path / "rows"), print))
    found = {each.row.way: each.row.signals for each in rows}
    assert found["gold"] is None
    for way in ("nsa", "pages"):
        signals = found[way]
        assert signals is not None
        assert signals["least_likely"] <= signals["answer"] < 0
        assert {"answer_alone", "question", "question_alone"} < set(signals)
    again = AnswerRows(tmp_path / "rows").rows
    assert {row.way: row.signals for row in again} == found


def test_the_way_nsa_is_that_of_ask(suite: Any, tiny_model: Path, asker: Any) -> None:
    rows = ask(suite, tiny_model, "nsa", only=("report-01",))
    question = rows[0].question.question
    finished = asker(suite.documents / "report.pdf", question, max_tokens=3)
    assert rows[0].row.answer == finished.answer
    assert [each.quote for each in rows[0].row.citations] == [
        each.quote for each in finished.citations
    ]
    assert [each.page for each in rows[0].row.citations] == [
        each.page for each in finished.citations
    ]


def test_what_is_in_each_prompt(
    suite: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefilled: list[tuple[str, int | None]] = []
    real = runner.Engine.prefill_chunks

    def prefill(self: Any, document: Document, room: int) -> Any:
        prefilled.append((document.text, None if self.options.dense else 1))
        return real(self, document, room)

    monkeypatch.setattr(runner.Engine, "prefill_chunks", prefill)
    ask(suite, tiny_model, only=("lease-02",))
    (read, sparse), (dense, _), (chunks, _), (gold, last) = prefilled
    assert sparse == 1
    assert last is None
    assert dense == read
    assert "notice" in gold
    assert "rent" not in gold
    assert "rent" in chunks
    assert chunks in read


def test_a_killed_run_goes_on(suite: Any, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    running = evaluate(
        plan(suite, "nsa", "chunks"), [options(tiny_model)], AnswerRows(out), lambda _: None
    )
    first = [next(running) for _ in range(3)]
    running.close()
    rest = ask(suite, tiny_model, "nsa", "chunks", out=out)
    keys = [each.row.key for each in (*first, *rest)]
    assert len(keys) == len(set(keys)) == 10
    assert ask(suite, tiny_model, "nsa", "chunks", out=out) == []
    assert len(AnswerRows(out).rows) == 10
    questions = suite.file("lease")["questions"]
    suite.write("lease", questions=[{**questions[0], "answers": [["13"]]}, *questions[1:]])
    assert {each.question.id for each in ask(suite, tiny_model, "nsa", out=out)} == {"lease-01"}


def test_a_document_that_is_missing_or_too_long(suite: Any, tiny_model: Path) -> None:
    (suite.documents / "lease.pdf").unlink()
    events: list[Event] = []
    rows = ask(suite, tiny_model, "nsa", events=events)
    assert {each.question.id for each in rows} == {"report-01"}
    [told] = [event.text for event in events if isinstance(event, Note)]
    assert "has no lease.pdf" in told


def test_a_text_beyond_the_context_is_not_asked_densely(
    suite: Any, tiny_model: Path, prose: Callable[..., str]
) -> None:
    text = prose(400)
    piece = Piece(source="lease.pdf", page=1, page_label=None, start=0, end=len(text), first_line=1)
    long = Document(name="lease.pdf", text=text, pieces=(piece,))
    events: list[Event] = []
    wanted = replace(
        plan(suite, "dense", "chunks", only=("lease-03",)), texts=KnownTexts({"lease": long})
    )
    rows = list(evaluate(wanted, [options(tiny_model)], AnswerRows(None), events.append))
    assert [each.row.way for each in rows] == ["chunks"]
    [note] = [event.text for event in events if isinstance(event, Note)]
    assert note == "lease.pdf: dense exceeds the model's context; left out"


def test_settings_in_words() -> None:
    assert setting_of(Options(model="m")) == "m"
    assert setting_of(Options(model="m", adapter=None, quantization="int8")) == (
        "m, no adapter, int8"
    )
    assert setting_of(Options(model="m", dense=True, max_tokens=9, answer_blocks=4)) == (
        "m, dense reading, 4 blocks, 9 tokens at most"
    )


@pytest.mark.usefixtures("oracle")
def test_the_report(suite: Any, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = AnswerRows(None)
    wanted = plan(suite)
    ways = [options(tiny_model), options(tiny_model, dense=True)]
    list(evaluate(wanted, ways, file, lambda _: None))
    rows = scored_rows(file.rows, wanted.questions)
    questions = read_questions(suite.questions)
    result = report(questions, wanted.questions, rows, seed=0)
    assert json.loads(json.dumps(result)) == result
    assert next(iter(result)) == "accuracy"
    assert (result["accuracy"], result["digest"]) == (1.0, questions.digest)
    assert (result["questions"], result["documents"]) == (5, 2)
    by_way = {each["way"]: each for each in result["systems"][: len(WAYS)]}
    assert by_way["nsa"]["answerable_right"]["of"] == 4
    assert by_way["nsa"]["unanswerable_declined"]["value"] == 1.0
    assert by_way["gold"]["unanswerable_declined"]["value"] is None
    assert by_way["find"]["right"]["value"] is None
    assert by_way["nsa"]["document_kinds"]["contract"]["right"]["of"] == 5
    assert by_way["nsa"]["kinds"]["compare"]["right"]["of"] == 1
    pairs = [(each["first"]["way"], each["second"]["way"]) for each in result["pairs"]]
    assert ("nsa", "chunks") in pairs
    assert ("nsa", "nsa") in pairs
    assert not any("find" in pair for pair in pairs)
    assert all(each["difference"] == 0 for each in result["pairs"])
    print_report(result)
    shown = capsys.readouterr().out
    assert questions.digest in shown
    assert "unanswerable" in shown


def test_the_command(nsa: Run, suite: Any, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    words = ("eval", "documents", "--data", str(suite.questions), "--out", str(out))
    pdfs = ("--documents", str(suite.documents))
    code, shown, err = nsa(*words, *pdfs, "--ways", "nsa,find", "--limit", "2", "--json")
    assert code == 0, err
    result = json.loads(shown)
    assert [each["way"] for each in result["systems"]] == ["nsa", "find"]
    assert result["questions"] == 2
    assert len(out.read_text().splitlines()) == 4
    assert result["versions"]["device"] == "cpu"
    code, shown, err = nsa(*words, *pdfs, "--ways", "nsa,find", "--limit", "2", "--json")
    assert json.loads(shown) == result
    code, shown, _ = nsa(*words, "--report", "--limit", "2")
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    assert result["digest"] in shown
    assert len(out.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ("--data", "QUESTIONS"),
            2,
            "documents needs the PDFs. Name their folder with --documents.",
        ),
        (("--data", "QUESTIONS", "--documents", "none"), 2, "--documents: none is not a folder"),
        (("--data", "QUESTIONS", "--documents", "PDFS", "--ways", "nsa,gut"), 2, "--ways: 'gut'"),
        (("--data", "QUESTIONS", "--documents", "PDFS", "--only", "x"), 2, "or kind 'x'"),
        (("--data", "QUESTIONS", "--documents", "PDFS", "--plot", "x.png"), 2, "--plot is not for"),
        (
            ("--data", "QUESTIONS", "--documents", "PDFS", "--attention", "nsa,dense"),
            2,
            "takes one --attention",
        ),
        (("--data", "QUESTIONS", "--report"), 2, "--report needs a file"),
        (("--data", "PDFS", "--documents", "PDFS"), 3, "has no question file"),
        ((), 2, "documents needs a file"),
        (("needle", "--data", "x"), 2, "the suite documents runs alone"),
    ],
)
def test_wrong_usage_in_one_line(
    nsa: Run,
    suite: Any,
    words: tuple[str, ...],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    places = {"QUESTIONS": str(suite.questions), "PDFS": str(suite.documents)}
    found, out, err = nsa("eval", "documents", *(places.get(word, word) for word in words))
    assert (found, out) == (code, "")
    assert says in err.splitlines()[-1]


def test_the_limit_of_an_answer_is_that_of_ask(
    nsa: Run, suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(
        runner, "evaluate", lambda _, options, *__: limits.append(options[0].max_tokens) or ()
    )
    words = ("--data", str(suite.questions), "--documents", str(suite.documents))
    monkeypatch.setattr("sys.argv", ["nsa", "eval", "documents", *words])
    from nsa_cli.__main__ import run

    assert run() == 0
    nsa("eval", "documents", *words, "--max-tokens", "7")
    assert limits == [256, 7]


def test_a_change_of_frozen_questions_is_told(nsa: Run, suite: Any) -> None:
    from nsa_cli.evaluation.document_suite import freeze

    freeze.main([str(suite.questions)])
    questions = suite.file("lease")["questions"]
    suite.write("lease", questions=[{**questions[0], "answers": [["13"]]}, *questions[1:]])
    _, _, err = nsa(
        *("eval", "documents", "--data", str(suite.questions)),
        *("--documents", str(suite.documents), "--only", "lease-03", "--ways", "gold"),
    )
    assert "nsa: differs from frozen.json: lease-01 was changed" in err
