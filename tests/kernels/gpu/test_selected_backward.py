"""Gradients of attention to given blocks against autograd in fp64."""

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
    random_blocks,
    seen_in,
)
from torch import Tensor

from nsa_kernels.gpu import inverse
from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.layout import Packing, Problem
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selected_backward import selected_keys_backward, selected_rows_backward
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def by_kernels(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    grad: Tensor,
    *,
    packing: Packing | None = None,
    before: Tensor | None = None,
    extra: tuple[Tensor, Tensor] | None = None,
) -> Tensors:
    q, k, v = (tensors[x] for x in "qkv")
    problem = Problem.of(q, k, v, settings, packing)
    out, lse = selected_forward(problem, q, k, v, blocks)
    dots = problem.per_query(q).copy_((out * grad).sum(-1))
    gate = sums = None
    if "gates" in tensors:
        gate, sums = tensors["gates"][..., 1], problem.per_query(q)
        lse -= gate.log2()
    of = OutputGradient(out=grad, lse=lse, dots=dots)
    dq = torch.empty_like(q) if before is None else before.clone()
    selected_rows_backward(problem, q, k, v, blocks, of, dq, adds=before is not None, sums=sums)
    choosers = inverse.invert(problem, blocks, k.shape[2])
    dk, dv = selected_keys_backward(problem, q, k, v, choosers, of, extra)
    found = {"dq": dq, "dk": dk, "dv": dv}
    return found if gate is None or sums is None else {**found, "dgate": sums / gate}


def by_autograd(
    settings: AttentionSettings, tensors: Tensors, blocks: Tensor, grad: Tensor, dtype: torch.dtype
) -> Tensors:
    q, k, v = (tensors[x].detach().to(dtype).requires_grad_() for x in "qkv")
    out, _ = masked_attention(q, k, v, seen_in(blocks, q.shape[2], k.shape[2], settings))
    inputs = {"dq": q, "dk": k, "dv": v}
    if "gates" in tensors:
        inputs["dgate"] = tensors["gates"][..., 1].detach().to(dtype).requires_grad_()
        out = out * inputs["dgate"][..., None]
    found = torch.autograd.grad(out, list(inputs.values()), grad.to(dtype))
    return dict(zip(inputs, found, strict=True))


def compare(
    settings: AttentionSettings, tensors: Tensors, blocks: Tensor, grad: Tensor, got: Tensors
) -> None:
    exact, eager = (
        by_autograd(settings, tensors, blocks, grad, dtype)
        for dtype in (torch.float64, torch.float32)
    )
    assert got.keys() == exact.keys()
    repeat = tensors["q"].shape[1] // tensors["k"].shape[1]
    terms = tensors["q"].shape[3] + repeat * tensors["k"].shape[2]
    for name, x in got.items():
        assert_as_exact(name, x, exact[name], eager[name], terms=terms, unit=4.0)


@pytest.mark.parametrize(
    ("gated", "changes", "queries", "seq_len", "repeat"),
    [
        (True, {}, 65, 65, 2),
        pytest.param(False, {}, 37, 150, 3, marks=pytest.mark.long),
        (True, {"select_tile": 1}, 7, 65, 6),
        (False, {"select_tile": 1}, 5, 33, 32),
        (True, {"select_tile": 4}, 22, 133, 1),
        pytest.param(
            True, {"select_block": 64, "select_tile": 64}, 40, 150, 7, marks=pytest.mark.long
        ),
        (False, {"select_block": 128, "select_tile": 16}, 20, 300, 16),
        (True, {"select_block": 32}, 31, 31, 1),
    ],
)
def test_gradients_equal_autograd(
    gated: bool, changes: dict[str, int], queries: int, seq_len: int, repeat: int, seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, **changes)  # type: ignore[arg-type]
    tensors = draw(settings, queries, seq_len, repeat=repeat, dim=24, value_dim=16)
    if not gated:
        del tensors["gates"]
    blocks = random_blocks(settings, queries, seq_len, count=5)
    grad = torch.randn(1, 2 * repeat, queries, 16, device=DEVICE)
    got = by_kernels(settings, tensors, blocks, grad)
    compare(settings, tensors, blocks, grad, got)


def test_gradients_are_added_to_existing_ones(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 20, 70, batch=2)
    blocks = random_blocks(SMALL, 20, 70, count=3, batch=2)
    grad = torch.randn_like(tensors["q"])
    alone = by_kernels(SMALL, tensors, blocks, grad)
    before = torch.randn_like(grad)
    extra = (torch.randn(2, 2, 70, 16, device=DEVICE), torch.randn(2, 2, 70, 16, device=DEVICE))
    got = by_kernels(SMALL, tensors, blocks, grad, before=before, extra=extra)
    for name, more in zip(("dq", "dk", "dv"), (before, *extra), strict=True):
        torch.testing.assert_close(got[name] - more, alone[name], rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("rows", [32, 100])
def test_long_lists_are_cut_into_pieces(
    rows: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    monkeypatch.setattr(inverse, "_PIECE_ROWS", rows)
    settings = replace(SMALL, select_tile=4)
    tensors = draw(settings, 50, groups=1, repeat=3)
    blocks = random_blocks(settings, 50, 50, groups=1, count=4)
    grad = torch.randn_like(tensors["q"])
    compare(settings, tensors, blocks, grad, by_kernels(settings, tensors, blocks, grad))


@pytest.mark.parametrize("tile", [1, 16])
def test_packed_gradients_stay_in_their_sequence(
    tile: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    monkeypatch.setattr(inverse, "_PIECE_ROWS", 48)
    settings = replace(SMALL, select_tile=tile)
    lengths = [(1, 1), (5, 40), (0, 0), (1, 70), (9, 20), (0, 9)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys, repeat=3)
    chosen = [random_blocks(settings, *length, count=3) for length in lengths]
    # The table has more tiles than the sequences need; their rows are never written.
    spare = torch.zeros(1, 2, 2 if tile == 1 else 9, 3, dtype=torch.int32, device=DEVICE)
    blocks = torch.cat([*chosen, spare], dim=2)
    if tile == 1:
        blocks = blocks[:, :, :queries].contiguous()
    grad = torch.randn_like(tensors["q"])
    got = by_kernels(settings, tensors, blocks, grad, packing=packing)
    axes = {"dq": "queries", "dk": "keys", "dv": "keys", "dgate": "queries"}
    for (count, _), part, own in zip(lengths, parts, chosen, strict=True):
        here = {name: x[:, :, getattr(part, axes[name])] for name, x in got.items()}
        if count:
            compare(settings, part.of(tensors), own, grad[:, :, part.queries], here)
        else:
            assert all((x == 0).all() for x in here.values())
