"""`nsa bench read`: reading, answering and their cost by length, NSA beside its peers.

Each measurement is a process of its own, so that its peak memory is its own; NSA and its peers
alternate, so that a machine whose speed drifts treats both alike.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nsa_cli import __version__
from nsa_cli.benchmarks.llama_cpp import llama_version, wanted_gguf
from nsa_models.errors import NsaError, UsageError
from nsa_models.hub.resolve import gguf_of

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_cli.benchmarks.prefill_row import PrefillRow

_CHILD = "from nsa_cli.benchmarks.prefill_worker import measure_here; measure_here()"

ATTENTIONS = ("nsa", "dense", "llama.cpp")
"""What may be measured: NSA, the same program with dense attention, and llama.cpp."""


def bench_read(
    lengths: Sequence[int],
    model: str,
    device: str,
    on_row: Callable[[PrefillRow], None],
    quantization: str | None = None,
    *,
    attentions: Sequence[str] | None = None,
    random_weights: bool = False,
    answer_blocks: int | None = None,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """Measure kinds of attention at every length.

    Args:
        lengths: Tokens to read.
        model: As `--model` takes it.
        device: `auto`, `cpu` or `cuda`.
        on_row: Called with each measurement as it is made.
        quantization: How weights are stored in fewer bits; None as they are.
        attentions: Of `ATTENTIONS`; those that this machine and the model can do when None.
        random_weights: Whether to take only the model's shape, with random weights.
        answer_blocks: Blocks that questions attend to after NSA's reading; None for all.
        time_limit: Seconds after which nothing more is begun; None for no limit.

    Returns:
        `rows`; `ratios` and `decode_ratios` (NSA over dense, by length), the same over llama.cpp
        with `llama_` before their names; `notes`, `versions`, how many `failed` and whether it was
        `interrupted`.

    Raises:
        UsageError: If llama.cpp was asked for and cannot be had.
        NsaError: If the first measurement fails; a later one that does is told in the notes.
    """
    if attentions is None:
        own_weights = not random_weights and quantization is None
        comparable = own_weights and llama_version() is not None and gguf_of(model) is not None
        attentions = ATTENTIONS if comparable else ATTENTIONS[:2]
    if "llama.cpp" in attentions:
        wanted_gguf(model)
    rows: list[PrefillRow] = []
    failures: list[str] = []
    wanted = [(length, attention) for length in lengths for attention in attentions]
    began, interrupted = time.monotonic(), False
    for length, attention in wanted:
        if time_limit is not None and time.monotonic() - began > time_limit:
            break
        request = {
            "length": length,
            "attention": attention,
            "model": model,
            "device": device,
            "quantization": quantization,
            "random_weights": random_weights,
            "answer_blocks": answer_blocks,
        }
        try:
            rows.append(_measured(request))
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
            break
        except NsaError as problem:
            if not rows:
                raise
            failures.append(problem.message)
            continue
        on_row(rows[-1])
    left = len(wanted) - len(rows) - len(failures)
    return {
        "rows": rows,
        "ratios": _ratios(rows, "prefill_tokens_per_second", "dense"),
        "decode_ratios": _ratios(rows, "decode_tokens_per_second", "dense"),
        "llama_ratios": _ratios(rows, "prefill_tokens_per_second", "llama.cpp"),
        "llama_decode_ratios": _ratios(rows, "decode_tokens_per_second", "llama.cpp"),
        "notes": [*failures, *_notes(rows, left, len(wanted), interrupted)],
        "failed": len(failures),
        "interrupted": interrupted,
        "versions": _versions(),
    }


def _measured(request: dict[str, Any]) -> PrefillRow:
    """A measurement in a process of its own.

    Raises:
        NsaError: If it fails.
    """
    run = subprocess.run(
        [sys.executable, "-c", _CHILD], input=json.dumps(request), capture_output=True, text=True
    )
    what = f"reading {request['length']:,} tokens with {request['attention']} failed"
    if run.returncode:
        from nsa_cli.system import cause  # with the processes of a batch

        silent = f"its process ended ({cause(run.returncode)})"
        why = (run.stderr.strip().splitlines() or [silent])[-1]
        raise NsaError(f"{what}: {why}")
    row: PrefillRow = json.loads(run.stdout)
    if error := row.get("error"):
        failure = NsaError(f"{what}: {error['message']}", hint=error["hint"], code=error["code"])
        failure.exit_code = error["exit_code"]
        raise failure
    return row


def _ratios(rows: Sequence[PrefillRow], of: str, peer: str) -> dict[str, float]:
    """NSA over a peer, by length, where both were measured."""
    speed = {(row["length"], row["attention"]): row[of] for row in rows}
    return {
        str(length): round(speed[length, "nsa"] / value, 3)
        for (length, attention), value in speed.items()
        if attention == peer and (length, "nsa") in speed
    }


def _notes(rows: Sequence[PrefillRow], left: int, wanted: int, interrupted: bool) -> list[str]:
    """What a reader of the figures must know beside them."""
    notes = []
    if left:
        why = "interrupted" if interrupted else "the time was over"
        notes.append(f"{why}: {left} of {wanted} were not measured")
    if any(row["random_weights"] for row in rows):
        notes.append("random weights of this shape: speeds are those of trained ones")
    trained = min((row["trained_tokens"] for row in rows), default=0)
    if any(row["length"] > trained for row in rows):
        notes.append(
            f"the model was trained for {trained:,} tokens: past that only the speed tells anything"
        )
    return notes


def save_plot(result: dict[str, Any], path: Path) -> None:
    """Draw reading speed by length, a line for each kind of attention.

    Raises:
        UsageError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "the plot needs matplotlib", hint="install it: pip install 'nsa[bench]'"
        ) from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for attention in dict.fromkeys(row["attention"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["attention"] == attention]
        lengths = [row["length"] for row in rows]
        speeds = [row["prefill_tokens_per_second"] for row in rows]
        axes.plot(lengths, speeds, marker="o", label=attention)
    axes.set(xscale="log", xlabel="tokens", ylabel="tokens/s, reading", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=150)


def show_row(row: PrefillRow) -> None:
    """Tell on standard error that a measurement is done."""
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
    devices = sorted({row["device"] for row in result["rows"]})
    console.print(
        ", ".join(devices)
        + ": "
        + ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    )


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
