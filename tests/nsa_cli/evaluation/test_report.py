"""Rows, summaries and tables from records made by hand."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nsa_cli.evaluation.metrics import Score, wilson
from nsa_cli.evaluation.plot import save_plot
from nsa_cli.evaluation.report import heat_map, items_of, print_report, rows_of, summary
from nsa_cli.evaluation.runner import QuestionResult, Setting
from nsa_cli.output.plots import check_plot
from nsa_models.errors import UsageError

NSA = Setting(model="m", attention="nsa", blocks="all")
DENSE = Setting(model="m", attention="dense", blocks="16")


def record(right: bool, **more: Any) -> QuestionResult:
    facts = {
        "setting": NSA,
        "suite": "similar",
        "length": 4096,
        "depth": None,
        "tokens": 4000,
        "question": "?",
        "gold": ("x",),
        "answer": "x" if right else "y",
        "score": Score(exact_match=False, contains_gold=right, recall=float(right), f1=0.5 * right),
        "citation_rank": 2 if right else None,
        "passage_rank": 4,
        "bm25_rank": 1,
        "bm25_asked": True,
        "read_seconds": 2.0,
        "answer_seconds": 3.0,
        **more,
    }
    return QuestionResult(**facts)


def test_a_row_counts_and_has_intervals() -> None:
    [row] = rows_of([record(True), record(True), record(True), record(False)])
    low, high = wilson(0.75, 4)
    assert row["questions"] == 4
    expected = {"value": 0.75, "low": round(low, 4), "high": round(high, 4)}
    assert row["contains_gold"] == row["citation_hit_3"] == row["recall"] == expected
    assert row["exact_match"]["value"] == row["citation_hit_1"]["value"] == 0
    assert row["f1"]["value"] == 0.375
    assert row["passage_hit_1"]["value"] == row["passage_hit_3"]["value"] == 0
    assert row["bm25_hit_1"]["value"] == 1
    assert (row["tokens"], row["answer_seconds"]) == (4000, 3.0)


def test_bm25_is_only_there_if_it_was_asked_for() -> None:
    [row] = rows_of([record(True, bm25_rank=None, bm25_asked=False)])
    assert not any("bm25" in name for name in row)
    [row] = rows_of([record(True, bm25_rank=None)])
    assert row["bm25_hit_3"]["value"] == 0


def test_settings_lengths_and_depths_have_rows_of_their_own() -> None:
    records = [
        record(True, suite="needle", depth=0.0),
        record(False, suite="needle", depth=0.5),
        record(True, suite="needle", depth=0.5, length=8192),
        record(True, setting=DENSE),
    ]
    rows = rows_of(records)
    assert [(r["suite"], r["attention"], r["length"], r.get("depth")) for r in rows] == [
        ("needle", "nsa", 4096, 0.0),
        ("needle", "nsa", 4096, 0.5),
        ("needle", "nsa", 8192, 0.5),
        ("similar", "dense", 4096, None),
    ]


def test_accuracy_is_that_of_the_first_setting() -> None:
    found = summary([record(True), record(False), record(True, setting=DENSE)])
    assert (found["accuracy"], found["questions"]) == (0.5, 2)
    assert [each["contains_gold"]["value"] for each in found["settings"]] == [0.5, 1.0]


def test_items_are_flat() -> None:
    [item] = items_of([record(True)])
    assert (item["model"], item["contains_gold"], item["answer"]) == ("m", True, "x")
    assert "setting" not in item
    assert "score" not in item


def test_the_table_fits_80_columns_with_the_widest_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sure = Score(exact_match=True, contains_gold=True, recall=1.0, f1=1.0)
    wide = record(True, suite="aggregation", length=262_144, setting=DENSE, score=sure)
    hits = {"citation_rank": 1, "passage_rank": 1}
    print_report([record(True, suite="aggregation", score=sure, **hits)] * 999 + [wide] * 5)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    first = next(line for line in lines if "4k" in line).split()
    assert first == [
        *("aggregation", "nsa", "all", "4k", "999", "100", "100–100", "100", "100"),
        *("100/100", "100/100", "100/100"),
    ]


def test_the_heat_map_counts_by_depth_and_length() -> None:
    records = [
        record(right, suite="needle", depth=depth, length=length)
        for right, depth, length in (
            *((True, 0.0, 1000), (False, 0.0, 1000), (True, 1.0, 1000), (True, 0.0, 2000)),
        )
    ]
    console = Console(file=io.StringIO(), width=60, color_system="truecolor", force_terminal=True)
    with console.capture() as shown:
        console.print(heat_map(records))
    text = shown.get()
    assert "\x1b[" in text
    plain = Console(file=io.StringIO(), width=60)
    with plain.capture() as shown:
        plain.print(heat_map(records))
    lines = [line.split() for line in shown.get().splitlines()]
    assert lines[0] == ["depth", "1,000", "2,000"]
    assert lines[2:] == [["0%", "1/2", "1/1"], ["100%", "1/1"]]


def test_a_picture_of_suites_settings_and_gaps(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "map.png"
    records = [
        record(True, suite="needle", depth=0.0),
        record(False, suite="needle", depth=1.0, length=8192),
        record(True, length=1000),
        record(False),
        record(True, setting=DENSE),
        record(True, suite="values"),
        record(True, suite="variables"),
    ]
    save_plot(rows_of(records), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_plot(None)
    with pytest.raises(UsageError, match="does not exist"):
        check_plot(tmp_path / "none" / "map.png")
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match="needs matplotlib"):
        check_plot(tmp_path / "map.png")
