"""`nsa bench kernels`: the kernels beside dense attention, each measured only once it is right.

This module says what to measure, in which order, and when to stop. `kernel_cuda.py` runs on the
device, and `kernel_report.py` prints and saves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from nsa_cli.benchmarks.kernel_results import (
    FAILED,
    NSA,
    Check,
    Measurement,
    Point,
    Report,
    attentions,
)
from nsa_models.errors import NsaError


class Bench(Protocol):
    """What checks and measures: a CUDA device, or a test's stand-in."""

    @property
    def fa3(self) -> bool:
        """Whether FlashAttention-3 is installed."""

    def check(self, point: Point, attention: str) -> Check:
        """Compare a variant of NSA with the reference."""

    def measure(self, point: Point, attention: str) -> Measurement:
        """Time one attention."""


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
    """Check and measure every point; a variant of NSA that fails its check gets no speed.

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
        failed, any_right = False, False
        for attention in attentions(point, fa3=bench.fa3):
            if spent():
                report.stopped = (
                    f"the time limit of {time_limit:g} seconds is over in {point}, at {attention}"
                )
                return
            # A graph replays the variant that was just checked.
            if attention in NSA and not NSA[attention].graph:
                check = bench.check(point, attention)
                report.checks.append((point, attention, check))
                failed = not check.passed
                any_right |= check.passed
            if attention in NSA and failed:
                add(Measurement(point=point, attention=attention, note=FAILED))
            elif any_right:
                add(bench.measure(point, attention))


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
    from nsa_cli.benchmarks.kernel_cuda import CudaBench
    from nsa_cli.benchmarks.kernel_report import (
        print_report,
        save_data,
        save_plot,
        show_end,
        show_row,
    )

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
