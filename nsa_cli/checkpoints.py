"""A checkpoint's description, as `nsa models show` gives it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nsa_kernels.settings import AttentionSettings
from nsa_models.describe import MODES, Checkpoint


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """For `--json`."""
    return asdict(checkpoint)


def rows(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """For a terminal: names and values."""
    longest = checkpoint.extended_context_tokens
    more = f" ({longest:,} with YaRN)" if longest else ""
    trained = "trained for it" if checkpoint.trained else "not trained for it"
    found = [
        ("family", f"{checkpoint.title} ({checkpoint.family})"),
        ("parameters", f"{checkpoint.parameters:,} in {checkpoint.dtype}"),
        ("attention", f"{checkpoint.mode}, {trained}: {MODES[checkpoint.mode]}"),
        ("reading", _attended(checkpoint.reading)),
        ("answering", _attended(checkpoint.answering)),
        ("context", f"{checkpoint.context_tokens:,}{more} tokens"),
    ]
    for memory in checkpoint.memory:
        parts = (
            (memory.weights_bytes, "weights"),
            (memory.keys_values_bytes, "keys and values"),
            (memory.summary_bytes, "summaries"),
        )
        sums = " + ".join(f"{_gb(size)} {what}" for size, what in parts)
        found.append((f"{memory.tokens:,} tokens", f"{_gb(memory.total_bytes)} GB: {sums}"))
    return found + [("note", note) for note in checkpoint.notes]


def _attended(settings: AttentionSettings) -> str:
    """What a query attends to, in words."""
    if settings.select_count is None:
        return "everything"
    size = settings.select_block
    words = [f"{settings.select_count} blocks of {size} tokens"]
    if settings.window:
        words.append(f"the last {settings.window:,} tokens")
    if settings.combine == "gated":
        words.append("all summaries")
    block, stride = settings.compress_block, settings.compress_stride
    words.append(f"chosen by means of {block} every {stride}")
    if settings.dense_below:
        words.append(f"everything below {settings.dense_below:,} tokens")
    return ", ".join(words)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}"
