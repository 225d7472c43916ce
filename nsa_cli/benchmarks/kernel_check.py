"""Comparison of an attention with the fp64 reference, before its speed is reported.

Selections of equal score give different outputs, and near ties are common in bf16. Outputs and
gradients are therefore compared for the queries whose selected blocks agree, and nearly all
blocks must agree.

Letters: B batch, T query tokens, S key tokens, H query heads, G key/value groups, D and Dv head
dims of keys and values, U tiles of queries that share a selection, n selected blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nsa_cli.benchmarks.kernel_results import Check, Shape
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings

LEAST_AGREEMENT = 0.99
LEAST_ERROR = 2.0**-7
"""Relative error that is always allowed: one unit in the last place of bf16."""

NAMES = ("q", "k", "v", "gates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The tensors of one call, views of contiguous (B, T, H, D) memory.

    Attributes:
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, Dv).
        gates: (B, H, T, 3), between 0 and 1.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    gates: Tensor

    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tensors, in the order of NAMES."""
        return self.q, self.k, self.v, self.gates


Attend = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps q, k, v and gates to the output (B, H, T, Dv) and the selected blocks (B, G, U, n)."""


def draw_inputs(
    shape: Shape,
    *,
    batch: int,
    queries: int,
    length: int,
    settings: AttentionSettings,
    dtype: torch.dtype,
    device: torch.device | str,
    seed: int = 0,
) -> Inputs:
    """Random inputs whose keys share a component within each selection block.

    With independent keys all blocks would be equally important, and rounding would decide the
    selection.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def rows(tokens: int, heads: int, dim: int) -> Tensor:
        size = (batch, tokens, heads, dim)
        return torch.randn(size, generator=generator, dtype=dtype, device=device)

    blocks = -(-length // settings.select_block)
    common = rows(blocks, shape.groups, shape.dim).repeat_interleave(settings.select_block, dim=1)
    k = rows(length, shape.groups, shape.dim).add_(common[:, :length])
    return Inputs(
        q=rows(queries, shape.heads, shape.dim).transpose(1, 2),
        k=k.transpose(1, 2),
        v=rows(length, shape.groups, shape.value_dim).transpose(1, 2),
        gates=rows(queries, shape.heads, 3).sigmoid().transpose(1, 2),
    )


def reference_by_group(settings: AttentionSettings, dtype: torch.dtype) -> Attend:
    """The reference in a given precision, one sequence and group at a time.

    Only the scores and the converted keys of one group are in memory at once.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
        outs, blocks = [], []
        repeat = q.shape[1] // k.shape[1]
        for b in range(q.shape[0]):
            for g in range(k.shape[1]):
                row, group = slice(b, b + 1), slice(g, g + 1)
                heads = slice(g * repeat, (g + 1) * repeat)
                out, chosen, _ = nsa_reference(
                    q[row, heads].to(dtype),
                    k[row, group].to(dtype),
                    v[row, group].to(dtype),
                    settings,
                    gates=gates[row, heads].to(dtype) if settings.combine == "gated" else None,
                )
                outs.append(out[0])
                blocks.append(chosen[0, 0])
        shape = (q.shape[0], q.shape[1], q.shape[2], v.shape[3])
        return torch.cat(outs).view(shape), torch.stack(blocks).unflatten(0, k.shape[:2])

    return attend


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Relative errors of `out` and of the gradients if compared; share of agreeing blocks."""

    errors: dict[str, float]
    agreement: float


def compare(
    attend: Attend, inputs: Inputs, settings: AttentionSettings, *, gradients: bool
) -> Comparison:
    """Compare an attention with the reference in fp64.

    Queries whose selection differs are masked: in the output directly, in the gradients by a
    zero output gradient.
    """
    mine = [x.detach().requires_grad_(gradients) for x in inputs.all()]
    # Gradients have the precision of their inputs; without gradients each group is converted.
    exact = [x.detach().double().requires_grad_() for x in inputs.all()] if gradients else mine
    with torch.set_grad_enabled(gradients):
        out, blocks = attend(*mine)
        expected, expected_blocks = reference_by_group(settings, torch.float64)(*exact)
    found = _contains(blocks, expected_blocks)
    same = found.all(dim=-1) & _contains(expected_blocks, blocks).all(dim=-1)
    repeat = inputs.q.shape[1] // inputs.k.shape[1]
    queries, length = inputs.q.shape[2], inputs.k.shape[2]
    tile = torch.arange(length - queries, length, device=same.device) // settings.select_tile
    same = same[:, :, tile - tile[0]]
    mask = same.repeat_interleave(repeat, dim=1)[..., None]
    errors = {"out": relative_error(out.detach() * mask, expected.detach() * mask)}
    if gradients:
        grad = torch.randn_like(out) * mask
        # Without a gated branch the gates have no gradient.
        unused = {"allow_unused": True, "materialize_grads": True}
        got = torch.autograd.grad(out, mine, grad, **unused)
        want = torch.autograd.grad(expected, exact, grad.double(), **unused)
        for name, a, b in zip(NAMES, got, want, strict=True):
            errors[name] = relative_error(a, b)
    # A text that the window covers leaves nothing to select.
    selected = found[expected_blocks >= 0].double()
    return Comparison(errors=errors, agreement=float(selected.mean()) if len(selected) else 1.0)


def _contains(blocks: Tensor, sought: Tensor) -> Tensor:
    """Whether each of `sought` (..., n) occurs in `blocks` (..., m); -1 (no block) always does."""
    return (sought[..., :, None] == blocks[..., None, :]).any(dim=-1) | (sought < 0)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """||got - expected|| / ||expected|| in fp64; infinite if `got` is not finite."""
    error = float((got.double() - expected).norm() / expected.norm().clamp(min=1e-30))
    return error if math.isfinite(error) else math.inf


def judge(got: Sequence[Comparison], eager: Sequence[Comparison]) -> Check:
    """Decide whether a speed may be reported.

    Args:
        got: Comparisons of the kernels, one per draw.
        eager: Comparisons of the reference in the kernels' precision, on the same draws.
    """
    errors = {name: max(one.errors[name] for one in got) for name in got[0].errors}
    allowed = {name: _allowed([one.errors[name] for one in eager]) for name in errors}
    agreement = sum(one.agreement for one in got) / len(got)
    within = all(error <= allowed[name] for name, error in errors.items())
    return Check(
        errors=errors,
        allowed=allowed,
        agreement=agreement,
        passed=within and agreement >= LEAST_AGREEMENT,
    )


def _allowed(eager: Sequence[float]) -> float:
    """Twice the worst finite error of the eager reference, at least `LEAST_ERROR`."""
    return max([LEAST_ERROR, *(2 * error for error in eager if math.isfinite(error))])
