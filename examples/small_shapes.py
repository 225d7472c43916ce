"""Runs every Triton kernel on small shapes, for compute-sanitizer to watch: `make sanitize`.

    compute-sanitizer --tool racecheck python examples/small_shapes.py

Forward and backward, both ways to combine the branches, packed and not, every φ, and decode
steps, at odd lengths. Here the results need only be finite: the tests compare them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsa_kernels.gpu.attention import triton_attention
from nsa_kernels.gpu.decode import nsa_decode
from nsa_kernels.gpu.decode_cache import DecodeCache
from nsa_kernels.gpu.layout import Packing
from nsa_kernels.gpu.phi import mlp_phi
from nsa_kernels.settings import AttentionSettings

CUDA = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if CUDA else ("cpu", torch.float32)
GATED = AttentionSettings(combine="gated", select_count=4, window=64)
UNION = AttentionSettings(
    combine="union", compress_block=4, compress_stride=4,
    select_count=2, select_tile=64, score_stride=4, window=64,
)  # fmt: skip
GROUPS, DIM = 2, 64


def draw(*shape: int) -> Tensor:
    """Normal numbers that want a gradient."""
    return torch.randn(*shape, dtype=DTYPE, device=DEVICE, requires_grad=True)


def finite(*tensors: Tensor | None) -> None:
    """Stop if a result is not finite."""
    assert all(x is None or bool(x.isfinite().all()) for x in tensors)


def attend(
    settings: AttentionSettings,
    queries: int,
    keys: int,
    repeat: int,
    packing: Packing | None,
    dim: int = DIM,
) -> None:
    """Attend forward and backward once."""
    q, k, v = (
        draw(1, heads, length, dim)
        for heads, length in ((GROUPS * repeat, queries), (GROUPS, keys), (GROUPS, keys))
    )
    gated = settings.combine == "gated"
    gates = torch.rand(1, GROUPS * repeat, queries, 3, dtype=DTYPE, device=DEVICE)
    out, _ = triton_attention(q, k, v, settings, gates=gates if gated else None, packing=packing)
    out.backward(torch.randn_like(out))
    finite(out, q.grad, k.grad, v.grad)


def pack(lengths: list[int]) -> Packing:
    """Whole sequences of so many tokens, one after the other."""
    cu = torch.tensor([0, *lengths], device=DEVICE).cumsum(0).to(torch.int32)
    return Packing(
        cu_queries=cu, cu_keys=cu, max_queries=max(lengths), max_keys=max(lengths)
    )  # fmt: skip


def summarize() -> None:
    """The paper's φ, forward and backward."""
    x = draw(1, GROUPS, 133, DIM)
    block = GATED.compress_block
    weights = [draw(block, DIM), draw(96, block * DIM), draw(96), draw(DIM, 96), draw(DIM)]
    summaries = mlp_phi(x, *weights, GATED)
    summaries.sum().backward()
    finite(summaries, x.grad, *(weight.grad for weight in weights))


def decode(settings: AttentionSettings, repeat: int) -> None:
    """Some tokens for two sequences, from nothing."""
    heads = GROUPS * repeat
    cache = DecodeCache.allocate(
        settings, batch=2, heads=heads, groups=GROUPS, capacity=90, head_dim=DIM,
        dtype=DTYPE, device=DEVICE,
    )  # fmt: skip
    gates = torch.rand(2, heads, 3, dtype=DTYPE, device=DEVICE)
    with torch.no_grad():
        for _ in range(70):
            q, k, v = draw(2, heads, DIM), draw(2, GROUPS, DIM), draw(2, GROUPS, DIM)
            gated = settings.combine == "gated"
            finite(nsa_decode(q, k, v, cache, gates=gates if gated else None))


def main() -> None:
    """Run everything once."""
    for settings in (GATED, UNION):
        attend(settings, 331, 331, 7, None)
        attend(settings, 67, 200, 16, None)
        attend(settings, 131, 131, 3, pack([1, 70, 60]))
        attend(settings, 150, 200, 16, None, dim=128)
    summarize()
    for combine in ("gated", "union"):
        own = AttentionSettings(combine=combine, select_count=2, window=64)  # type: ignore[arg-type]
        decode(own, 7)
    if CUDA:
        torch.cuda.synchronize()
    print("every kernel ran, and every result is finite")


if __name__ == "__main__":
    main()
