"""Times decoding steps of whole models, eagerly or in CUDA graphs: a part of `compare_twins.py`.

A CUDA graph launches all kernels of a step at once, so that times are those of the kernels.
Projections of one input are one product then. Dense attention is measured by each implementation
below, and the fastest counts.

Letters: B batch, G key/value groups, R query heads of a group, D head dim.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import Compressor, KVCache
from nsa_models.modeling.merged import merge_projections
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.token_losses import compile_layers

Row = dict[str, Any]
Step = Callable[[Tensor], Tensor]
"""A decoding step: token ids (B, 1) to logits (B, 1, V)."""

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""PyTorch's implementations of dense attention; others are taken where the first cannot."""

TRITON = "triton"
"""The project's kernels for dense decoding."""

FUSED = "fused"
"""The same attention in layers of few kernels."""

_EAGER_WARM_UP = 3


class LastToken:
    """The cache of one dense step by PyTorch's attention, for a graph: it repeats the last token.

    The number of keys is part of a graph of PyTorch's attention. A repeated step at one position
    takes as long as a step of a text of that length, without a graph for each length.

    Args:
        cache: The keys and values.
        tokens: Tokens that a step attends to, with its own.
    """

    def __init__(self, cache: KVCache, tokens: int) -> None:
        self._cache, self._tokens = cache, tokens
        self._position = torch.tensor([tokens - 1], device=cache.layer_devices[0])

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return the position of the last token: (1,)."""
        assert (tokens, device) == (1, self._position.device)
        return self._position

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,  # noqa: ARG002
        return_mass: bool,
        compress: Compressor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, None]:
        """Attend from one token, the heads of a group as R queries without a mask."""
        assert settings.dense
        assert not return_mass
        keys, values = (
            x[layer][:, :, : self._tokens] for x in (self._cache.keys, self._cache.values)
        )
        keys[:, :, -1:] = k
        values[:, :, -1:] = v
        rows = q[:, :, 0].unflatten(1, (keys.shape[1], -1))  # (B, G, R, D)
        return F.scaled_dot_product_attention(rows, keys, values).flatten(1, 2).unsqueeze(2), None

    def advance(self, tokens: int) -> None:
        """Do nothing."""


def captured(step: Step, ids: Tensor) -> Step:
    """Return a step as a CUDA graph; on a CPU the step itself."""
    if not ids.is_cuda:
        return step
    held, stream = ids.clone(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_EAGER_WARM_UP):
            step(held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step(held)

    def replay(ids: Tensor) -> Tensor:
        held.copy_(ids)
        graph.replay()
        return output

    return replay


def eager_step(model: NSALanguageModel, cache: KVCache) -> Step:
    """A step without a graph."""
    settings = model.config.answer_settings()
    return lambda ids: model(ids, cache=cache, settings=settings, last_logits=1).logits


def graph_step(name: str, model: NSALanguageModel, cache: KVCache) -> Step:
    """A step of the project's kernels, in a graph."""
    from nsa_models.generation.cuda_graph import CudaGraphDecoder

    settings = model.config.answer_settings()
    fused = name == FUSED
    return CudaGraphDecoder(model, cache, settings, 1, masses=False, fused=fused).step


