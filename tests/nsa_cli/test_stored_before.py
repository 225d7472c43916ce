"""Files of an earlier commit still open: KV caches, answers, prepared weights, batch outputs.

The program of format 2 (commit 6f0b4ef) created the archive, with a model of one head and
random weights: `ask` about log.txt (plain, with selected blocks, with an adapter), and `batch`.
"""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_models.hub import resolve

ARCHIVE = Path(__file__).parent / "fixtures" / "format2.tar.xz"
QUESTION = "Who wrote report 17?"
WAYS = {"plain": (), "blocks": ("--answer-blocks", "2"), "adapter": ("--adapter", "adapter")}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive's folder, as the working folder."""
    folder = tmp_path / "stored"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NSA_CACHE_DIR", str(folder / "cache"))
    # The fingerprint contains a folder's path and times; this one equals the archive's.
    monkeypatch.setattr(resolve, "folder_fingerprint", lambda folder: folder.name)
    return folder


def ask(nsa: Run, question: str, way: str) -> tuple[Any, str]:
    named = ("--model", "model", "--max-tokens", "4", "--json")
    code, out, err = nsa("ask", "log.txt", question, *named, *WAYS[way], model=None)
    assert code == 0, err
    return json.loads(out), err


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_other_rules_marked_is_asked_again(nsa: Run, stored: Path, way: str) -> None:
    """The rules that mark citations have changed; the stored KV cache is used all the same."""
    before = json.loads((stored / "answers.json").read_text())[way]
    found, err = ask(nsa, QUESTION, way)
    assert "answered before" not in err
    assert found["stats"]["reused_tokens"] == found["stats"]["document_tokens"] > 0
    for key in ("answer", "model", "attention", "finish_reason"):
        assert found[key] == before[key]
    again, err = ask(nsa, QUESTION, way)
    assert "answered before" in err
    assert again["citations"] == found["citations"]


@pytest.mark.parametrize("way", WAYS)
def test_a_kv_cache_is_used(nsa: Run, stored: Path, way: str) -> None:
    folders = sorted((stored / "cache" / "readings").glob("*/manifest.json"))
    found, err = ask(nsa, "And what else did the worker write?", way)
    assert found["stats"]["reused_tokens"] == found["stats"]["document_tokens"] > 0
    assert sorted((stored / "cache" / "readings").glob("*/manifest.json")) == folders
    assert "adapter" not in err  # prepared weights are used as well


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_finished_batch_asks_nothing(
    nsa: Run, stored: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.engine.engine.Engine.ask", None)  # fails if called
    rows = stored / f"rows.{kind}"
    before = _rows(rows)
    words = ("docs", "--ask", "Who?", "--model", "model", "--max-tokens", "4")
    code, _, err = nsa("batch", *words, "--out", rows.name, "--resume", model=None)
    assert code == 0, err
    after = _rows(rows)
    assert [row.pop("warnings") for row in after] in ([[]] * len(before), [""] * len(before))
    assert after == before


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a result file."""
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix == ".csv":
            return [dict(row) for row in csv.DictReader(lines)]
        return [json.loads(line) for line in lines]
