"""Dot products of rows, and the gradients that reach each branch of a gated sum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exactness import DEVICE, SMALL

from nsa_kernels.gpu.layout import Problem
from nsa_kernels.gpu.row_products import (
    LEAST_GATE,
    branch_gradients,
    gate_gradients,
    row_dots,
)

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def rows(batch: int, heads: int, queries: int, dim: int) -> torch.Tensor:
    """Random rows in the memory order of projections."""
    return torch.randn(batch, queries, heads, dim, device=DEVICE).transpose(1, 2)


def problem_of(q: torch.Tensor) -> Problem:
    k = q[:, :1].contiguous()
    return Problem.of(q, k, k, replace(SMALL, combine="gated"), None)


@pytest.mark.parametrize(("heads", "queries", "dim"), [(3, 50, 24), (8, 1, 128), (1, 129, 16)])
def test_row_dots(heads: int, queries: int, dim: int) -> None:
    a = rows(2, heads, queries, dim)
    b = torch.randn(2, heads, queries, dim, device=DEVICE)
    got = row_dots(problem_of(a), a, b)
    torch.testing.assert_close(
        got.double(), (a.double() * b.double()).sum(-1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("heads", "queries", "dim"), [(3, 50, 24), (4, 7, 128)])
def test_branch_gradients(kept: bool, heads: int, queries: int, dim: int) -> None:
    grad, *branches = (rows(2, heads, queries, dim) for _ in range(4))
    problem = problem_of(grad)
    gates = torch.rand(2, queries, heads, 3, device=DEVICE).transpose(1, 2) + 0.1
    out = sum(gates[..., i, None] * branch for i, branch in enumerate(branches))
    assert isinstance(out, torch.Tensor)
    lses = [problem.per_query(grad).normal_() for _ in range(3)]
    recent = branches[2] if kept else (grad * branches[2]).sum(-1)
    lse = (lses[0], lses[1], lses[2])
    got, dots = branch_gradients(grad, out, branches[0], recent, gates, lse)
    assert torch.equal(dots, torch.stack([of.dots for of in got]))
    for i, (of, branch, lse) in enumerate(zip(got, branches, lses, strict=True)):
        assert of.out is grad
        assert of.lse.stride() == of.dots.stride() == lse.stride()
        torch.testing.assert_close(of.lse, lse - gates[..., i].log2(), rtol=1e-5, atol=1e-5)
        exact = (grad.double() * branch.double()).sum(-1)
        torch.testing.assert_close(of.dots.double(), exact, rtol=1e-3, atol=1e-3)


def test_a_closed_gate_has_a_finite_logarithm() -> None:
    grad = rows(1, 2, 5, 16)
    problem = problem_of(grad)
    lse = problem.per_query(grad).fill_(1.0)
    gates = torch.zeros(1, 2, 5, 3, device=DEVICE)
    zero = torch.zeros_like(grad)
    of, dots = branch_gradients(grad, zero, zero, zero, gates, (lse, lse, lse))
    assert gate_gradients(dots, problem.per_query(grad).zero_(), gates).eq(0).all()
    for branch in of:
        torch.testing.assert_close(
            branch.lse, torch.full_like(lse, 1.0 - torch.tensor(LEAST_GATE).log2().item())
        )
        assert branch.dots.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "queries"), [(3, 50), (8, 1), (4, 700)])
def test_gate_gradients(heads: int, queries: int, dtype: torch.dtype) -> None:
    like = rows(2, heads, queries, 16)
    problem = problem_of(like)
    gates = (torch.rand(2, heads, 3, queries, device=DEVICE) + 0.1).to(dtype).transpose(2, 3)
    dots = torch.randn(3, 2, queries, heads, device=DEVICE).transpose(2, 3)
    sums = problem.per_query(like).normal_()
    got = gate_gradients(dots, sums, gates)
    exact = torch.stack([dots[0], sums / gates[..., 1].float(), dots[2]], dim=-1)
    assert got.dtype == dtype
    torch.testing.assert_close(got, exact.to(dtype))
