"""One measurement of `nsa bench read`, in the process that it has to itself."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from nsa_cli.benchmarks.prefill_row import (
    ANSWER_TOKENS,
    QUESTION_TOKENS,
    WARM_TOKENS,
    PrefillRow,
    row,
)
from nsa_models.errors import NsaError

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_models.cache.kv_cache import KVCache
    from nsa_models.modeling.model import NSALanguageModel


def measure_here() -> None:
    """Measure in this process; the request comes on standard input as JSON.

    What comes out is JSON too: the row, or what a user is told of why there is none.
    """
    try:
        result = measure(json.load(sys.stdin))
    except NsaError as problem:
        result = {"error": {**vars(problem), "exit_code": problem.exit_code}}
    json.dump(result, sys.stdout)


def measure(request: dict[str, Any]) -> PrefillRow:
    """Read random tokens and put questions to them; the request's keys are those of `bench_read`.

    Raises:
        NsaError: If the model or the device cannot be had.
    """
    if request["attention"] == "llama.cpp":
        from nsa_cli.benchmarks.llama_cpp import measure_llama

        return measure_llama(request)
    import torch

    from nsa_cli.system import peak_memory_bytes
    from nsa_models.cache.kv_cache import cache_shape
    from nsa_models.cache.layer_devices import pick_device
    from nsa_models.configuration.yarn import extend_context, longest_context
    from nsa_models.hub.resolve import resolve_model
    from nsa_models.weights.load import load_config, random_model
    from nsa_models.weights.prepared import load_prepared

    length = int(request["length"])
    asked = request["answer_blocks"]
    settings: dict[str, int | None] = {} if asked is None else {"answer_select_count": asked}
    if request["attention"] == "dense":
        settings = {"select_count": None, "answer_select_count": None}
    where = resolve_model(request["model"], on_progress=lambda *_: None, on_note=lambda _: None)
    config, family = load_config(where.folder, where.adapter, **settings)
    trained = config.max_position_embeddings
    if trained < length and trained < longest_context(config, family):
        extend_context(config, family)
    device = pick_device(request["device"])
    on_cuda = device.type == "cuda"
    began = time.monotonic()
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
    if on_cuda:
        torch.cuda.synchronize()
    loading = time.monotonic() - began
    ids = torch.randint(0, config.vocab_size, (length,), dtype=torch.int32)
    # Kernels are compiled at first use.
    warm = ids[: WARM_TOKENS[device.type] if request["attention"] == "nsa" or not on_cuda else 8192]
    _ask(model, _read(model, warm, QUESTION_TOKENS + 4), 4)
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    answer = ANSWER_TOKENS[device.type]
    began = time.monotonic()
    cache = _read(model, ids, QUESTION_TOKENS + answer)
    seconds = time.monotonic() - began
    first, _ = _ask(model, cache, answer)
    again, speed = _ask(model, cache, answer)
    return {
        **row(request, seconds, first, again, speed),
        "answer_blocks": config.answer_select_count,
        "trained_tokens": trained,
        "load_seconds": round(loading, 2),
        "cache_bytes": 2 * math.prod(cache_shape(config, length)) * cache.dtype.itemsize,
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if on_cuda else None,
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
    }


def _read(model: NSALanguageModel, ids: Tensor, room: int) -> KVCache:
    """Read some tokens into a cache of their own, with room behind, and wait for the device."""
    import torch

    from nsa_models.cache.placement import new_cache
    from nsa_models.generation.generate import prefill

    cache = new_cache(model.config, len(ids) + room, model.dtype, model.layer_devices)
    for _ in prefill(model, ids, cache):
        pass
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return cache


def _ask(model: NSALanguageModel, cache: KVCache, tokens: int) -> tuple[float, float]:
    """Put a random question to what was read, and leave the cache as it was.

    Nothing is drafted: random text repeats itself more than an answer does.

    Returns:
        Seconds to the first token, and tokens a second from the third on: a CUDA device captures
        the step while it makes the second.
    """
    import torch

    from nsa_models.generation.generate import decode

    length = cache.length
    question = torch.randint(0, model.config.vocab_size, (QUESTION_TOKENS,))
    began = time.monotonic()
    steps = decode(model, question, cache, max_tokens=tokens, stop_ids=frozenset(), draft_tokens=0)
    times = [time.monotonic() for _ in steps]
    cache.truncate(length)
    return times[0] - began, (len(times) - 2) / (times[-1] - times[1])
