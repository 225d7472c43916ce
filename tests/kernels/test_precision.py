"""Conditions for widening bf16."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nsa_kernels import precision


@pytest.mark.parametrize(
    ("dtype", "rows", "narrow", "expected"),
    [
        (torch.bfloat16, 128, False, True),
        (torch.bfloat16, 127, False, False),
        (torch.bfloat16, 128, True, False),
        (torch.float32, 128, False, False),
    ],
)
def test_many_rows_of_bf16_are_widened_if_fp32_is_faster(
    dtype: torch.dtype, rows: int, narrow: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_narrow_is_quicker", lambda: narrow)
    assert precision.widens(torch.empty(1, dtype=dtype), rows) is expected


@pytest.mark.parametrize(
    ("instructions", "rows", "narrow", "expected"),
    [
        (False, 16, False, True),
        (False, 15, False, False),
        (True, 127, False, False),
        (True, 128, False, True),
        (True, 128, True, False),
    ],
)
def test_weights_are_widened_for_fewer_rows_where_bf16_is_emulated(
    instructions: bool, rows: int, narrow: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_narrow_is_quicker", lambda: narrow)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    assert precision.widens_weights(torch.empty(1, dtype=torch.bfloat16), rows) is expected


@pytest.mark.parametrize("instructions", [True, False])
def test_bf16_is_emulated_on_a_cpu_without_bf16_instructions(
    instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    cpu = torch.device("cpu")
    assert precision.emulated(torch.bfloat16, cpu) is not instructions
    assert not precision.emulated(torch.float32, cpu)
    assert not precision.emulated(torch.bfloat16, torch.device("cuda"))


@pytest.fixture
def no_cached_measurement() -> Iterator[None]:
    """Clear the cached measurement before and after the test."""
    precision._narrow_is_quicker.cache_clear()
    yield
    precision._narrow_is_quicker.cache_clear()


@pytest.mark.usefixtures("no_cached_measurement")
@pytest.mark.parametrize(
    ("units", "instructions", "bf16_seconds", "expected"),
    [
        (True, True, 9.0, True),
        (False, False, 0.1, False),
        (False, True, 0.1, True),
        (False, True, 9.0, False),
    ],
)
def test_the_faster_precision(
    units: bool,
    instructions: bool,
    bf16_seconds: float,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)

    def seconds(_: object, a: Tensor, __: Tensor) -> float:
        return bf16_seconds if a.dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert precision._narrow_is_quicker() is expected


@pytest.mark.parametrize(("int8_seconds", "expected"), [(0.1, True), (9.0, False)])
def test_integers_if_they_are_faster(
    int8_seconds: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(_: object, a: Tensor, __: Tensor) -> float:
        return int8_seconds if a.dtype == torch.int8 else 1.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert precision.quicker_than_fp32(torch._int_mm, torch.int8) is expected


def test_a_slow_first_try_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [50.0, 1.0, 0.5, 1.0, 0.6, 1.0]
    times = iter([*small, 50.0, 1.0, 0.5, 1.0, 0.6, 1.0, 0.5, 1.0, 0.5, 1.0])
    monkeypatch.setattr(precision, "_seconds", lambda *_: next(times))
    assert precision.quicker_than_fp32(torch._int_mm, torch.int8)


def test_a_far_slower_product_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 50.0, 1.0, 40.0, 1.0])
    monkeypatch.setattr(precision, "_seconds", lambda *_: next(times))
    assert not precision.quicker_than_fp32(torch._int_mm, torch.int8)


def test_a_product_that_is_slow_when_small_is_not_tried_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = []

    def seconds(_: object, a: Tensor, __: Tensor) -> float:
        rows.append(len(a))
        return 5.0 if a.dtype == torch.int8 else 1.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert not precision.quicker_than_fp32(torch._int_mm, torch.int8)
    assert max(rows) == precision._SMALL_PROBE[0]


def test_the_measurement_on_this_machine() -> None:
    assert precision.quicker_than_fp32(torch._int_mm, torch.int8) in (True, False)
