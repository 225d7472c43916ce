"""One measurement of `nsa bench read`, in a separate process."""

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
    speed_fields,
)
from nsa_models.errors import NsaError

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_models.cache.kv_cache import KVCache
    from nsa_models.modeling.model import NSALanguageModel


def measure_here() -> None:
    """Read a request as JSON from standard input and print the measurement, or the error."""
    try:
        result = measure(json.load(sys.stdin))
    except NsaError as error:
        result = {"error": {**vars(error), "exit_code": error.exit_code}}
    json.dump(result, sys.stdout)


def measure(request: dict[str, Any]) -> PrefillRow:
    """Prefill random tokens and ask two questions.

    Args:
        request: `length`, `attention` and the fields of `PrefillSettings`.

    Raises:
        NsaError: If the model or the device is unavailable.
    """
    if request["attention"] == "llama.cpp":
        from nsa_cli.benchmarks.llama_cpp import measure_llama

        return measure_llama(request)
    import torch

    from nsa_cli.system import peak_memory_bytes
    from nsa_models.cache.kv_cache import cache_shape

    length = int(request["length"])
    model, trained, loading = _load(request, length)
    config, on_cuda = model.config, model.device.type == "cuda"
    ids = torch.randint(0, config.vocab_size, (length,), dtype=torch.int32)
    # The first calls compile kernels.
    all_kernels = request["attention"] == "nsa" or not on_cuda
    warm = ids[: WARM_TOKENS[model.device.type] if all_kernels else 8192]
    _ask(model, _read(model, warm, QUESTION_TOKENS + 4), 4)
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    answer = ANSWER_TOKENS[model.device.type]
    began = time.monotonic()
    cache = _read(model, ids, QUESTION_TOKENS + answer)
    seconds = time.monotonic() - began
    first, _ = _ask(model, cache, answer)
    again, speed = _ask(model, cache, answer)
    return {
        **speed_fields(request, seconds, first, again, speed),
        "answer_blocks": config.answer_select_count,
        "trained_tokens": trained,
        "load_seconds": round(loading, 2),
        "cache_bytes": 2 * math.prod(cache_shape(config, length)) * cache.dtype.itemsize,
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if on_cuda else None,
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
    }


def _load(request: dict[str, Any], length: int) -> tuple[NSALanguageModel, int, float]:
    """The model of a request, the context length of its training, and seconds to load it.

    The request names the format of the weights afterwards.
    """
    import torch

    from nsa_cli.config.options import Options
    from nsa_cli.engine.weight_formats import weight_formats
    from nsa_models.cache.layer_devices import pick_device
    from nsa_models.configuration.yarn import extend_context, longest_context
    from nsa_models.hub.resolve import resolve_model
    from nsa_models.modeling.speed import AS_STORED
    from nsa_models.weights.load import load_config, random_model
    from nsa_models.weights.prepared import load_prepared

    blocks = request["answer_blocks"]
    settings: dict[str, int | None] = {} if blocks is None else {"answer_select_count": blocks}
    if request["attention"] == "dense":
        settings = {"select_count": None, "answer_select_count": None}
    where = resolve_model(request["model"], on_progress=lambda *_: None, on_note=lambda _: None)
    config, family = load_config(where.folder, where.adapter, **settings)
    trained = config.max_position_embeddings
    if trained < length and trained < longest_context(config, family):
        extend_context(config, family)
    device = pick_device(request["device"])
    began = time.monotonic()
    weights = AS_STORED
    if request["random_weights"]:
        model = random_model(config, device=device)
    else:
        chosen = {"device": request["device"], "quantization": request["quantization"]}
        weights = weight_formats(where, config, Options(model=where.name, **chosen))[0]
        model = load_prepared(
            where,
            config,
            device=device,
            quantization=None if weights == AS_STORED else weights,
            on_note=lambda _: None,
        )
    if device.type == "cuda":
        torch.cuda.synchronize()
    request["quantization"] = weights
    return model, trained, time.monotonic() - began


def _read(model: NSALanguageModel, ids: Tensor, room: int) -> KVCache:
    """Prefill tokens into a new cache with spare capacity for `room` tokens; synchronize."""
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
    """Ask a random question and truncate the cache to its previous length.

    Drafting is off: random text repeats itself more than an answer does.

    Returns:
        Seconds to the first token, and tokens per second from the third token on; a CUDA device
        captures the decode step with the second.
    """
    import torch

    from nsa_models.generation.generate import DecodeOptions, decode

    length = cache.length
    question = torch.randint(0, model.config.vocab_size, (QUESTION_TOKENS,))
    began = time.monotonic()
    steps = decode(
        model,
        question,
        cache,
        DecodeOptions(max_tokens=tokens, stop_ids=frozenset(), draft_tokens=0),
    )
    times = [time.monotonic() for _ in steps]
    cache.truncate(length)
    return times[0] - began, (len(times) - 2) / (times[-1] - times[1])
