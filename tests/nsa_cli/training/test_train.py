"""`nsa train` from data files to an adapter that `nsa ask` uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nsa_cli.training.plan import parse_phi_shapes
from nsa_models.errors import UsageError
from nsa_models.hub.resolve import adapter_fingerprint
from nsa_models.weights.adapter import load_adapter

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.long
def test_two_stages_make_an_adapter_and_a_later_call_resumes(
    nsa: Run, tiny_model: Path, lesson_data: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, texts = lesson_data
    model, out = tiny_model, tmp_path / "out"
    common = [
        *("train", str(out), "--questions", str(questions), "--texts", str(texts)),
        *("--phi", "16/16", "--hidden", "4", "--rank", "2", "--lengths", "500"),
        *("--answer-seconds", "0"),
    ]
    code, _, err = nsa(*common, "--distill-seconds", "8", "--tune-seconds", "0", model=str(model))
    assert code == 0, err
    assert (out / "distilled-16-16-4.safetensors").exists()
    assert not (out / "adapter.json").exists()
    again = ["--distill-seconds", "0", "--tune-seconds", "8", "--answer-blocks", "7"]
    code, _, err = nsa(*common, *again, model=str(model))
    assert code == 0, err
    first, before = load_adapter(out), adapter_fingerprint(out)
    assert first.settings["compress_hidden"] == 4
    assert first.about["tokens"] > 0
    assert "tokens/s" in err
    code, _, err = nsa(*common, *again, "--plot", str(tmp_path / "p.png"), model=str(model))
    assert code == 0, err
    second = load_adapter(out)
    assert second.about["tokens"] > first.about["tokens"]
    assert adapter_fingerprint(out) != before
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    stages = [json.loads(line)["stage"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert stages == sorted(stages)

    text = tmp_path / "a.txt"
    text.write_text("The dog sleeps. " * 200)
    asked = ("ask", str(text), "What does it do?", "--json", "--max-tokens", "4")
    code, answer, err = nsa(*asked, "--adapter", str(out), model=str(model))
    assert code == 0, err
    answering = json.loads(answer)["attention"]["answering"]
    assert (answering["compress_block"], answering["select_count"]) == (16, 7)
    code, answer, _ = nsa(*asked, "--no-adapter", model=str(model))
    assert code == 0
    assert json.loads(answer)["attention"]["answering"]["compress_block"] == 4


@pytest.mark.long
def test_the_same_examples_train_a_dense_model(
    nsa: Run, tiny_model: Path, lesson_data: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, texts = lesson_data
    out = tmp_path / "out"
    common = [
        *("train", str(out), "--questions", str(questions), "--texts", str(texts)),
        *("--rank", "2", "--lengths", "500", "--attention", "dense"),
        *("--answer-seconds", "1", "--tune-seconds", "4"),
    ]
    for _ in range(2):
        code, _, err = nsa(*common, model=str(tiny_model))
        assert code == 0, err
    assert "answers are correct" in err
    assert re.search(r"training on the \d+ of \d+ questions with a self-generated answer", err)
    assert not list(out.glob("distilled*"))
    trained = load_adapter(out)
    assert trained.settings == {"select_count": None, "answer_select_count": None}
    text = tmp_path / "a.txt"
    text.write_text("The dog sleeps. " * 200)
    asked = ("ask", str(text), "What does it do?", "--json", "--max-tokens", "4")
    code, answer, err = nsa(*asked, "--adapter", str(out), model=str(tiny_model))
    assert code == 0, err
    assert json.loads(answer)["attention"]["reading"]["select_count"] is None
    code, _, err = nsa(*common, "--attention", "sparse", model=str(tiny_model))
    assert (code, "'sparse'" in err) == (2, True)


@pytest.mark.long
def test_checks_of_texts_and_tables_train_a_verifier(
    nsa: Run, tiny_model: Path, lesson_data: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, _ = lesson_data
    tables, out = tmp_path / "tables.jsonl", tmp_path / "out"
    asked = {"question": "Sales?", "answers": ["31"], "kind": "span", "scale": ""}
    table = {"table": [["Sales", "31"]], "paragraphs": ["In millions."], "questions": [asked]}
    tables.write_text(json.dumps({"title": "report 3", **table}) + "\n")
    common = [
        *("train", str(out), "--questions", str(questions), "--tables", str(tables)),
        *("--lessons", "checks", "--rank", "2", "--answer-seconds", "0", "--tune-seconds", "3"),
    ]
    code, _, err = nsa(*common, model=str(tiny_model))
    assert code == 0, err
    found = load_adapter(out)
    assert found.about["plan"]["lessons"] == "checks"
    assert found.about["steps"] > 0
    code, _, err = nsa(*common, "--lessons", "some", model=str(tiny_model))
    assert (code, "'some'" in err) == (2, True)


@pytest.mark.long
def test_two_processes_train_one_adapter(
    tiny_model: Path,
    lesson_data: tuple[Path, Path],
    tmp_path: Path,
    two_processes: Callable[..., str],
) -> None:
    questions, texts = lesson_data
    out = tmp_path / "out"
    two_processes(
        *("-m", "nsa_cli", "train", str(out), "--model", str(tiny_model), "--device", "cpu"),
        *("--questions", str(questions), "--texts", str(texts), "--lengths", "500"),
        *("--phi", "16/16", "--hidden", "4", "--rank", "2"),
        *("--answer-seconds", "1", "--distill-seconds", "3", "--tune-seconds", "6"),
    )
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == {"distill", "tune"}
    assert len({(row["stage"], row["step"]) for row in rows}) == len(rows), "one tells for both"
    assert load_adapter(out).about["tokens"] == rows[-1]["tokens"] > 0


def test_missing_arguments_are_reported(
    nsa: Run, lesson_data: tuple[Path, Path], tmp_path: Path
) -> None:
    questions, _ = lesson_data
    out = str(tmp_path / "out")
    said = [
        nsa("train", out, "--questions", str(tmp_path / "none")),
        nsa("train", out, "--questions", str(questions), "--phi", "32"),
        nsa(
            "train",
            out,
            "--questions",
            str(questions),
            "--distill-seconds",
            "0",
            "--answer-seconds",
            "0",
        ),
        nsa("ask", str(questions), "Who?", "--adapter", str(tmp_path)),
        nsa("ask", str(questions), "Who?", "--adapter", str(tmp_path), "--no-adapter"),
    ]
    assert [code for code, _, _ in said] == [3, 2, 2, 1, 2]
    lines = [err.strip().splitlines()[-1] for _, _, err in said]
    for line, word in zip(
        lines, ["does not exist", "32", "--distill-seconds", "adapter.json", "one of"], strict=True
    ):
        assert word in line


def test_phi_shapes_are_lengths_and_strides() -> None:
    assert parse_phi_shapes(["32/16", "16/16"]) == ((32, 16), (16, 16))
    with pytest.raises(UsageError, match="16-16"):
        parse_phi_shapes(["16-16"])
