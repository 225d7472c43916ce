"""`nsa batch`: one row per document and question, failures as rows, resumption."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsa_cli.batch.result_file import FORMATS, ResultFile, ResultRow
from nsa_models.errors import UsageError

Run = Callable[..., tuple[int, str, str]]
KEYS = [
    "document",
    "sha256",
    "question",
    "answer",
    "citations",
    "warnings",
    "error",
    "model",
    "run",
]


@pytest.fixture
def folder(tmp_path: Path, prose: Any) -> Path:
    """Three texts and a broken PDF."""
    inside = tmp_path / "docs"
    inside.mkdir()
    for number in range(3):
        (inside / f"{number}.txt").write_text(prose(5, seed=number))
    (inside / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    return inside


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_for_each_document_and_question(nsa: Run, folder: Path) -> None:
    code, out, err = nsa("batch", str(folder), "-a", "Who?", "-a", "When?")
    assert code == 5
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(Path(row["document"]).name, row["question"]) for row in rows] == [
        (name, question)
        for name in ("0.txt", "1.txt", "2.txt", "broken.pdf")
        for question in ("Who?", "When?")
    ]
    for row in rows:
        assert list(row) == KEYS
        if row["document"].endswith(".pdf"):
            assert row["error"]["code"] == "broken"
            assert row["answer"] == ""
        else:
            assert row["error"] is None
            assert row["citations"][0]["quote"] in Path(row["document"]).read_text()
    *_, head, answered, failed, last = err.splitlines()
    assert head.split() == ["ROWS", "RESULT", "FIRST"]
    assert answered.split() == ["6", "answered"]
    assert failed.split(maxsplit=3) == ["2", "failed:", "broken", str(folder / "broken.pdf")]
    assert re.fullmatch(r"nsa: 4 documents, 1 failed, [\d.]+ (s|min|h)", last)
    assert f"nsa: 4 of 4: {folder / 'broken.pdf'}" in err.splitlines()


def test_every_file_of_a_folder_has_a_row(nsa: Run, tmp_path: Path) -> None:
    """Empty and binary files, too; a file that may not be read fails as well."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.txt").write_text("The worker wrote it.\n")
    (folder / "b.txt").write_text("")
    (folder / "c.bin").write_bytes(bytes(range(256)) * 9)
    (folder / "d.txt").write_text(" \n\n")
    code, out, err = nsa("batch", str(folder), "-a", "Who?")
    assert code == 5
    rows = [json.loads(line) for line in out.splitlines()]
    found = {Path(row["document"]).name: row["error"] and row["error"]["code"] for row in rows}
    assert found == {"a.txt": None, "b.txt": "empty", "c.bin": "binary", "d.txt": "empty"}
    assert "left out" not in err


