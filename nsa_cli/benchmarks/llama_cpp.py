"""Measurements of llama.cpp on the same weights, through llama-cpp-python."""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from nsa_cli.benchmarks.prefill_row import (
    ANSWER_TOKENS,
    QUESTION_TOKENS,
    WARM_TOKENS,
    PrefillRow,
    speed_fields,
)
from nsa_models.errors import UsageError
from nsa_models.hub.resolve import gguf_of

if TYPE_CHECKING:
    from pathlib import Path


def llama_version() -> str | None:
    """The version of llama-cpp-python, or None if it is not installed."""
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return None


def find_gguf(model: str) -> Path:
    """The GGUF file of a model.

    Raises:
        UsageError: If llama-cpp-python is missing, or the model has no GGUF file.
    """
    if llama_version() is None:
        raise UsageError(
            "llama.cpp is not installed", hint="install it with `pip install llama-cpp-python`"
        )
    gguf = gguf_of(model)
    if gguf is None:
        raise UsageError(
            f"llama.cpp reads GGUF files, but {model} has none",
            hint="name a .gguf file with --model, or omit llama.cpp",
        )
    return gguf


def measure_llama(request: dict[str, Any]) -> PrefillRow:
    """Prefill random tokens and ask two questions; see `prefill_worker.measure`.

    Raises:
        UsageError: If llama-cpp-python or the GGUF file is missing.
    """
    gguf = find_gguf(request["model"])
    import torch
    from llama_cpp import Llama

    from nsa_cli.system import peak_memory_bytes
    from nsa_models.cache.layer_devices import pick_device

    device, length = pick_device(request["device"]), int(request["length"])
    answer, threads = ANSWER_TOKENS[device.type], torch.get_num_threads()
    began = time.monotonic()
    llama = Llama(
        str(gguf),
        n_ctx=length + QUESTION_TOKENS + answer,
        n_threads=threads,
        n_threads_batch=threads,
        n_gpu_layers=-1 if device.type == "cuda" else 0,
        verbose=False,
    )
    loading = time.monotonic() - began
    ids = np.random.default_rng().integers(0, llama.n_vocab(), length).tolist()
    llama.eval(ids[: WARM_TOKENS["cpu"]])
    llama.reset()
    began = time.monotonic()
    llama.eval(ids)
    seconds = time.monotonic() - began
    first, _ = _ask(llama, ids[:QUESTION_TOKENS], answer)
    again, speed = _ask(llama, ids[-QUESTION_TOKENS:], answer)
    return {
        **speed_fields(request, seconds, first, again, speed),
        "answer_blocks": None,
        "trained_tokens": int(
            llama.metadata[f"{llama.metadata['general.architecture']}.context_length"]
        ),
        "load_seconds": round(loading, 2),
        "cache_bytes": None,
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_device_memory_bytes": None,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }


def _ask(llama: Any, question: list[int], tokens: int) -> tuple[float, float]:
    """Ask a question and restore the cache; see `prefill_worker`."""
    length = llama.n_tokens
    began = time.monotonic()
    llama.eval(question)
    times = []
    for _ in range(tokens):
        token = llama.sample(temp=0.0)
        times.append(time.monotonic())
        llama.eval([token])
    llama.n_tokens = length
    return times[0] - began, (len(times) - 2) / (times[-1] - times[1])
