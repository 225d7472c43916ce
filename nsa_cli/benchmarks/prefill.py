"""`nsa bench read`: speed and memory of prefill and decoding by length, NSA beside its peers.

Each measurement runs in a separate process, so that its peak memory excludes the others. NSA and
its peers alternate, so that a drifting machine speed affects all of them alike.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nsa_cli import __version__
from nsa_cli.benchmarks.llama_cpp import find_gguf, llama_version
from nsa_cli.benchmarks.prefill_row import PrefillRow
from nsa_cli.output.plots import new_figure
from nsa_cli.system import cause, today
from nsa_models.errors import NsaError
from nsa_models.hub.resolve import gguf_of

_CHILD = "from nsa_cli.benchmarks.prefill_worker import measure_here; measure_here()"

ATTENTIONS = ("nsa", "dense", "llama.cpp")
"""NSA, the same program with dense attention, and llama.cpp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillSettings:
    """Settings of every measurement.

    Attributes:
        model: Name or path of the model.
        device: `auto`, `cpu` or `cuda`.
        quantization: Format of the weights; None for the fastest on this machine.
        random_weights: Whether to use random weights in the model's shape.
        answer_blocks: Blocks that questions attend to after an NSA prefill; None for all.
    """

    model: str
    device: str
    quantization: str | None = None
    random_weights: bool = False
    answer_blocks: int | None = None


