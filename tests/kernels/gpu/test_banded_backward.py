"""Gradients of attention to a band of keys against autograd in fp64."""

from __future__ import annotations

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

from nsa_kernels.gpu.banded import banded_forward
from nsa_kernels.gpu.banded_backward import (
    banded_keys_backward,
    banded_rows_backward,
)
from nsa_kernels.gpu.bands import Band, OutputGradient
from nsa_kernels.gpu.layout import Problem

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

WINDOW = Band(window=24)
COMPRESSION = Band(key_block=8, key_stride=4)


def gradients(
    tensors: Tensors, band: Band, grad: Tensor, queries: int, seq_len: int, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Gradients of q, k and v by autograd through the gated output."""
    q, k, v = (tensors[x].detach().to(dtype).requires_grad_() for x in "qkv")
    out, _ = masked_attention(q, k, v, seen_by(band, queries, seq_len, k.shape[2]))
    if "gates" in tensors:
        out = out * tensors["gates"][..., 1:2].to(dtype)
    return torch.autograd.grad(out, (q, k, v), grad.to(dtype))


def by_kernels(
    problem: Problem, band: Band, tensors: Tensors, grad: Tensor, before: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Gradients of q, k and v by the kernels; the gradient of q is added to `before`."""
    q, k, v = (tensors[x] for x in "qkv")
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    dots = problem.per_query(q).copy_((out * grad).sum(-1))
    if "gates" in tensors:
        lse -= tensors["gates"][..., 1].log2()
    of = OutputGradient(out=grad, lse=lse, dots=dots)
    dq = torch.empty_like(q) if before is None else before.clone()
    banded_rows_backward(problem, band, q, k, v, of, dq, adds=before is not None)
    return (dq, *banded_keys_backward(problem, band, q, k, v, of))


def compare(
    got: tuple[Tensor, ...], expected: tuple[Tensor, ...], eager: tuple[Tensor, ...]
) -> None:
    for name, a, b, c in zip(("dq", "dk", "dv"), got, expected, eager, strict=True):
        assert_as_exact(name, a, b, c, terms=24 + 7 * 150, unit=4.0)


@pytest.mark.parametrize(
    ("band", "gated", "queries", "seq_len", "repeat"),
    [
        (WINDOW, True, 65, 65, 3),
        (COMPRESSION, True, 65, 65, 2),
        (WINDOW, False, 37, 150, 1),
        (COMPRESSION, False, 20, 90, 7),
        (Band(key_block=12, key_stride=4), True, 37, 150, 1),
        (Band(window=1), True, 20, 70, 6),
        (Band(window=500), True, 33, 65, 2),
    ],
)
def test_gradients_equal_autograd(
    band: Band, gated: bool, queries: int, seq_len: int, repeat: int, seed: int
) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, queries, seq_len, batch=2, groups=1, repeat=repeat, dim=24, value_dim=16)
    if not gated:
        del tensors["gates"]
    problem = Problem.of(*(tensors[x] for x in "qkv"), SMALL, None)
    if band.window is None:
        # The compression has as many keys as complete blocks; any keys serve for the test.
        settings = replace(SMALL, compress_block=band.key_block)
        problem = replace(problem, settings=settings)
        tensors["k"], tensors["v"] = (tensors[x][:, :, : problem.summaries] for x in "kv")
    grad = torch.randn(2, repeat, queries, 16, device=DEVICE)
    of = (tensors, band, grad, queries, seq_len)
    expected, eager = (gradients(*of, dtype) for dtype in (torch.float64, torch.float32))
    got = by_kernels(problem, band, tensors, grad)
    compare(got, expected, eager)
    before = torch.randn_like(got[0])
    added = by_kernels(problem, band, tensors, grad, before)
    torch.testing.assert_close(added[0] - before, got[0], rtol=1e-5, atol=2e-6)
    assert all(torch.equal(a, b) for a, b in zip(got[1:], added[1:], strict=True))


@pytest.mark.parametrize("band", [WINDOW, COMPRESSION])
def test_packed_gradients_stay_in_their_sequence(band: Band, seed: int) -> None:
    torch.manual_seed(seed)
    lengths = [(1, 9), (5, 40), (33, 33), (0, 0), (1, 70)]
    packing, parts = pack(lengths, SMALL)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(SMALL, queries, keys, repeat=3)
    problem = Problem.of(*(tensors[x] for x in "qkv"), SMALL, packing)
    if band is COMPRESSION:
        total = parts[-1].summaries.stop
        tensors["k"], tensors["v"] = (tensors[x][:, :, :total] for x in "kv")
    grad = torch.randn(1, 6, queries, 16, device=DEVICE)
    got = by_kernels(problem, band, tensors, grad)
    for (count, seq_len), part in zip(lengths, parts, strict=True):
        if not count:
            continue
        at = part.summaries if band is COMPRESSION else part.keys
        one = {name: x[:, :, at if name in "kv" else part.queries] for name, x in tensors.items()}
        of = (one, band, grad[:, :, part.queries], count, seq_len)
        expected, eager = (gradients(*of, dtype) for dtype in (torch.float64, torch.float32))
        here = (got[0][:, :, part.queries], got[1][:, :, at], got[2][:, :, at])
        compare(here, expected, eager)


def test_without_keys_the_gradient_of_the_queries_is_zero() -> None:
    tensors = draw(SMALL, 5)
    problem = Problem.of(*(tensors[x] for x in "qkv"), SMALL, None)
    grad = torch.randn_like(tensors["q"])
    lse = problem.per_query(grad).fill_(float("inf"))
    of = OutputGradient(out=grad, lse=lse, dots=problem.per_query(grad).zero_())
    none = tensors["k"][:, :, :0]
    dq = torch.empty_like(grad)
    banded_rows_backward(problem, COMPRESSION, tensors["q"], none, none, of, dq, adds=False)
    assert not dq.any()
    dq.fill_(2.0)
    banded_rows_backward(problem, COMPRESSION, tensors["q"], none, none, of, dq, adds=True)
    assert (dq == 2.0).all()
    dk, dv = banded_keys_backward(problem, COMPRESSION, tensors["q"], none, none, of)
    assert dk.shape == dv.shape == (1, 2, 0, 16)


def test_more_heads_than_a_tile_has_rows(seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, window=9)
    tensors = draw(settings, 21, groups=1, repeat=65, dim=16)
    problem = Problem.of(*(tensors[x] for x in "qkv"), settings, None)
    grad = torch.randn_like(tensors["q"])
    of = (tensors, WINDOW, grad, 21, 21)
    expected, eager = (gradients(*of, dtype) for dtype in (torch.float64, torch.float32))
    compare(by_kernels(problem, WINDOW, tensors, grad), expected, eager)
