"""The logs of `nsa pretrain`, and a plot of one or several runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nsa_cli.output.layout import tell
from nsa_cli.output.plots import new_figure
from nsa_models.errors import DataError

LOG, HELDOUT = "log.jsonl", "heldout.jsonl"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without a line that a killed process left unfinished."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def keep_steps(out: Path, step: int) -> None:
    """Remove the rows of steps after the last save, which the resumed run does again."""
    for name in (LOG, HELDOUT):
        path = out / name
        rows = [row for row in rows_of(path) if row["step"] <= step]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def log_writer(
    out: Path, steps: int | None, *, quiet: bool = False
) -> Callable[[list[dict[str, Any]]], None]:
    """A function that writes rows to the log and the last one to standard error.

    Args:
        out: Folder of the run.
        steps: Steps of the whole training; None if time limits it.
        quiet: Whether to write to the log alone.
    """

    def write(rows: list[dict[str, Any]]) -> None:
        _append(out / LOG, rows)
        if quiet:
            return
        last = rows[-1]
        loss = sum(row["loss"] for row in rows) / len(rows)
        of = "" if steps is None else f" of {steps:,}"
        line = (
            f"step {last['step']:,}{of}, {last['tokens']:,} tokens, loss {loss:.4f}, "
            f"{last['tokens_per_second']:,.0f} tokens/s"
        )
        if "share_of_peak" in last:
            line += f", {last['share_of_peak']:.1%} of peak"
        if "skipped" in last:
            line += f" ({last['skipped']} steps skipped: gradient not finite)"
        tell(line)

    return write


def heldout_writer(out: Path, *, quiet: bool = False) -> Callable[[dict[str, Any]], None]:
    """A function that writes a loss on held-out documents to its log and to standard error."""

    def write(row: dict[str, Any]) -> None:
        _append(out / HELDOUT, [row])
        if quiet:
            return
        far = row["by_position"][-1]
        tell(
            f"step {row['step']:,}, held-out loss {row['loss']:.4f} over "
            f"{row['heldout_tokens']:,} tokens, {far['loss']:.4f} from position "
            f"{far['from']:,}"
        )

    return write


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def save_plot(runs: Sequence[Path], path: Path) -> None:
    """Plot the losses of runs by tokens, and their last held-out losses by position.

    Raises:
        DataError: If a folder has no log.
        UsageError: If matplotlib is missing.
    """
    logs = [(rows_of(run / LOG), rows_of(run / HELDOUT)) for run in runs]
    measured = any(heldout for _, heldout in logs)
    figure = new_figure(11 if measured else 6, 4.5)
    course, *places = figure.subplots(1, 1 + measured, squeeze=False)[0]
    for number, (run, (rows, heldout)) in enumerate(zip(runs, logs, strict=True)):
        if not rows:
            raise DataError(f"{run} has no {LOG} with steps", code="missing")
        color, name = f"C{number}", run.name or str(run)
        smooth = _smooth([row["loss"] for row in rows])
        course.plot([row["tokens"] for row in rows], smooth, color=color, label=name)
        if heldout:
            tokens, losses = [row["tokens"] for row in heldout], [row["loss"] for row in heldout]
            course.plot(tokens, losses, "o--", color=color, label=f"{name}, held out")
            last = heldout[-1]["by_position"]
            ends, losses = [row["to"] for row in last], [row["loss"] for row in last]
            places[0].plot(ends, losses, "o-", color=color, label=name)
    course.set(xlabel="tokens", ylabel="loss (nats a token)")
    for axes in places:
        axes.set(xlabel="up to position", ylabel="held-out loss", xscale="log")
    course.legend()
    figure.savefig(path, dpi=150)


def _smooth(losses: Sequence[float]) -> list[float]:
    """Running means of a fiftieth of the run."""
    width = max(1, len(losses) // 50)
    return [
        sum(losses[max(0, n - width + 1) : n + 1]) / (n + 1 - max(0, n - width + 1))
        for n in range(len(losses))
    ]
