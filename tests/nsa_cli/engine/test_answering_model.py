"""One model reads and finds, another answers from what was found."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.options import AUTO, Options
from nsa_cli.documents import read_sources
from nsa_cli.documents.sources import Source
from nsa_cli.engine import answer_model, answering_model, arithmetic
from nsa_cli.engine.answer_context import passage_context
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.generate import GenerationOptions
from nsa_cli.engine.plain import plain_steps
from nsa_cli.events import Event, Note, drain
from nsa_models.errors import DoesNotFitError, ModelError
from nsa_models.generation.generate import decode
from nsa_models.hub import fetch
from nsa_models.hub.offline import OFFLINE_VARIABLES

Run = Callable[..., tuple[int, str, str]]
QUESTION = "Who wrote report 17?"


@pytest.fixture
def options(tiny_model: Path, other_model: Path) -> Options:
    return Options(
        model=str(tiny_model), answer_model=str(other_model), cache_limit_bytes=10**9, max_tokens=6
    )


@pytest.fixture
def sources(text_file: Path) -> list[Source]:
    return read_sources([str(text_file)], on_note=print)


def ask(options: Options, sources: list[Source], question: str = QUESTION) -> Any:
    return next(Engine(options, [].append).ask(sources, "a", [question], time.monotonic()))


def test_the_second_model_answers_from_the_passages_of_the_first(
    options: Options, sources: list[Source], other_model: Path
) -> None:
    engine = Engine(options, [].append)
    [found] = engine.ask(sources, "a", [QUESTION], time.monotonic())
    opened = engine.opened
    assert opened is not None
    second = Engine(replace(options, model=str(other_model), answer_model=None), [].append)
    question = opened.prompts.question(QUESTION)
    scores = opened.scores(question)
    passages = opened.passages(question, opened.options, scores)
    model = second.load_for(4000, 90)
    context = passage_context(model, second.prompts, opened.document, passages, 900, [].append)
    alone = replace(opened, model=model, tokenizer=second.tokenizer, answerer=None)
    expected = drain(alone.generate(context, question, opened.options, time.monotonic()), [].append)
    assert found.answer == expected.text
    assert found.model == str(other_model)
    first = ask(replace(options, answer_model=None), sources)
    assert first.answer != found.answer
    assert found.stats.document_tokens == first.stats.document_tokens


def test_nothing_but_the_passages_is_read_by_the_second(
    options: Options, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[int]()

    def spied(*arguments: Any, **more: Any) -> Any:
        context = passage_context(*arguments, **more)
        read.append(len(context.text.ids))
        return context

    monkeypatch.setattr(answering_model, "passage_context", spied)
    engine = Engine(options, [].append)
    assert engine.answerer is not None
    opened = engine.open(sources, "a", 100)
    opened.find(opened.prompts.question("report"), 3)
    assert engine.answerer.context is None  # loaded only for a question
    [_] = engine.ask(sources, "a", [QUESTION], time.monotonic())
    assert engine.answerer.context is not None
    assert len(read) == 1
    assert read[0] < len(opened.text.ids) * 2 / 3


def test_a_short_text_is_read_whole_by_the_second(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("It rained in March.\nIt snowed in May.\n")
    engine = Engine(options, [].append)
    opened = engine.open(read_sources([str(path)], on_note=print), "a", 100)
    question = opened.prompts.question("When did it snow?")
    context = opened.context([], question, opened.options, opened.scores(question))
    assert context.cache is not opened.windows[0].cache
    assert context.text.ids.tolist() == opened.windows[0].text.ids.tolist()


def test_a_computed_answer_loads_no_model(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Order,Region,Amount\n1,West,10\n2,East,20\n3,West,30\n")
    engine = Engine(options, [].append)
    sources = read_sources([str(path)], on_note=print)
    [found] = engine.ask(sources, "a", ["What is the total amount?"], time.monotonic())
    assert found.answer.startswith("60")
    assert engine.context is None
    assert engine.answerer is not None
    assert engine.answerer.context is None


def test_the_answer_cache_keeps_the_answers_of_each_pair_apart(
    options: Options, sources: list[Source], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [options, replace(options, answer_model=None)]
    first = [ask(each, sources).answer for each in pairs]
    assert ask(replace(options, answer_model=str(tiny_model)), sources).answer == first[1]
    monkeypatch.setattr(Engine, "open", None)
    assert [ask(each, sources).answer for each in pairs] == first


def test_the_same_model_twice_is_one(options: Options, tiny_model: Path) -> None:
    assert Engine(replace(options, answer_model=str(tiny_model)), [].append).answerer is None


def test_earlier_turns_and_instructions_reach_the_second(
    options: Options, sources: list[Source]
) -> None:
    engine = Engine(options, [].append)
    opened = engine.open(sources, "a", 600)
    assert opened.answerer is not None
    asked = opened.prompts.question("And when?", [("Who?", "Ada.")], "Be brief.")
    context = opened.excerpts([])
    found = opened.answerer.question(asked, context, 6)
    assert found.ids.tolist() == asked.ids.tolist()  # the tokenizers are the same
    long = opened.prompts.question("why " * 3000)
    with pytest.raises(DoesNotFitError, match="which is too long"):
        opened.answerer.question(long, context, 6)


def test_a_conversation_without_a_document_is_the_second_model_s(
    options: Options, other_model: Path
) -> None:
    engine, messages = Engine(options, [].append), [("user", "Hello")]
    steps = plain_steps(engine, messages, GenerationOptions(max_tokens=4))
    found = drain(steps, [].append)
    assert found.model == str(other_model)
    assert engine.context is None


def test_arithmetic_is_the_second_model_s(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = list[Any]()

    def spied(model: Any, *arguments: Any, **more: Any) -> Any:
        models.append(model)
        return decode(model, *arguments, **more)

    monkeypatch.setattr(arithmetic, "decode", spied)
    path = tmp_path / "a.txt"
    path.write_text("Revenue was 12 euros in 2018 and 14 euros in 2019.")
    engine, question = Engine(options, [].append), "By how much did revenue grow from 2018 to 2019?"
    sources = read_sources([str(path)], on_note=print)
    [found] = engine.ask(sources, "a", [question], time.monotonic())
    assert found.computation is not None
    assert engine.opened is not None
    assert models == [engine.opened.answers]
    assert models[0] is not engine.opened.model


@pytest.mark.parametrize("command", ["ask", "summarize", "batch", "chat"])
def test_commands_take_the_second_model(
    nsa: Run, text_file: Path, other_model: Path, tmp_path: Path, command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "rows.jsonl"
    saved = tmp_path / "talk.json"
    lines = f"{QUESTION}\n/save {saved}\n" if command == "chat" else ""
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    more = {
        "ask": (QUESTION, "--json"),
        "summarize": ("--json",),
        "batch": ("-a", QUESTION, "--out", str(out)),
        "chat": (),
    }[command]
    code, printed, err = nsa(command, str(text_file), *more, "--answer-model", str(other_model))
    assert code == 0, err
    if command in ("ask", "summarize"):
        assert json.loads(printed)["model"] == str(other_model)
    if command == "chat":
        assert json.loads(saved.read_text())["turns"][0]["model"] == str(other_model)
    if command == "batch":
        assert json.loads(out.read_text())["model"] == str(other_model)


@pytest.mark.parametrize("name", ["no-such-model", "no/such/folder", "missing.gguf"])
def test_a_model_that_does_not_exist_is_one_line(nsa: Run, text_file: Path, name: str) -> None:
    code, printed, err = nsa("ask", str(text_file), QUESTION, "--answer-model", name)
    assert code != 0
    assert not printed
    [line] = err.strip().splitlines()
    assert name in line
    assert nsa("config", "set", "answer_model", name)[0] != 0


@pytest.fixture
def larger(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that makes a model the larger one, on a machine with memory and network."""

    def name(model: str) -> None:
        monkeypatch.setattr(answer_model, "_LARGER", {str(tiny_model): model})
        monkeypatch.setattr(answer_model, "total_memory_bytes", lambda: 8 * 10**9)
        for variable in OFFLINE_VARIABLES:
            monkeypatch.delenv(variable, raising=False)

    return name


