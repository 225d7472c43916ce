"""`nsa bench read`: reading, answering and their cost by length, NSA beside dense attention.

Each measurement is a process of its own, so that its peak memory is its own; NSA and dense
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
from nsa_models.errors import NsaError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from nsa_models.cache import KVCache
    from nsa_models.modeling import NSAForCausalLM

_CHILD = "from nsa_cli.bench import measure_here; measure_here()"

Row = dict[str, Any]

ATTENTIONS = ("nsa", "dense")

_QUESTION_TOKENS = 32
_ANSWER_TOKENS = {"cpu": 17, "cuda": 129}
_WARM_TOKENS = {"cpu": 64, "cuda": 140_000}
"""Tokens that are read beforehand: on CUDA past those from which on NSA's kernels are others."""


def bench_read(
    lengths: Sequence[int],
    model: str,
    device: str,
    on_row: Callable[[Row], None],
    quantization: str | None = None,
    *,
    random_weights: bool = False,
    answer_blocks: int | None = None,
) -> dict[str, Any]:
    """Measure both kinds of attention at every length.

    Args:
        lengths: Tokens to read.
        model: As `--model` takes it.
        device: `auto`, `cpu` or `cuda`.
        on_row: Called with each measurement as it is made.
        quantization: How weights are stored in fewer bits; None as they are.
        random_weights: Whether to take only the model's shape, with random weights.
        answer_blocks: Blocks that questions attend to after NSA's reading; None for all.

    Returns:
        `rows`, `ratios` and `decode_ratios` (NSA over dense, by length), `notes` and `versions`.

    Raises:
        NsaError: If a measurement fails.
    """
    rows: list[Row] = []
    for length in lengths:
        for attention in ATTENTIONS:
            request = {
                "length": length,
                "attention": attention,
                "model": model,
                "device": device,
                "quantization": quantization,
                "random_weights": random_weights,
                "answer_blocks": answer_blocks,
            }
            run = subprocess.run(
                [sys.executable, "-c", _CHILD],
                input=json.dumps(request),
                capture_output=True,
                text=True,
            )
            if run.returncode:
                why = (run.stderr.strip().splitlines() or ["it gave no reason"])[-1]
                raise NsaError(f"reading {length:,} tokens with {attention} failed: {why}")
            rows.append(json.loads(run.stdout))
            on_row(rows[-1])
    return {
        "rows": rows,
        "ratios": _ratios(rows, "prefill_tokens_per_second"),
        "decode_ratios": _ratios(rows, "decode_tokens_per_second"),
        "notes": _notes(rows),
        "versions": _versions(),
    }


def _ratios(rows: Sequence[Row], of: str) -> dict[str, float]:
    """NSA over dense, by length."""
    speed = {(row["length"], row["attention"]): row[of] for row in rows}
    lengths = dict.fromkeys(row["length"] for row in rows)
    return {
        str(length): round(speed[length, "nsa"] / speed[length, "dense"], 3) for length in lengths
    }


