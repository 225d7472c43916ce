"""Reports of benchmarks become rows of docs/data, and these the tables of the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.benchmarks.kernel_report import as_object
from nsa_cli.benchmarks.kernel_results import NSA, Measurement, Point, Report
from nsa_cli.benchmarks.prefill_row import speed_fields
from nsa_cli.benchmarks.terminal import summary
from nsa_cli.evaluation.document_suite.questions import chosen, read_questions
from nsa_cli.evaluation.document_suite.report import report as report_documents
from nsa_cli.evaluation.document_suite.report import scored_rows
from nsa_cli.evaluation.document_suite.rows import AnswerRow, CitedPage
from nsa_cli.evaluation.summary_suite.meetings import Meeting, read_meetings
from nsa_cli.evaluation.summary_suite.report import report as report_summaries
from nsa_cli.evaluation.summary_suite.report import scored as scored_summaries
from nsa_cli.evaluation.summary_suite.rows import RowSentence, SummaryRow
from tests.test_benchmarks_page import DATA, ROOT, reports, writer

DAY = "2031-02-03"
SUITE = ROOT / "tests" / "evaluation" / "documents"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of docs/data and of the page, which the writer writes."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    page = shutil.copy(ROOT / "docs" / "benchmarks.md", tmp_path / "benchmarks.md")
    monkeypatch.setattr(writer(), "DATA", folder)
    monkeypatch.setattr(writer(), "PAGES", (page,))
    return folder


def take(folder: Path, report: dict[str, Any], machine: str = "CPU-AVX2") -> str:
    """Take a report as the command does; return the page."""
    path = folder.parent / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    assert writer().main(["--from", str(path), "--machine", machine]) == 0
    assert writer().main(["--check"]) == 0
    return Path(writer().PAGES[0]).read_text(encoding="utf-8")


def source() -> Any:
    return reports().Source(machine="CPU-AVX2", date=DAY)


def kernels(points: list[Point], shape: str = "paper-gqa") -> dict[str, Any]:
    times = {**{name: 2.0 + at for at, name in enumerate(NSA)}, "cudnn": 8.0, "flash": 10.0}
    found = Report(setup={"shape": f"{shape} (64 query heads)", "date": DAY})
    for point in points:
        for name, time in times.items():
            if "graph" in name and point.length > 16_384:
                continue
            found.rows.append(Measurement(point=point, attention=name, p50_ms=time))
    return as_object(found)


def read(length: int, attention: str, speed: float, **settings: Any) -> dict[str, Any]:
    request = {"length": length, "attention": attention, "quantization": None, **settings}
    request.setdefault("random_weights", False)
    fields = speed_fields(request, length / speed, 0.1, 0.1, speed / 10)
    return {**fields, "peak_memory_bytes": 1_954_000_000, "device": settings.get("device", "cpu")}


def reading(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"rows": list(rows), "llama_ratios": {}, "date": DAY}


def test_the_files_of_data_are_as_the_script_writes_them() -> None:
    for path in DATA.glob("*.json"):
        found = writer().load(path)
        assert json.loads(writer().text_of(found)) == json.loads(path.read_text("utf-8"))


def test_kernels_replace_their_rows_and_no_others(data: Path) -> None:
    before = writer().load(data / "kernels.json")["tables"]
    points = [
        Point(mode="forward", length=8192),
        Point(mode="backward", length=65_536),
        Point(mode="decode", length=65_536, batch=16),
    ]
    page = take(data, kernels(points), "H200")
    wide = f"| 8.00 | 10.0 / – | {DAY} |"
    assert f"| Forward, 8k, CUDA graph | 3.00 (2.67x) | 5.00 (1.60x) | 7.00 (1.14x) {wide}" in page
    assert f"| Forward, 8k, eager | 2.00 (4.00x) | 4.00 (2.00x) | 6.00 (1.33x) {wide}" in page
    assert (
        f"| Forward and backward, 64k | 2.00 (4.00x) | 4.00 (2.00x) | 6.00 (1.33x) {wide}" in page
    )
    assert f"| paper-gqa | 64k, batch 16 | 2.00 (4.00x) | 8.00 | 10.0 | {DAY} |" in page
    after = writer().load(data / "kernels.json")
    kept = [row for row in before[0]["rows"] if row in after["tables"][0]["rows"]]
    assert len(kept) == len(before[0]["rows"]) - 3
    assert after["tables"][1] == before[1]
    measured = {row[-1] for table in after["tables"] for row in table["rows"]}
    assert DAY in measured
    assert after["dates"] == sorted(measured)


def test_a_shape_has_its_own_table(data: Path) -> None:
    take(data, kernels([Point(mode="forward", length=32_768)], "qwen2.5-0.5b"), "H200")
    tables = writer().load(data / "kernels.json")["tables"]
    assert tables[1]["rows"][-1][0] == tables[0]["rows"][2][0] == "Forward, 32k"
    with pytest.raises(ValueError, match="no table shows the shape paper"):
        reports().tables_of(kernels([], "paper"), source())


def test_reading_beside_dense_attention_and_llama_cpp(data: Path) -> None:
    rows = [read(8192, "nsa", 120.04), read(8192, "dense", 40), read(8192, "llama.cpp", 60)]
    page = take(data, reading(*rows))
    measured = f"| 1.95 GB | {DAY} |"
    shown = "| CPU-AVX2 | 8,192 | 120 tokens/s | 40.0 tokens/s | 3.00 "
    assert shown + measured in page
    peers = "tokens/s | 40.0 tokens/s | 60.0 tokens/s | 2.00 |"
    assert f"| CPU-AVX2 | Read 8,192 tokens | 120 {peers} {DAY} |" in page
    assert "| CPU-AVX2 | Decode after 8,192 tokens | 12.0 tokens/s | 4.00 tokens/s |" in page
    assert page.count("| CPU-AVX2 | Read 8,192 tokens |") == 1
    rows = [read(8192, "nsa", 150, quantization="int8")]
    assert "| CPU-AVX2 | 8,192, `--quantize int8` | 150 tokens/s | | |" in take(
        data, reading(*rows)
    )


def test_reading_on_a_gpu_names_the_model(data: Path) -> None:
    on_gpu = {"device": "NVIDIA H200", "random_weights": True}
    rows = [read(65_536, "nsa", 300_040, **on_gpu), read(65_536, "dense", 100_000, **on_gpu)]
    for row, blocks in zip(rows, (64, None), strict=True):
        row |= {"answer_blocks": blocks, "peak_device_memory_bytes": 3_170_000_000}
    report = {**reading(*rows), "settings": {"model": "shapes/0.5B"}}
    page = take(data, report, "H200")
    speeds = "300,040 tokens/s | 100,000 tokens/s | 3.00 | 3.17 GB"
    assert f"| 0.5B | H200 | 65,536 | {speeds} | | 30,004 tokens/s | 10,000 tokens/s |" in page
    assert page.count("| 0.5B | H200 | 65,536 |") == 1
    rows[0]["answer_blocks"] = None
    assert f"{speeds} | 30,004 tokens/s | | 10,000 tokens/s |" in take(data, report, "H200")


def test_reading_that_no_table_shows() -> None:
    with pytest.raises(ValueError, match="the table of a CPU has no random weights"):
        reports().tables_of(reading(read(10, "nsa", 1, random_weights=True)), source())
    assert reports().tables_of(reading(read(10, "dense", 1)), source()) == []


def test_times_at_a_terminal_are_medians(data: Path) -> None:
    runs = [asdict(summary([], seconds, load)) for seconds, load in ((9, 0.5), (7, 1.25), (8, 1))]
    fields = {"document": "examples/fhs-3.0.pdf", "quantization": None, "date": DAY, "runs": runs}
    page = take(data, {**fields, "no_store": False})
    times = "8.0 s | 8.0 s | 8.0 s | 1.2"
    assert f"| CPU-AVX2 | fhs-3.0.pdf | Later, in a new process | {times} | {DAY} |" in page
    page = take(data, {**fields, "no_store": True, "quantization": "int8"})
    assert "| CPU-AVX2 | fhs-3.0.pdf | First, reads the document, `--quantize int8` | 8.0 s" in page
    assert times in page


def test_answers_about_the_example(data: Path) -> None:
    counts = {"right": 18, "first": 19, "among": 20, "verified": 17}
    report = {"options": [], "counts": counts, "rows": [{}] * 20, "questions": 20, "date": DAY}
    page = take(data, report)
    assert f"| CPU-AVX2 | Default | 18 | 19 | 20 | 17 | {DAY} |" in page
    assert page.count("| CPU-AVX2 | Default |") == 1
    options = ["--quantize", "int8"]
    assert f"| CPU-AVX2 | `--quantize int8` | 18 | 19 | 20 | 17 | {DAY} |" in take(
        data, {**report, "options": options}
    )
    with pytest.raises(ValueError, match="only 19 of 20 questions were asked"):
        reports().tables_of({**report, "rows": [{}] * 19}, source())


def suite(*rows: dict[str, Any]) -> dict[str, Any]:
    share = {"value": 0.875, "low": 0.6899, "high": 0.9566}
    fields = {"suite": "similar", "attention": "nsa", "blocks": "all", "length": 65_536}
    fields |= {"questions": 24, "contains_gold": share, "citation_hit_1": share, "yarn": False}
    return {"settings": [], "rows": [{**fields, **row} for row in rows], "date": DAY}


def test_needles_beyond_the_context(data: Path) -> None:
    row = f"| 65,536 | 24 | 88 % | 69 to 96 % | 88 % | H200 | {DAY} |"
    page = take(data, suite({}, {"yarn": True}, {"blocks": "16", "attention": "dense"}), "H200")
    assert f"| In windows (the default) {row}" in page
    assert f"| `--yarn` {row}" in page
    other = "In windows (the default), `--answer-blocks 16`, `--attention dense`"
    assert f"| {other} {row}" in page
    assert page.count("| `--yarn` | 65,536 |") == 1
    with pytest.raises(ValueError, match="of the suite similar; the report has none"):
        reports().tables_of(suite({"suite": "needle"}), source())


def twins_report() -> dict[str, Any]:
    share = {"texts": 16, "difference": 0.05, "low": -0.0104, "high": 0.11, "verdict": "level"}
    loss = {"texts": 33, "scores": [2.5, 2.4], "chance": None, "difference": 0.1, "low": 0.08}
    needle = [([1.0, 1.0], 2048), ([0.5, 1.0], 2048), ([0.875, 0.25], 4096)]
    courses = [[{"tokens": 11_010_048, "loss": n}, {"tokens": 9, "loss": n}] for n in (4.0, 5.0)]
    speeds = [{"context": 65_536, "batch": n, "tokens_per_second": 50.0 * n} for n in (1, 16)]
    return {
        "date": DAY,
        "twins": ["NSA", "dense"],
        "measures": [
            {"measure": "loss from 4,096", **loss, "high": 0.12, "verdict": "behind"},
            {"measure": "similar", **share, "scores": [0.9, 0.85], "chance": 1 / 24},
        ],
        "needle": [
            {"tokens": tokens, "depth": n / 2, "scores": scores}
            for n, (scores, tokens) in enumerate(needle)
        ],
        "loss": [
            {"tokens": 128, "first": 0, "scores": [9.0, 9.0]},
            {"tokens": 128, "first": 64, "scores": [2.02, 2.0]},
        ],
        "course": [courses[0], courses[1][:1]],
        "decode": [[{**each, "memory_gb": 4.56} for each in speeds], speeds[:1]],
    }


def test_twins_fill_their_tables(data: Path) -> None:
    take(data, twins_report(), "H200")
    tables = writer().load(data / "twins.json")["tables"][:5]  # the sixth is not of this report
    shown = [[" | ".join(map(writer().cell, row)) for row in table["rows"]] for table in tables]
    assert shown == [
        [
            "loss from 4,096 | 33 |  | 2.5000 | 2.4000 | 0.0800 to 0.1200 | behind",
            "similar | 16 | 4.2 % | 90.0 % | 85.0 % | -1.0 to 11.0 % | level",
        ],
        ["64 | 2.0200 | 2.0000 | 1.00 %"],
        ["2,048 | 75 % | 50 % | 100 % | 100 %", "4,096 | 88 % | 88 % | 25 % | 25 %"],
        ["11.0 M | 4.0000 | 5.0000 | -20.00 %"],
        [
            "64k, batch 1 | 50.0 | 50.0 | 1.00 | 4.56 GB | ",
            "64k, batch 16 | 800 |  |  | 4.56 GB | ",
        ],
    ]
    assert all(table["caption"] == f"H200, {DAY}." for table in tables)
    before = writer().load(data / "twins.json")
    assert "H200" in before["machines"]
    assert DAY in before["dates"]


def documents_report() -> dict[str, Any]:
    """A report of the suite's own code: the first answers by nsa are right, the others decline."""
    questions = read_questions(SUITE)
    asked = chosen(questions, only=(), limit=30, seed=1)
    rows = []
    for at, each in enumerate(asked):
        for way in ("nsa", "find"):
            right = " and ".join(group[0] for group in each.groups) or "The document does not say."
            cited = CitedPage(source=each.documents[0], page=1, line=1, quote="x", verified=True)
            rows.append(
                AnswerRow(
                    question=each.id,
                    digest=each.digest,
                    set_digest=questions.digest,
                    way=way,
                    setting="model",
                    answer="" if way == "find" else right if at < 15 else "Not mentioned.",
                    citations=() if way == "find" else (cited,),
                    found=(cited,) if way == "find" else (),
                    finish_reason="stop",
                    read_tokens=1,
                    answer_tokens=1,
                    read_seconds=1.0,
                    answer_seconds=1.0,
                    commit="unknown",
                    device="cpu",
                )
            )
    scores = scored_rows(rows, asked)
    return {**report_documents(questions, asked, scores, 0), "date": DAY}


