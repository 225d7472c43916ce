"""Device memory: size of prefill chunks, and whether the cache is on the device or the host."""

from __future__ import annotations

import math
from collections import Counter

import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache, LayerDevices, cache_shape
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError

CPU_CHUNK = 1024
"""Tokens of a prefill chunk on a CPU, a multiple of every selection block's size."""

_CUDA_CHUNKS = (32768, 16384, 8192, 4096, 2048, 1024)
"""Tokens of a prefill chunk on a CUDA device, longest first: longer chunks mean fewer launches and
fewer copies of an offloaded cache."""

_WORK_SHARE = 0.5
"""Share of a device's free memory for the activations of a chunk."""

_SPARE_BYTES = 2**30
"""Memory for kernels and libraries: importances, masses, workspaces."""


def free_bytes(device: torch.device) -> int:
    """Return the memory of a CUDA device that this process can still allocate."""
    free, _ = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + reserved)


def work_bytes(config: NSAConfig, dtype: torch.dtype) -> int:
    """Return an upper bound of a layer's activations, in bytes per token of a chunk."""
    assert config.head_dim is not None
    pairs = 3 if config.branch_keys == "separate" else 1  # of keys and values
    groups = 2 * pairs * config.num_key_value_heads
    projected = (config.num_attention_heads + groups) * config.head_dim
    numbers = 6 * config.hidden_size + 4 * projected + 3 * config.intermediate_size
    # Norms and summaries are computed in fp32.
    return numbers * dtype.itemsize + 3 * config.hidden_size * 4 + 8 * config.num_attention_heads


def least_work_bytes(config: NSAConfig, dtype: torch.dtype) -> int:
    """Return the memory that the shortest chunk needs beside weights and cache."""
    return _CUDA_CHUNKS[-1] * work_bytes(config, dtype) + _SPARE_BYTES


def cache_bytes(config: NSAConfig, capacity: int, dtype: torch.dtype) -> int:
    """Return the size of a cache: keys, values, and summaries for prefill and answer."""
    kinds = {
        (settings.compress_block, settings.compress_stride): settings
        for settings in (config.prefill_settings(), config.answer_settings())
        if not settings.dense
    }
    keys = math.prod(cache_shape(config, capacity)) * dtype.itemsize
    summaries = sum(summary_kinds(x) * keys // x.compress_stride for x in kinds.values())
    return 2 * keys + summaries + _recent_bytes(config, dtype)


def _recent_bytes(config: NSAConfig, dtype: torch.dtype) -> int:
    """Return the size of the branches' last tokens in a cache; 0 where they share all keys."""
    settings = (config.prefill_settings(), config.answer_settings())
    tokens = 0
    if config.branch_inputs:
        tokens += config.compress_block - 1
    if config.branch_keys == "separate":
        tokens += max(each.window for each in settings) - 1
    return 2 * math.prod(cache_shape(config, tokens)) * dtype.itemsize


def summary_kinds(settings: AttentionSettings) -> int:
    """Return the number of summary buffers: for keys, and in `gated` mode also for values."""
    return 2 if settings.combine == "gated" else 1


def chunk_tokens(config: NSAConfig, dtype: torch.dtype, devices: LayerDevices) -> int:
    """Return the tokens of a prefill chunk that fit the device with the least free memory."""
    if devices[0].type != "cuda":
        return CPU_CHUNK
    free = _WORK_SHARE * min(free_bytes(device) for device in set(devices))
    per_token = work_bytes(config, dtype)
    fitting = [size for size in _CUDA_CHUNKS if size * per_token <= free]
    return fitting[0] if fitting else _CUDA_CHUNKS[-1]


def fits_devices(
    config: NSAConfig, capacity: int, dtype: torch.dtype, devices: LayerDevices
) -> bool:
    """Return whether each device has memory for its layers' cache and a chunk."""
    work = least_work_bytes(config, dtype)
    layer = cache_bytes(config, capacity, dtype) / len(devices)
    counts = Counter(devices).items()
    return all(layer * count + work <= free_bytes(device) for device, count in counts)


def offloaded_bytes(config: NSAConfig, capacity: int, dtype: torch.dtype, layers: int) -> int:
    """Return the memory that a device needs for `layers` layers with an offloaded cache.

    It holds two layers' keys and values, all summaries, and the shortest chunk.
    """
    keys = math.prod(cache_shape(config, capacity)) * dtype.itemsize // config.num_hidden_layers
    summaries = cache_bytes(config, capacity, dtype) // config.num_hidden_layers - 2 * keys
    return 4 * keys + layers * summaries + _CUDA_CHUNKS[-1] * work_bytes(config, dtype)


def new_cache(
    config: NSAConfig,
    capacity: int,
    dtype: torch.dtype,
    devices: LayerDevices,
    *,
    host: KVCache | None = None,
) -> KVCache:
    """Return a cache on the devices if it fits, or else an offloaded cache.

    Args:
        config: The model's configuration.
        capacity: Tokens.
        dtype: Type of keys and values.
        devices: The device of each layer.
        host: Host cache of an offloaded one, whose content counts as filled; pinned memory when
            None.

    Raises:
        DoesNotFitError: If a device lacks memory even for an offloaded cache.
    """
    if devices[0].type == "cpu" or fits_devices(config, capacity, dtype, devices):
        return KVCache(config, capacity, dtype=dtype, device=devices)
    for device, layers in Counter(devices).items():
        needed, free = offloaded_bytes(config, capacity, dtype, layers), free_bytes(device)
        if needed > free:
            raise DoesNotFitError(
                f"{capacity:,} tokens need {needed / 1e9:.1f} GB on {device} beside the weights; "
                f"{free / 1e9:.1f} GB are free"
            )
    if host is None:
        host = KVCache(
            config,
            capacity,
            dtype=dtype,
            allocate=lambda _, shape, kind: torch.zeros(shape, dtype=kind, pin_memory=True),
        )
    return OffloadedCache(config, host, devices)
