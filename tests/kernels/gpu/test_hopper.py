"""Each Hopper kernel against plain attention in fp64, in half precision.

`exactness.py` defines the comparison. Other devices only run the tests of which calls
the kernels support.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import triton
from exactness import (
    CUDA,
    DEVICE,
    Tensors,
    assert_as_exact,
    draw,
    gpu,
    masked_attention,
    pack,
    random_blocks,
    seen_by,
    seen_in,
    union_blocks,
    usual_memory,
)
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.gpu.banded import banded_dots, banded_forward
from nsa_kernels.gpu.banded_backward import banded_keys_backward, banded_rows_backward
from nsa_kernels.gpu.bands import Addend, Band, OutputGradient
from nsa_kernels.gpu.hopper import support
from nsa_kernels.gpu.inverse import invert
from nsa_kernels.gpu.layout import Problem, empty_rows
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selected_backward import selected_keys_backward, selected_rows_backward
from nsa_kernels.gpu.selection import _importance
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

HOPPER = (
    CUDA
    and torch.version.hip is None
    and torch.cuda.get_device_capability()[0] == 9
    and triton.__version__.startswith("3.6.")
)

SETTINGS = AttentionSettings(combine="gated", select_count=8, window=100)
COMPRESSION = Band(key_block=32, key_stride=16)
WINDOW = Band(window=100)

BF16, FP16 = torch.bfloat16, torch.float16


def hopper(test: Any) -> Any:
    """Mark a test of the Hopper kernels."""
    return gpu(pytest.mark.skipif(not HOPPER, reason="no Hopper GPU or other Triton")(test))


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of a call."""

    queries: int
    seq_len: int
    batch: int = 1
    groups: int = 1
    repeat: int = 16
    dim: int = 128
    dtype: torch.dtype = BF16

    def draw(self) -> tuple[Problem, Tensors]:
        """Random inputs in the layout of projections: the heads of a token are adjacent."""
        tensors = draw(
            SETTINGS,
            self.queries,
            self.seq_len,
            batch=self.batch,
            groups=self.groups,
            repeat=self.repeat,
            dim=self.dim,
            dtype=self.dtype,
            summaries=True,
        )
        problem = Problem.of(*(tensors[x] for x in "qkv"), SETTINGS, None)
        assert support.serves_band(problem, tensors["q"]) == (self.repeat not in (3, 12))
        return problem, tensors


LENGTHS = [Case(queries=n, seq_len=n) for n in (1, 31, 63, 64, 65, 1000, 4097)]
OTHERS = [
    Case(queries=77, seq_len=700),
    Case(queries=1, seq_len=333, batch=2, groups=2),
    Case(queries=1000, seq_len=1061, batch=2, groups=2),
    Case(queries=333, seq_len=333, dtype=FP16, dim=64, repeat=4, batch=2, groups=2),
    Case(queries=500, seq_len=700, dtype=FP16, repeat=1, groups=2),
    Case(queries=300, seq_len=300, dim=64, repeat=8),
    Case(queries=333, seq_len=400, dim=64, repeat=7, batch=2, groups=2),
    Case(queries=300, seq_len=300, repeat=12, groups=2),
    Case(queries=200, seq_len=300, dim=64, repeat=14, dtype=FP16),
    Case(queries=300, seq_len=333, repeat=3, groups=3),
]
CASES = pytest.mark.parametrize("case", LENGTHS + OTHERS, ids=str)
BANDS = pytest.mark.parametrize("band", [COMPRESSION, WINDOW], ids=["compression", "window"])


