"""Rows as a picture: a heat map of the needle for each setting, shares by length of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


_COLUMNS = 3
"""Panels beside each other."""


def save_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw rows of questions.

    Args:
        rows: From `report.rows_of`.
        path: The picture, of a format that matplotlib knows by its suffix.
    """
    from matplotlib.figure import Figure

    needles = [row for row in rows if "depth" in row]
    settings = list(dict.fromkeys(map(_setting, needles)))
    suites = list(dict.fromkeys(row["suite"] for row in rows if "depth" not in row))
    panels = len(settings) + len(suites)
    columns = min(_COLUMNS, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, setting in zip(axes, settings, strict=False):
        _heat_map(ax, [row for row in needles if _setting(row) == setting], setting)
    for ax, suite in zip(axes[len(settings) :], suites, strict=False):
        _lines(ax, [row for row in rows if row["suite"] == suite], suite)
    for ax in axes[panels:]:
        ax.set_axis_off()
    figure.savefig(path, dpi=150)


def save_loss_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the loss by position, a line for each model, attention and length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys((r["model"], r["attention"], r["length"]) for r in rows))
    for kind in kinds:
        own = [row for row in rows if (row["model"], row["attention"], row["length"]) == kind]
        middles = [(row["first_position"] + row["last_position"]) / 2 for row in own]
        label = f"{kind[0]}, {kind[1]}, {kind[2]:,}"
        axes.plot(middles, [row["loss"] for row in own], marker="o", label=label)
    axes.set(xscale="log", xlabel="position, tokens", ylabel="loss, nats/token")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _setting(row: Row) -> str:
    return f"{row['model']}, {row['attention']}, blocks {row['blocks']}"


def _heat_map(ax: Any, rows: Sequence[Row], title: str) -> None:
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


def _lines(ax: Any, rows: Sequence[Row], suite: str) -> None:
    for setting in dict.fromkeys(map(_setting, rows)):
        own = sorted(
            (row for row in rows if _setting(row) == setting), key=lambda row: int(row["length"])
        )
        gold = [row["contains_gold"] for row in own]
        reach = (
            [share["value"] - share["low"] for share in gold],
            [share["high"] - share["value"] for share in gold],
        )
        lengths = [row["length"] for row in own]
        values = [share["value"] for share in gold]
        ax.errorbar(lengths, values, yerr=reach, marker="o", capsize=3, label=setting)
    ticks = sorted({row["length"] for row in rows})
    ax.set(xscale="log", xlabel="tokens", ylabel="contains gold", ylim=(0, 1.02))
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_title(suite, fontsize="small")
    ax.legend(fontsize="x-small")
