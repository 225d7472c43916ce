"""Compile every attention kernel for Hopper without a GPU, and show the resources of each.

    python examples/compile_kernels.py --dims 128,128 --heads 16

Registers a thread, bytes spilled from them, and shared memory of a program, as `cuobjdump`, which
Triton's package carries, reads them off the machine code. It fails if a kernel does not compile
or takes more shared memory than a program may have. Do not run it with `TRITON_INTERPRET`.

With `--hopper` the warp-specialized kernels take the calls that they support. They need the Triton
that they were tested with; the registers shown are those before they are shared out among warps.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from nsa_kernels.gpu import (
    attention,
    banded,
    banded_backward,
    decode,
    decode_branches,
    decode_linear,
    decode_mass,
    dense_decode,
    merge,
    merged,
    merged_backward,
    phi,
    row_products,
    selected,
    selected_backward,
    selection,
)
from nsa_kernels.gpu.decode_cache import DecodeCache, DecodeWorkspace
from nsa_kernels.gpu.hopper import support
from nsa_kernels.reference import compress
from nsa_kernels.settings import AttentionSettings

MODULES = (
    *(banded, banded_backward, decode, decode_branches, decode_linear, decode_mass),
    *(dense_decode, merge, merged, merged_backward),
    *(phi, row_products, selected, selected_backward, selection),
)
HOPPER_BYTES = 227 * 1024
"""Shared memory that one program may take."""

PROGRAMS = 396
"""Programs of a decode step that run on the GPU at once."""

PROCESSORS = 132
"""Multiprocessors of an H200."""

HOPPER_MODULES = (
    *("banded", "importance", "keys_backward", "listed"),
    *("lists", "merged", "merged_rows", "rows_backward", "selected_keys"),
)
"""Modules of `nsa_kernels.gpu.hopper` with kernels."""

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class HopperDriver:
    """Driver without a GPU: Triton compiles for Hopper and launches nothing."""

    def get_current_target(self) -> GPUTarget:
        """Compute capability 9.0."""
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """The first of one."""
        return 0

    def get_current_stream(self, _: int | None = None) -> int:
        """The default stream."""
        return 0


class Compiled:
    """Wrapper of a kernel: a launch compiles it and prints its resources."""

    def __init__(self, kernel: JITFunction) -> None:
        self.kernel = kernel

    def __getitem__(self, _: Any) -> Any:
        """What a launch with any grid does."""
        return self._show

    def _show(self, *args: Any, **options: Any) -> None:
        compiled = self.kernel.warmup(*args, grid=(1, 1, 1), **options)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            usage = subprocess.run(
                [CUOBJDUMP, "--dump-resource-usage", file.name],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
        assert found is not None, usage
        name, shared = self.kernel.__name__, compiled.metadata.shared
        print(f"{name:36}{found[1]:>10}{found[2]:>10}{shared:>10}", flush=True)
        if shared > HOPPER_BYTES:
            sys.exit(f"{name} takes {shared} bytes of shared memory, more than {HOPPER_BYTES}")


def stand_in(module: ModuleType) -> None:
    """Replace a module's kernels."""
    for name, value in vars(module).items():
        if isinstance(value, JITFunction) and name.endswith("_kernel"):
            setattr(module, name, Compiled(value))


def serve_hopper() -> None:
    """Let the warp-specialized kernels take the calls that they support, with no GPU."""
    if not support.has_gluon():
        sys.exit(
            f"the warp-specialized kernels do not support Triton {triton.__version__}; install "
            "one of the versions that nsa_kernels/gpu/hopper/support.py names"
        )
    support._is_hopper = lambda _: True
    for name in HOPPER_MODULES:
        module = import_module(f"nsa_kernels.gpu.hopper.{name}")
        stand_in(module)
        if hasattr(module, "processors"):
            module.processors = lambda _: PROCESSORS


