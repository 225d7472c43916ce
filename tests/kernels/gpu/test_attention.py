"""Native Sparse Attention with Triton, end to end, against the fp64 reference.

Without a CUDA device the kernels are interpreted on the CPU in fp32. Every test draws new inputs;
unwritten elements are NaN.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from exactness import (
    DEVICE,
    SMALL,
    assert_the_same_twice,
    by_triton,
    check,
    draw,
    last,
    pack,
    usual_memory,
)
from layouts import LAYOUTS, as_projected, in_wider_rows
from torch import Tensor

from nsa_kernels import api
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu import attention
from nsa_kernels.gpu.banded import banded_dots
from nsa_kernels.gpu.layout import Packing
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

UNION = replace(SMALL, combine="union", window=32)
BOTH = pytest.mark.parametrize("settings", [SMALL, UNION], ids=["gated", "union"])


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        (SMALL, 1),
        (UNION, 1),
        (SMALL, 7),
        (UNION, 31),
        (SMALL, 32),
        (UNION, 33),
        (SMALL, 63),
        (UNION, 64),
        (SMALL, 65),
        pytest.param(UNION, 200, marks=pytest.mark.long),
        pytest.param(SMALL, 300, marks=pytest.mark.long),
    ],
)
def test_lengths(settings: AttentionSettings, length: int, seed: int) -> None:
    torch.manual_seed(seed)
    check(draw(settings, length, groups=1), settings)


@pytest.mark.long
def test_a_thousand_tokens(seed: int) -> None:
    torch.manual_seed(seed)
    settings = AttentionSettings(
        combine="gated", compress_block=4, compress_stride=4, select_tile=64, score_stride=4
    )
    check(draw(settings, 1000, groups=1, repeat=1), replace(settings, select_count=6, window=100))


@pytest.mark.parametrize(
    ("queries", "seq_len", "window", "drawn"),
    [
        (1, 1, 1, {}),
        (65, 65, 65, {"repeat": 1}),
        (33, 90, 90, {"repeat": 7, "dim": 24, "summaries": True}),
        (33, 90, 56, {"repeat": 4, "summaries": True}),  # 33 queries that see 24 keys each
        pytest.param(20, 121, 70, {"repeat": 16, "batch": 2}, marks=pytest.mark.long),
        (17, 60, 60, {"repeat": 2, "value_dim": 32}),
    ],
)
def test_the_windows_own_keys_and_values(
    queries: int, seq_len: int, window: int, drawn: dict[str, Any], seed: int
) -> None:
    torch.manual_seed(seed)
    check(draw(SMALL, queries, seq_len, window=window, groups=1, **drawn), SMALL)


@pytest.mark.parametrize(
    ("settings", "queries", "seq_len", "drawn"),
    [
        (replace(SMALL, compress_block=4), 40, 40, {"repeat": 3, "dim": 32}),
        pytest.param(
            replace(UNION, compress_block=4),
            30,
            133,
            {"repeat": 7, "groups": 2},
            marks=pytest.mark.long,
        ),
        (replace(SMALL, compress_block=8, compress_stride=8), 20, 90, {"repeat": 6}),
        (replace(UNION, compress_block=8, compress_stride=8), 9, 140, {"repeat": 16, "dim": 32}),
        pytest.param(
            replace(SMALL, compress_block=16, compress_stride=16),
            10,
            70,
            {"repeat": 32},
            marks=pytest.mark.long,
        ),
        (replace(UNION, compress_block=16, compress_stride=16), 50, 50, {"repeat": 1, "dim": 24}),
        (replace(SMALL, compress_block=12), 65, 65, {"repeat": 1, "dim": 24, "value_dim": 16}),
        (replace(UNION, compress_block=12), 33, 200, {"repeat": 2, "dim": 24, "value_dim": 40}),
        pytest.param(
            replace(SMALL, compress_block=20, score_stride=4),
            30,
            61,
            {"repeat": 7, "batch": 2},
            marks=pytest.mark.long,
        ),
        (
            AttentionSettings(
                combine="gated", select_count=3, select_tile=64, score_stride=4, window=70
            ),
            70,
            150,
            {"repeat": 6},
        ),
        (
            AttentionSettings(select_count=2, select_tile=64, score_stride=4, window=64),
            99,
            400,
            {"repeat": 3},
        ),
        (replace(SMALL, select_tile=1), 6, 90, {"repeat": 2, "batch": 2}),
        (replace(UNION, select_tile=1, compress_block=4), 7, 150, {"repeat": 7}),
        pytest.param(
            replace(SMALL, select_tile=4, score_stride=2),
            18,
            121,
            {"repeat": 16},
            marks=pytest.mark.long,
        ),
    ],
)
def test_groups_summaries_and_tiles(
    settings: AttentionSettings, queries: int, seq_len: int, drawn: dict[str, int], seed: int
) -> None:
    torch.manual_seed(seed)
    of = {"groups": 1, "summaries": drawn.get("dim", 16) % 16 != 0, **drawn}
    check(draw(settings, queries, seq_len, **of), settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, window=1),
        replace(SMALL, window=512),
        replace(UNION, window=512),
        pytest.param(replace(SMALL, select_count=40), marks=pytest.mark.long),
        replace(UNION, select_count=1),
        replace(SMALL, init_blocks=0, local_blocks=0, select_count=1),
        replace(UNION, init_blocks=2, local_blocks=4, select_count=5, window=16),
    ],
)
def test_budgets(settings: AttentionSettings, seed: int) -> None:
    torch.manual_seed(seed)
    check(draw(settings, 40, 90, groups=1), settings)


@BOTH
def test_given_summaries_are_used_and_get_gradients(settings: AttentionSettings, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(settings, 20, 97, summaries=True)
    got = check(tensors, settings)
    names = {"gated": ("dsummary_k", "dsummary_v"), "union": ()}[settings.combine]
    assert all(got[name].any() for name in names)


@pytest.mark.parametrize(
    ("settings", "given"), [(UNION, False), pytest.param(SMALL, True, marks=pytest.mark.long)]
)
def test_packed_sequences_equal_separate_sequences(
    settings: AttentionSettings, given: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    lengths = [(1, 1), (5, 40), (0, 0), (20, 20), (1, 70), (7, 7)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys, repeat=3)
    if given:
        total = parts[-1].summaries.stop
        tensors["summary_k"], tensors["summary_v"] = torch.randn(2, 1, 2, total, 16, device=DEVICE)
    check(tensors, settings, packing=packing, parts=parts)


def test_packed_tiles_of_one_query(seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, select_tile=1)
    lengths = [(1, 1), (3, 40), (1, 30)]
    packing, parts = pack(lengths, settings)
    tensors = draw(settings, 5, 71, groups=1)
    check(tensors, settings, packing=packing, parts=parts)


@pytest.mark.parametrize(
    "settings",
    [replace(SMALL, select_tile=1), pytest.param(UNION, marks=pytest.mark.long)],
    ids=["gated", "union"],
)
def test_spare_summaries_and_empty_sequences_change_nothing(settings: AttentionSettings) -> None:
    lengths = [(11, 11), (5, 5), (20, 20)]
    total = sum(queries for queries, _ in lengths)
    drawn = draw(settings, total, groups=1)
    packing, _ = pack(lengths, settings)
    offsets = torch.cat([packing.cu_keys, packing.cu_keys.new_full((2,), total)])
    fixed = Packing(
        cu_queries=offsets, cu_keys=offsets, max_queries=32, max_keys=32, total_keys=total
    )
    assert fixed.summary_layout(settings)[1] > packing.summary_layout(settings)[1]
    results = []
    for each in (packing, fixed):
        inputs = {name: x.clone().requires_grad_() for name, x in drawn.items()}
        result = nsa_attention(**inputs, settings=settings, packing=each, impl=Impl.TRITON)
        (result.out * torch.arange(total, device=DEVICE).cos()[:, None]).sum().backward()
        results.append([result.out.detach(), *(x.grad for x in inputs.values())])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_spare_tiles_of_a_packed_batch_have_no_blocks(seed: int) -> None:
    """Only the device knows the number of tiles, so the buffer holds more."""
    torch.manual_seed(seed)
    packing, parts = pack([(1, 1), (30, 70), (60, 60)], UNION)
    tensors = draw(UNION, 91, 131, repeat=3)
    _, blocks = by_triton(tensors, UNION, None, packing)
    used = parts[-1].tiles.stop
    assert blocks.shape[2] > used
    assert (blocks[:, :, used:] == -1).all()


def test_keys_without_queries_get_no_gradient(seed: int) -> None:
    torch.manual_seed(seed)
    packing, parts = pack([(5, 20), (0, 30), (3, 9)], SMALL)
    got = check(draw(SMALL, 8, 59, groups=1), SMALL, packing=packing, parts=parts)
    assert all((got[name][:, :, 20:50] == 0).all() for name in ("dk", "dv"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 20, 33, groups=1, batch=2, summaries=True)
    laid = {**tensors, **LAYOUTS[layout](tensors)}
    moved = [n for n, x in tensors.items() if laid[n].stride() != x.stride()]
    assert moved or all(x.data_ptr() % 16 for n, x in laid.items() if n != "gates")
    check(laid, SMALL)


def test_closed_gates(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 40, groups=1)
    tensors["gates"] = torch.randint(2, tensors["gates"].shape, device=DEVICE).float()
    # A closed gate adds hundreds to the log-sum-exp, which increases its rounding error.
    check(tensors, SMALL, least_terms=128**2)


def test_a_batch_with_shared_keys(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 33, groups=1, batch=2)
    for name in "kv":
        tensors[name] = tensors[name][:1].expand(2, -1, -1, -1)
    check(tensors, SMALL)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (SMALL, "sum"),
        (UNION, "sum"),
        (SMALL, "one_row"),
        (SMALL, "transposed"),
        (UNION, "not_dense"),
        (SMALL, "unaligned"),
    ],
)
def test_layouts_of_the_output_s_gradient(
    settings: AttentionSettings, kind: str, seed: int
) -> None:
    torch.manual_seed(seed)
    tensors = draw(settings, 20, batch=2, groups=1)
    grad = torch.randn_like(tensors["q"])
    laid = {
        "sum": None,
        "one_row": torch.randn(16, device=DEVICE).expand_as(grad),
        "transposed": as_projected(grad),
        "not_dense": grad.transpose(2, 3).contiguous().transpose(2, 3),
        "unaligned": in_wider_rows(grad, 1),
    }[kind]
    check(tensors, settings, grad=laid, drawn_grad=False)


@BOTH
def test_one_head_of_one_group(settings: AttentionSettings, seed: int) -> None:
    torch.manual_seed(seed)
    check(draw(settings, 20, groups=1, repeat=1), settings)


@BOTH
def test_one_query_of_many_keys(settings: AttentionSettings, seed: int) -> None:
    torch.manual_seed(seed)
    check(draw(settings, 1, 60, batch=2), settings)


@BOTH
def test_the_last_queries_alone(settings: AttentionSettings, seed: int) -> None:
    """As a long text is compared on a GPU."""
    torch.manual_seed(seed)
    tensors = draw(settings, 81, groups=1)
    grad = torch.randn_like(tensors["q"])
    grad[:, :, :-17] = 0.0
    got = check(tensors, settings, grad=grad, parts=[last(17, 81, settings)])
    assert not got["dq"][:, :, :-17].any()


@BOTH
def test_equal_importances_go_to_the_earlier_block(settings: AttentionSettings, seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(settings, compress_block=4, select_count=5)
    tensors = draw(settings, 160, groups=1)
    tensors["k"].zero_()[..., 0] = 1.5  # one term per score: sums are exact
    _, blocks = by_triton(tensors, settings)
    for current, chosen in enumerate(blocks[0, 0].tolist()):
        end = current + 1 if settings.combine == "gated" else current - 2
        forced = [n for n in range(end) if n == 0 or n > current - 2]
        rest = [n for n in range(end) if n not in forced]
        assert chosen == (forced + rest + [-1] * 5)[:5]


@BOTH
def test_results_are_deterministic(settings: AttentionSettings, seed: int) -> None:
    torch.manual_seed(seed)
    assert_the_same_twice(draw(settings, 40), settings)


def test_the_windows_output_is_kept_or_computed_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 40, groups=1)
    inputs = [tensors[name].requires_grad_() for name in ("q", "k", "v", "gates")]
    computed = []

    def counted(*arguments: Any) -> Tensor:
        computed.append(banded_dots(*arguments))
        return computed[-1]

    monkeypatch.setattr(attention, "banded_dots", counted)
    found = []
    for keep in (True, False):
        out, _ = attention.triton_attention(**tensors, settings=SMALL, keep_window=keep)
        found.append(torch.autograd.grad(out.square().sum(), inputs))
        assert len(computed) == (not keep)
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(kept, again)


def test_gradients_of_some_inputs_only(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 20, groups=1)
    expected = by_triton(tensors, SMALL)[0]["dk"]
    tensors["k"].requires_grad_()
    out, blocks = attention.triton_attention(**tensors, settings=SMALL)
    assert not blocks.requires_grad
    out.sum().backward()
    assert tensors["q"].grad is None
    torch.testing.assert_close(tensors["k"].grad, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"select_count": None}, "select_count is None"),
        ({"select_block": 48}, "select_block is 48"),
        ({"select_block": 256}, "it is 256"),
        ({"compress_block": 24}, "compress_block .* it is 24"),
    ],
)
def test_unsupported_arguments_are_refused(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_by_blocks", "nsa_reference"):
        monkeypatch.delattr(api, name)
    tensors = draw(replace(SMALL, **changes), 33)
    with pytest.raises(UnsupportedError, match=message):
        nsa_attention(**tensors, settings=replace(SMALL, **changes), impl=Impl.TRITON)
    double = {name: x.double() for name, x in tensors.items()}
    with pytest.raises(UnsupportedError, match="float64"):
        nsa_attention(**double, settings=SMALL, impl=Impl.TRITON)


def test_an_explicit_implementation_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = draw(SMALL, 33)
    calls = []

    def kernels(*_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        calls.append("triton")
        return tensors["q"], tensors["q"]

    monkeypatch.setattr(attention, "triton_attention", kernels)
    expected = nsa_attention(**tensors, settings=SMALL, impl=Impl.REFERENCE).out
    assert not calls
    found = nsa_attention(**tensors, settings=SMALL, impl=Impl.BLOCKWISE).out
    assert torch.allclose(found, expected, atol=1e-5)
    assert not calls
    assert nsa_attention(**tensors, settings=SMALL, impl=Impl.TRITON).out is tensors["q"]
    assert calls == ["triton"]


@BOTH
def test_the_default_on_a_cpu_is_not_triton(
    settings: AttentionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {name: x.cpu() for name, x in draw(settings, 33).items()}
    monkeypatch.delattr(attention, "triton_attention")
    with usual_memory():
        out = nsa_attention(**tensors, settings=settings).out
        expected = nsa_reference(**tensors, settings=settings)[0]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("impl", [Impl.REFERENCE, Impl.BLOCKWISE])
def test_packed_sequences_need_triton(impl: Impl) -> None:
    packing, _ = pack([(10, 10), (23, 23)], SMALL)
    with pytest.raises(UnsupportedError, match=str(impl)):
        nsa_attention(**draw(SMALL, 33), settings=SMALL, packing=packing, impl=impl)
    with pytest.raises(ValueError, match="one batch row; q has 2"):
        nsa_attention(**draw(SMALL, 33, batch=2), settings=SMALL, packing=packing)


def test_triton_is_the_default_for_packed_sequences(seed: int) -> None:
    torch.manual_seed(seed)
    packing, _ = pack([(10, 10), (23, 23)], SMALL)
    tensors = draw(SMALL, 33, groups=1)
    out, blocks = attention.triton_attention(**tensors, settings=SMALL, packing=packing)
    result = nsa_attention(**tensors, settings=SMALL, packing=packing)
    assert torch.equal(result.out, out)
    assert result.blocks is not None
    assert torch.equal(result.blocks[:, :, :3], blocks[:, :, :3])
    with pytest.raises(UnsupportedError, match="not packed"):
        nsa_attention(**tensors, settings=SMALL, packing=packing, return_mass=True)


def test_gated_mass_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"TRITON.*combine='union'"):
        nsa_attention(**draw(SMALL, 33), settings=SMALL, impl=Impl.TRITON, return_mass=True)


def test_union_mass_equals_the_reference(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(UNION, 20, 90)
    got = nsa_attention(**tensors, settings=UNION, impl=Impl.TRITON, return_mass=True)
    with usual_memory():
        out, blocks, mass = nsa_reference(**tensors, settings=UNION)
    assert got.mass is not None
    torch.testing.assert_close(got.out, out, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.mass, mass, rtol=1e-4, atol=1e-5)
    assert got.blocks is not None
    assert torch.equal(got.blocks[..., : blocks.shape[-1]].long(), blocks)
