"""What reading a text will take: time, disk and memory, before it begins."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from nsa_cli.results import Estimate
from nsa_cli.system import memory_limit
from nsa_kernels.precision import widens
from nsa_models.cache.kv_cache import cache_shape
from nsa_models.cache.placement import fits_devices, summary_kinds
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError
from nsa_models.weights.device_map import likely_homes

_PROGRAM_BYTES = 700_000_000
"""The program with its libraries, and what one segment of a small model needs."""


_PROBES = {"cpu": (512, 1024), "cuda": (8192, 4096)}
"""Rows, and width, of a product that shows a device's speed."""


_CPU = torch.device("cpu")


def program_memory_bytes(weights: Path) -> int:
    """What the program takes with a model, before it reads anything; `weights` is its folder."""
    return _PROGRAM_BYTES + weights_bytes(weights)


def weights_bytes(weights: Path) -> int:
    """What the weights in a folder take."""
    return sum(path.stat().st_size for path in weights.glob("*.safetensors"))


def estimate(
    config: NSAConfig,
    weights: Path,
    volumes: Sequence[int],
    *,
    reused: int,
    kept_in: Path | None,
    memory_bytes: int | None,
    device: torch.device = _CPU,
) -> Estimate:
    """Estimate a reading.

    Args:
        config: Of the model.
        weights: Its folder.
        volumes: Tokens of each volume of the text.
        reused: Tokens that are kept from earlier.
        kept_in: Where the reading will be kept; None if it is not.
        memory_bytes: What it may take; None for a safe share of what is free.
        device: Where it will be read.
    """
    tokens, longest = sum(volumes), max(volumes)
    dtype = weights_dtype(config)
    per_token = 2 * math.prod(cache_shape(config, 1)) * dtype.itemsize
    answering, kinds = config.answering(), summary_kinds(config.reading())
    summaries = kinds * per_token // 2 // config.compress_stride
    per_kept = per_token + (0 if answering.dense else per_token // 2 // answering.compress_stride)
    memory = program_memory_bytes(weights)
    homes = likely_homes(config, weights_bytes(weights), dtype, device)
    if device.type == "cuda" and fits_devices(config, tokens, dtype, homes):
        pass  # keys and values lie there
    elif kept_in is None:
        memory += tokens * (per_token + summaries)
    elif answering.dense:
        memory += longest * summaries
    return Estimate(
        tokens=tokens,
        reused_tokens=reused,
        seconds=round((tokens - reused) * _seconds_per_token(config, longest, dtype, device), 3),
        disk_bytes=0 if kept_in is None else tokens * per_kept,
        disk_free_bytes=0 if kept_in is None else _disk_free(kept_in),
        memory_bytes=memory,
        memory_limit_bytes=memory_limit(memory_bytes),
        context_tokens=config.max_position_embeddings,
    )


def weights_dtype(config: NSAConfig) -> torch.dtype:
    """The type of the weights, and so of the keys and values."""
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32


def check_fits(found: Estimate, name: str) -> None:
    """Refuse a reading for which there is not enough memory.

    Raises:
        DoesNotFitError: With what is needed and what there is.
    """
    if found.memory_bytes > found.memory_limit_bytes:
        raise DoesNotFitError(
            f"reading {found.tokens:,} tokens of {name} needs {_gb(found.memory_bytes)} of memory, "
            f"and {_gb(found.memory_limit_bytes)} may be used",
            hint="raise --memory, close other programs, leave --no-store out or choose a smaller "
            "model with --model",
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _disk_free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _seconds_per_token(
    config: NSAConfig, tokens: int, dtype: torch.dtype, device: torch.device
) -> float:
    """Time of a token, from its multiplications and how quickly this machine makes them now."""
    assert config.head_dim is not None
    width, dim = config.hidden_size, config.head_dim
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    projections = width * dim * (2 * heads + 2 * groups) + 3 * width * config.intermediate_size
    settings = config.reading()
    attended = tokens / 2
    scored = 0.0
    if settings.select_count is not None:
        chosen = (settings.select_count + settings.window_blocks + 1) * settings.select_block
        if attended > chosen:
            attended = chosen
            scored = tokens / 2 / settings.compress_stride / settings.score_stride
    attention = heads * dim * (2 * attended + scored)
    flops = 2 * config.num_hidden_layers * (projections + attention)
    return flops * _seconds_per_flop(dtype, device)


def _seconds_per_flop(dtype: torch.dtype, device: torch.device) -> float:
    """Time of one multiplication or addition in a product of large matrices."""
    rows, width = _PROBES[device.type]
    a, b = (torch.ones(size, width, dtype=dtype, device=device) for size in (rows, width))
    if widens(a, rows):
        a, b = a.float(), b.float()
    # What is read of the second product waits for it, wherever it is made.
    float(F.linear(a, b)[0, 0])
    began = time.perf_counter()
    float(F.linear(a, b)[0, 0])
    return (time.perf_counter() - began) / (2 * rows * width * width)
