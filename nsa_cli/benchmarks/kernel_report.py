"""Output of `nsa bench kernels`: a table, a JSON object, CSV and a plot."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nsa_cli.benchmarks.kernel_results import ATTENTIONS, FAILED, UNSTEADY, Measurement, Report
from nsa_cli.output.plots import new_figure
from nsa_models.errors import UsageError

NAMES = {
    "nsa": "NSA gated, random selections",
    "nsa-graph": "NSA gated, random selections, CUDA graph",
    "nsa-recorded": "NSA gated, recorded selections",
    "nsa-recorded-graph": "NSA gated, recorded selections, CUDA graph",
    "nsa-union": "NSA union, 64 queries a selection",
    "nsa-union-graph": "NSA union, 64 queries a selection, CUDA graph",
    "cudnn": "dense, cuDNN",
    "flash": "dense, FlashAttention-2",
    "fa3": "dense, FlashAttention-3",
}
MODE_NAMES = {"forward": "forward", "backward": "forward + backward", "decode": "decode step"}
SHORT_NAMES = {
    "nsa": "NSA, random",
    "nsa-graph": "NSA, random, graph",
    "nsa-recorded": "NSA, recorded",
    "nsa-recorded-graph": "NSA, recorded, graph",
    "nsa-union": "NSA, union",
    "nsa-union-graph": "NSA, union, graph",
    "cudnn": "cuDNN",
    "flash": "Flash-2",
    "fa3": "Flash-3",
    "backward": "fwd+bwd",
}
LEGEND = (
    "NSA, random and recorded: the paper's three gated branches, with the selections of random "
    "queries or of a model's. NSA, union: the mode that the shipped model reads in, 64 queries a "
    "selection. Host: until a call is launched. In a graph, all launches are one."
)
COLUMNS = (
    *("mode", "length", "batch", "attention", "p20_ms", "p50_ms", "p80_ms"),
    *("host_ms", "dense_over_nsa", "extra_memory_bytes", "unsteady", "note"),
)


def as_records(report: Report) -> list[dict[str, Any]]:
    """The measurements as flat records with the keys of COLUMNS."""
    return [
        {
            **asdict(row.point),
            "attention": row.attention,
            "p20_ms": row.p20_ms,
            "p50_ms": row.p50_ms,
            "p80_ms": row.p80_ms,
            "host_ms": row.host_ms,
            "dense_over_nsa": report.ratio(row.point, row.attention),
            "extra_memory_bytes": row.extra_memory_bytes,
            "unsteady": row.unsteady,
            "note": row.note,
        }
        for row in report.rows
    ]


def as_object(report: Report) -> dict[str, Any]:
    """The whole report as an object for `--json` and kernels.json."""
    return {
        "setup": report.setup,
        "rows": as_records(report),
        "checks": [
            {
                **asdict(point),
                "attention": attention,
                "passed": check.passed,
                "errors": check.errors,
                "allowed": check.allowed,
                "agreement": check.agreement,
            }
            for point, attention, check in report.checks
        ],
        "stopped": report.stopped or None,
    }


def save_data(report: Report, folder: Path) -> None:
    """Write kernels.csv and kernels.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_records(report))
    (folder / "kernels.csv").write_text(text.getvalue(), encoding="utf-8")
    shown = json.dumps(as_object(report), indent=2)
    (folder / "kernels.json").write_text(shown + "\n", encoding="utf-8")


def save_plot(report: Report, folder: Path) -> None:
    """Write kernels.png: time by length, a panel per mode and batch, both axes logarithmic.

    Without matplotlib, print a line on standard error instead.
    """
    timed = [row for row in report.rows if row.p50_ms is not None]
    if not timed:
        return
    panels = list(dict.fromkeys((row.point.mode, row.point.batch) for row in timed))
    try:
        figure = new_figure(5 * len(panels), 4.2)
    except UsageError as error:
        sys.stderr.write(f"nsa: kernels.png was not drawn: {error.message}; {error.hint}\n")
        return
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for attention in ATTENTIONS:
            line = [
                (row.point.length, row.p50_ms)
                for row in timed
                if (row.point.mode, row.point.batch, row.attention) == (*panel, attention)
            ]
            if line:
                axes.plot(*zip(*line, strict=True), marker="o", label=NAMES[attention])
        lengths = sorted({row.point.length for row in timed})
        axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="ms (median)")
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths], rotation=45)
        axes.minorticks_off()
        axes.set_title(f"{MODE_NAMES[panel[0]]}, batch {panel[1]}")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.suptitle(f"{report.setup['gpu']}, {report.setup['shape']}")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "kernels.png", dpi=150)


def print_report(report: Report, *, as_json: bool) -> None:
    """Print a table, or one JSON object, to standard output."""
    if as_json:
        sys.stdout.write(json.dumps(as_object(report), indent=2) + "\n")
    else:
        print_table(report)


def print_table(report: Report) -> None:
    """Print the measurements and the setup to standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    heads = ("mode", "tokens", "batch", "attention", "p20 ms", "p50 ms", "p80 ms", "host ms")
    table = Table(*heads, "dense / NSA", "extra GB", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = True
    table.add_column("note")
    for row in report.rows:
        ratio = report.ratio(row.point, row.attention)
        memory = row.extra_memory_bytes
        table.add_row(
            SHORT_NAMES.get(row.point.mode, row.point.mode),
            f"{row.point.length:,}",
            str(row.point.batch),
            SHORT_NAMES[row.attention],
            *map(_milliseconds, (row.p20_ms, row.p50_ms, row.p80_ms, row.host_ms)),
            "" if ratio is None else f"{ratio:.2f}",
            "" if memory is None else f"{memory / 1e9:.2f}",
            _note(row),
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    console.print(table)
    console.print(LEGEND)
    console.print(", ".join(f"{name} {value}" for name, value in report.setup.items()))


def _note(row: Measurement) -> str:
    """The note of a row, and whether its times differ."""
    return ", ".join(filter(None, [row.note, "unsteady" if row.unsteady else ""]))


def _milliseconds(time: float | None) -> str:
    return "" if time is None else f"{time:.4g}"


def show_row(row: Measurement) -> None:
    """Report a measurement on standard error."""
    shown = "no speed" if row.p50_ms is None else f"{row.p50_ms:.4g} ms"
    note = f" ({_note(row)})" if _note(row) else ""
    sys.stderr.write(f"nsa: {row.point}, {NAMES[row.attention]}: {shown}{note}\n")


def show_end(report: Report) -> None:
    """Report on standard error an early stop, the failed checks and unsteady times."""
    if report.stopped:
        sys.stderr.write(f"nsa: stopped: {report.stopped}\n")
    for point, attention, check in report.checks:
        if not check.passed:
            where = f"{point}, {NAMES[attention]}"
            sys.stderr.write(f"nsa: {FAILED}: {_errors(where, check.errors, check.allowed)}; ")
            sys.stderr.write(f"{check.agreement:.2%} of the selected blocks agree\n")
    if unsteady := sum(row.unsteady for row in report.rows):
        sys.stderr.write(
            f"nsa: warning: {unsteady} of {len(report.rows)} measurements are unsteady, p80 more "
            f"than {UNSTEADY} times p20: something else may run on the device\n"
        )


def _errors(where: str, errors: dict[str, float], allowed: dict[str, float]) -> str:
    """The errors of a check and their limits, as text."""
    each = (f"{name} {error:.2g} (allowed {allowed[name]:.2g})" for name, error in errors.items())
    return f"{where}: error of {', '.join(each)}"
