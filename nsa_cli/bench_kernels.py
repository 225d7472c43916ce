"""`nsa bench kernels`: the kernels beside dense attention, each measured only once it is right.

What to measure, in which order, and when to stop; the device's part is `bench_cuda.py`, what is
printed and saved is `bench_report.py`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nsa_models.errors import NsaError

MODES = ("forward", "backward", "decode")
"""Forward; forward and backward together; one decode step."""

ATTENTIONS = ("nsa", "cudnn", "flash")
"""NSA; dense attention by cuDNN and by FlashAttention-2, both through PyTorch's SDPA."""

FAILED = "failed the check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The heads of one attention layer.

    Attributes:
        heads: Query heads (H).
        groups: Key/value groups (G).
        dim: Head dim of queries and keys (D).
        value_dim: Head dim of values (Dv).
    """

    heads: int
    groups: int
    dim: int
    value_dim: int


SHAPES = {
    "paper-gqa": Shape(heads=64, groups=4, dim=128, value_dim=128),
    "paper": Shape(heads=64, groups=4, dim=192, value_dim=128),
    "qwen2.5-0.5b": Shape(heads=14, groups=2, dim=64, value_dim=64),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Something to measure: `mode`, one of MODES, at a `length` in tokens, for a `batch`."""

    mode: str
    length: int
    batch: int = 1

    def __str__(self) -> str:
        many = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.mode} at {self.length:,} tokens{many}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How the kernels' results compare with the fp64 reference.

    Attributes:
        errors: Relative error of the output and, backward, of each gradient.
        allowed: The largest error allowed of each.
        agreement: Share of the reference's selected blocks that the kernels selected too.
        passed: Whether a speed may be shown.
    """

    errors: dict[str, float]
    allowed: dict[str, float]
    agreement: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The times of one attention at one point.

    Attributes:
        point: What was measured.
        attention: One of ATTENTIONS.
        p20_ms: Milliseconds that a fifth of the runs stayed under; None where there is no speed.
        p50_ms: The median, in milliseconds.
        p80_ms: Milliseconds that four fifths of the runs stayed under.
        extra_memory_bytes: Peak of forward and backward beyond inputs, output and gradients.
        note: Why there is no speed, or what stands beside it.
    """

    point: Point
    attention: str
    p20_ms: float | None = None
    p50_ms: float | None = None
    p80_ms: float | None = None
    extra_memory_bytes: int | None = None
    note: str = ""


class Bench(Protocol):
    """What checks and measures: a CUDA device, or a test's stand-in."""

    def check(self, point: Point) -> Check:
        """Compare the kernels with the reference."""

    def measure(self, point: Point, attention: str) -> Measurement:
        """Time one attention."""


@dataclass(kw_only=True)
class Report:
    """What was found so far.

    Attributes:
        setup: Device, versions, commit, shape and settings, by name.
        rows: The measurements, in order.
        checks: The checks, in order.
        stopped: Why not all was measured, or an empty string.
    """

    setup: dict[str, str]
    rows: list[Measurement] = field(default_factory=list)
    checks: list[tuple[Point, Check]] = field(default_factory=list)
    stopped: str = ""

    @property
    def failed(self) -> list[Point]:
        """The points that did not pass the check."""
        return [point for point, check in self.checks if not check.passed]

    def ratio(self, point: Point) -> float | None:
        """Time of the faster dense attention over NSA's; None where one is not known."""
        times = {
            row.attention: row.p50_ms
            for row in self.rows
            if row.point == point and row.p50_ms is not None
        }
        dense = [median for attention, median in times.items() if attention != "nsa"]
        return min(dense) / times["nsa"] if dense and "nsa" in times else None


def points(lengths: Sequence[int], modes: Sequence[str], batches: Sequence[int]) -> Iterator[Point]:
    """All that is to be measured, short lengths first, so that a limit cuts off the longest."""
    for length in sorted(lengths):
        for mode in modes:
            for batch in batches if mode == "decode" else (1,):
                yield Point(mode=mode, length=length, batch=batch)


def measure_all(
    bench: Bench,
    wanted: Iterator[Point],
    report: Report,
    *,
    on_row: Callable[[Measurement], None],
    time_limit: float | None,
    clock: Callable[[], float],
) -> None:
    """Check and measure every point; a point that fails the check gets no speed.

    Args:
        bench: What checks and measures.
        wanted: The points.
        report: Filled as measurements are made.
        on_row: Called with each measurement once it is in the report.
        time_limit: Seconds after which nothing more is begun; None for no limit.
        clock: Seconds since any moment.
    """
    began = clock()

    def add(row: Measurement) -> None:
        report.rows.append(row)
        on_row(row)

    def spent() -> bool:
        return time_limit is not None and clock() - began >= time_limit

    for point in wanted:
        if spent():
            report.stopped = f"the time limit of {time_limit:g} seconds is over before {point}"
            return
        check = bench.check(point)
        report.checks.append((point, check))
        if not check.passed:
            add(Measurement(point=point, attention="nsa", note=FAILED))
            continue
        for attention in ATTENTIONS:
            if spent():
                report.stopped = (
                    f"the time limit of {time_limit:g} seconds is over in {point}, at {attention}"
                )
                return
            add(bench.measure(point, attention))


def git_commit() -> str:
    """The commit of the source tree that this runs from, or `unknown`."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return "unknown"
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def run(
    lengths: Sequence[int],
    batches: Sequence[int],
    shape: str,
    modes: Sequence[str],
    *,
    time_limit: float | None,
    out: Path | None,
    as_json: bool,
) -> Report:
    """Measure, save after every row, and print: the whole command.

    Args:
        lengths: Tokens.
        batches: Sequences of a decode step.
        shape: One of SHAPES.
        modes: Of MODES.
        time_limit: Seconds after which nothing more is begun; None for no limit.
        out: Where to save; None saves nothing.
        as_json: Whether to print one JSON object rather than a table.

    Raises:
        NsaError: If there is no CUDA device, or too small a one.
    """
    import torch

    if not torch.cuda.is_available():
        raise NsaError(
            "there is no CUDA device to measure",
            hint="run it where an NVIDIA GPU and a CUDA build of torch are; "
            "`nsa bench read` measures any machine",
        )
    from nsa_cli.bench_cuda import CudaBench
    from nsa_cli.bench_report import print_report, save_data, save_plot, show_end, show_row

    bench = CudaBench(shape)
    report = Report(setup=bench.setup())

    def on_row(row: Measurement) -> None:
        show_row(row)
        if out:
            save_data(report, out)

    try:
        measure_all(
            bench,
            points(lengths, modes, batches),
            report,
            on_row=on_row,
            time_limit=time_limit,
            clock=time.monotonic,
        )
    finally:
        if out:
            save_data(report, out)
            save_plot(report, out)
    show_end(report)
    print_report(report, as_json=as_json)
    return report