def test_the_larger_model_is_the_second(
    options: Options, other_model: Path, larger: Callable[[str], None]
) -> None:
    larger(str(other_model))
    found = Engine(replace(options, answer_model=AUTO), [].append).answerer
    assert found is not None
    assert found.model_name == str(other_model)
    assert found.answerer is None


def test_where_the_larger_model_cannot_be_fetched_the_first_answers(
    options: Options,
    sources: list[Source],
    larger: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> Path:
        raise ModelError("cannot fetch it: no network", code="model_unavailable")

    monkeypatch.setattr(fetch, "fetch_model", refuse)
    larger("qwen2.5-coder-1.5b")
    events = list[Event]()
    engine = Engine(replace(options, answer_model=AUTO), events.append)
    [found] = engine.ask(sources, "a", [QUESTION], time.monotonic())
    assert found.model == options.model
    notes = [each.text for each in events if isinstance(each, Note)]
    assert notes[0] == f"{options.model} answers: cannot fetch it: no network"
    named = Engine(replace(options, answer_model="qwen2.5-coder-1.5b"), events.append)
    with pytest.raises(ModelError, match="cannot fetch it"):
        _ = named.answerer


def test_doctor_tells_which_model_reads_and_which_answers(
    nsa: Run, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, printed, _ = nsa("doctor", "--json")
    checks = {each["what"]: each for each in json.loads(printed)["checks"]}
    assert checks["answers"]["found"] == "qwen2.5-coder-0.5b reads and answers"
    monkeypatch.setenv("NSA_ANSWER_MODEL", str(other_model))
    _, printed, _ = nsa("doctor", "--json")
    checks = {each["what"]: each for each in json.loads(printed)["checks"]}
    assert checks["answers"]["state"] == "ok"
    assert f"qwen2.5-coder-0.5b reads, {other_model} answers" in checks["answers"]["found"]
