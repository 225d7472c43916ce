"""Times of the backward pass's variants, each beside the one that it replaces.

    python examples/time_backward.py --tokens 65536 --selections recorded

Per variant: milliseconds, their ratio to the first variant of the stage, the largest relative error
of its results against that variant's, and whether two runs give the same bits. Queries and keys are
random; queries attend to the blocks that random queries select, or to those that a model's queries
selected. Needs a CUDA device, but for `TRITON_INTERPRET=1`, which tests its logic.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from nsa_cli.benchmarks.kernel_selections import recorded_blocks, replayed
from nsa_kernels.gpu import banded_joint, inverse
from nsa_kernels.gpu.attention import row_dots, triton_attention
from nsa_kernels.gpu.banded import banded_dots, banded_forward
from nsa_kernels.gpu.banded_backward import banded_keys_backward, banded_rows_backward
from nsa_kernels.gpu.banded_joint import banded_backward, zero_sums
from nsa_kernels.gpu.bands import Addend, Band, OutputGradient
from nsa_kernels.gpu.layout import Problem, empty_rows
from nsa_kernels.gpu.phi import mean_phi
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selected_backward import selected_keys_backward, selected_rows_backward
from nsa_kernels.gpu.selection import select_blocks
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(combine="gated")
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"

Run = Callable[[], Any]


@contextmanager
def setting(module: Any, **values: object) -> Iterator[None]:
    """Set constants of a module."""
    with patch.multiple(module, **values):
        yield


def milliseconds(run: Run) -> float:
    """The median time of one run."""
    if CUDA:
        return float(triton.testing.do_bench(run, warmup=20, rep=120, return_mode="median"))
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


def results(run: Run) -> list[Tensor]:
    """The tensors that a run returns, copied."""
    found = run()
    found = found if isinstance(found, tuple) else (found,)
    return [x.detach().clone() for x in found if isinstance(x, Tensor)]


def error(got: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative error of a tensor, by norms."""
    return max(
        float((a.float() - b.float()).norm() / b.float().norm().clamp(min=1e-30))
        for a, b in zip(got, expected, strict=True)
    )


class Inputs:
    """Random inputs of one length, and what the forward pass leaves for the backward pass."""

    def __init__(self, tokens: int, heads: int, groups: int, dim: int) -> None:
        dtype = torch.bfloat16 if CUDA else torch.float32

        def draw(count: int, size: int = dim) -> Tensor:
            shape = (1, tokens, count, size)
            return torch.randn(shape, device=DEVICE, dtype=dtype).transpose(1, 2)

        self.tokens, self.groups = tokens, groups
        self.q, self.k, self.v = draw(heads), draw(groups), draw(groups)
        self.grad, self.gates = draw(heads), draw(heads, 3).sigmoid()
        self.summary_k, self.summary_v = mean_phi(self.k, SETTINGS), mean_phi(self.v, SETTINGS)
        self.problem = Problem.of(self.q, self.k, self.v, SETTINGS, None)
        self.random: Tensor | None = None

    def blocks(self, selections: str) -> Tensor:
        """Selected blocks: (1, G, T, n)."""
        count = SETTINGS.select_count
        assert count is not None
        if selections == "recorded":
            return recorded_blocks(self.tokens, self.tokens, self.groups, count, DEVICE)
        if self.random is None:
            band = Band(key_block=SETTINGS.compress_block, key_stride=SETTINGS.compress_stride)
            _, lse = banded_forward(self.problem, band, self.q, self.summary_k, self.summary_v)
            self.random = select_blocks(self.problem, self.q, self.summary_k, lse)
        return self.random


def band_variants(of: Inputs, name: str) -> Iterator[tuple[str, Run, bool]]:
    """All gradients of the compression or of the window."""
    problem, q = of.problem, of.q
    if name == "compression":
        band = Band(key_block=SETTINGS.compress_block, key_stride=SETTINGS.compress_stride)
        k, v = of.summary_k, of.summary_v
    else:
        band, k, v = Band(window=SETTINGS.window), of.k, of.v
    out, lse = banded_forward(problem, band, q, k, v)
    assert out is not None
    grad = OutputGradient(out=of.grad, lse=lse, dots=row_dots(problem, of.grad, out))
    del out
    dq = empty_rows(q, q.shape[3])

    def two() -> tuple[Tensor, ...]:
        banded_rows_backward(problem, band, q, k, v, grad, dq, adds=False)
        return (dq, *banded_keys_backward(problem, band, q, k, v, grad))

    def one() -> tuple[Tensor, ...]:
        sums = zero_sums(q)
        return (sums, *banded_backward(problem, band, q, k, v, grad, sums))

    def unordered() -> tuple[Tensor, ...]:
        with setting(banded_joint, ORDERED=False):
            return one()

    def plain() -> tuple[Tensor, ...]:
        with setting(banded_joint, serves_keys=lambda *_: False):
            return one()

    yield "two kernels", two, True
    yield "one kernel", one, True
    yield "one, any order", unordered, False
    if of.tokens <= 8192:
        yield "one, Triton", plain, True


