"""`nsa bench kernels`: measurements, table and files, with a simulated device."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.__main__ import run as run_program
from nsa_cli.benchmarks.kernel_report import COLUMNS, as_object, as_records, save_plot, show_end
from nsa_cli.benchmarks.kernel_results import NSA, Check, Measurement, Point, Report, attentions
from nsa_cli.benchmarks.kernels import measure_all, points

SETUP = {"gpu": "SimulatedDevice 9000", "shape": "paper-gqa"}
MILLISECONDS = {**dict.fromkeys(NSA, 2.0), "nsa-recorded": 1.0, "cudnn": 8.0, "flash": 10.0}
SHORT = [*NSA, "cudnn", "flash"]
LONG = ["nsa", "nsa-recorded", "nsa-union", "cudnn", "flash"]
DECODE = ["nsa", "cudnn", "flash"]
Run = Callable[..., tuple[int, str, str]]


class SimulatedDevice:
    """A simulated device: runs take MILLISECONDS, and each clock reading adds a second."""

    fa3 = False

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.now = 0.0
        self.measured: list[tuple[Point, str]] = []

    def setup(self) -> dict[str, str]:
        return SETUP

    def clock(self) -> float:
        return self.now

    def check(self, point: Point, attention: str) -> Check:
        assert not NSA[attention].graph
        right = self.wrong not in (point.mode, attention)
        errors = {"out": 0.001 if right else 0.5}
        return Check(errors=errors, allowed={"out": 0.01}, agreement=1.0, passed=right)

    def measure(self, point: Point, attention: str) -> Measurement:
        self.measured.append((point, attention))
        self.now += 1.0
        if attention == "flash" and point.mode == "backward":
            return Measurement(point=point, attention=attention, note="out of memory")
        p50 = MILLISECONDS[attention] * point.length / 1000
        return Measurement(
            point=point,
            attention=attention,
            p20_ms=0.95 * p50,
            p50_ms=p50,
            p80_ms=1.05 * p50,
            host_ms=0.125,
            extra_memory_bytes=10**9 if point.mode == "backward" else None,
        )


def report_of(
    bench: SimulatedDevice,
    lengths: list[int],
    modes: tuple[str, ...] = ("forward",),
    time_limit: float | None = None,
    on_row: Callable[[Measurement], None] = lambda _: None,
) -> Report:
    report = Report(setup=SETUP)
    planned = points(lengths, modes, [1, 16])
    measure_all(bench, planned, report, on_row=on_row, time_limit=time_limit, clock=bench.clock)
    return report


def test_short_lengths_come_first_and_only_decode_has_batches() -> None:
    found = [(p.length, p.mode, p.batch) for p in points([64, 8], ["forward", "decode"], [1, 4])]
    assert found == [
        *[(8, "forward", 1), (8, "decode", 1), (8, "decode", 4)],
        *[(64, "forward", 1), (64, "decode", 1), (64, "decode", 4)],
    ]


def test_ratios_use_the_faster_dense_attention() -> None:
    bench = SimulatedDevice()
    report = report_of(bench, [1000, 2000], ("forward", "backward"))
    assert [attention for _, attention in bench.measured] == SHORT * 4
    assert report.stopped == ""
    assert report.failed == []
    assert {
        (row["attention"], row["dense_over_nsa"]) for row in as_records(report)
    } == {(name, 8.0 if name == "nsa-recorded" else 4.0) for name in NSA} | {
        ("cudnn", None), ("flash", None)
    }  # fmt: skip


def test_attentions_of_each_mode() -> None:
    def at(mode: str, length: int, *, fa3: bool = False) -> list[str]:
        return attentions(Point(mode=mode, length=length), fa3=fa3)

    assert at("forward", 16384, fa3=True) == [*SHORT, "fa3"]
    assert at("forward", 16385) == LONG
    assert at("backward", 16384, fa3=True) == SHORT
    assert at("backward", 16385, fa3=True) == LONG
    assert at("decode", 8, fa3=True) == DECODE


def test_unsteady_times_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    point = Point(mode="forward", length=8)
    rows = [
        Measurement(point=point, attention="nsa", p20_ms=1.0, p50_ms=1.1, p80_ms=p80)
        for p80 in (1.2, 1.21)
    ]
    report = Report(setup=SETUP, rows=rows)
    show_end(report)
    assert "1 of 2 measurements are unsteady" in capsys.readouterr().err
    assert [row["unsteady"] for row in as_records(report)] == [False, True]


def test_no_ratio_without_a_dense_time() -> None:
    point = Point(mode="forward", length=8)
    rows = [
        Measurement(point=point, attention="nsa", p50_ms=1.0),
        Measurement(point=point, attention="flash", note="out of memory"),
        Measurement(point=Point(mode="decode", length=8), attention="cudnn", p50_ms=9.0),
    ]
    assert Report(setup=SETUP, rows=rows).ratio(point, "nsa") is None


def test_a_failed_check_has_no_speed() -> None:
    bench = SimulatedDevice(wrong="forward")
    report = report_of(bench, [1000], ("forward", "decode"))
    assert all(point.mode == "decode" for point, _ in bench.measured)
    first = report.rows[0]
    assert (first.point.mode, first.note, first.p50_ms) == ("forward", "failed the check", None)
    assert set(report.failed) == {first.point}
    passed = [check["passed"] for check in as_object(report)["checks"]]
    assert passed == [False] * 3 + [True] * 2


def test_a_failing_variant_does_not_affect_others() -> None:
    bench = SimulatedDevice(wrong="nsa-recorded")
    report = report_of(bench, [1000])
    assert [row.attention for row in report.rows if row.note == "failed the check"] == [
        "nsa-recorded", "nsa-recorded-graph"
    ]  # fmt: skip
    assert report.ratio(Point(mode="forward", length=1000), "nsa") == 4.0


def test_the_time_limit_keeps_finished_measurements() -> None:
    rows: list[Measurement] = []
    report = report_of(SimulatedDevice(), [1000, 2000, 3000], time_limit=7.0, on_row=rows.append)
    assert report.rows == rows
    assert len(rows) == 7
    assert report.stopped == (
        "the time limit of 7 seconds ended in forward at 1,000 tokens, before flash"
    )
    assert (
        "before forward at 1,000 tokens"
        in report_of(SimulatedDevice(), [1000], time_limit=0).stopped
    )


@pytest.fixture
def nsa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs `nsa bench kernels` on a simulated device: code, stdout, stderr."""

    def run(*arguments: str, wrong: str = "", cuda: bool = True) -> tuple[int, str, str]:
        stand_in = types.ModuleType("nsa_cli.benchmarks.kernel_cuda")
        stand_in.CudaBench = lambda _: SimulatedDevice(wrong)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "nsa_cli.benchmarks.kernel_cuda", stand_in)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(sys, "argv", ["nsa", "bench", "kernels", *arguments])
        code = run_program()
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_table(nsa: Run) -> None:
    code, out, err = nsa("--lengths", "1000,2000", "--modes", "forward,backward")
    assert code == 0
    assert "out of memory" in out
    assert "gpu SimulatedDevice 9000" in out
    assert "4.00" in out
    assert "fwd+bwd" in out
    assert "nsa: forward at 2,000 tokens, dense, cuDNN: 16 ms\n" in err


