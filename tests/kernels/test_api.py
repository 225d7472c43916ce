"""The public operation: refused arguments, and the implementation that runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_kernels import api
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.settings import AttentionSettings

UNION = AttentionSettings(select_count=2, window=64)
GATED = AttentionSettings(combine="gated", select_count=2, window=64)


def tensors(length: int = 300, queries: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((1, 4, queries, 16), (1, 2, length, 16), (1, 2, length, 16))
    q, k, v = (torch.randn(shape) for shape in shapes)
    return q, k, v


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the implementations called."""
    calls: list[str] = []

    def watch(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(label)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    watch(api, "nsa_reference", "reference")
    watch(api.blockwise, "dense_attention", "dense")
    watch(api.blockwise, "union_attention", "union")
    return calls


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4, 3, 8), (1, 2, 3, 8), (1, 2, 3, 8)], "q, k, v have 3, 4, 4 dims; each needs 4"),
        (
            [(1, 4, 3, 8), (1, 2, 3, 8), (1, 2, 4, 8)],
            r"do not agree: q \(1, 4, 3, 8\), k \(1, 2, 3, 8\), v \(1, 2, 4, 8\)",
        ),
        ([(2, 4, 3, 8), (1, 2, 3, 8), (1, 2, 3, 8)], r"do not agree: q \(2, 4, 3, 8\)"),
        ([(1, 4, 3, 6), (1, 2, 3, 8), (1, 2, 3, 8)], r"do not agree: q \(1, 4, 3, 6\)"),
        (
            [(1, 5, 3, 8), (1, 2, 3, 8), (1, 2, 3, 8)],
            "5 query heads are not a multiple of 2 groups",
        ),
        (
            [(1, 4, 4, 8), (1, 2, 3, 8), (1, 2, 3, 8)],
            "4 queries cannot be the last of 3 positions",
        ),
        (
            [(1, 4, 0, 8), (1, 2, 3, 8), (1, 2, 3, 8)],
            "0 queries cannot be the last of 3 positions",
        ),
    ],
)
@pytest.mark.parametrize("impl", [None, *Impl])
def test_mismatched_shapes_are_refused(
    shapes: list[tuple[int, ...]], message: str, impl: Impl | None
) -> None:
    q, k, v = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        nsa_attention(q, k, v, UNION, impl=impl)


@pytest.mark.parametrize(
    "impl",
    [
        Impl.REFERENCE,
        Impl.BLOCKWISE,
    ],
)
def test_values_may_have_another_width(impl: Impl) -> None:
    """`_validate` must accept them."""
    q, k, _ = tensors()
    v = torch.randn(1, 2, 300, 5)
    assert nsa_attention(q, k, v, UNION, impl=impl).out.shape == (1, 4, 300, 5)


@pytest.mark.parametrize(("gates", "got"), [(None, "None"), (torch.zeros(1, 4, 3), r"\(1, 4, 3\)")])
def test_gated_needs_its_gates(gates: Tensor | None, got: str) -> None:
    message = rf"gates are {got}; combine='gated' needs \(1, 4, 300, 3\)"
    with pytest.raises(ValueError, match=message):
        nsa_attention(*tensors(), GATED, gates=gates)


def test_union_has_no_gates() -> None:
    with pytest.raises(ValueError, match="combine='union' has none"):
        nsa_attention(*tensors(), UNION, gates=torch.zeros(1, 4, 300, 3))


def test_an_unknown_implementation_is_named() -> None:
    with pytest.raises(ValueError, match="'flash' is not a valid Impl"):
        Impl("flash")


def test_an_implementation_of_another_type_is_refused() -> None:
    with pytest.raises((TypeError, ValueError), match="reference"):
        nsa_attention(*tensors(), UNION, impl="reference")  # type: ignore[arg-type]


def test_an_explicit_implementation_is_never_replaced(asked: list[str]) -> None:
    q, k, v = tensors()
    gates = torch.rand(1, 4, 300, 3)
    for settings, given in ((UNION, None), (GATED, gates)):
        nsa_attention(q, k, v, settings, gates=given, impl=Impl.REFERENCE)
        assert asked.pop() == "reference"
        nsa_attention(q, k, v, settings, gates=given, impl=Impl.BLOCKWISE)
        assert "reference" not in asked
        asked.clear()


def test_the_default_on_a_cpu_is_not_the_reference(asked: list[str]) -> None:
    q, k, v = tensors()
    nsa_attention(q, k, v, GATED, gates=torch.rand(1, 4, 300, 3))
    assert asked == []
    nsa_attention(q, k, v, UNION)
    assert asked[0] == "union"
    assert "reference" not in asked


@pytest.mark.parametrize("settings", [UNION, AttentionSettings(select_count=None, window=64)])
def test_a_covered_text_is_attended_to_densely(
    settings: AttentionSettings, asked: list[str]
) -> None:
    q, k, v = tensors(256, 10)
    result = nsa_attention(q, k, v, settings, return_mass=True)
    assert asked == ["dense"]
    assert result.blocks is None
    assert result.mass is not None
    assert result.mass.shape == (1, 4, 10, 4)


def test_mass_is_returned_on_request() -> None:
    q, k, v = tensors(300, 40)
    for impl in Impl:
        assert nsa_attention(q, k, v, UNION, impl=impl).mass is None
        mass = nsa_attention(q, k, v, UNION, impl=impl, return_mass=True).mass
        assert mass is not None
        torch.testing.assert_close(mass.sum(dim=-1), torch.ones(1, 4, 40))


@pytest.mark.parametrize("impl", list(Impl))
def test_given_summaries_select_the_blocks(impl: Impl, seed: int) -> None:
    settings = AttentionSettings(
        select_count=2, window=64, compress_block=64, compress_stride=64, select_block=64
    )
    _, k, v = tensors(640, 1)
    q = torch.ones(1, 4, 1, 16)
    summary_k = torch.zeros(1, 2, 10, 16)
    first, second = seed % 7 + 1, seed // 7 % 7 + 1
    summary_k[:, 0, first] = summary_k[:, 1, second] = 1.0
    blocks = nsa_attention(q, k, v, settings, summary_k=summary_k, impl=impl).blocks
    assert blocks is not None
    assert blocks.tolist() == [[[[0, first]], [[0, second]]]]
