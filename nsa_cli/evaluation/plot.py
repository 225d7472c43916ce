"""Plots of evaluation results: heat maps of the needle suite, shares by length, loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nsa_cli.evaluation.loss import LossRow
from nsa_cli.evaluation.report import ReportRow
from nsa_cli.output.plots import new_figure

_COLUMNS = 3
"""Panels in a line."""


def save_plot(rows: Sequence[ReportRow], path: Path) -> None:
    """Plot the needle suite as a heat map per setting, other suites as lines by length.

    Args:
        rows: The rows of `report.rows_of`.
        path: Image file; matplotlib picks the format by its suffix.

    Raises:
        UsageError: If matplotlib is missing.
    """
    needles = [row for row in rows if "depth" in row]
    settings = list(dict.fromkeys(map(_setting, needles)))
    suites = list(dict.fromkeys(row["suite"] for row in rows if "depth" not in row))
    panels = len(settings) + len(suites)
    columns = min(_COLUMNS, panels)
    lines = -(-panels // columns)
    figure = new_figure(5 * columns, 3.6 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, setting in zip(axes, settings, strict=False):
        _heat_map(ax, [row for row in needles if _setting(row) == setting], setting)
    for ax, suite in zip(axes[len(settings) :], suites, strict=False):
        _lines(ax, [row for row in rows if row["suite"] == suite], suite)
    for ax in axes[panels:]:
        ax.set_axis_off()
    figure.savefig(path, dpi=150)


def save_loss_plot(rows: Sequence[LossRow], path: Path) -> None:
    """Plot the loss by position, a line for each model, attention and length.

    Raises:
        UsageError: If matplotlib is missing.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    series: dict[str, list[LossRow]] = {}
    for row in rows:
        label = f"{row['model']}, {row['attention']}, {row['length']:,}"
        series.setdefault(label, []).append(row)
    for label, line in series.items():
        middles = [(row["first_position"] + row["last_position"]) / 2 for row in line]
        axes.plot(middles, [row["loss"] for row in line], marker="o", label=label)
    axes.set(xscale="log", xlabel="position, tokens", ylabel="loss, nats/token")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _setting(row: ReportRow) -> str:
    return f"{row['model']}, {row['attention']}, blocks {row['blocks']}"


def _heat_map(ax: Any, rows: Sequence[ReportRow], title: str) -> None:
    lengths = sorted({row["length"] for row in rows})
    depths = sorted({row["depth"] for row in rows})
    shares = [[float("nan")] * len(lengths) for _ in depths]
    for row in rows:
        shares[depths.index(row["depth"])][lengths.index(row["length"])] = row["contains_gold"][
            "value"
        ]
    ax.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    ax.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    ax.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    ax.set(xlabel="tokens", ylabel="depth")
    ax.set_title(f"needle, {title}", fontsize="small")
    for y, line in enumerate(shares):
        for x, share in enumerate(line):
            if share == share:  # not a missing cell
                ax.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize="small")


def _lines(ax: Any, rows: Sequence[ReportRow], suite: str) -> None:
    for setting in dict.fromkeys(map(_setting, rows)):
        line = sorted(
            (row for row in rows if _setting(row) == setting), key=lambda row: int(row["length"])
        )
        gold = [row["contains_gold"] for row in line]
        reach = (
            [share["value"] - share["low"] for share in gold],
            [share["high"] - share["value"] for share in gold],
        )
        lengths = [row["length"] for row in line]
        values = [share["value"] for share in gold]
        ax.errorbar(lengths, values, yerr=reach, marker="o", capsize=3, label=setting)
    ticks = sorted({row["length"] for row in rows})
    ax.set(xscale="log", xlabel="tokens", ylabel="contains gold", ylim=(0, 1.02))
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_title(suite, fontsize="small")
    ax.legend(fontsize="x-small")