def test_one_json_object(nsa: Run) -> None:
    code, out, _ = nsa("--lengths", "1000", "--json", "--batch", "2,3")
    assert code == 0
    shown = json.loads(out)
    assert list(shown) == ["setup", "rows", "checks", "stopped"]
    assert all(tuple(row) == COLUMNS for row in shown["rows"])
    assert [row["batch"] for row in shown["rows"]] == [1] * 16 + [2] * 3 + [3] * 3


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_failed_check_fails_the_command(nsa: Run, options: tuple[str, ...]) -> None:
    code, out, err = nsa("--lengths", "1000", "--modes", "forward,decode", *options, wrong="decode")
    assert code == 1
    assert "failed the check" in out
    why = "decode at 1,000 tokens, NSA gated, random selections: error of out 0.5 (allowed 0.01)"
    assert f"nsa: failed the check: {why}" in err
    if options:
        assert len(json.loads(out)["rows"]) == 10


def test_files_are_saved_and_the_missing_plot_is_reported(
    nsa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    folder = tmp_path / "new" / "folder"
    code, out, err = nsa("--lengths", "1000", "--out", str(folder), "--json")
    assert code == 0
    assert "pip install matplotlib" in err
    assert sorted(path.name for path in folder.iterdir()) == ["kernels.csv", "kernels.json"]
    assert json.loads((folder / "kernels.json").read_text()) == json.loads(out)
    with (folder / "kernels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 22
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["p50_ms"], rows[0]["dense_over_nsa"], rows[6]["dense_over_nsa"]) == (
        *("2.0", "4.0", ""),
    )


def test_measurements_before_a_crash_are_saved(
    nsa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = SimulatedDevice.measure

    def crash(self: SimulatedDevice, point: Point, attention: str) -> Measurement:
        if attention == "flash":
            raise KeyboardInterrupt
        return measure(self, point, attention)

    monkeypatch.setattr(SimulatedDevice, "measure", crash)
    code, _, err = nsa("--lengths", "1000", "--out", str(tmp_path))
    assert code == 130
    assert "interrupted" in err
    saved = json.loads((tmp_path / "kernels.json").read_text())
    assert [row["attention"] for row in saved["rows"]] == [*NSA, "cudnn"]


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = report_of(SimulatedDevice(), [1000, 2000, 4000], ("forward", "backward", "decode"))
    save_plot(report, tmp_path)
    assert (tmp_path / "kernels.png").read_bytes().startswith(b"\x89PNG")


def test_no_plot_without_measurements(tmp_path: Path) -> None:
    save_plot(report_of(SimulatedDevice(wrong="forward"), [1000]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_cuda(nsa: Run) -> None:
    code, out, err = nsa(cuda=False)
    assert (code, out) == (1, "")
    assert err.startswith("nsa: no CUDA device found")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lengths", "many"),
        ("--lengths", "0"),
        ("--batch", "1,x"),
        ("--shape", "huge"),
        ("--modes", "forward,sideways"),
    ],
)
def test_usage(nsa: Run, arguments: tuple[str, str]) -> None:
    code, out, err = nsa(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: invalid value for {arguments[0]}: '")


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['nsa', 'bench', 'kernels', '--help']\n"
        "from nsa_cli.__main__ import main; main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--time-limit" in run.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--lengths", "3000", "--shape", "qwen2.5-0.5b", "--out", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", ["nsa", "bench", "kernels", *arguments])
    code = run_program()
    out, err = capsys.readouterr()
    assert code == 0, err
    shown: dict[str, Any] = json.loads(out)
    assert all(check["passed"] for check in shown["checks"])
    assert all(row["p50_ms"] for row in shown["rows"] if row["attention"] in (*NSA, "cudnn"))
    nsa_rows = [row for row in shown["rows"] if row["attention"] in NSA]
    assert [row["extra_memory_bytes"] is not None for row in nsa_rows] == [
        row["mode"] == "backward" and not NSA[row["attention"]].graph for row in nsa_rows
    ]