def main() -> None:
    """Parse the options, and run forward and backward over stand-ins."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dims", default="128,128", help="head dims of keys and of values")
    parser.add_argument("--heads", type=int, default=16, help="query heads of a group")
    parser.add_argument("--combine", default="gated", choices=["gated", "union"])
    parser.add_argument("--summaries", default="32,16", help="tokens of a summary and its stride")
    parser.add_argument("--tile", type=int, default=1, help="queries that share a selection")
    parser.add_argument(
        "--score-stride", type=int, default=1, help="of these, one in how many counts"
    )
    parser.add_argument("--blocks", type=int, default=16, help="that a query selects")
    parser.add_argument("--capacity", type=int, default=65536, help="tokens of a decode step")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--hopper", action="store_true", help="with the warp-specialized kernels")
    options = parser.parse_args()
    driver.set_active(HopperDriver())
    for module in MODULES:
        stand_in(module)
    if options.hopper:
        serve_hopper()
    dim, value_dim = (int(part) for part in options.dims.split(","))
    block, stride = (int(part) for part in options.summaries.split(","))
    settings = AttentionSettings(
        combine=options.combine,
        compress_block=block,
        compress_stride=stride,
        select_count=options.blocks,
        select_tile=options.tile,
        score_stride=options.score_stride,
    )

    def zeros(heads: int, size: int) -> torch.Tensor:
        shape = (1, 1024, heads, size)
        return torch.zeros(shape, dtype=getattr(torch, options.dtype)).transpose(1, 2)

    q, k, v = zeros(options.heads, dim), zeros(1, dim), zeros(1, value_dim)
    gates = zeros(options.heads, 3) if options.combine == "gated" else None
    print(f"{'kernel':36}{'registers':>10}{'spilled':>10}{'shared':>10}")
    out, _ = attention.triton_attention(
        q.requires_grad_(),
        k.requires_grad_(),
        v.requires_grad_(),
        settings,
        summary_k=compress(k.detach(), settings),
        summary_v=compress(v.detach(), settings),
        gates=gates,
    )
    out.backward(zeros(options.heads, value_dim))
    if options.tile > 1 or options.score_stride > 1:
        return  # a decode step has one query
    sizes = {"batch": 1, "heads": options.heads, "groups": 1, "capacity": options.capacity}
    sizes |= {"head_dim": dim, "value_dim": value_dim, "dtype": q.dtype, "device": "cpu"}
    room = DecodeWorkspace.allocate(settings, programs=PROGRAMS, overlap=True, **sizes)
    cache = DecodeCache.allocate(settings, workspace=room, **sizes)
    new = [x.detach()[:, :, 0] for x in (q, k, v)]
    gates = None if gates is None else gates[:, :, 0]
    decode.nsa_decode(*new, cache, gates=gates)
    blocks = triton.cdiv(options.capacity, settings.select_block)
    decode_mass.selected_mass(new[0], cache, torch.zeros(1, options.heads, blocks))
    if gates is not None:
        held = {"compress_k": cache.k, "compress_v": cache.v}
        held |= {"window_k": cache.k.clone(), "window_v": cache.v.clone()}
        separate = replace(cache, branches=decode_branches.BranchBuffers(**held))
        tokens = decode_branches.BranchTokens(*new[1:], *new[1:])
        decode.nsa_decode(*new, separate, gates=gates, branches=tokens)
    if q.dtype != torch.float32:  # no GPU runs these, and they take minutes
        project(q.dtype, dim)
    if dim == value_dim:
        attend_densely(q.detach(), cache)


def attend_densely(q: torch.Tensor, cache: DecodeCache) -> None:
    """Run a step of dense attention over stand-ins: q (B, H, T, D)."""
    batch, groups, capacity, dim = cache.k.shape
    sizes = {"batch": batch, "heads": q.shape[1], "groups": groups, "capacity": capacity}
    room = dense_decode.DenseWorkspace.allocate(
        64, tokens=1, value_dim=dim, dtype=q.dtype, device=q.device, programs=2 * PROCESSORS,
        **sizes,
    )  # fmt: skip
    mass = torch.zeros(batch, q.shape[1], 1, triton.cdiv(capacity, 64))
    dense_decode.dense_decode(q[:, :, :1], cache.k, cache.v, cache.lengths, mass, room)


def project(dtype: torch.dtype, dim: int) -> None:
    """Run the projections of a decode step over stand-ins."""
    decode_linear.overlaps = lambda _: True

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    for rows, rotated in ((1, dim), (32, dim // 2)):
        x, norm = zeros(rows, 640), decode_linear.Norm(weight=zeros(640), eps=1e-6)
        heads = decode_linear.Projection(weight=zeros(4 * dim, 640))
        table = torch.tensor([[at, dim, 1, 1, 0] for at in range(0, 4 * dim, dim)])
        parts = decode_linear.HeadParts(
            table=table.to(torch.int32), head_dim=dim, frequencies=torch.zeros(rotated // 2)
        )
        places = decode_linear.Positions(lengths=torch.zeros(rows, dtype=torch.int32))
        kept = zeros(rows, 1, 64, dim), zeros(rows, 1, 64, dim)
        decode_linear.project_heads(x, norm, heads, parts, places, kept)
        wide = decode_linear.Projection(weight=zeros(2 * 1728, 640), bias=zeros(2 * 1728))
        inner = decode_linear.gated_projection(x, norm, wide)
        down = decode_linear.Projection(weight=zeros(640, 1728))
        decode_linear.add_projection(x, inner, down)


if __name__ == "__main__":
    main()
