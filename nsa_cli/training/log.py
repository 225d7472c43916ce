"""The log of a training run, and a plot of its losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nsa_cli.output.plots import new_figure
from nsa_models.training.stage import TrainingProgress


def log_writer(
    path: Path, stage: str, note: Callable[[str], None]
) -> Callable[[TrainingProgress], None]:
    """A function to call with the progress of a stage after every tenth step.

    It writes the losses as JSON Lines to a file, and notes them as text.
    """

    def write(progress: TrainingProgress) -> None:
        row = {"stage": stage, **progress.history[-1]}
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        speed = progress.tokens / max(progress.seconds, 1e-9)
        losses = "".join(f", {name} {value:.3f}" for name, value in progress.losses.items())
        lost = progress.left_out
        left_out = f"; {lost:,} steps skipped: out of memory" if lost else ""
        note(
            f"{stage}: {progress.seconds:.0f} s, step {progress.step:,}, "
            f"{speed:,.0f} tokens/s{losses}{left_out}"
        )

    return write


def save_plot(out: Path, path: Path) -> None:
    """Plot the losses in a folder's log, one stage after the other.

    Raises:
        UsageError: If matplotlib is missing.
    """
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    names = sorted({name for row in rows for name in row if name.startswith("loss ")})
    for name in names:
        found = [(number, row[name]) for number, row in enumerate(rows) if name in row]
        axes.plot(*zip(*found, strict=True), label=name.removeprefix("loss "))
    axes.set(xlabel="tens of steps", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=150)
