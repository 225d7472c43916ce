"""Training of a verifier from checks, to a folder that a model loads."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from nsa_cli.context.judge import YES, judge_question
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.training import verifier
from nsa_cli.training.check_examples import EXPRESSION, Check, CheckedText
from nsa_cli.training.examples import TrainingData
from nsa_cli.training.plan import TrainingPlan
from nsa_cli.training.verifier import text_questions, train_verifier
from nsa_models.hub.resolve import resolve_model
from nsa_models.tasks import read_articles
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.stage import Schedule
from nsa_models.weights.adapter import attach_verifier, load_adapter
from nsa_models.weights.load import load_config, load_model

STEPS = 3


def test_rows_are_questions_with_their_answers_and_the_end_token(tiny_model: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_model)
    prompts = PromptBuilder(tokenizer, None)
    judged, computed = judge_question("Who came?", "Ada"), "What is the sum?"
    checks = (Check("question", judged, YES), Check(EXPRESSION, computed, "12 + 30"))
    found = text_questions(prompts, CheckedText("Ada came with 12 and 30.", checks))
    assert found.text.tolist() == prompts.plain("Ada came with 12 and 30.").ids.tolist()
    asked = (prompts.question(judged), prompts.expression(computed, ""))
    for question, check, row, count in zip(asked, checks, found.rows, found.answers, strict=True):
        assert row[:-count].tolist() == question.ids.tolist()
        assert row[-1] in tokenizer.stop_ids
        assert tokenizer.decode(row[-count:-1].tolist()) == check.target
    assert len(found.ids) == len(found.text) + sum(map(len, found.rows))


def test_training_writes_changes_that_a_model_loads(
    tiny_model: Path,
    lesson_data: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_TEXTS", 2), ("_PROCESSES", 0), ("_PREFETCHED", None)):
        monkeypatch.setattr(verifier, name, value)
    monkeypatch.setattr(verifier, "Schedule", partial(Schedule, steps=STEPS))
    where = resolve_model(str(tiny_model), on_progress=lambda *_: None, on_note=lambda _: None)
    data = TrainingData(articles=tuple(read_articles(lesson_data[0])), prose=(), computations={})
    notes, out = list[str](), tmp_path / "out"
    plan = TrainingPlan(out=out, lessons="checks", tune_seconds=3600.0, rank=2, rate=1e-2)
    row = {"article": "Town 1", "paragraph": 0, "question": "Who is 1 of 1?"}
    out.mkdir()
    (out / "answers.jsonl").write_text(json.dumps({**row, "answer": "It is 1."}) + "\n")
    train_verifier(where, data, replace(plan, device="cpu"), notes.append)
    assert notes[0] == "1 own answers are right"
    adapter = load_adapter(out)
    assert adapter.base == where.fingerprint
    assert (adapter.about["model"], adapter.about["steps"]) == (where.name, STEPS)
    assert adapter.about["plan"]["lessons"] == "checks"
    assert any(x.any() for name, x in adapter.tensors.items() if name.endswith(".b"))
    assert all(x.shape[0] == 2 for name, x in adapter.tensors.items() if name.endswith(".a"))
    config, _ = load_config(where.folder, None)
    model = load_model(where.folder, config)
    attach_verifier(model, adapter)
    assert model.verifier is not None
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        plain = model(ids).logits
        with model.verifier.active():
            assert not torch.equal(model(ids).logits, plain)
