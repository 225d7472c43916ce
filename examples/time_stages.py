"""Times of the Triton kernels stage by stage, each beside its floor.

    python examples/time_stages.py --tokens 65536 --selections recorded

The floor of a stage is the longer of two times: its operations at the rate of the matrix units,
and its bytes at the bandwidth of memory. Both rates were measured on an H200; other GPUs need
other rates. Queries attend to the blocks that random queries select, or to those that a model's
queries selected. Without a CUDA device the script runs in Triton's interpreter
(`TRITON_INTERPRET=1`), for its logic alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from nsa_cli.benchmarks.kernel_selections import recorded_blocks
from nsa_kernels.gpu.banded import banded_dots, banded_forward
from nsa_kernels.gpu.banded_backward import (
    banded_keys_backward,
    banded_rows_backward,
)
from nsa_kernels.gpu.bands import Addend, Band, OutputGradient
from nsa_kernels.gpu.inverse import invert
from nsa_kernels.gpu.layout import Problem, empty_rows
from nsa_kernels.gpu.phi import mean_phi
from nsa_kernels.gpu.row_products import row_dots
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selected_backward import selected_keys_backward, selected_rows_backward
from nsa_kernels.gpu.selection import select_blocks
from nsa_kernels.settings import AttentionSettings

MATRIX_RATE = 690e12
"""Operations a second, bf16."""

BANDWIDTH = 4.27e12
"""Bytes a second."""

SETTINGS = AttentionSettings(combine="gated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the attention.

    Attributes:
        name: As the table shows it.
        run: Runs it once.
        keys: Keys, summaries or tokens, that a query attends to, on average.
        products: Matrix products over them.
        rows: Times that rows of queries or outputs are read or written.
    """

    name: str
    run: Callable[[], object]
    keys: float
    products: int
    rows: int


def stages(tokens: int, heads: int, groups: int, dim: int, *, recorded: bool) -> list[Stage]:
    """All stages, forward and backward, on random inputs, as `gated` attention runs them.

    Args:
        tokens: Length of the text.
        heads: Query heads.
        groups: Key/value groups.
        dim: Head dim.
        recorded: Whether the selected blocks are a model's.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def draw(count: int) -> Tensor:
        shape = (1, tokens, count, dim)
        return torch.randn(shape, device=device, dtype=dtype).transpose(1, 2)

    q, k, v, grad = draw(heads), draw(groups), draw(groups), draw(heads)
    summary_k, summary_v = mean_phi(k, SETTINGS), mean_phi(v, SETTINGS)
    problem = Problem.of(q, k, v, SETTINGS, None)
    band = Band(key_block=SETTINGS.compress_block, key_stride=SETTINGS.compress_stride)
    window = Band(window=SETTINGS.window)
    compressed, lse = banded_forward(problem, band, q, summary_k, summary_v)
    assert compressed is not None
    blocks = select_blocks(problem, q, summary_k, lse)
    if recorded:
        assert SETTINGS.select_count is not None
        blocks = recorded_blocks(tokens, tokens, groups, SETTINGS.select_count, device)
    gate = draw(heads)[..., 0]
    kept = empty_rows(q, dim)
    addend = Addend(other=compressed, other_gate=gate, gate=gate, kept=kept)
    sums = problem.per_query(q)
    dots = row_dots(problem, grad, compressed)
    of = OutputGradient(out=grad, lse=lse, dots=dots)
    dq = empty_rows(q, dim)
    choosers = invert(problem, blocks, tokens)

    summaries = problem.summaries / 2
    near = min(SETTINGS.window, tokens / 2)
    chosen = min(blocks.shape[3] * SETTINGS.select_block, tokens / 2)
    table: list[tuple[str, Callable[[], object], float, int, int]] = [
        (
            "compression",
            lambda: banded_forward(problem, band, q, summary_k, summary_v),
            summaries,
            2,
            2,
        ),
        ("choice", lambda: select_blocks(problem, q, summary_k, lse), summaries, 1, 1),
        ("window", lambda: banded_forward(problem, window, q, k, v), near, 2, 2),
        (
            "window, added and kept",
            lambda: banded_forward(problem, window, q, k, v, addend=addend),
            near,
            2,
            4,
        ),
        (
            "selection",
            lambda: selected_forward(problem, q, k, v, blocks, gate=gate, others=dq),
            chosen,
            2,
            3,
        ),
        ("row products", lambda: row_dots(problem, grad, compressed), 0, 0, 2),
        ("window anew", lambda: banded_dots(problem, window, q, k, v, grad), near, 2, 2),
        (
            "compression, queries",
            lambda: banded_rows_backward(
                problem, band, q, summary_k, summary_v, of, dq, adds=False
            ),
            summaries,
            3,
            3,
        ),
        (
            "compression, keys",
            lambda: banded_keys_backward(problem, band, q, summary_k, summary_v, of),
            summaries,
            4,
            2,
        ),
        (
            "window, queries",
            lambda: banded_rows_backward(problem, window, q, k, v, of, dq, adds=True),
            near,
            3,
            4,
        ),
        (
            "window, keys",
            lambda: banded_keys_backward(problem, window, q, k, v, of),
            near,
            4,
            2,
        ),
        (
            "selection, queries",
            lambda: selected_rows_backward(problem, q, k, v, blocks, of, dq, adds=True, sums=sums),
            chosen,
            3,
            4,
        ),
        ("choosers", lambda: invert(problem, blocks, tokens), 0, 0, 0),
        (
            "selection, keys",
            lambda: selected_keys_backward(problem, q, k, v, choosers, of, None),
            chosen,
            4,
            2 * blocks.shape[3],
        ),
    ]
    return [
        Stage(name=name, run=run, keys=keys, products=products, rows=rows)
        for name, run, keys, products, rows in table
    ]


def milliseconds(run: Callable[[], object]) -> float:
    """The median time of one run."""
    if torch.cuda.is_available():
        return float(triton.testing.do_bench(run, return_mode="median"))
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


def main() -> None:
    """Parse the options, and print a row per stage."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--selections", default="random", choices=["random", "recorded"])
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "the interpreter"
    print(f"{options} on {where}, torch {torch.__version__}, triton {triton.__version__}")
    print(f"{'stage':24}{'floor ms':>10}{'ms':>10}{'reached':>9}")
    row_bytes = options.tokens * options.heads * options.dim * 2
    recorded = options.selections == "recorded"
    sizes = (options.tokens, options.heads, options.groups, options.dim)
    for stage in stages(*sizes, recorded=recorded):
        pairs = options.tokens * options.heads * stage.keys
        floor = max(
            2e3 * pairs * options.dim * stage.products / MATRIX_RATE,
            1e3 * stage.rows * row_bytes / BANDWIDTH,
        )
        spent = milliseconds(stage.run)
        print(f"{stage.name:24}{floor:10.2f}{spent:10.2f}{floor / spent:9.0%}")


if __name__ == "__main__":
    main()
