"""Estimate of a prefill: time, disk and memory, before it begins."""

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
from nsa_models.model_folder import weights_bytes
from nsa_models.weights.device_map import likely_layer_devices

_PROGRAM_BYTES = 700_000_000
"""Memory of the program with its libraries, and of one chunk of a small model."""

_PROBES = {"cpu": (512, 1024), "cuda": (8192, 4096)}
"""Rows and width of the matrix product that measures a device's speed."""

_ANSWER_TOKENS = 64
"""Tokens of an answer of two or three sentences."""

_BYTES_PROBE = (8192, 4096)
"""Rows and columns of the matrix whose product with a vector measures how fast weights are read."""

_CPU = torch.device("cpu")


def program_memory_bytes(weights: Path) -> int:
    """Return the memory of the program with a model loaded; `weights` is the model's folder."""
    return _PROGRAM_BYTES + weights_bytes(weights)


def estimate(
    config: NSAConfig,
    weights: Path,
    windows: Sequence[int],
    *,
    reused: int,
    kept_in: Path | None,
    memory_bytes: int | None,
    device: torch.device = _CPU,
) -> Estimate:
    """Estimate a prefill.

    Args:
        config: Configuration of the model.
        weights: Folder of the model.
        windows: Tokens of each context window.
        reused: Tokens whose keys and values are stored.
        kept_in: Folder of the KV store; None if nothing is stored.
        memory_bytes: Memory limit; None for a safe share of the free memory.
        device: Where the prefill runs.
    """
    tokens, longest = sum(windows), max(windows)
    dtype = weights_dtype(config)
    per_token = 2 * math.prod(cache_shape(config, 1)) * dtype.itemsize
    answering, kinds = config.answer_settings(), summary_kinds(config.prefill_settings())
    summaries = kinds * per_token // 2 // config.compress_stride
    kept_kinds = 0 if answering.dense else kinds if config.branch_inputs else 1
    per_kept = per_token + kept_kinds * per_token // 2 // answering.compress_stride
    memory = program_memory_bytes(weights)
    homes = likely_layer_devices(config, weights_bytes(weights), dtype, device)
    if device.type == "cuda" and fits_devices(config, tokens, dtype, homes):
        pass  # keys and values are on the devices
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


def answer_seconds(
    config: NSAConfig,
    weights: Path,
    read: int,
    asked: Sequence[int],
    most_tokens: int,
    device: torch.device = _CPU,
) -> float:
    """Estimate the time of the answers to some questions about a text that is read.

    Args:
        config: Configuration of the model.
        weights: Folder of the model.
        read: Tokens of the passages that are read again for each question.
        asked: Tokens of each question.
        most_tokens: Maximum tokens of an answer.
        device: Where the answers are decoded.

    Returns:
        Seconds, for answers of `_ANSWER_TOKENS` tokens.
    """
    dtype = weights_dtype(config)
    tokens = sum(read + 2 * question for question in asked)  # searched with, and answered
    reading = tokens * _seconds_per_token(config, max(read, 1), dtype, device)
    decoded = len(asked) * min(most_tokens, _ANSWER_TOKENS)
    decoding = decoded * weights_bytes(weights) * _seconds_per_byte(dtype, device)
    return round(reading + decoding, 3)


def weights_dtype(config: NSAConfig) -> torch.dtype:
    """Return the type of the weights, which is also that of keys and values."""
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32


def check_fits(found: Estimate, name: str) -> None:
    """Refuse a prefill that needs more memory than it may take.

    Raises:
        DoesNotFitError: With both numbers.
    """
    if found.memory_bytes > found.memory_limit_bytes:
        raise DoesNotFitError(
            f"reading {found.tokens:,} tokens of {name} needs {_gb(found.memory_bytes)} of memory, "
            f"but the limit is {_gb(found.memory_limit_bytes)}",
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
    """Estimate the seconds of a token from its arithmetic and the speed of this machine now."""
    assert config.head_dim is not None
    width, dim = config.hidden_size, config.head_dim
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    projections = width * dim * (2 * heads + 2 * groups) + 3 * width * config.intermediate_size
    settings = config.prefill_settings()
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
    """Measure the seconds of one operation in a product of large matrices."""
    rows, width = _PROBES[device.type]
    a, b = (torch.ones(size, width, dtype=dtype, device=device) for size in (rows, width))
    if widens(a, rows):
        a, b = a.float(), b.float()
    # Reading one element waits for the product on any device.
    float(F.linear(a, b)[0, 0])
    began = time.perf_counter()
    float(F.linear(a, b)[0, 0])
    return (time.perf_counter() - began) / (2 * rows * width * width)


def _seconds_per_byte(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the seconds of a byte of a matrix in a product with a vector."""
    matrix = torch.ones(_BYTES_PROBE, dtype=dtype, device=device)
    vector = torch.ones(1, _BYTES_PROBE[1], dtype=dtype, device=device)
    float(F.linear(vector, matrix)[0, 0])
    began = time.perf_counter()
    float(F.linear(vector, matrix)[0, 0])
    return (time.perf_counter() - began) / matrix.nbytes