def test_answers_about_the_suite_replace_the_table(data: Path) -> None:
    report = documents_report()
    system, found = report["systems"]
    page = take(data, report)
    right, verified = system["right"], system["right_when_verified"]
    line = next(line for line in page.splitlines() if line.startswith("| model | `nsa` | 30 |"))
    share = [round(100 * right[each]) for each in ("value", "low", "high")]
    assert f"| {share[0]} % | {share[1]} to {share[2]} % |" in line
    assert f"| {round(100 * verified['value'])} % of {verified['of']} |" in line
    assert "| model | `find` | 30 | – | – | " in page
    assert f"{round(100 * found['found_first']['value'])} %" in page
    assert f"CPU-AVX2, {DAY}: 30 of 400 questions about" in page
    again = take(data, report)
    assert again == page


def summary_row(meeting: Meeting, way: str, *texts: str) -> SummaryRow:
    sentences = tuple(RowSentence(text=text, quotes=(text,), verified=True) for text in texts)
    return SummaryRow(
        meeting=meeting.title,
        digest=meeting.digest,
        way=way,
        setting="model, 240 words",
        sentences=sentences,
        read_tokens=9,
        written_tokens=9,
        seconds=2.0,
        commit="c",
        device="d",
    )


def test_summaries_replace_both_tables(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "meetings.jsonl"
    turns = [["Chair", "We asked Mira Lund to test the crane."], ["Clerk", "It has 42 wheels."]]
    told = {"question": "Summarize.", "answers": ["Mira Lund tests 42 wheels."], "turns": None}
    path.write_text(json.dumps({"title": "crane", "turns": turns, "questions": [told]}))
    meetings = read_meetings(path, held_out=False)
    rows = [
        summary_row(meetings[0], "nsa", "Mira Lund tests the crane.", "It has 42 wheels."),
        summary_row(meetings[0], "map-reduce", "It has 42 wheels."),
    ]
    report = {**report_summaries(scored_summaries(rows, meetings), meetings, 0), "date": DAY}
    page = take(data, report)
    share = "100 % | 34 to 100 % | 100 % | 100 % | 100 % |"
    assert f"| model | nsa | 1 | 9 | {share}" in page
    assert "| model | map-reduce | 1 | 4 | 50 % |" in page
    assert "| model | nsa | map-reduce | 1 | 2.00 | 2.00 to 2.00 |" in page
    assert "| qwen2.5-coder-1.5b | map-reduce |" not in page


def test_rows_stand_beside_their_kin() -> None:
    table = {"columns": ["a", "b"], "rows": [["x", "1"], ["y", "1"]]}
    new = reports().Rows(file="f", table=1, keys=2, rows=[["x", "2"], ["y", "1"], ["z", "1"]])
    merged = reports().merged(table, new)
    assert merged["rows"] == [["x", "1"], ["x", "2"], ["y", "1"], ["z", "1"]]
    assert table["rows"] == [["x", "1"], ["y", "1"]]
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        reports().merged(table, reports().Rows(file="f", table=1, keys=1, rows=[["x"]]))


def test_figures_keep_three_digits() -> None:
    shown = {0.02449: "0.0245", 7.844: "7.84", 29.4: "29.4", 583.6: "584", 75_104.2: "75104"}
    assert {value: str(reports().rounded(value)) for value in shown} == shown
    assert reports().rounded(0) == Decimal(0)


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        ('{"a": 1}', ["--date", DAY], "not a report of a benchmark; it has the keys a"),
        ('{"counts": {}}', [], "the report has no date; give --date"),
        ("no JSON", [], "Expecting value"),
    ],
)
def test_a_file_that_is_no_report(
    data: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str], why: str
) -> None:
    path = data.parent / "report.json"
    path.write_text(text, encoding="utf-8")
    assert writer().main(["--from", str(path), "--machine", "H200", *words]) == 1
    assert why in capsys.readouterr().err


def test_an_unknown_machine_is_an_error(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data.parent / "report.json"
    path.write_text("{}", encoding="utf-8")
    assert writer().main(["--from", str(path), "--machine", "Z80"]) == 1
    assert "'Z80' is not one of CPU-AMX" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        writer().main(["--from", str(path)])
