"""φ by each implementation against the reference, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from nsa_kernels import phi, reference
from nsa_kernels.api import Impl
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.settings import AttentionSettings

DIM, HIDDEN = 16, 24
SIZES = [(4, 4), (12, 4), (32, 16)]
SETTINGS = AttentionSettings(compress_block=12, compress_stride=4, select_block=16, window=32)


def settings(block: int, stride: int) -> AttentionSettings:
    return AttentionSettings(compress_block=block, compress_stride=stride)


def weights(kind: str, block: int) -> list[Tensor]:
    shapes: dict[str, list[tuple[int, ...]]] = {
        "mean": [],
        "linear": [(DIM, block * DIM)],
        "mlp": [(block, DIM), (HIDDEN, block * DIM), (HIDDEN,), (DIM, HIDDEN), (DIM,)],
    }
    return [(torch.randn(shape) / 8).requires_grad_() for shape in shapes[kind]]


def compress(kind: str, x: Tensor, given: list[Tensor], sizes: AttentionSettings, impl: Impl):
    if kind == "mean":
        return phi.mean_phi(x, sizes, impl=impl)
    if kind == "linear":
        return phi.linear_phi(x, given[0], sizes, impl=impl)
    return phi.mlp_phi(x, (given[0], given[1], given[2], given[3], given[4]), sizes, impl=impl)


def exact(kind: str, x: Tensor, given: list[Tensor], sizes: AttentionSettings) -> Tensor:
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": reference.mean_phi,
        "linear": lambda blocks: blocks.flatten(-2) @ given[0].t(),
        "mlp": lambda blocks: reference.mlp_phi(blocks, *given),
    }
    return reference.compress(x, sizes, kinds[kind])


@pytest.mark.parametrize("impl", [Impl.BLOCKWISE, Impl.TRITON])
@pytest.mark.parametrize("kind", ["mean", "linear", "mlp"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "tokens",
    [33, pytest.param(3, marks=pytest.mark.long), pytest.param(67, marks=pytest.mark.long)],
)
def test_summaries_and_gradients(
    impl: Impl, kind: str, sizes: tuple[int, int], tokens: int
) -> None:
    if impl is Impl.TRITON:
        pytest.importorskip("triton")
    at = settings(*sizes)
    # As a projection lies in memory: heads within tokens.
    x = torch.randn(2, tokens, 3, DIM).transpose(1, 2).requires_grad_()
    given = weights(kind, sizes[0])
    wide = [each.detach().double().requires_grad_() for each in (x, *given)]
    expected = exact(kind, wide[0], wide[1:], at)
    found = compress(kind, x, given, at, impl)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    if not found.numel():
        return
    slope = torch.randn_like(found)
    ours = torch.autograd.grad(found, [x, *given], slope)
    theirs = torch.autograd.grad(expected, wide, slope.double())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-4)


def test_the_default_on_a_cpu_is_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pytest.importorskip("nsa_kernels.gpu.phi")
    for name in ("mean_phi", "linear_phi", "mlp_phi"):
        monkeypatch.delattr(gpu, name)
    x = torch.randn(1, 2, 40, DIM)
    for kind in ("mean", "linear", "mlp"):
        given = weights(kind, 12)
        with torch.no_grad():
            found = {
                "mean": partial(phi.mean_phi, x),
                "linear": lambda at, given=given: phi.linear_phi(x, given[0], at),
                "mlp": lambda at, given=given: phi.mlp_phi(x, tuple(given), at),
            }[kind](SETTINGS)
            torch.testing.assert_close(found, exact(kind, x, given, SETTINGS))


def test_the_reference_is_not_an_implementation() -> None:
    with pytest.raises(UnsupportedError, match="BLOCKWISE"):
        phi.mean_phi(torch.randn(1, 1, 8, DIM), SETTINGS, impl=Impl.REFERENCE)


def test_packed_texts_equal_separate_ones() -> None:
    """Each text has its blocks; `block_starts` gives their first tokens."""
    layout = pytest.importorskip("nsa_kernels.gpu.layout")
    lengths = [5, 30, 12, 0, 41]
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    packing = layout.Packing(cu_queries=offsets, cu_keys=offsets, max_queries=41, max_keys=41)
    x, given = torch.randn(1, 2, sum(lengths), DIM), weights("linear", 12)
    found = phi.linear_phi(x, given[0], SETTINGS, packing=packing)
    parts = [
        phi.linear_phi(part, given[0], SETTINGS, impl=Impl.BLOCKWISE)
        for part in x.split(lengths, dim=2)
    ]
    torch.testing.assert_close(found, torch.cat(parts, dim=2), atol=1e-5, rtol=1e-5)
    starts = phi.block_starts(sum(lengths), SETTINGS, x.device, packing)
    assert starts.tolist() == [5, 9, 13, 17, 21, 35, *range(47, 77, 4)]
    assert phi.block_starts(30, SETTINGS, x.device).tolist() == [0, 4, 8, 12, 16]


def test_the_total_of_packed_summaries_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a number from a device waits for it."""
    layout = pytest.importorskip("nsa_kernels.gpu.layout")
    offsets = torch.tensor([0, 20, 50]).int()
    packing = layout.Packing(cu_queries=offsets, cu_keys=offsets, max_queries=30, max_keys=30)
    first = packing.summary_layout(SETTINGS)
    assert (first[0].tolist(), first[1]) == ([0, 3, 8], 8)
    monkeypatch.delattr(layout, "summary_offsets")
    assert packing.summary_layout(SETTINGS) is first