def sdpa_step(model: NSALanguageModel, cache: KVCache, ids: Tensor, backend: SDPBackend) -> Step:
    """A step of dense attention by PyTorch, in a graph."""
    last, settings = LastToken(cache, cache.length + 1), model.config.answer_settings()

    def step(ids: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            logits: Tensor = model(ids, cache=last, settings=settings, last_logits=1).logits
        return logits

    return captured(step, ids)


def step_names(model: NSALanguageModel, args: Namespace) -> list[str]:
    """The implementations to measure; the first is the one that eager steps take."""
    if not args.graphs:
        return [args.dense_by or "default"]
    if not model.config.answer_settings().dense:
        return [TRITON, FUSED]
    quick = [TRITON, FUSED, *(name for name in BACKENDS if name != "math")]
    return quick if args.dense_by is None else [args.dense_by]


def time_step(name: str, model: NSALanguageModel, cache: KVCache, args: Namespace) -> float:
    """Seconds of a step by an implementation, the mean over `args.steps` after a warm-up.

    Raises:
        RuntimeError: If PyTorch's implementation does not support the shapes.
    """
    device, length = model.device, cache.length
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    ids = torch.ones(cache.shape[1], 1, dtype=torch.long, device=device)
    if not args.graphs:
        step = eager_step(model, cache)
    elif name in (TRITON, FUSED):
        step = graph_step(name, model, cache)
    else:
        step = sdpa_step(model, cache, ids, BACKENDS[name])
    warm = warm_up(model, args)
    for number in range(warm + args.steps):
        if number == warm:
            wait()
            began = time.perf_counter()
        ids = step(ids).argmax(-1)
    wait()
    seconds = (time.perf_counter() - began) / args.steps
    cache.truncate(length)
    return seconds


def warm_up(model: NSALanguageModel, args: Namespace) -> int:
    """Steps before the measurement: both graphs of a trained φ run twice in them."""
    return 2 * model.config.answer_compress_stride + 1 if args.graphs else _EAGER_WARM_UP


def prefilled(model: NSALanguageModel, batch: int, args: Namespace) -> KVCache:
    """A cache with random tokens."""
    ids = torch.randint(1, model.config.vocab_size, (batch, args.context), device=model.device)
    capacity = args.context + args.steps + warm_up(model, args) + 8
    cache = KVCache(model.config, capacity, batch=batch, dtype=model.dtype, device=model.device)
    for start in range(0, args.context, args.chunk):
        model(ids[:, start : start + args.chunk], cache=cache, last_logits=0)
        cache.release_recent()
    return cache


def decode_times(model: NSALanguageModel, args: Namespace) -> Iterator[Row]:
    """Yield a row for each batch size, and with `args.compile` another one of compiled layers."""
    cuda = model.device.type == "cuda"
    if args.graphs:
        merge_projections(model)
    if args.compile:
        compile_layers(model, dynamic=False)
    for batch in map(int, args.batches.split(",")):
        with torch.inference_mode():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            with torch.compiler.set_stance("force_eager"):
                cache = prefilled(model, batch, args)
            if cuda:
                torch.cuda.synchronize()
            row = {
                "context": args.context,
                "batch": batch,
                "prefill_seconds": round(time.perf_counter() - began, 3),
                "graphs": args.graphs,
            }
            for compiled in (False, True) if args.compile else (False,):
                with torch.compiler.set_stance("default" if compiled else "force_eager"):
                    found = {**row, "compiled": compiled, **fastest(model, cache, args)}
                sys.stderr.write(line_of(found, model))
                if cuda:
                    found["memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
                yield found
        del cache


def fastest(model: NSALanguageModel, cache: KVCache, args: Namespace) -> Row:
    """Times of all implementations, and the figures of the fastest."""
    times = {}
    for name in step_names(model, args):
        backends: AbstractContextManager[Any] = nullcontext()
        if name in BACKENDS and not args.graphs:
            others = [each for other, each in BACKENDS.items() if other != name]
            backends = sdpa_kernel([BACKENDS[name], *others], set_priority=True)
        try:
            with backends:
                times[name] = time_step(name, model, cache, args)
        except RuntimeError as error:
            if name not in (FUSED, *BACKENDS):
                raise
            sys.stderr.write(f"{name} is not measured: {str(error).splitlines()[0]}\n")
    best = min(times, key=times.__getitem__)
    return {
        "step_ms": round(times[best] * 1e3, 3),
        "tokens_per_second": round(cache.shape[1] / times[best], 1),
        "by": best,
        "all_ms": {name: round(seconds * 1e3, 3) for name, seconds in times.items()},
    }


def line_of(row: Row, model: NSALanguageModel) -> str:
    """A row for people, with the implementation of the attention."""
    kind = "dense" if model.config.answer_settings().dense else "NSA"
    compiled = ", compiled" if row["compiled"] else ""
    return (
        f"{kind}, batch {row['batch']}{compiled}: {row['step_ms']:.3f} ms a step by {row['by']}\n"
    )


def fastest_rows(rows: list[Row]) -> list[Row]:
    """The fastest row of each context and batch size."""
    best: dict[tuple[int, int], Row] = {}
    for row in rows:
        key = (row["context"], row["batch"])
        if key not in best or row["step_ms"] < best[key]["step_ms"]:
            best[key] = row
    return list(best.values())
