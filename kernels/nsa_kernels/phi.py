"""The compression φ by the fastest implementation: Triton on CUDA, PyTorch on any device.

φ reduces every complete block of keys or values to one summary: to its mean, by one linear map of
the block, or by the paper's MLP with an intra-block position encoding.

Letters: B batch, G key/value groups, S tokens, C summaries, D head dim, l tokens of a block,
E outputs of the (first) linear map.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, eq. 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels.api import Impl, triton_is_there
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings

if TYPE_CHECKING:
    from nsa_kernels.gpu.layout import Packing

_WIDTHS = range(16, 257, 16)
"""Head dims that the Triton kernels support."""

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def mean_phi(
    x: Tensor,
    settings: AttentionSettings,
    *,
    packing: Packing | None = None,
    impl: Impl | None = None,
) -> Tensor:
    """Reduce blocks to their means: (B, G, S, D) to (B, G, C, D), complete blocks only.

    Args:
        x: (B, G, S, D) keys or values; B = 1 with `packing`.
        settings: The block sizes.
        packing: Offsets of the sequences of a packed batch. Only Triton supports it.
        impl: `BLOCKWISE` or `TRITON`; the fastest one for the device when None.

    Raises:
        UnsupportedError: If the implementation does not support the arguments.
    """
    if not _by_triton(x, packing, impl):
        return mean_summaries(x, settings)
    from nsa_kernels.gpu import phi

    with torch.cuda.device_of(x):
        return phi.mean_phi(_loadable(x), settings, **_offsets(packing, settings))


def linear_phi(
    x: Tensor,
    weight: Tensor,
    settings: AttentionSettings,
    *,
    packing: Packing | None = None,
    impl: Impl | None = None,
) -> Tensor:
    """Reduce blocks by one linear map: (B, G, S, D) to (B, G, C, E), complete blocks only.

    Args:
        x: See `mean_phi`.
        weight: (E, l * D); column i * D + j belongs to the block's token i.
        settings: The block sizes.
        packing: See `mean_phi`.
        impl: See `mean_phi`.

    Raises:
        ValueError: If the shapes do not match.
        UnsupportedError: If the implementation does not support the arguments.
    """
    if _by_triton(x, packing, impl):
        from nsa_kernels.gpu import phi

        with torch.cuda.device_of(x):
            return phi.linear_phi(
                _loadable(x), weight.to(x.dtype), None, settings, **_offsets(packing, settings)
            )
    blocks = _blocks(x, settings)
    return F.linear(blocks.flatten(-2), weight.to(blocks.dtype)).to(x.dtype)


def mlp_phi(
    x: Tensor,
    weights: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    settings: AttentionSettings,
    *,
    packing: Packing | None = None,
    impl: Impl | None = None,
) -> Tensor:
    """Reduce blocks by the paper's MLP: (B, G, S, D) to (B, G, C, D), complete blocks only.

    Args:
        x: See `mean_phi`.
        weights: Position encoding (l, D), which is added to every block; weight (E, l * D) and
            bias (E,) of the inner map; weight (D, E) and bias (D,) of the outer one.
        settings: The block sizes.
        packing: See `mean_phi`.
        impl: See `mean_phi`.

    Raises:
        ValueError: If the shapes do not match.
        UnsupportedError: If the implementation does not support the arguments.
    """
    if _by_triton(x, packing, impl):
        from nsa_kernels.gpu import phi

        position, w_in, b_in, w_out, b_out = (each.to(x.dtype) for each in weights)
        with torch.cuda.device_of(x):
            return phi.mlp_phi(
                *(_loadable(x), position, w_in, b_in, w_out, b_out),
                settings,
                **_offsets(packing, settings),
            )
    blocks = _blocks(x, settings)
    position, w_in, b_in, w_out, b_out = (each.to(blocks.dtype) for each in weights)
    hidden = F.linear((blocks + position).flatten(-2), w_in, b_in)
    return F.linear(F.gelu(hidden), w_out, b_out).to(x.dtype)


def block_starts(
    tokens: int, settings: AttentionSettings, device: torch.device, packing: Packing | None = None
) -> Tensor:
    """Return the index of the first token of each complete block: (C,).

    Args:
        tokens: S, over all sequences of a packed batch.
        settings: The block sizes.
        device: Device of the result.
        packing: Offsets of the sequences of a packed batch.
    """
    if packing is None:
        count = settings.complete_blocks(tokens)
        return torch.arange(count, device=device) * settings.compress_stride
    from nsa_kernels.gpu.phi_blocks import locate_blocks

    starts = locate_blocks(tokens, settings, **_offsets(packing, settings)).starts
    assert starts is not None
    return starts.long()


def _by_triton(x: Tensor, packing: Packing | None, impl: Impl | None) -> bool:
    """Whether Triton reduces the blocks of x.

    Raises:
        UnsupportedError: If `impl` does not support the arguments.
    """
    if impl is Impl.REFERENCE or (packing is not None and impl not in (None, Impl.TRITON)):
        raise UnsupportedError(
            f"impl is {impl}; φ has BLOCKWISE, and TRITON for packed batches too"
        )
    if packing is not None or impl is Impl.TRITON:
        return True
    supported = x.dtype in _DTYPES and x.shape[-1] in _WIDTHS
    return impl is None and x.is_cuda and supported and triton_is_there()


def _blocks(x: Tensor, settings: AttentionSettings) -> Tensor:
    """Complete blocks of (B, G, S, D) in at least fp32: (B, G, C, l, D)."""
    block, stride = settings.compress_block, settings.compress_stride
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.shape[2] < block:
        return wide.new_empty(*x.shape[:2], 0, block, x.shape[3])
    return wide.unfold(2, block, stride).transpose(-1, -2)


def _loadable(x: Tensor) -> Tensor:
    """Return x with a last stride of 1, as the kernels need it."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _offsets(packing: Packing | None, settings: AttentionSettings) -> dict[str, Any]:
    """The arguments of the Triton kernels for a packed batch."""
    if packing is None:
        return {}
    offsets, total = packing.summary_layout(settings)
    return {"cu_seqlens": packing.cu_keys, "cu_summaries": offsets, "total_summaries": total}
