"""Timings on a CUDA device of NSA, and of dense attention by SDPA or FlashAttention-3."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from triton.testing import do_bench

from nsa_cli.benchmarks.kernel_check import Inputs
from nsa_cli.benchmarks.kernel_results import NSA, Measurement

_BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
_QUANTILES = [0.2, 0.5, 0.8]
_LONG_MS = 500.0
"""Duration from which a call is timed three times; a shorter one is timed `_RUNS` times or more."""

_RUNS = 8
"""Least number of timed runs, so that their spread is meaningful."""


def measure_dense(row: Measurement, inputs: Inputs) -> Measurement:
    """Time dense attention in the first input form that the backend supports.

    Args:
        row: A measurement without times; `row.attention` names the backend.
        inputs: Inputs of the point; a decode step's keys become contiguous, as in a cache.
    """
    if row.attention == "fa3":
        return _measure_fa3(row, inputs)
    decode, backward = row.point.mode == "decode", row.point.mode == "backward"
    for note, tensors in _forms(inputs, as_cache=decode):
        attend = partial(_dense, _BACKENDS[row.attention], not decode)
        if _supports(attend, tensors, gradients=backward):
            row = replace(row, note=note)
            if decode:
                return timed(row, captured(partial(attend, *tensors)))
            return measure_call(row, attend, tensors)
    return replace(row, note="does not take this shape")


@cache
def find_fa3() -> str | None:
    """The module of an installed FlashAttention-3; None where none is installed.

    Its authors' is `flash_attn_interface`. The package `fa3-fwd` holds the forward pass alone.
    """
    names = ("flash_attn_interface", "fa3_fwd_interface")
    return next((name for name in names if find_spec(name)), None)


def _measure_fa3(row: Measurement, inputs: Inputs) -> Measurement:
    """Time the forward pass of FlashAttention-3."""
    name = find_fa3()
    assert name is not None
    # (B, T, H, D), as the inputs lie in memory.
    tensors = tuple(x.transpose(1, 2) for x in (inputs.q, inputs.k, inputs.v))

    def attend() -> Any:
        return import_module(name).flash_attn_func(*tensors, causal=True)

    try:
        with torch.no_grad():
            attend()
            return timed(row, attend)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, ImportError, AssertionError) as error:
        return replace(row, note=f"does not run: {str(error).splitlines()[0][:60]}")


def _forms(inputs: Inputs, *, as_cache: bool) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Input forms of queries, keys and values with a note each, the cheapest first.

    Expanding the groups' keys to all query heads and padding the values' head dim happen here,
    outside the timing.
    """
    q, k, v = inputs.q, inputs.k, inputs.v
    if as_cache:
        k, v = k.contiguous(), v.contiguous()
    yield "", (q, k, v)
    repeat = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
    yield "k, v expanded", (q, k, v)
    short = q.shape[3] - v.shape[3]
    if short:
        yield "k, v expanded, v padded", (q, k, F.pad(v, (0, short)))


def _dense(backend: SDPBackend, causal: bool, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dense attention by one backend."""
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
        )


def _supports(
    attend: Callable[..., Tensor], tensors: tuple[Tensor, ...], *, gradients: bool
) -> bool:
    """Whether a backend supports these tensors, forward and with `gradients` also backward."""
    try:
        with warnings.catch_warnings(), torch.set_grad_enabled(gradients):
            warnings.simplefilter("ignore")
            inputs = [x.detach().requires_grad_(gradients) for x in tensors]
            out = attend(*inputs)
            if gradients:
                torch.autograd.grad(out, inputs, torch.zeros_like(out))
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return True


def measure_call(
    row: Measurement,
    attend: Callable[..., Tensor],
    tensors: tuple[Tensor, ...],
    *,
    graph: bool = False,
) -> Measurement:
    """Time an attention forward, or forward and backward with the extra memory it takes.

    Args:
        row: Without times.
        attend: The attention.
        tensors: Its arguments.
        graph: Whether to time the pass in a CUDA graph.
    """
    if row.point.mode == "forward":
        with torch.no_grad():
            call = partial(attend, *tensors)
            return timed(row, captured(call) if graph else call)
    inputs = [x.detach().requires_grad_() for x in tensors]
    grad = torch.randn_like(attend(*inputs))

    def both() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            out = attend(*inputs)
            # Without gated branches the gates have no gradient.
            found = torch.autograd.grad(out, inputs, grad, allow_unused=True)
        return (out, *(x for x in found if x is not None))

    if graph:
        return timed(row, captured(both))
    if row.attention in NSA:
        row = replace(row, extra_memory_bytes=_extra_memory(both))
    return timed(row, both)


def _extra_memory(call: Callable[[], tuple[Tensor, ...]]) -> int:
    """Peak memory of a call beyond its inputs and results, in bytes."""
    # The first call compiles, and may allocate a permanent workspace.
    results = call()
    returned = sum(x.numel() * x.element_size() for x in results)
    del results
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return max(0, torch.cuda.max_memory_allocated() - before - returned)


def captured(step: Callable[[], object]) -> Callable[[], object]:
    """Capture a step in a CUDA graph and return a function that replays it."""
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = step()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


def timed(row: Measurement, call: Callable[[], object]) -> Measurement:
    """The measurement with times of many runs, or of three if a run is long, and of the host."""
    first = _milliseconds(call)
    if first >= _LONG_MS:
        # The first run may have compiled, or have set up a backend.
        first = _milliseconds(call)
    if first < _LONG_MS:
        p20, p50, p80 = do_bench(call, rep=max(100, _RUNS * first), quantiles=_QUANTILES)
    else:
        runs = torch.tensor([_milliseconds(call) for _ in range(3)])
        p20, p50, p80 = runs.quantile(torch.tensor(_QUANTILES)).tolist()
    return replace(row, p20_ms=p20, p50_ms=p50, p80_ms=p80, host_ms=_host_milliseconds(call))


def _host_milliseconds(call: Callable[[], object]) -> float:
    """Median time that the host takes to launch a call, in milliseconds.

    Each call begins on an idle device, so that it never waits for room among the launches.
    """
    times = []
    for _ in range(_RUNS):
        torch.cuda.synchronize()
        begin = perf_counter()
        call()
        times.append((perf_counter() - begin) * 1e3)
    torch.cuda.synchronize()
    return median(times)


def _milliseconds(call: Callable[[], object]) -> float:
    """Device time of one run, in milliseconds."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
