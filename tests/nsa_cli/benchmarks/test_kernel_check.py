"""The check before a measurement accepts correct kernels and rejects wrong ones."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nsa_cli.benchmarks.kernel_check import (
    LEAST_ERROR,
    Attend,
    Comparison,
    Inputs,
    compare,
    draw_inputs,
    judge,
    reference_by_group,
    relative_error,
)
from nsa_cli.benchmarks.kernel_results import Check, Shape
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(
    combine="gated",
    compress_block=8,
    compress_stride=4,
    select_block=16,
    select_count=4,
    window=24,
)
RIGHT = reference_by_group(SETTINGS, torch.float32)


@pytest.fixture
def inputs(seed: int) -> Inputs:
    return draw_inputs(
        Shape(heads=6, groups=2, dim=16, value_dim=8),
        batch=2,
        queries=70,
        length=203,
        settings=SETTINGS,
        dtype=torch.float32,
        device="cpu",
        seed=seed,
    )


def verdict(attend: Attend, inputs: Inputs, *, gradients: bool = False) -> Check:
    return judge(
        [compare(attend, inputs, SETTINGS, gradients=gradients)],
        [compare(RIGHT, inputs, SETTINGS, gradients=gradients)],
    )


def test_inputs_are_in_the_layout_of_projections(inputs: Inputs) -> None:
    assert inputs.q.shape == (2, 6, 70, 16)
    assert inputs.k.shape == (2, 2, 203, 16)
    assert inputs.v.shape == (2, 2, 203, 8)
    assert inputs.gates.shape == (2, 6, 70, 3)
    assert all(x.transpose(1, 2).is_contiguous() for x in inputs.all())
    assert 0 <= inputs.gates.min() <= inputs.gates.max() <= 1


def test_the_reference_by_group_equals_the_whole_reference(inputs: Inputs) -> None:
    out, blocks = reference_by_group(SETTINGS, torch.float64)(*inputs.all())
    q, k, v, gates = (x.double() for x in inputs.all())
    whole, whole_blocks, _ = nsa_reference(q, k, v, SETTINGS, gates=gates)
    torch.testing.assert_close(out, whole)
    assert torch.equal(blocks, whole_blocks)


def test_correct_results_pass(inputs: Inputs) -> None:
    check = verdict(RIGHT, inputs, gradients=True)
    assert check.passed
    assert set(check.errors) == {"out", "q", "k", "v", "gates"}
    assert max(check.errors.values()) < 1e-5
    assert set(check.allowed.values()) == {LEAST_ERROR}


def test_shared_selections_pass(inputs: Inputs) -> None:
    settings = replace(SETTINGS, combine="union", select_tile=8, score_stride=4, window=32)
    right = reference_by_group(settings, torch.float32)
    check = judge(
        [compare(right, inputs, settings, gradients=True)],
        [compare(right, inputs, settings, gradients=True)],
    )
    assert check.passed
    assert check.agreement == 1.0
    assert check.errors["gates"] == 0.0
    window = replace(settings, window=256)
    assert compare(right, inputs, window, gradients=False).agreement == 1.0


def test_a_wrong_output_fails(inputs: Inputs) -> None:
    def attend(*x: Tensor) -> tuple[Tensor, Tensor]:
        out, blocks = RIGHT(*x)
        return out * 1.02, blocks

    assert not verdict(attend, inputs).passed


def test_nan_fails(inputs: Inputs) -> None:
    def attend(*x: Tensor) -> tuple[Tensor, Tensor]:
        out, blocks = RIGHT(*x)
        out[0, 0, 0, 0] = float("nan")
        return out, blocks

    check = verdict(attend, inputs)
    assert check.errors["out"] == float("inf")
    assert not check.passed


def test_a_wrong_gradient_fails(inputs: Inputs) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
        return RIGHT(q, k, 0.5 * v + 0.5 * v.detach(), gates)

    check = verdict(attend, inputs, gradients=True)
    assert [name for name in check.errors if check.errors[name] > check.allowed[name]] == ["v"]
    assert not check.passed


def test_few_rows_may_have_another_selection(inputs: Inputs) -> None:
    def another_choice(rows: int) -> Attend:
        def attend(*x: Tensor) -> tuple[Tensor, Tensor]:
            out, blocks = RIGHT(*x)
            wrong = torch.zeros_like(out)
            wrong[0, :3, -rows:] = 1.0
            blocks = blocks.clone()
            blocks[0, 0, -rows:, 3] = 99
            return out * (1 - wrong), blocks

        return attend

    few = verdict(another_choice(1), inputs, gradients=True)
    assert few.passed
    assert 0.99 < few.agreement < 1.0
    many = verdict(another_choice(40), inputs)
    assert not many.passed
    assert max(many.errors.values()) < 1e-5


def test_order_and_padding_of_blocks_are_ignored(inputs: Inputs) -> None:
    def attend(*x: Tensor) -> tuple[Tensor, Tensor]:
        out, blocks = RIGHT(*x)
        return out, torch.nn.functional.pad(blocks.flip(-1), (2, 1), value=-1)

    assert verdict(attend, inputs).agreement == 1.0


def test_the_rule() -> None:
    def one(error: float, agreement: float = 1.0) -> Comparison:
        return Comparison(errors={"out": error}, agreement=agreement)

    assert judge([one(0.02)], [one(0.01)]).passed
    assert not judge([one(0.0201)], [one(0.01)]).passed
    assert judge([one(2**-7)], [one(0.0)]).passed
    assert judge([one(0.0)], [one(math.inf), one(0.01)]).allowed["out"] == 0.02
    assert judge([one(0.0, 0.98), one(0.0, 1.0)], [one(0.0)]).passed
    assert not judge([one(0.0, 0.98)], [one(0.0)]).passed
    assert not judge([one(0.001), one(0.1)], [one(0.001)]).passed


def test_relative_error() -> None:
    assert relative_error(torch.zeros(3), torch.zeros(3, dtype=torch.float64)) == 0.0
    assert relative_error(torch.tensor([2.0]), torch.tensor([1.0]).double()) == 1.0