def window_variants(of: Inputs) -> Iterator[tuple[str, Run, bool]]:
    """The window's forward pass and its dot products, kept or computed again."""
    problem, band = of.problem, Band(window=SETTINGS.window)
    other = empty_rows(of.q, of.q.shape[3]).normal_()
    kept = empty_rows(of.q, of.q.shape[3])
    gate = of.gates.unbind(dim=-1)

    def forward(keeps: Tensor | None) -> Tensor:
        addend = Addend(other=other, other_gate=gate[0], gate=gate[2], kept=keeps)
        out, _ = banded_forward(problem, band, of.q, of.k, of.v, addend=addend)
        assert out is not None
        return out

    def again() -> tuple[Tensor, Tensor]:
        return forward(None), banded_dots(problem, band, of.q, of.k, of.v, of.grad)

    def keep() -> tuple[Tensor, Tensor]:
        return forward(kept), row_dots(problem, of.grad, kept)

    yield "computed again", again, True
    yield "kept", keep, True


def selection_variants(of: Inputs, blocks: Tensor, part: str) -> Iterator[tuple[str, Run, bool]]:
    """The gradient of queries, or of keys and values, of the selection."""
    problem, q, k, v = of.problem, of.q, of.k, of.v
    out, lse = selected_forward(problem, q, k, v, blocks)
    grad = OutputGradient(out=of.grad, lse=lse, dots=row_dots(problem, of.grad, out))
    del out
    if part == "queries":
        dq, base = empty_rows(q, q.shape[3]), zero_sums(q)
        half = torch.zeros_like(dq)
        for name, one in (("sum in bf16", half), ("sum in fp32", base)):

            def rows(one: Tensor = one) -> Tensor:
                selected_rows_backward(problem, q, k, v, blocks, grad, dq, base=one)
                return dq

            yield name, rows, True
        return
    yield "lists of choosers", lambda: inverse.invert(problem, blocks, of.tokens).starts, True
    for rows_of_piece in (32768, 16384, 8192, 131072):
        with setting(inverse, _PIECE_ROWS=rows_of_piece):
            choosers = inverse.invert(problem, blocks, of.tokens)

        def keys(choosers: inverse.Choosers = choosers) -> tuple[Tensor, Tensor]:
            return selected_keys_backward(problem, q, k, v, choosers, grad, None)

        yield f"pieces of {rows_of_piece}", keys, True


def whole_variants(of: Inputs, blocks: Tensor | None) -> Iterator[tuple[str, Run, bool]]:
    """Forward and backward together."""
    leaves = [x.detach().requires_grad_() for x in (of.q, of.k, of.v, of.gates)]

    def whole(keep: bool, **constants: object) -> tuple[Tensor, ...]:
        replay = nullcontext() if blocks is None else replayed(blocks)
        with replay, setting(banded_joint, **constants):
            out, _ = triton_attention(*leaves[:3], SETTINGS, gates=leaves[3], keep_window=keep)
            return (out, *torch.autograd.grad(out, leaves, of.grad))

    yield "before", lambda: whole(False, JOINT="never"), True
    yield "window kept", lambda: whole(True, JOINT="never"), True
    yield "one kernel, kept", lambda: whole(True, JOINT="hopper", ORDERED=True), True
    yield "the same, any order", lambda: whole(True, JOINT="hopper", ORDERED=False), False


def dense(of: Inputs) -> Run:
    """CuDNN's dense attention, forward and backward."""
    leaves = [x.detach().contiguous().requires_grad_() for x in (of.q, of.k, of.v)]
    grad = of.grad.contiguous()

    def run() -> object:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            out = scaled_dot_product_attention(*leaves, is_causal=True, enable_gqa=True)
        return torch.autograd.grad(out, leaves, grad)

    return run


def show(stage: str, variants: Iterator[tuple[str, Run, bool]]) -> None:
    """Print a row per variant, compared with the first of the stage."""
    first: tuple[float, list[Tensor]] | None = None
    for name, run, reproducible in variants:
        try:
            found, again = results(run), results(run)
            same = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
            del again
            spent = milliseconds(run)
        except Exception as problem:  # the other variants are still measured
            print(f"{stage:24}{name:22}failed: {problem!r:.300}", flush=True)
            continue
        if first is None or name == "pieces of 32768":
            first = (spent, found)
        comparable = len(first[1]) == len(found) and first[1][0].shape == found[0].shape
        wrong = f"{error(found, first[1]):.1e}" if comparable else ""
        bits = ("same bits" if same else "OTHER BITS") if reproducible else ""
        ratio = first[0] / spent
        print(f"{stage:24}{name:22}{spent:9.3f} ms{ratio:7.2f}x{wrong:>10}  {bits}", flush=True)


def main() -> None:
    """Parse the options, and print a row per variant."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[65536, 8192])
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--selections", nargs="+", default=["recorded", "random"])
    parser.add_argument(
        "--stages",
        nargs="+",
        default=["compression", "window", "kept", "keys", "queries", "whole"],
        help="which; `dense` is cuDNN's time",
    )
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if CUDA else "the interpreter"
    print(f"{options} on {where}, torch {torch.__version__}, triton {triton.__version__}")
    for tokens in options.tokens:
        torch.manual_seed(0)
        of = Inputs(tokens, options.heads, options.groups, options.dim)
        for stage in options.stages:
            label = f"{tokens}, {stage}"
            if stage in ("compression", "window"):
                show(label, band_variants(of, stage))
            elif stage == "kept":
                show(label, window_variants(of))
            elif stage == "dense":
                print(f"{label:46}{milliseconds(dense(of)):9.3f} ms", flush=True)
            else:
                for selections in options.selections:
                    label = f"{tokens}, {stage}, {selections}"
                    blocks = of.blocks(selections)
                    if stage == "whole":
                        show(label, whole_variants(of, blocks))
                    else:
                        show(label, selection_variants(of, blocks, stage))


if __name__ == "__main__":
    main()
