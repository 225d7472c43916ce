"""Times NSA beside the kernels of other projects, and dense attention by cuDNN, in one run.

    python examples/time_peers.py --lengths 65536,8192 --out peers.json

It needs a CUDA device, and finds these projects where they are installed or on PYTHONPATH:

- `flash_nsa`, https://github.com/mdy666/Scalable-Flash-Native-Sparse-Attention
- `fla`, https://github.com/fla-org/flash-linear-attention

Their window needs FlashAttention; both get this project's window, forward and backward. flash_nsa
also attends to the recorded selections, so that all three attend to the same blocks, and its
output is compared. fla's summaries are of 64 tokens each, so its output is another one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from triton.testing import do_bench

from nsa_cli.benchmarks.kernel_check import draw_inputs
from nsa_cli.benchmarks.kernel_cuda import SETTINGS, nsa
from nsa_cli.benchmarks.kernel_results import SHAPES
from nsa_cli.benchmarks.kernel_selections import recorded_blocks, replayed
from nsa_kernels.gpu.banded import banded_forward
from nsa_kernels.gpu.banded_backward import banded_keys_backward, banded_rows_backward
from nsa_kernels.gpu.bands import Band, OutputGradient
from nsa_kernels.gpu.layout import Problem, empty_rows
from nsa_kernels.gpu.row_products import row_dots

SHAPE = SHAPES["paper-gqa"]
WINDOW = Band(window=SETTINGS.window)
Call = Callable[..., Tensor]


class Window(torch.autograd.Function):
    """This project's window over q (B, H, T, D), k and v (B, G, T, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the output (B, H, T, D)."""
        ctx.problem = Problem.of(q, k, v, SETTINGS, None)
        out, lse = banded_forward(ctx.problem, WINDOW, q, k, v)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of q, k and v."""
        q, k, v, out, lse = ctx.saved_tensors
        grad = grads[0].transpose(1, 2).contiguous().transpose(1, 2)
        of = OutputGradient(out=grad, lse=lse, dots=row_dots(ctx.problem, grad, out))
        dq = empty_rows(q, ctx.problem.dim)
        banded_rows_backward(ctx.problem, WINDOW, q, k, v, of, dq, adds=False)
        dk, dv = banded_keys_backward(ctx.problem, WINDOW, q, k, v, of)
        return dq, dk.to(k.dtype), dv.to(v.dtype)


def ours(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
    """NSA of this project over (B, T, heads, D), gates (B, T, H, 3)."""
    return nsa(SETTINGS, *(x.transpose(1, 2) for x in (q, k, v, gates)))[0].transpose(1, 2)


def dense(q: Tensor, k: Tensor, v: Tensor, _: Tensor) -> Tensor:
    """Dense causal attention by cuDNN over (B, T, heads, D)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2)