def bench_read(
    lengths: Sequence[int],
    settings: PrefillSettings,
    on_row: Callable[[PrefillRow], None],
    *,
    attentions: Sequence[str] | None = None,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """Measure attention implementations at every length.

    Args:
        lengths: Tokens to prefill.
        settings: Settings of every measurement.
        on_row: Called with each measurement.
        attentions: Some of `ATTENTIONS`; None for all that this machine and model support.
        time_limit: Seconds after which no measurement starts; None for no limit.

    Returns:
        Rows, ratios by length (also with the prefix `llama_`), notes, settings, date, versions and
        failures.

    Raises:
        UsageError: If llama.cpp was requested but is unavailable.
        NsaError: If the first measurement fails; later failures become notes.
    """
    attentions = attentions or _supported_attentions(settings)
    if "llama.cpp" in attentions:
        find_gguf(settings.model)
    rows: list[PrefillRow] = []
    failures: list[str] = []
    planned = [(length, attention) for length in lengths for attention in attentions]
    began, interrupted = time.monotonic(), False
    for length, attention in planned:
        if time_limit is not None and time.monotonic() - began > time_limit:
            break
        request = {"length": length, "attention": attention, **asdict(settings)}
        try:
            rows.append(_measured(request))
        except KeyboardInterrupt:
            interrupted = True
            if not rows:
                raise
            break
        except NsaError as error:
            if not rows:
                raise
            failures.append(error.message)
        else:
            on_row(rows[-1])
    left = len(planned) - len(rows) - len(failures)
    return {
        "rows": rows,
        **_all_ratios(rows),
        "notes": [*failures, *_notes(rows, left, len(planned), interrupted)],
        "failed": len(failures),
        "interrupted": interrupted,
        "settings": asdict(settings),
        "date": today(),
        "versions": _versions(),
    }


def _supported_attentions(settings: PrefillSettings) -> Sequence[str]:
    """The attentions of `ATTENTIONS` that can run the same weights."""
    same_weights = not settings.random_weights and settings.quantization in (None, "none")
    if same_weights and llama_version() is not None and gguf_of(settings.model) is not None:
        return ATTENTIONS
    return ATTENTIONS[:2]


def _measured(request: dict[str, Any]) -> PrefillRow:
    """Measure in a separate process; `request` holds length, attention and settings.

    Raises:
        NsaError: If the measurement fails.
    """
    run = subprocess.run(
        [sys.executable, "-c", _CHILD], input=json.dumps(request), capture_output=True, text=True
    )
    action = f"reading {request['length']:,} tokens with {request['attention']} failed"
    if run.returncode:
        silent = f"its process ended ({cause(run.returncode)})"
        reason = (run.stderr.strip().splitlines() or [silent])[-1]
        raise NsaError(f"{action}: {reason}")
    row: PrefillRow = json.loads(run.stdout)
    if error := row.get("error"):
        failure = NsaError(f"{action}: {error['message']}", hint=error["hint"], code=error["code"])
        failure.exit_code = error["exit_code"]
        raise failure
    return row


def _all_ratios(rows: Sequence[PrefillRow]) -> dict[str, dict[str, float]]:
    """Ratios of NSA to dense attention and to llama.cpp, of reading and of decoding."""
    read, decode = "prefill_tokens_per_second", "decode_tokens_per_second"
    return {
        "ratios": _ratios(rows, read, "dense"),
        "decode_ratios": _ratios(rows, decode, "dense"),
        "llama_ratios": _ratios(rows, read, "llama.cpp"),
        "llama_decode_ratios": _ratios(rows, decode, "llama.cpp"),
    }


def _ratios(rows: Sequence[PrefillRow], of: str, peer: str) -> dict[str, float]:
    """Ratio of NSA to a peer by length, where both were measured."""
    speed = {(row["length"], row["attention"]): row[of] for row in rows}
    return {
        str(length): round(speed[length, "nsa"] / value, 3)
        for (length, attention), value in speed.items()
        if attention == peer and (length, "nsa") in speed
    }


def _notes(rows: Sequence[PrefillRow], left: int, planned: int, interrupted: bool) -> list[str]:
    """Notes on unmeasured points, random weights and untrained lengths."""
    notes = []
    if left:
        reason = "interrupted" if interrupted else "time limit reached"
        notes.append(f"{reason}: {left} of {planned} were not measured")
    if any(row["random_weights"] for row in rows):
        notes.append("random weights in the model's shape: speeds equal those of trained weights")
    if any(row["quantization"] == "int8" for row in rows):
        notes.append("nsa and dense have int8 weights")
    trained = min((row["trained_tokens"] for row in rows), default=0)
    if any(row["length"] > trained for row in rows):
        notes.append(
            f"the model was trained for {trained:,} tokens: beyond that only speeds are meaningful"
        )
    return notes


def save_plot(result: dict[str, Any], path: Path) -> None:
    """Plot prefill speed by length, a line for each attention.

    Raises:
        UsageError: If matplotlib is missing.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for attention in dict.fromkeys(row["attention"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["attention"] == attention]
        lengths = [row["length"] for row in rows]
        speeds = [row["prefill_tokens_per_second"] for row in rows]
        axes.plot(lengths, speeds, marker="o", label=attention)
    axes.set(xscale="log", xlabel="tokens", ylabel="prefill, tokens/s", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=150)


def show_row(row: PrefillRow) -> None:
    """Report a measurement on standard error."""
    speed = row["prefill_tokens_per_second"]
    sys.stderr.write(f"nsa: {row['length']:,} tokens, {row['attention']}: {speed:,.0f} tokens/s\n")


def print_table(result: dict[str, Any]) -> None:
    """Print the measurements to standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    heads = (
        *("\ntokens", "\nattention", "read\ntok/s", "read\ns", "first\nword s"),
        *("again\ns", "decode\ntok/s", "cache\nGB", "peak\nGB", "NSA's\nratio"),
    )
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in result["rows"]:
        ratios = result["llama_ratios" if row["attention"] == "llama.cpp" else "ratios"]
        compared = row["attention"] != "nsa" and str(row["length"]) in ratios
        table.add_row(
            f"{row['length']:,}",
            row["attention"],
            f"{row['prefill_tokens_per_second']:,.0f}",
            f"{row['prefill_seconds']:.1f}",
            f"{row['first_token_seconds']:.1f}",
            f"{row['second_first_token_seconds']:.2f}",
            f"{row['decode_tokens_per_second']:.1f}",
            "" if row["cache_bytes"] is None else f"{row['cache_bytes'] / 1e9:.2f}",
            f"{(row['peak_device_memory_bytes'] or row['peak_memory_bytes']) / 1e9:.2f}",
            f"{ratios[str(row['length'])]:.2f}" if compared else "",
        )
    console = Console(highlight=False)
    console.print(table)
    for note in result["notes"]:
        console.print(note)
    devices = ", ".join(sorted({row["device"] for row in result["rows"]}))
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    console.print(f"{devices}: {versions}")


def _versions() -> dict[str, str]:
    import torch

    llama = llama_version()
    return {
        "nsa": __version__,
        "torch": torch.__version__,
        **({"llama-cpp-python": llama} if llama else {}),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