def _notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the figures must know beside them."""
    notes = []
    if any(row["random_weights"] for row in rows):
        notes.append("random weights of this shape: speeds are those of trained ones")
    trained = min(row["trained_tokens"] for row in rows)
    if any(row["length"] > trained for row in rows):
        notes.append(
            f"the model was trained for {trained:,} tokens: past that only the speed tells anything"
        )
    return notes


def measure_here() -> None:
    """Measure in this process; the request comes on standard input as JSON."""
    json.dump(measure(json.load(sys.stdin)), sys.stdout)


def measure(request: dict[str, Any]) -> Row:
    """Read random tokens and put questions to them; the request's keys are those of `bench_read`.

    Raises:
        NsaError: If the model or the device cannot be had.
    """
    import torch

    from nsa_cli.engine import pick_device
    from nsa_cli.memory import peak_memory_bytes
    from nsa_models.extension import extend_context, longest_context
    from nsa_models.loading import load_config, random_model
    from nsa_models.prepared import load_prepared
    from nsa_models.resolve import resolve_model

    length, attention = int(request["length"]), request["attention"]
    asked = request["answer_blocks"]
    settings: dict[str, int | None] = {} if asked is None else {"answer_select_count": asked}
    if attention == "dense":
        settings = {"select_count": None, "answer_select_count": None}
    where = resolve_model(request["model"], on_progress=lambda *_: None, on_note=lambda _: None)
    config, family = load_config(where.folder, where.adapter, **settings)
    trained = config.max_position_embeddings
    if trained < length and trained < longest_context(config, family):
        extend_context(config, family)
    device = pick_device(request["device"])
    on_cuda = device.type == "cuda"
    if request["random_weights"]:
        model = random_model(config, device=device)
    else:
        model = load_prepared(
            where,
            config,
            device=device,
            quantization=request["quantization"],
            on_note=lambda _: None,
        )
    ids = torch.randint(0, config.vocab_size, (length,), dtype=torch.int32)
    # Kernels are compiled at first use.
    warm = ids[: _WARM_TOKENS[device.type] if attention == "nsa" or not on_cuda else 8192]
    _ask(model, _read(model, warm, _QUESTION_TOKENS + 4), 4)
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    answer = _ANSWER_TOKENS[device.type]
    began = time.monotonic()
    cache = _read(model, ids, _QUESTION_TOKENS + answer)
    seconds = time.monotonic() - began
    first, _ = _ask(model, cache, answer)
    again, speed = _ask(model, cache, answer)
    return {
        "length": length,
        "attention": attention,
        "quantization": request["quantization"],
        "random_weights": request["random_weights"],
        "answer_blocks": config.answer_select_count,
        "trained_tokens": trained,
        "prefill_tokens_per_second": round(length / seconds, 1),
        "prefill_seconds": round(seconds, 2),
        "first_token_seconds": round(seconds + first, 2),
        "second_first_token_seconds": round(again, 4),
        "decode_tokens_per_second": round(speed, 2),
        "cache_bytes": 2 * cache.keys[..., :length, :].numel() * cache.keys.element_size(),
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if on_cuda else None,
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
    }


def _read(model: NSAForCausalLM, ids: Tensor, room: int) -> KVCache:
    """Read some tokens into a cache of their own, with room behind, and wait for the device."""
    import torch

    from nsa_models.generation import prefill
    from nsa_models.placement import new_cache

    cache = new_cache(model.config, len(ids) + room, model.dtype, model.device)
    for _ in prefill(model, ids, cache):
        pass
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return cache


def _ask(model: NSAForCausalLM, cache: KVCache, tokens: int) -> tuple[float, float]:
    """Put a random question to what was read, and leave the cache as it was.

    Nothing is drafted: random text repeats itself more than an answer does.

    Returns:
        Seconds to the first token, and tokens a second from the third on: a CUDA device captures
        the step while it makes the second.
    """
    import torch

    from nsa_models.generation import decode

    length = cache.length
    question = torch.randint(0, model.config.vocab_size, (_QUESTION_TOKENS,))
    began = time.monotonic()
    steps = decode(model, question, cache, max_tokens=tokens, stop_ids=frozenset(), draft_tokens=0)
    times = [time.monotonic() for _ in steps]
    cache.truncate(length)
    return times[0] - began, (len(times) - 2) / (times[-1] - times[1])


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
    for attention in ATTENTIONS:
        rows = [row for row in result["rows"] if row["attention"] == attention]
        lengths = [row["length"] for row in rows]
        speeds = [row["prefill_tokens_per_second"] for row in rows]
        axes.plot(lengths, speeds, marker="o", label=attention)
    axes.set(xscale="log", xlabel="tokens", ylabel="tokens/s, reading", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=150)


def show_row(row: Row) -> None:
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
        *("again\ns", "decode\ntok/s", "cache\nGB", "peak\nGB", "\nratio"),
    )
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in result["rows"]:
        ratio = result["ratios"][str(row["length"])] if row["attention"] == "nsa" else 1.0
        table.add_row(
            f"{row['length']:,}",
            row["attention"],
            f"{row['prefill_tokens_per_second']:,.0f}",
            f"{row['prefill_seconds']:.1f}",
            f"{row['first_token_seconds']:.1f}",
            f"{row['second_first_token_seconds']:.2f}",
            f"{row['decode_tokens_per_second']:.1f}",
            f"{row['cache_bytes'] / 1e9:.2f}",
            f"{(row['peak_device_memory_bytes'] or row['peak_memory_bytes']) / 1e9:.2f}",
            f"{ratio:.2f}",
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

    return {
        "nsa": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