def inputs(band: Band, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    """q, and the band's keys and values."""
    of = ("q", "summary_k", "summary_v") if band.window is None else ("q", "k", "v")
    return tensors[of[0]], tensors[of[1]], tensors[of[2]]


def compare(name: str, got: Tensor, exact: Tensor, eager: Tensor, *, keys: int) -> None:
    """Compare an output; with a single key it has unit variance."""
    assert_as_exact(name, got, exact, eager, terms=exact.shape[3] + keys, unit=1.0)


@hopper
@CASES
@BANDS
def test_a_band_equals_masked_attention(band: Band, case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    problem, tensors = case.draw()
    q, k, v = inputs(band, tensors)
    seen = seen_by(band, case.queries, case.seq_len, k.shape[2])
    with usual_memory():
        exact, exact_lse = masked_attention(q.double(), k.double(), v.double(), seen)
        eager, _ = masked_attention(q, k, v, seen)
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    compare("out", out, exact, eager, keys=k.shape[2])
    assert torch.equal(lse.isinf(), exact_lse.isinf())
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-5, atol=2e-5)

    grad = empty_rows(q, case.dim).normal_()
    dots = banded_dots(problem, band, q, k, v, grad)
    expected, rounded = ((x * grad).double().sum(dim=-1)[..., None] for x in (exact, eager))
    got, rounded = (x.to(case.dtype) for x in (dots[..., None], rounded))
    assert_as_exact("dots", got, expected, rounded, terms=case.dim, unit=case.dim**0.5)


@hopper
@CASES
def test_branches_are_added_with_their_gates(case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    problem, tensors = case.draw()
    q, k, v = inputs(WINDOW, tensors)
    other = empty_rows(q, case.dim).normal_()
    gate = tensors["gates"].unbind(dim=-1)
    seen = seen_by(WINDOW, case.queries, case.seq_len, case.seq_len)
    sums = []
    for dtype in (torch.float64, case.dtype):
        with usual_memory():
            alone = masked_attention(*(x.to(dtype) for x in (q, k, v)), seen)[0]
        sums.append(alone * gate[2][..., None] + other.to(dtype) * gate[0][..., None])
    alone = banded_forward(problem, WINDOW, q, k, v)[0]
    for kept in (None, empty_rows(q, case.dim).fill_(float("nan"))):
        addend = Addend(other=other, other_gate=gate[0], gate=gate[2], kept=kept)
        out, _ = banded_forward(problem, WINDOW, q, k, v, addend=addend)
        assert out is not None
        compare("out", out, *sums, keys=case.seq_len)
        assert kept is None or torch.equal(kept, alone)


@hopper
@CASES
def test_importance_equals_the_reference(case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    problem, tensors = case.draw()
    if problem.summaries == 0:
        return
    q, summary_k, _ = inputs(COMPRESSION, tensors)
    assert support.serves_importance(problem, q)
    lse = banded_forward(problem, COMPRESSION, q, summary_k, summary_k)[1]
    first = case.queries // 3
    shape = (case.batch, case.groups, case.queries - first, problem.blocks)
    own, spill = (torch.empty(shape, dtype=torch.float32, device=DEVICE) for _ in range(2))
    _importance(problem, q, summary_k, lse, own, spill, first, case.queries - first)
    position = torch.arange(case.seq_len - case.queries, case.seq_len, device=DEVICE)
    with usual_memory():
        _, probs = reference.compression_attention(
            *(x.double() for x in (q, tensors["k"], summary_k, summary_k)), SETTINGS
        )
        exact = reference.importance(probs, case.groups, position, SETTINGS)[:, :, first:]
    # Only blocks with a visible summary are compared.
    per_block = SETTINGS.select_block // SETTINGS.compress_stride
    visible = (position[first:] + 1 - 32 + 16).clamp(min=0) // 16
    scored = torch.arange(problem.blocks, device=DEVICE) < -(-visible // per_block)[:, None]
    got = own.double()
    got[..., 1:] += torch.where(scored[:, :-1], spill[..., :-1].double(), 0.0)
    exact, got = (torch.where(scored, x, 0.0) for x in (exact, got))
    torch.testing.assert_close(got, exact, rtol=2e-5, atol=1e-7)


@hopper
@CASES
@BANDS
def test_gradients_of_keys_and_values_equal_autograd(band: Band, case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    problem, tensors = case.draw()
    q, k, v = inputs(band, tensors)
    assert support.serves_keys(problem, q) == (case.repeat in (4, 8, 16))
    grad = torch.randn(q.shape, device=DEVICE).to(case.dtype)
    gate = problem.per_query(q).uniform_(0.1, 1.0)
    seen = seen_by(band, case.queries, case.seq_len, k.shape[2])
    expected = []
    for dtype in (torch.float64, case.dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (k, v)]
        with usual_memory():
            out, _ = masked_attention(q.to(dtype), *leaves, seen)
            expected.append(
                torch.autograd.grad(out * gate[..., None].to(dtype), leaves, grad.to(dtype))
            )
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    dots = problem.per_query(q).copy_((out.float() * grad.float()).sum(dim=-1))
    of = OutputGradient(out=grad, lse=problem.per_query(q).copy_(lse - gate.log2()), dots=dots)
    got = banded_keys_backward(problem, band, q, k, v, of)
    again = banded_keys_backward(problem, band, q, k, v, of)
    unit = case.repeat**0.5 * 4.0
    for name, a, b, c, d in zip(("dk", "dv"), got, again, *expected, strict=True):
        assert torch.equal(a, b), name
        a = a.to(case.dtype)
        assert_as_exact(name, a, c, d, terms=case.repeat * case.queries, unit=unit)


@hopper
@CASES
@pytest.mark.parametrize("tile", [1, 64])
def test_merged_lists_equal_masked_attention(
    case: Case, tile: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsa_kernels.gpu.hopper import lists

    make = lists.warpgroup_lists
    served = []

    def forced(*arguments: Any) -> Any:
        served.append(make(*arguments))
        served[-1].margin.fill_(-1)
        return served[-1]

    monkeypatch.setattr(lists, "warpgroup_lists", forced)
    torch.manual_seed(seed)
    _, tensors = case.draw()
    q, k, v = (tensors[x] for x in "qkv")
    settings = replace(SETTINGS, select_tile=tile)
    problem = Problem.of(q, k, v, settings, None)
    of = {"batch": case.batch, "groups": case.groups}
    blocks = random_blocks(settings, case.queries, case.seq_len, count=8, **of)
    gate = tensors["gates"][..., 1]
    others = empty_rows(q, case.dim).normal_()
    seen = seen_in(blocks, case.queries, case.seq_len, settings)
    with usual_memory():
        exact, exact_lse = masked_attention(q.double(), k.double(), v.double(), seen)
        eager, _ = masked_attention(q, k, v, seen)
    out, lse = selected_forward(problem, q, k, v, blocks)
    compare("out", out, exact, eager, keys=case.seq_len)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-5, atol=2e-5)
    summed = others.clone()
    out, again = selected_forward(problem, q, k, v, blocks, gate=gate, others=summed)
    assert torch.equal(lse, again)
    exact, eager = (others.to(x.dtype) + gate[..., None] * x for x in (exact, eager))
    compare("sum", out, exact, eager, keys=case.seq_len)
    assert len(served) == (2 if case.repeat > 4 and case.dim == 128 and case.queries > 1 else 0)


LISTED = pytest.mark.parametrize(
    ("case", "tile"),
    [
        *((Case(queries=n, seq_len=n), 64) for n in (2, 31, 64, 65, 1000, 4097)),
        (Case(queries=77, seq_len=701), 64),
        (Case(queries=77, seq_len=701), 8),
        (Case(queries=1000, seq_len=1064, batch=2, groups=2), 16),
        (Case(queries=333, seq_len=413, dim=64, repeat=7, batch=2, groups=2), 64),
        (Case(queries=1000, seq_len=1000, dim=64, repeat=7, groups=2), 64),
        (Case(queries=150, seq_len=406, repeat=4, dtype=FP16), 32),
        (Case(queries=500, seq_len=564, dim=64, repeat=2), 64),
        (Case(queries=99, seq_len=131, repeat=31), 64),
        (Case(queries=99, seq_len=101, dim=64, repeat=64), 64),
        (Case(queries=200, seq_len=264, repeat=14, dtype=FP16), 64),
    ],
    ids=str,
)


@hopper
@LISTED
@pytest.mark.parametrize("window", [64, 128, 512])
def test_lists_of_union_equal_masked_attention(
    case: Case, tile: int, window: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsa_kernels.gpu.hopper import listed

    attend = listed.launch_listed
    served = []
    monkeypatch.setattr(
        listed, "launch_listed", lambda *arguments: served.append(attend(*arguments))
    )
    torch.manual_seed(seed)
    settings = AttentionSettings(
        combine="union", select_count=5, select_tile=tile, select_block=64, window=window
    )
    sizes = {"batch": case.batch, "groups": case.groups}
    tensors = draw(
        settings,
        *(case.queries, case.seq_len),
        **sizes,
        repeat=case.repeat,
        dim=case.dim,
        dtype=case.dtype,
    )
    q, k, v = (tensors[x] for x in "qkv")
    problem = Problem.of(q, k, v, settings, None)
    blocks = union_blocks(settings, case.queries, case.seq_len, **sizes)
    seen = seen_in(blocks, case.queries, case.seq_len, settings)
    with usual_memory():
        exact, exact_lse = masked_attention(q.double(), k.double(), v.double(), seen)
        eager, _ = masked_attention(q, k, v, seen)
    out, lse = selected_forward(problem, q, k, v, blocks)
    compare("out", out, exact, eager, keys=case.seq_len)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=1e-5, atol=2e-5)
    assert len(served) == 1
    again = selected_forward(problem, q, k, v, blocks)
    assert torch.equal(out, again[0])
    assert torch.equal(lse, again[1])


@pytest.mark.parametrize(
    ("case", "changes", "served"),
    [
        (Case(queries=100, seq_len=108), {}, True),
        (Case(queries=100, seq_len=107), {}, False),
        (Case(queries=100, seq_len=100, repeat=7, dim=64), {}, True),
        (Case(queries=100, seq_len=100, repeat=12), {}, False),
        (Case(queries=100, seq_len=100, repeat=1), {}, False),
        (Case(queries=1, seq_len=129), {}, False),
        (Case(queries=100, seq_len=100, dim=96), {}, False),
        (Case(queries=100, seq_len=100), {"select_tile": 4}, False),
        (Case(queries=100, seq_len=100), {"select_block": 32, "select_tile": 32}, False),
        (Case(queries=100, seq_len=100), {"combine": "gated"}, False),
    ],
    ids=str,
)
def test_lists_of_whole_parts_of_tiles_are_served(
    case: Case, changes: dict[str, Any], served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "_is_hopper", lambda _: True)
    monkeypatch.setattr(support, "has_gluon", lambda: True)
    settings = AttentionSettings(combine="union", select_tile=64)
    tensors = draw(
        settings,
        *(case.queries, case.seq_len),
        groups=1,
        repeat=case.repeat,
        dim=case.dim,
        dtype=case.dtype,
    )
    settings = replace(settings, **changes)
    q, k, v = (tensors[x] for x in "qkv")
    assert support.serves_listed(Problem.of(q, k, v, settings, None), q) == served
    packing, _ = pack([(case.queries, case.seq_len)], settings)
    assert not support.serves_listed(Problem.of(q, k, v, settings, packing), q)


@hopper
@CASES
@BANDS
def test_gradients_of_queries_equal_autograd(band: Band, case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    problem, tensors = case.draw()
    q, k, v = inputs(band, tensors)
    assert support.serves_rows(problem, q) == (case.dim == 128 and case.repeat == 16)
    grad = torch.randn(q.shape, device=DEVICE).to(case.dtype)
    gate = problem.per_query(q).uniform_(0.1, 1.0)
    seen = seen_by(band, case.queries, case.seq_len, k.shape[2])
    expected = []
    for dtype in (torch.float64, case.dtype):
        leaf = q.to(dtype).requires_grad_()
        with usual_memory():
            out, _ = masked_attention(leaf, k.to(dtype), v.to(dtype), seen)
            weighed = out * gate[..., None].to(dtype)
            expected.append(torch.autograd.grad(weighed, leaf, grad.to(dtype))[0])
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    dots = problem.per_query(q).copy_((out.float() * grad.float()).sum(dim=-1))
    of = OutputGradient(out=grad, lse=problem.per_query(q).copy_(lse - gate.log2()), dots=dots)
    dq = empty_rows(q, case.dim)
    banded_rows_backward(problem, band, q, k, v, of, dq, adds=False)
    assert_as_exact("dq", dq, *expected, terms=case.seq_len, unit=4.0)
    banded_rows_backward(problem, band, q, k, v, of, dq, adds=True)
    assert_as_exact("2 dq", dq, *(2 * x for x in expected), terms=case.seq_len, unit=8.0)


@hopper
@CASES
@pytest.mark.parametrize("tile", [1, 64])
def test_gradients_of_queries_of_merged_lists_equal_autograd(
    case: Case, tile: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsa_kernels.gpu.hopper import merged_rows

    make = merged_rows.warpgroup_lists
    served = []

    def forced(*arguments: Any) -> Any:
        served.append(make(*arguments))
        served[-1].margin.fill_(-1)
        return served[-1]

    monkeypatch.setattr(merged_rows, "warpgroup_lists", forced)
    torch.manual_seed(seed)
    _, tensors = case.draw()
    q, k, v = (tensors[x] for x in "qkv")
    settings = replace(SETTINGS, select_tile=tile)
    problem = Problem.of(q, k, v, settings, None)
    of = {"batch": case.batch, "groups": case.groups}
    blocks = random_blocks(settings, case.queries, case.seq_len, count=8, **of)
    seen = seen_in(blocks, case.queries, case.seq_len, settings)
    grad = torch.randn(q.shape, device=DEVICE).to(case.dtype)
    before = empty_rows(q, case.dim).normal_()
    expected = []
    for dtype in (torch.float64, case.dtype):
        leaf = q.to(dtype).requires_grad_()
        with usual_memory():
            out, _ = masked_attention(leaf, k.to(dtype), v.to(dtype), seen)
            found = torch.autograd.grad(out, leaf, grad.to(dtype))[0]
            expected.append(before.to(dtype) + found)
    out, lse = selected_forward(problem, q, k, v, blocks)
    dots = problem.per_query(q).copy_((out.float() * grad.float()).sum(dim=-1))
    gradient = OutputGradient(out=grad, lse=lse, dots=dots)
    dq, sums = before.clone(), problem.per_query(q)
    selected_rows_backward(problem, q, k, v, blocks, gradient, dq, adds=True, sums=sums)
    assert_as_exact("dq", dq, *expected, terms=case.seq_len, unit=4.0)
    torch.testing.assert_close(sums, dots, rtol=2e-2, atol=2e-1)
    assert len(served) == (1 if support.serves_rows(problem, q) and case.queries > 1 else 0)


@hopper
@CASES
@pytest.mark.parametrize("tile", [1, 64])
def test_gradients_of_selected_keys_equal_autograd(case: Case, tile: int, seed: int) -> None:
    torch.manual_seed(seed)
    _, tensors = case.draw()
    q, k, v = (tensors[x] for x in "qkv")
    settings = replace(SETTINGS, select_tile=tile)
    problem = Problem.of(q, k, v, settings, None)
    served = case.repeat == 16 and case.dim == 128 and case.queries > 1
    assert support.serves_selected_keys(problem, q) == served
    of = {"batch": case.batch, "groups": case.groups}
    blocks = random_blocks(settings, case.queries, case.seq_len, count=8, **of)
    seen = seen_in(blocks, case.queries, case.seq_len, settings)
    grad = torch.randn(q.shape, device=DEVICE).to(case.dtype)
    expected = []
    for dtype in (torch.float64, case.dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (k, v)]
        with usual_memory():
            out, _ = masked_attention(q.to(dtype), *leaves, seen)
            expected.append(torch.autograd.grad(out, leaves, grad.to(dtype)))
    out, lse = selected_forward(problem, q, k, v, blocks)
    dots = problem.per_query(q).copy_((out.float() * grad.float()).sum(dim=-1))
    gradient = OutputGradient(out=grad, lse=lse, dots=dots)
    choosers = invert(problem, blocks, case.seq_len)
    got = selected_keys_backward(problem, q, k, v, choosers, gradient, None)
    again = selected_keys_backward(problem, q, k, v, choosers, gradient, None)
    unit = case.repeat**0.5 * 4.0
    for name, a, b, c, d in zip(("dk", "dv"), got, again, *expected, strict=True):
        assert torch.equal(a, b), name
        assert_as_exact(name, a, c, d, terms=case.repeat * case.queries, unit=unit)


def test_other_devices_are_not_supported() -> None:
    tensors = draw(SETTINGS, 40, repeat=16, groups=1, dim=64, dtype=BF16)
    problem = Problem.of(*(tensors[x] for x in "qkv"), SETTINGS, None)
    assert support.serves_band(problem, tensors["q"]) == HOPPER
    assert not support.serves_band(problem, tensors["q"].cpu())
