"""`nsa bench kernels`: the kernels beside dense attention, each checked before it is timed.

This module decides the points, their order and the stop; `kernel_cuda` measures, `kernel_report`
prints and saves.
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
    """A device that checks and measures."""

    @property
    def fa3(self) -> bool:
        """Whether FlashAttention-3 is installed."""

    def check(self, point: Point, attention: str) -> Check:
        """Compare a variant of NSA with the reference."""

    def measure(self, point: Point, attention: str) -> Measurement:
        """Time one attention."""


def points(lengths: Sequence[int], modes: Sequence[str], batches: Sequence[int]) -> Iterator[Point]:
    """The points to measure, short lengths first, so that a time limit cuts off the longest."""
    for length in sorted(lengths):
        for mode in modes:
            for batch in batches if mode == "decode" else (1,):
                yield Point(mode=mode, length=length, batch=batch)


def measure_all(
    bench: Bench,
    planned: Iterator[Point],
    report: Report,
    *,
    on_row: Callable[[Measurement], None],
    time_limit: float | None,
    clock: Callable[[], float],
) -> None:
    """Check and measure every point; a variant of NSA that fails its check gets no speed.

    Args:
        bench: The device.
        planned: The points.
        report: Receives checks and measurements.
        on_row: Called with each measurement after the report has it.
        time_limit: Seconds after which no measurement starts; None for no limit.
        clock: Returns the time in seconds.
    """
    began = clock()

    def add(row: Measurement) -> None:
        report.rows.append(row)
        on_row(row)

    def spent() -> bool:
        return time_limit is not None and clock() - began >= time_limit

    for point in planned:
        if spent():
            report.stopped = f"the time limit of {time_limit:g} seconds ended before {point}"
            return
        failed, any_right = False, False
        for attention in attentions(point, fa3=bench.fa3):
            if spent():
                report.stopped = (
                    f"the time limit of {time_limit:g} seconds ended in {point}, before {attention}"
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
    quiet: bool = False,
) -> Report:
    """Measure, save after every measurement, and print the report.

    Args:
        lengths: Text lengths in tokens.
        batches: Batch sizes of a decode step.
        shape: One of SHAPES.
        modes: Some of MODES.
        time_limit: Seconds after which no measurement starts; None for no limit.
        out: Folder for the results; None saves nothing.
        as_json: Whether to print a JSON object instead of a table.
        quiet: Whether to print nothing on standard error.

    Raises:
        NsaError: If the CUDA device is missing or too small.
    """
    import torch

    if not torch.cuda.is_available():
        raise NsaError(
            "no CUDA device found",
            hint="use a machine with an NVIDIA GPU and a CUDA build of torch, or measure this one "
            "with `nsa bench read`",
        )
    from nsa_cli.benchmarks import kernel_report
    from nsa_cli.benchmarks.kernel_cuda import CudaBench

    bench = CudaBench(shape)
    report = Report(setup=bench.setup())

    def on_row(row: Measurement) -> None:
        if not quiet:
            kernel_report.show_row(row)
        if out:
            kernel_report.save_data(report, out)

    try:
        planned, clock = points(lengths, modes, batches), time.monotonic
        measure_all(bench, planned, report, on_row=on_row, time_limit=time_limit, clock=clock)
    finally:
        if out:
            kernel_report.save_data(report, out)
            kernel_report.save_plot(report, out)
    if not quiet:
        kernel_report.show_end(report)
    kernel_report.print_report(report, as_json=as_json)
    return report
