"""What training tells while it goes on, and the drawing of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nsa_models.training.stage import Progress


class Log:
    """Losses as JSON Lines in a file, and as text on standard error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tell(self, stage: str) -> Any:
        """What to call after every tenth step of a stage."""

        def write(progress: Progress) -> None:
            row = {"stage": stage, **progress.history[-1]}
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            speed = progress.tokens / max(progress.seconds, 1e-9)
            losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
            left_out = f" ({progress.left_out} did not fit the memory)" if progress.left_out else ""
            sys.stderr.write(
                f"nsa: {stage} {progress.seconds:.0f} s, step {progress.step}, "
                f"{speed:,.0f} tokens/s: {losses}{left_out}\n"
            )

        return write


def save_plot(out: Path, path: Path) -> None:
    """Draw the losses of a folder's log by time, the stages one after the other."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    names = sorted({name for row in rows for name in row if name.startswith("loss ")})
    for name in names:
        found = [(number, row[name]) for number, row in enumerate(rows) if name in row]
        axes.plot(*zip(*found, strict=True), label=name.removeprefix("loss "))
    axes.set(xlabel="tens of steps", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=150)
