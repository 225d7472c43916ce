"""A batch in several processes: the same rows, and a killed process loses only its document."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.batch.processes import in_processes
from nsa_cli.batch.work import Assignment, Pending, Work
from nsa_cli.config.options import Options
from nsa_cli.events import Event, Note
from nsa_models.errors import ModelError
from nsa_models.hub.resolve import resolve_model
from nsa_models.model_folder import ModelFolder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, prose: Any) -> Path:
    """Four texts and a broken PDF."""
    inside = tmp_path / "docs"
    inside.mkdir()
    for number in range(4):
        (inside / f"{number}.txt").write_text(prose(20, seed=number))
    (inside / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    return inside


@pytest.mark.long
def test_rows_equal_those_of_one_process(nsa: Run, folder: Path, tmp_path: Path) -> None:
    found = []
    for jobs in ("1", "2"):
        out = tmp_path / f"{jobs}.jsonl"
        words = ("batch", str(folder), "-a", "Who?", "-a", "When?", "--no-store", "-o", str(out))
        code, _, err = nsa(*words, "--jobs", jobs)
        assert code == 5
        assert "nsa: 5 documents, 1 failed, " in err.splitlines()[-1]
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found.append(sorted(rows, key=lambda row: (row["document"], row["question"])))
    assert found[0] == found[1]
    assert len(found[0]) == 10
    code, _, err = nsa(*words, "--jobs", "2", "--resume")
    assert code == 5
    assert "nsa: 5 documents, 4 of them done before, 1 failed, " in err.splitlines()[-1]
    assert not multiprocessing.active_children()


def assignment(model: Path, **more: Any) -> Assignment:
    options = Options(model=str(model), max_tokens=4, cache_limit_bytes=10**9, **more)
    return Assignment(work=Work(questions=("Who?", "When?")), options=options, run="0" * 12)


def where_of(model: Path) -> ModelFolder:
    return resolve_model(str(model), on_progress=print, on_note=print)


@pytest.mark.long
def test_a_killed_process_loses_only_its_document(folder: Path, tiny_model: Path) -> None:
    os.mkfifo(folder / "pipe")  # no process writes to it, so its reader blocks forever
    names = ["pipe", "0.txt", "1.txt", "2.txt", "3.txt"]
    pending = [Pending(path=str(folder / name), done={}) for name in names]
    where = where_of(tiny_model)
    rows, ended = [], []
    made = in_processes(pending, assignment(tiny_model), where, 2, [].append)
    for source, row in made:
        if row is not None:
            rows.append(row)
            continue
        ended.append(Path(source.path).name)
        if len(ended) == 3:
            for process in multiprocessing.active_children():
                process.kill()
    assert sorted(ended) == sorted(names)
    failed = [row for row in rows if row.error is not None]
    assert {Path(row.document).name for row in failed} >= {"pipe"}
    assert len(rows) == len({row.key for row in rows}) == 10
    for row in failed:
        assert row.error is not None
        assert row.error["code"] == "killed"
        assert "SIGKILL" in row.error["message"]
    assert {"0.txt", "1.txt", "2.txt"} <= {Path(r.document).name for r in rows if not r.error}


@pytest.mark.long
def test_memory_limits_the_processes(folder: Path, tiny_model: Path) -> None:
    notes: list[Event] = []
    pending = [Pending(path=str(folder / f"{number}.txt"), done={}) for number in range(2)]
    where = where_of(tiny_model)
    made = in_processes(
        pending, assignment(tiny_model, memory_bytes=1_600_000_000), where, 3, notes.append
    )
    next(made)
    assert len(multiprocessing.active_children()) == 2
    made.close()
    assert not multiprocessing.active_children()
    [note] = [event.text for event in notes if isinstance(event, Note)]
    assert note.startswith(
        "running 2 of 3 jobs: each needs 0.70 GB of memory, and the limit is 1.60 GB"
    )


def test_a_missing_model_ends_the_batch(folder: Path, tiny_model: Path) -> None:
    where = where_of(tiny_model)
    gone = assignment(folder / "no-model")
    pending = [Pending(path=str(folder / "0.txt"), done={})]
    with pytest.raises(ModelError) as caught:
        list(in_processes(pending, gone, where, 2, [].append))
    assert caught.value.hint
    assert not multiprocessing.active_children()