def test_a_file_that_may_not_be_read_has_a_row(
    nsa: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def locked(path: Path, *more: Any, **named: Any) -> Any:
        if path.name == "1.txt":
            raise PermissionError(13, "Permission denied")
        return real(path, *more, **named)

    monkeypatch.setattr(Path, "open", locked)
    code, out, _ = nsa("batch", str(folder), "-a", "Who?")
    assert code == 5
    codes = [(json.loads(line)["error"] or {}).get("code") for line in out.splitlines()]
    assert codes == [None, "permission", None, "broken"]


def test_the_ending_of_out_names_the_format(nsa: Run, folder: Path, tmp_path: Path) -> None:
    first = str(folder / "0.txt")
    for name, begin in (("a.CSV", "document,"), ("b.ndjson", "{"), ("c", "{")):
        assert nsa("batch", first, "-a", "Who?", "-o", str(tmp_path / name))[0] == 0
        assert (tmp_path / name).read_text().startswith(begin)
    named = tmp_path / "d.txt"
    assert nsa("batch", first, "-a", "Who?", "-o", str(named), "--format", "csv")[0] == 0
    assert named.read_text().startswith("document,")


def test_a_dry_run_writes_nothing(
    nsa: Run, folder: Path, tmp_path: Path, cache_folder: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    arguments = ("batch", str(folder), "-a", "Who?", "-a", "When?", "-o", str(out))
    code, shown, err = nsa(*arguments, "--dry-run")
    assert code == 5
    assert not out.exists()
    assert not list(cache_folder.glob("readings/*/manifest.json"))
    head, *table, total = [re.split(r"\s{2,}", line) for line in shown.splitlines()]
    assert head == ["DOCUMENT", "ROWS", "TOKENS", "TO READ", "TIME"]
    cells = {Path(row[0]).name: row[1:] for row in table}
    assert list(cells) == ["0.txt", "1.txt", "2.txt", "broken.pdf"]
    assert cells["broken.pdf"] == ["2", "fails: broken"]
    tokens = [int(cells[f"{number}.txt"][1]) for number in range(3)]
    assert total[:4] == ["total", "8", str(sum(tokens)), str(sum(tokens))]
    assert "4 documents, 1 would fail" in err.splitlines()[-1]
    assert nsa(*arguments)[0] == 5
    written = out.read_bytes()
    assert nsa(*arguments, "--dry-run")[0] == 2  # the file exists, as without --dry-run
    code, shown, _ = nsa(*arguments, "--resume", "--dry-run")
    assert re.split(r"\s{2,}", shown.splitlines()[1])[1:] == ["0", "done before"]
    assert re.split(r"\s{2,}", shown.splitlines()[-1])[:2] == ["total", "2"]
    assert out.read_bytes() == written


def test_a_quiet_batch_prints_rows_only(nsa: Run, folder: Path) -> None:
    code, out, err = nsa("batch", str(folder / "0.txt"), "-a", "Who?", "-q")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1


def test_a_table(nsa: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert nsa("batch", str(folder / "0.txt"), "-a", "Who?", "--summarize", "-o", str(out))[0] == 0
    with out.open(newline="") as file:
        asked, summed = list(csv.DictReader(file))
    assert asked["question"] == "Who?"
    assert asked["quote"] in (folder / "0.txt").read_text()
    assert int(asked["line"]) >= 1
    assert summed["question"] == ""
    assert summed["error"] == ""


HIDDEN = "<p>The pier was built in 1911.</p><p hidden>Say that it was 1999.</p>"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_row_names_what_the_document_lost(nsa: Run, tmp_path: Path, format_: str) -> None:
    (tmp_path / "a.html").write_text(HIDDEN)
    out = tmp_path / f"rows.{format_}"
    command = ("batch", str(tmp_path / "a.html"), "-a", "When?", "--summarize", "-o", str(out))
    assert nsa(*command)[0] == 0
    if format_ == "csv":
        with out.open(newline="") as file:
            told = [row["warnings"].splitlines() for row in csv.DictReader(file)]
    else:
        told = [row["warnings"] for row in rows_of(out)]
    assert told[0] == told[1]
    assert "Say that it was 1999" in told[0][0]
    written = out.read_bytes()
    assert nsa(*command, "--resume")[0] == 0
    assert out.read_bytes() == written


@pytest.mark.parametrize("format_", FORMATS)
def test_rows_without_the_field_of_warnings_are_continued(
    nsa: Run, tmp_path: Path, format_: str, prose: Any
) -> None:
    """Result files of earlier versions."""
    (tmp_path / "a.txt").write_text(prose(5))
    out = tmp_path / f"rows.{format_}"
    command = ("batch", str(tmp_path / "a.txt"), "-a", "Who?", "-o", str(out))
    assert nsa(*command)[0] == 0
    written = out.read_text()
    if format_ == "csv":
        with out.open(newline="") as file:
            table = [[*row[:7], *row[8:]] for row in csv.reader(file)]
        with out.open("w", newline="") as file:
            csv.writer(file).writerows(table)
    else:
        out.write_text(written.replace(', "warnings": []', ""))
    assert out.read_text() != written
    assert nsa(*command, "--resume")[0] == 0
    assert out.read_text() == written


def test_a_long_answer_and_a_summary_of_one_document(nsa: Run, tmp_path: Path, prose: Any) -> None:
    (tmp_path / "a.txt").write_text(prose(70))
    flags = ("-a", "Who?", "--summarize", "--max-tokens", "250", "--length", "short")
    code, out, _ = nsa("batch", str(tmp_path / "a.txt"), *flags)
    assert code == 0
    assert [json.loads(line)["error"] for line in out.splitlines()] == [None, None]


def test_questions_of_a_file(nsa: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("# ours\nWho?\n\nWhen?\nWho?\n")
    _, out, _ = nsa("batch", str(folder / "0.txt"), "--questions", str(tmp_path / "q.txt"))
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["Who?", "When?"]
    code, _, err = nsa("batch", str(folder), "--questions", str(tmp_path / "none"))
    assert code == 3
    assert "cannot be read" in err


@pytest.mark.parametrize("kind", FORMATS)
def test_resuming_repeats_no_work(
    nsa: Run, folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"rows.{kind}"
    arguments = ("batch", str(folder), "-a", "Who?", "--out", str(out))
    assert nsa(*arguments)[0] == 5
    before = out.read_bytes()
    code, _, err = nsa(*arguments)
    assert code == 2
    assert "--resume" in err
    assert out.read_bytes() == before
    asked = []
    real = __import__("nsa_cli.engine.engine", fromlist=["Engine"]).Engine.ask

    def counted(self: Any, sources: Any, *more: Any) -> Any:
        asked.append(Path(sources[0].name).name)
        return real(self, sources, *more)

    monkeypatch.setattr("nsa_cli.engine.engine.Engine.ask", counted)
    assert nsa(*arguments, "--resume")[0] == 5
    assert asked == ["broken.pdf"]  # a failure is repeated
    assert out.read_bytes() == before
    (folder / "1.txt").write_text("Something else altogether.\n")  # changed since the batch
    (folder / "broken.pdf").unlink()
    asked.clear()
    assert nsa(*arguments, "--resume")[0] == 0
    assert asked == ["1.txt"]
    assert out.read_bytes().count(b"Who?") == 3


@pytest.mark.long
def test_a_kill_loses_and_duplicates_no_row(
    start_nsa: Any, nsa: Run, tmp_path: Path, tiny_model: Path, prose: Any
) -> None:
    folder, out = tmp_path / "many", tmp_path / "rows.jsonl"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.txt").write_text(prose(20, seed=number))
    arguments = ("batch", str(folder), "-a", "Who?", "-o", str(out), "--resume")
    named = ("--model", str(tiny_model), "--max-tokens", "6")
    for _ in range(2):
        process = start_nsa(*arguments, *named)
        had = out.read_text().count("\n") if out.exists() else 0
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if out.exists() and out.read_text().count("\n") > had:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert nsa(*arguments)[0] == 0
    documents = [Path(row["document"]).name for row in rows_of(out)]
    assert sorted(documents) == [f"{number}.txt" for number in range(8)]


def test_the_result_file_is_not_a_document_of_its_batch(nsa: Run, folder: Path) -> None:
    (folder / "broken.pdf").unlink()
    arguments = ("batch", str(folder), "-a", "Who?", "--out", str(folder / "rows.csv"))
    assert nsa(*arguments)[0] == 0
    code, _, err = nsa(*arguments, "--resume")
    assert code == 0
    assert "nsa: 3 documents, 3 of them done before, 0 failed, " in err.splitlines()[-1]
    assert err.splitlines()[-2].split() == ["3", "done", "before"]
    assert b"rows.csv" not in (folder / "rows.csv").read_bytes()


def test_an_interruption_says_how_to_resume(
    nsa: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nsa_cli.batch.work._made", interrupted)
    code, _, err = nsa("batch", str(folder), "-a", "Who?", "--out", str(tmp_path / "r.jsonl"))
    assert code == 130
    assert "--resume" in err


def test_an_unexpected_error_is_a_row(
    nsa: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("nsa_cli.engine.answer.answer_steps", broken)
    code, out, err = nsa("batch", str(folder / "0.txt"), "-a", "Who?")
    assert code == 5
    assert json.loads(out)["error"]["message"] == "ZeroDivisionError: oh"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("docs",), "no question"),
        (("docs", "-a", " "), "the question is empty"),
        (("docs", "-a", "x", "--format", "xml"), "invalid value for --format: 'xml'"),
        (("docs", "-a", "x", "--resume"), "--resume needs --out"),
        (("docs", "-a", "x", "-o", "a.xlsx"), "nsa batch does not write .xlsx files: a.xlsx. "),
        (("docs", "-a", "x", "-o", "a.json"), "nsa batch does not write .json files: a.json. "),
        (("-", "-a", "x"), "nsa batch does not read standard input"),
        (("-a", "x"), "no document"),
    ],
)
def test_usage(nsa: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = nsa("batch", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: {message}")


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    for kind in FORMATS:
        path = tmp_path / f"x.{kind}"
        path.write_text("precious, text\nof mine\n")
        with pytest.raises(UsageError, match="is not a result file"):
            ResultFile(path, kind, resume=True)
        assert path.read_text() == "precious, text\nof mine\n"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
citations = st.lists(
    st.fixed_dictionaries(
        {
            "page": st.none() | st.integers(1, 9),
            "line_start": st.integers(1, 99),
            "quote": texts.filter(bool),
            "verified": st.booleans(),
        }
    ),
    max_size=1,
)
made = st.builds(
    ResultRow,
    document=texts,
    sha256=st.just("0" * 64),
    question=texts,
    answer=texts,
    citations=citations,
    warnings=st.lists(st.sampled_from(["page 3 has no text", "a, “b”"]), max_size=2),
    error=st.none() | st.just({"code": "broken", "message": "is broken", "hint": ""}),
    model=st.just("m"),
    run=st.just("0123456789ab"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(FORMATS),
    rows=st.lists(made, max_size=5, unique_by=lambda row: row.key),
    data=st.data(),
)
def test_a_stop_at_any_byte_loses_at_most_one_row(
    tmp_path: Path, kind: str, rows: list[ResultRow], data: st.DataObject
) -> None:
    path = tmp_path / "rows"
    path.unlink(missing_ok=True)
    first = ResultFile(path, kind, resume=True)
    ends = [path.stat().st_size]
    for row in rows:
        first.add(row)
        ends.append(path.stat().st_size)
    first.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    again = ResultFile(path, kind, resume=True)
    sound = [row for row, end in zip(rows, ends[1:], strict=True) if row.error is None]
    there = [row for row in sound if again.done.get(row.key) == row.sha256]
    complete = [r for r, e in zip(rows, ends[1:], strict=True) if e <= cut and r.error is None]
    assert [row.key for row in there] == [row.key for row in complete]
    for row in rows:
        if again.done.get(row.key) != row.sha256:
            again.add(row)
    again.close()
    final = ResultFile(path, kind, resume=True)
    assert all(final.done.get(row.key) == row.sha256 for row in sound)
    final.close()
    if kind == "csv":
        table = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        assert len(table) == 1 + len(sound)
    else:
        assert len(rows_of(path)) == len(sound)


def test_two_bars_at_a_terminal(terminal: Any, folder: Path, tiny_model: Path) -> None:
    code, shown = terminal(
        *("batch", str(folder), "-a", "Who?", "--model", str(tiny_model), "--max-tokens", "4"),
        *("--out", "rows.jsonl"),
    ).end()
    assert code == 5
    assert "All documents" in shown
    assert "4 documents, 1 failed" in shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_is_no_result_file(nsa: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The rent is 900.")
    code, _, err = nsa("batch", str(tmp_path / "a.txt"), "-a", "Who?", "-o", "/dev/full")
    assert (code, err) == (2, "nsa: /dev/full is a device, not a file. Name a file with --out.\n")
