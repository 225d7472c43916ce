"""Attention to a band of keys against plain softmax attention under a mask."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from exactness import (
    DEVICE,
    SMALL,
    Tensors,
    assert_as_exact,
    draw,
    masked_attention,
    pack,
    seen_by,
)
from torch import Tensor

from nsa_kernels.gpu.banded import banded_dots, banded_forward
from nsa_kernels.gpu.bands import Addend, Band, band_keys
from nsa_kernels.gpu.layout import Problem, empty_rows
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def inputs(band: Band, tensors: Tensors) -> tuple[Tensor, ...]:
    """q, and the band's keys and values."""
    if band.key_block == 1:
        return tensors["q"], tensors["k"], tensors["v"]
    return tensors["q"], tensors["summary_k"], tensors["summary_v"]


def compression(settings: AttentionSettings, query_stride: int = 1) -> Band:
    return Band(
        key_block=settings.compress_block,
        key_stride=settings.compress_stride,
        query_stride=query_stride,
    )


def compare(got: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> None:
    """Compare output and log-sum-exp of the attending queries."""
    exact, exact_lse = masked_attention(q.double(), k.double(), v.double(), seen)
    eager, _ = masked_attention(q, k, v, seen)
    terms = q.shape[3] + k.shape[2]
    assert_as_exact("out", got, exact, eager, terms=terms, unit=1.0)
    assert torch.equal(lse.isinf(), exact_lse.isinf())
    assert (lse > -math.inf).all()
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-5, atol=2e-5)


CASES = [
    ({"compress_block": 8, "compress_stride": 4}, None, 1, 65, 65),
    ({"compress_block": 4, "compress_stride": 4}, None, 3, 37, 150),
    ({"compress_block": 12, "compress_stride": 4}, None, 7, 20, 90),
    ({"compress_block": 16, "compress_stride": 16}, None, 32, 9, 70),
    ({"compress_block": 32, "compress_stride": 16, "select_block": 32}, None, 16, 33, 33),
    ({}, 1, 2, 65, 65),
    ({}, 24, 6, 37, 150),
    ({}, 500, 1, 65, 65),
]


@pytest.mark.parametrize(("changes", "window", "repeat", "queries", "seq_len"), CASES)
def test_a_band_equals_masked_attention(
    changes: dict[str, int], window: int | None, repeat: int, queries: int, seq_len: int, seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, **changes)  # type: ignore[arg-type]
    band = compression(settings) if window is None else Band(window=window)
    tensors = draw(
        settings,
        queries,
        seq_len,
        batch=2,
        groups=1,
        repeat=repeat,
        dim=24,
        value_dim=16,
        summaries=True,
    )
    q, k, v = inputs(band, tensors)
    problem = Problem.of(q, tensors["k"], tensors["v"], settings, None)
    assert band_keys(problem, band) == (k.shape[2], None)
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    seen = seen_by(band, queries, seq_len, k.shape[2])
    compare(out, lse, q, k, v, seen)
    nothing, alone = banded_forward(problem, band, q, k, k, values=False)
    assert nothing is None
    torch.testing.assert_close(alone, lse, rtol=1e-6, atol=1e-6)
    grad = torch.randn_like(out)
    dots = banded_dots(problem, band, q, k, v, grad)
    exact = masked_attention(q.double(), k.double(), v.double(), seen)[0]
    torch.testing.assert_close(dots.double(), (exact * grad).sum(-1), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("seq_len", [1, 7])
def test_without_a_complete_summary_the_output_is_zero(seq_len: int) -> None:
    tensors = draw(SMALL, seq_len, summaries=True)
    band = compression(SMALL)
    q, k, v = inputs(band, tensors)
    problem = Problem.of(q, tensors["k"], tensors["v"], SMALL, None)
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    assert not out.any()
    assert (lse == math.inf).all()
    assert not banded_dots(problem, band, q, k, v, torch.randn_like(out)).any()


@pytest.mark.parametrize(("queries", "seq_len"), [(100, 100), (38, 131), (3, 100)])
def test_only_scored_queries_attend(queries: int, seq_len: int, seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, score_stride=4)
    tensors = draw(settings, queries, seq_len, repeat=3, summaries=True)
    band = compression(settings, query_stride=4)
    q, k, v = inputs(band, tensors)
    problem = Problem.of(q, tensors["k"], tensors["v"], settings, None)
    _, lse = banded_forward(problem, band, q, k, k, values=False)
    scored = torch.arange(seq_len - queries, seq_len, device=DEVICE) % 4 == 0
    _, expected = masked_attention(
        q.double(), k.double(), v.double(), seen_by(band, queries, seq_len, k.shape[2])
    )
    found = lse[:, :, scored].double()
    torch.testing.assert_close(found, expected[:, :, scored], rtol=1e-5, atol=2e-5)
    assert lse[:, :, ~scored].isnan().all()


@pytest.mark.parametrize("window", [None, 9])
def test_packed_sequences_do_not_see_each_other(window: int | None, seed: int) -> None:
    torch.manual_seed(seed)
    lengths = [(1, 1), (5, 40), (33, 33), (0, 0), (1, 70), (4, 4)]
    packing, parts = pack(lengths, SMALL)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(SMALL, queries, keys, repeat=3)
    total = parts[-1].summaries.stop
    tensors["summary_k"], tensors["summary_v"] = torch.randn(2, 1, 2, total, 16, device=DEVICE)
    band = compression(SMALL) if window is None else Band(window=window)
    q, k, v = inputs(band, tensors)
    problem = Problem.of(q, tensors["k"], tensors["v"], SMALL, packing)
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    grad = torch.randn_like(out)
    dots = banded_dots(problem, band, q, k, v, grad)
    torch.testing.assert_close(dots, (out * grad).sum(-1), rtol=1e-5, atol=5e-5)
    for (count, seq_len), part in zip(lengths, parts, strict=True):
        if count:
            one = part.of(tensors)
            q, k, v = inputs(band, one)
            seen = seen_by(band, count, seq_len, k.shape[2])
            compare(out[:, :, part.queries], lse[:, :, part.queries], q, k, v, seen)


def test_memory_past_the_keys_is_not_read(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 40)
    room = torch.full((1, 2, 300, 16), float("nan"), device=DEVICE)
    room[:, :, :40] = tensors["k"]
    band = Band(window=24)
    problem = Problem.of(*(tensors[x] for x in "qkv"), SMALL, None)
    q, k, _ = inputs(band, tensors)
    out, lse = banded_forward(problem, band, q, room[:, :, :40], room[:, :, :40])
    assert out is not None
    compare(out, lse, q, k, k, seen_by(band, 40, 40, 40))


def test_branches_are_added_with_their_gates(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 40, batch=2, groups=1, repeat=3)
    band = Band(window=24)
    q, k, v = inputs(band, tensors)
    problem = Problem.of(q, k, v, SMALL, None)
    other = empty_rows(q, 16).normal_()
    gate = tensors["gates"].unbind(dim=-1)
    alone, lse = banded_forward(problem, band, q, k, v)
    kept = torch.empty_like(other)
    addend = Addend(other=other, other_gate=gate[0], gate=gate[2], kept=kept)
    out, same = banded_forward(problem, band, q, k, v, addend=addend)
    assert alone is not None
    expected = alone * gate[2][..., None] + other * gate[0][..., None]
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(lse, same)
    assert torch.equal(kept, alone)