class FlashNsa:
    """The NSA of flash_nsa."""

    def __init__(self) -> None:
        config: Any = import_module("flash_nsa.config")
        self._module: Any = import_module("flash_nsa.modules.hf_level_nsa")
        self._core = self._module.HFNSACore(config.NSAConfig()).to("cuda", torch.bfloat16)
        self._module.swa_varlen_func = self._window

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
        """Attend over one text; the gates are given as numbers before the sigmoid."""
        logits = gates[0].float().clamp(1e-4, 1 - 1e-4).logit().to(q.dtype)
        ends = torch.tensor([0, q.shape[1]], dtype=torch.int32, device=q.device)
        out: Tensor = self._core(q[0], k[0], v[0], logits, ends)
        return out[None]

    @contextmanager
    def replayed(self, blocks: Tensor) -> Iterator[None]:
        """Attend to given blocks (1, G, T, n); the choice is computed and not used."""
        choose = self._module.slc_topk_indices
        past_all = -(-blocks.shape[2] // SETTINGS.select_block)
        chosen = torch.where(blocks < 0, past_all, blocks)[0].contiguous()
        self._module.slc_topk_indices = lambda *args, **named: (chosen, choose(*args, **named)[1])
        try:
            yield
        finally:
            self._module.slc_topk_indices = choose

    @staticmethod
    def _window(q: Tensor, k: Tensor, v: Tensor, _: float | None = None) -> Tensor:
        out: Tensor = Window.apply(*(x[None].transpose(1, 2) for x in (q, k, v)))
        return out.transpose(1, 2)[0]


def fla_nsa() -> Call:
    """The NSA of fla."""
    parallel: Any = import_module("fla.ops.nsa.parallel")

    def window(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
        out: Tensor = Window.apply(*(x.transpose(1, 2) for x in (q, k, v)))
        return out.transpose(1, 2)

    parallel.flash_attn_func = window

    def attend(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
        compress, select, near = (x.contiguous() for x in gates.unbind(-1))
        out: Tensor = parallel.parallel_nsa(
            q, k, v, g_cmp=compress, g_slc=select, g_swa=near,
            block_counts=SETTINGS.select_count, block_size=SETTINGS.select_block,
            window_size=SETTINGS.window,
        )  # fmt: skip
        return out

    return attend


def measure(name: str, call: Call, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Median and 20th and 80th percentile of both passes, in ms, and the output."""
    quantiles = [0.5, 0.2, 0.8]
    with torch.no_grad():
        out = call(*inputs)
        forward = do_bench(lambda: call(*inputs), warmup=60, rep=400, quantiles=quantiles)
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    wanted = leaves[:3] if call is dense else leaves
    grad = torch.randn_like(out)

    def both() -> None:
        torch.autograd.grad(call(*leaves), wanted, grad)

    both()
    backward = do_bench(both, warmup=100, rep=600, quantiles=quantiles)
    return {"name": name, "forward_ms": forward, "both_ms": backward, "out": out}


def rows_of(length: int, peers: dict[str, Call]) -> list[dict[str, Any]]:
    """Measurements at one length."""
    drawn = draw_inputs(
        SHAPE, batch=1, queries=length, length=length, settings=SETTINGS,
        dtype=torch.bfloat16, device="cuda",
    )  # fmt: skip
    inputs = tuple(x.transpose(1, 2) for x in drawn.all())
    count = SETTINGS.select_count
    assert count is not None
    blocks = recorded_blocks(length, length, SHAPE.groups, count, "cuda")
    rows = []
    for name, call in {"nsa": ours, **peers, "cudnn": dense}.items():
        kinds = ["random"]
        if name in ("nsa", "flash_nsa"):
            kinds.append("recorded")
        for kind in kinds:
            given: AbstractContextManager[None] = nullcontext()
            if kind == "recorded":
                given = call.replayed(blocks) if isinstance(call, FlashNsa) else replayed(blocks)
            try:
                with given:
                    row = measure(name, call, inputs)
            except Exception as error:
                row = {"name": name, "error": f"{type(error).__name__}: {error}"[:400]}
            rows.append({**row, "selections": kind, "tokens": length})
    return compared(rows)


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with times over those of `nsa` with the same selections, without their outputs."""
    own = {row["selections"]: row for row in rows if row["name"] == "nsa" and "out" in row}
    for row in rows:
        mine = own.get(row["selections"])
        if mine is None or "forward_ms" not in row:
            continue
        for part in ("forward_ms", "both_ms"):
            row[f"{part[:-3]}_over_nsa"] = row[part][0] / mine[part][0]
        if row["name"] == "flash_nsa":
            wanted = mine["out"].float()
            row["difference"] = float((row["out"].float() - wanted).norm() / wanted.norm())
    for row in rows:
        row.pop("out", None)
    return rows


def found_peers() -> dict[str, Call]:
    """The other projects that can be imported; says which cannot."""
    peers: dict[str, Call] = {}
    for name, make in (("flash_nsa", FlashNsa), ("fla", fla_nsa)):
        try:
            peers[name] = make()
        except ImportError as error:
            print(f"{name} cannot be imported: {error}")
    return peers


def main() -> None:
    """Measure, print a line for each row, and write the report."""
    parser = argparse.ArgumentParser(description="Time NSA beside other projects' kernels.")
    parser.add_argument("--lengths", default="65536,8192", help="tokens, separated by commas")
    parser.add_argument("--out", type=Path, help="JSON file with all times and versions")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("time_peers.py needs a CUDA device")
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "rows": [],
    }
    peers = found_peers()
    for length in map(int, args.lengths.split(",")):
        for row in rows_of(length, peers):
            print(json.dumps(row), flush=True)
            report["rows"].append(row)
        if args.out is not None:
            args.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
