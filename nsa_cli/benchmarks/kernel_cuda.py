"""Checks and timings of `nsa bench kernels` on a CUDA device."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
import triton
from torch import Tensor

from nsa_cli import __version__
from nsa_cli.benchmarks.kernel_check import (
    Comparison,
    Inputs,
    compare,
    draw_inputs,
    judge,
    reference_by_group,
)
from nsa_cli.benchmarks.kernel_results import NSA, SHAPES, Check, Measurement, Point
from nsa_cli.benchmarks.kernel_selections import recorded_blocks, replayed
from nsa_cli.benchmarks.kernel_timing import (
    captured,
    find_fa3,
    measure_call,
    measure_dense,
    timed,
)
from nsa_cli.system import git_commit, today
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.gpu.decode import nsa_decode
from nsa_kernels.gpu.decode_cache import DecodeCache
from nsa_kernels.gpu.phi import mean_phi
from nsa_kernels.settings import AttentionSettings
from nsa_models.errors import NsaError

SETTINGS = AttentionSettings(combine="gated")
"""The paper's settings: l=32 d=16 l'=64 n=16 w=512."""

UNION = AttentionSettings(
    combine="union", compress_block=16, compress_stride=16, select_tile=64, score_stride=4
)
"""The settings that the shipped model reads with."""

DTYPE = torch.bfloat16
GRADIENT_LENGTH = 2000
"""Tokens of the gradient check; the reference stores scores quadratic in the tokens."""

LAST_QUERIES = 64
"""Queries at the end of a text whose outputs are checked, for any length."""

DECODE_DRAWS = 16
"""Sequences of the decode check; with fewer, a single bf16 tie could fail it."""


class CudaBench:
    """Checks and timings on the current CUDA device for one attention shape."""

    def __init__(self, shape: str) -> None:
        self.name = shape
        self.shape = SHAPES[shape]
        self._gradients: dict[str, tuple[Comparison, Comparison]] = {}

    @property
    def fa3(self) -> bool:
        """Whether FlashAttention-3 is installed."""
        return find_fa3() is not None

    def setup(self) -> dict[str, str]:
        """Device, versions, commit, shape and settings, by name."""
        s, h = SETTINGS, self.shape
        return {
            "gpu": torch.cuda.get_device_name(),
            "nsa": __version__,
            "commit": git_commit(),
            "date": today(),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
            "shape": f"{self.name} ({h.heads} query heads, {h.groups} groups, "
            f"head dim {h.dim}/{h.value_dim})",
            "fa3": find_fa3() or "not installed",
            "settings": f"{s.combine} l={s.compress_block} d={s.compress_stride} "
            f"l'={s.select_block} n={s.select_count} w={s.window} bf16",
            "union": f"l=d={UNION.compress_stride}, {UNION.select_tile} queries a selection, every "
            f"{UNION.score_stride}th scored",
        }

    def check(self, point: Point, attention: str) -> Check:
        """Compare a variant of NSA with the reference at the end of a text, with any gradients.

        Raises:
            NsaError: If the device has too little memory for the reference.
        """
        try:
            return self._check(point, attention)
        except torch.cuda.OutOfMemoryError as error:
            raise NsaError(
                f"out of device memory while checking {point}",
                hint="use shorter --lengths or a smaller --batch",
            ) from error

    def _check(self, point: Point, attention: str) -> Check:
        if point.mode == "decode":
            draws = math.ceil(DECODE_DRAWS / point.batch)
            pairs = [self._compare(point, attention, 1, seed) for seed in range(draws)]
        else:
            pairs = [self._compare(point, attention, min(LAST_QUERIES, point.length), 0)]
        got, eager = (list(side) for side in zip(*pairs, strict=True))
        if point.mode == "backward":
            mine, plain = self._compare_gradients(attention)
            got = [_with_output_of(mine, got[0])]
            eager = [_with_output_of(plain, eager[0])]
        return judge(got, eager)

    def _compare(
        self, point: Point, attention: str, queries: int, seed: int, *, gradients: bool = False
    ) -> tuple[Comparison, Comparison]:
        """Comparisons of the kernels and of the bf16 reference with the fp64 reference."""
        inputs = self._draw(point, queries, seed)
        settings = _settings(attention)
        attend = _decode_once if point.mode == "decode" else partial(nsa, settings)
        plain = reference_by_group(settings, DTYPE)
        with self._selections(attention, point.length, queries):
            return (
                compare(attend, inputs, settings, gradients=gradients),
                compare(plain, inputs, settings, gradients=gradients),
            )

    def _compare_gradients(self, attention: str) -> tuple[Comparison, Comparison]:
        """Comparisons with gradients at one short length, computed once for all points."""
        if attention not in self._gradients:
            short = Point(mode="backward", length=GRADIENT_LENGTH)
            self._gradients[attention] = self._compare(
                short, attention, GRADIENT_LENGTH, 0, gradients=True
            )
        return self._gradients[attention]

    def _selections(
        self, attention: str, length: int, queries: int
    ) -> AbstractContextManager[None]:
        """A context in which a variant selects the recorded blocks, if it does."""
        if not NSA[attention].recorded:
            return nullcontext()
        assert SETTINGS.select_count is not None
        return replayed(
            recorded_blocks(length, queries, self.shape.groups, SETTINGS.select_count, "cuda")
        )

    def _draw(self, point: Point, queries: int, seed: int = 0) -> Inputs:
        return draw_inputs(
            self.shape,
            batch=point.batch,
            queries=queries,
            length=point.length,
            settings=SETTINGS,
            dtype=DTYPE,
            device="cuda",
            seed=seed,
        )

    def measure(self, point: Point, attention: str) -> Measurement:
        """Time one attention; a note replaces the times if it cannot run."""
        row = Measurement(point=point, attention=attention)
        try:
            inputs = self._draw(point, 1 if point.mode == "decode" else point.length)
            if attention not in NSA:
                return measure_dense(row, inputs)
            if point.mode == "decode":
                return timed(row, captured(_decode_step(inputs)))
            settings = _settings(attention)
            with self._selections(attention, point.length, point.length):
                return measure_call(
                    row,
                    lambda *x: nsa(settings, *x)[0],
                    inputs.all(),
                    graph=NSA[attention].graph,
                )
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return replace(row, note="out of memory")


def _settings(attention: str) -> AttentionSettings:
    return UNION if NSA[attention].union else SETTINGS


def nsa(
    settings: AttentionSettings, q: Tensor, k: Tensor, v: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor]:
    """Output and selected blocks of NSA in Triton."""
    gated = settings.combine == "gated"
    result = nsa_attention(q, k, v, settings, gates=gates if gated else None, impl=Impl.TRITON)
    assert result.blocks is not None
    return result.out, result.blocks


def _with_output_of(gradients: Comparison, output: Comparison) -> Comparison:
    """Gradient errors at the short length, with the worse of the two output errors."""
    errors = {**gradients.errors, "out": max(gradients.errors["out"], output.errors["out"])}
    return Comparison(errors=errors, agreement=min(gradients.agreement, output.agreement))


def _fill_cache(k: Tensor, v: Tensor, heads: int) -> DecodeCache:
    """A cache that holds these keys and values and counts all but the last token.

    A decode step at the end of the capacity rewrites the last token, so that every replay of the
    step sees the same length.
    """
    batch, groups, length, dim = k.shape
    cache = DecodeCache.allocate(
        SETTINGS,
        batch=batch,
        heads=heads,
        groups=groups,
        capacity=length,
        head_dim=dim,
        value_dim=v.shape[3],
        dtype=k.dtype,
        device=k.device,
    )
    cache.k.copy_(k)
    cache.v.copy_(v)
    summary_k, summary_v = mean_phi(k, SETTINGS), mean_phi(v, SETTINGS)
    cache.summary_k[:, :, : summary_k.shape[2]] = summary_k
    cache.summary_v[:, :, : summary_v.shape[2]] = summary_v
    cache.lengths.fill_(length - 1)
    return cache


def _decode_once(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Output and selected blocks of the decode step that appends the last key and value."""
    cache = _fill_cache(k, v, q.shape[1])
    out = nsa_decode(q[:, :, 0], k[:, :, -1], v[:, :, -1], cache, gates=gates[:, :, 0])
    return out[:, :, None], cache.workspace.selected[:, :, None]


def _decode_step(inputs: Inputs) -> Callable[[], object]:
    """A decode step at the inputs' length on a filled cache."""
    cache = _fill_cache(inputs.k, inputs.v, inputs.q.shape[1])
    q, gates = inputs.q[:, :, 0].contiguous(), inputs.gates[:, :, 0].contiguous()
    k, v = inputs.k[:, :, -1].contiguous(), inputs.v[:, :, -1].contiguous()
    return lambda: nsa_decode(q, k, v, cache, gates=gates)
