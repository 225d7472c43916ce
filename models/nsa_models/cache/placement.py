"""What a device has room for: how much is read at once, and where the cache lies."""

from __future__ import annotations

import math
from collections import Counter

import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache, LayerDevices, cache_shape
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError

CPU_SEGMENT = 1024
"""Tokens that one step of reading takes on a CPU. A multiple of every selection block's size."""

_SEGMENTS = (32768, 16384, 8192, 4096, 2048, 1024)
"""Those on a CUDA device, the longest first: launches weigh less, and a streamed cache is sent
less often."""

_WORK_SHARE = 0.5
"""Of the device's free memory, what the work on a segment may take."""

SMALLER = "choose a smaller model with --model, or run it on the CPU with --device cpu"
"""What to do where devices have no room."""

_SPARE_BYTES = 2**30
"""What the kernels and libraries take beside: importances, masses, workspaces."""


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that this process can still take."""
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + held)


def work_bytes(config: NSAConfig, dtype: torch.dtype) -> int:
    """Memory that a token of a segment takes while it goes through a layer, at most."""
    assert config.head_dim is not None
    projected = (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    numbers = 6 * config.hidden_size + 4 * projected + 3 * config.intermediate_size
    # Norms and summaries are made in fp32.
    return numbers * dtype.itemsize + 3 * config.hidden_size * 4 + 8 * config.num_attention_heads


def least_work_bytes(config: NSAConfig, dtype: torch.dtype) -> int:
    """Memory that a device needs beside weights and cache, for the shortest segment."""
    return _SEGMENTS[-1] * work_bytes(config, dtype) + _SPARE_BYTES


def cache_bytes(config: NSAConfig, capacity: int, dtype: torch.dtype) -> int:
    """Memory of a cache on a device: keys, values and what reading and answering choose by."""
    kinds = {
        (settings.compress_block, settings.compress_stride): settings
        for settings in (config.prefill_settings(), config.answer_settings())
        if not settings.dense
    }
    keys = math.prod(cache_shape(config, capacity)) * dtype.itemsize
    summaries = sum(summary_kinds(of) * keys // of.compress_stride for of in kinds.values())
    return 2 * keys + summaries


def summary_kinds(settings: AttentionSettings) -> int:
    """Kinds of summaries that attention goes by: of keys, and in `gated` mode of values."""
    return 2 if settings.combine == "gated" else 1


def segment_tokens(config: NSAConfig, dtype: torch.dtype, homes: LayerDevices) -> int:
    """Tokens that one step of reading takes, by the memory that is free where there is least."""
    if homes[0].type != "cuda":
        return CPU_SEGMENT
    room = _WORK_SHARE * min(free_bytes(home) for home in set(homes))
    per_token = work_bytes(config, dtype)
    fitting = [size for size in _SEGMENTS if size * per_token <= room]
    return fitting[0] if fitting else _SEGMENTS[-1]


def fits_devices(config: NSAConfig, capacity: int, dtype: torch.dtype, homes: LayerDevices) -> bool:
    """Whether each device has room for its layers' cache beside the work of a segment."""
    work = least_work_bytes(config, dtype)
    layer = cache_bytes(config, capacity, dtype) / len(homes)
    return all(layer * count + work <= free_bytes(home) for home, count in Counter(homes).items())


def streamed_bytes(config: NSAConfig, capacity: int, dtype: torch.dtype, layers: int) -> int:
    """Memory that a device cannot do without for layers whose keys and values come from the host.

    Two layers' keys and values are there at a time, all summaries, and the shortest segment.
    """
    keys = math.prod(cache_shape(config, capacity)) * dtype.itemsize // config.num_hidden_layers
    summaries = cache_bytes(config, capacity, dtype) // config.num_hidden_layers - 2 * keys
    return 4 * keys + layers * summaries + _SEGMENTS[-1] * work_bytes(config, dtype)


def new_cache(
    config: NSAConfig,
    capacity: int,
    dtype: torch.dtype,
    homes: LayerDevices,
    *,
    host: KVCache | None = None,
) -> KVCache:
    """A cache for a model on one device or several: there if it fits, with the host if not.

    Args:
        config: Of the model.
        capacity: Tokens.
        dtype: Of keys and values.
        homes: Where each layer is.
        host: Where keys and values lie if they do not fit the devices; what it holds counts as
            read. Memory that transfers well when None.

    Raises:
        DoesNotFitError: If a device has no room for what lies there even so.
    """
    if homes[0].type == "cpu" or fits_devices(config, capacity, dtype, homes):
        return KVCache(config, capacity, dtype=dtype, device=homes)
    for home, layers in Counter(homes).items():
        needed, free = streamed_bytes(config, capacity, dtype, layers), free_bytes(home)
        if needed > free:
            raise DoesNotFitError(
                f"{capacity:,} tokens take {needed / 1e9:.1f} GB on {home} beside the weights, and "
                f"{free / 1e9:.1f} GB are free",
                hint=SMALLER,
            )
    if host is None:
        host = KVCache(
            config,
            capacity,
            dtype=dtype,
            allocate=lambda _, shape, kind: torch.zeros(shape, dtype=kind, pin_memory=True),
        )
    return OffloadedCache(config, host, homes)
