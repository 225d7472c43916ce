"""Projections of the branches of `gated` attention, and the φ of their keys and values.

In the paper each branch has keys and values from separate projections. The selection's are those
of `NSAAttention`; this module adds those of the compression and the window, and φ.

Letters: B batch, T tokens, G key/value groups, D head dim, C complete blocks, l tokens of a block,
E inner width of φ's MLP.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, section 3.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nsa_kernels.phi import linear_phi, mean_phi, mlp_phi
from nsa_kernels.pointwise import rotate
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.branches import Branches, Rotary
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.linear import Linear
from nsa_models.modeling.norm import RMSNorm

if TYPE_CHECKING:
    from nsa_kernels.gpu.layout import Packing


def split_heads(x: Tensor, norm: nn.Module, head_dim: int, *, whole: bool) -> Tensor:
    """Split a projection into heads: (B, T, heads * D) to (B, heads, T, D).

    Args:
        x: (B, T, heads * D).
        norm: The norm of queries or keys.
        head_dim: D.
        whole: Whether the norm precedes the split.
    """
    if whole:
        x = norm(x)
    heads: Tensor = x.unflatten(-1, (-1, head_dim))
    if not whole:
        heads = norm(heads)
    return heads.transpose(1, 2)


def key_norm(config: NSAConfig) -> nn.Module:
    """Return the norm of keys that a configuration has."""
    assert config.head_dim is not None
    if config.qk_norm_whole:
        return RMSNorm(config.num_key_value_heads * config.head_dim, config.rms_norm_eps)
    return RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()


class BranchProjections(nn.Module):
    """Projections to the keys and values of one branch."""

    def __init__(self, config: NSAConfig) -> None:
        super().__init__()
        assert config.head_dim is not None
        width, bias = config.hidden_size, config.attention_bias
        wide = config.num_key_value_heads * config.head_dim
        self.head_dim, self.norm_whole = config.head_dim, config.qk_norm_whole
        self.k_proj = Linear(width, wide, bias=bias)
        self.v_proj = Linear(width, wide, bias=bias)
        self.k_norm = key_norm(config)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x (B, T, width) to keys, not rotated, and values: two (B, G, T, D)."""
        return self.split(self.k_proj(x), self.v_proj(x))

    def split(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Split projected keys and values (B, T, G * D) into heads: two (B, G, T, D)."""
        k = split_heads(k, self.k_norm, self.head_dim, whole=self.norm_whole)
        return k, v.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def _mean_map(block: int, head_dim: int) -> Tensor:
    """Return the matrix (D, l * D) that maps a block to its mean."""
    return torch.eye(head_dim).repeat(1, block) / block


class LinearPhi(nn.Module):
    """φ as one linear map of a block; untrained it is the mean.

    Args:
        block: l, in tokens.
        head_dim: D.
    """

    def __init__(self, block: int, head_dim: int) -> None:
        super().__init__()
        self.block, self.head_dim = block, head_dim
        self.weight = nn.Parameter(self.mean())

    def mean(self) -> Tensor:
        """Return the weight (D, l * D) with which φ is the mean."""
        return _mean_map(self.block, self.head_dim)

    def forward(self, x: Tensor, settings: AttentionSettings, packing: Packing | None) -> Tensor:
        """Compress (B, G, T, D) to (B, G, C, D)."""
        return linear_phi(x, self.weight, settings, packing=packing)


class MLPPhi(nn.Module):
    """φ as the paper's MLP with an intra-block position encoding.

    Args:
        block: l, in tokens.
        head_dim: D.
        hidden: E.
    """

    def __init__(self, block: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(block, head_dim))
        self.inner = nn.Linear(block * head_dim, hidden)
        self.outer = nn.Linear(hidden, head_dim)

    @torch.no_grad()
    def begin_as_mean(self) -> bool:
        """Set weights with which φ is the mean, since gelu(x) - gelu(-x) = x.

        The first 2 D hidden units hold the mean and its negative. Further ones keep their inputs
        and have no output yet.

        Returns:
            Whether E is at least 2 D; the weights are unchanged otherwise.
        """
        block, dim = self.position.shape
        if self.inner.out_features < 2 * dim:
            return False
        mean = _mean_map(block, dim)
        sign = torch.cat([torch.eye(dim), -torch.eye(dim)])
        self.position.zero_()
        self.inner.bias.zero_()
        self.inner.weight[: 2 * dim].copy_(sign @ mean)
        self.outer.weight.zero_()
        self.outer.weight[:, : 2 * dim].copy_(sign.T)
        self.outer.bias.zero_()
        return True

    def forward(self, x: Tensor, settings: AttentionSettings, packing: Packing | None) -> Tensor:
        """Compress (B, G, T, D) to (B, G, C, D)."""
        weights = (
            *(self.position, self.inner.weight, self.inner.bias),
            *(self.outer.weight, self.outer.bias),
        )
        return mlp_phi(x, weights, settings, packing=packing)


def _mean(x: Tensor, settings: AttentionSettings, packing: Packing | None) -> Tensor:
    """Compress (B, G, T, D) to means (B, G, C, D)."""
    return mean_phi(x, settings, packing=packing)


def _learned_phi(config: NSAConfig) -> nn.Module | None:
    """Return a layer's φ of keys or of values; None for the mean."""
    assert config.head_dim is not None
    if config.compress_phi == "linear":
        return LinearPhi(config.compress_block, config.head_dim)
    if config.compress_phi == "mlp":
        assert config.compress_hidden is not None
        return MLPPhi(config.compress_block, config.head_dim, config.compress_hidden)
    return None


class BranchTensors(NamedTuple):
    """Keys and values of the compression and of the window; see `Branches`."""

    compress_k: Tensor
    compress_v: Tensor
    window_k: Tensor | None
    window_v: Tensor | None


class AttentionBranches(nn.Module):
    """The compression and the window of a layer: separate projections, if any, and φ.

    Args:
        config: The configuration, with `branch_inputs`.
        rotates: Whether the layer has a rotary embedding.
    """

    def __init__(self, config: NSAConfig, *, rotates: bool) -> None:
        super().__init__()
        self.rotates = rotates
        self.compress: BranchProjections | None = None
        self.window: BranchProjections | None = None
        if config.branch_keys == "separate":
            self.compress, self.window = BranchProjections(config), BranchProjections(config)
        self.phi_k, self.phi_v = _learned_phi(config), _learned_phi(config)

    def projections(self) -> dict[str, nn.Module]:
        """Return the projections of x by name."""
        if self.compress is None or self.window is None:
            return {}
        return {
            "compress_k": self.compress.k_proj,
            "compress_v": self.compress.v_proj,
            "window_k": self.window.k_proj,
            "window_v": self.window.v_proj,
        }

    def _inputs(
        self, x: Tensor, k: Tensor, v: Tensor, done: dict[str, Tensor] | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]:
        """Return keys and values of the compression and of the window, not rotated."""
        if self.compress is None or self.window is None:
            return (k, v), (None, None)
        if done is None:
            return self.compress(x), self.window(x)
        return (
            self.compress.split(done["compress_k"], done["compress_v"]),
            self.window.split(done["window_k"], done["window_v"]),
        )

    def forward(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        rope: tuple[Tensor, Tensor],
        done: dict[str, Tensor] | None = None,
    ) -> BranchTensors:
        """Project the tokens of one call.

        Args:
            x: (B, T, width).
            k: (B, G, T, D) keys of the selection, before the rotary embedding.
            v: (B, G, T, D) values of the selection.
            rope: Cosines and sines of the tokens' positions.
            done: The results of `projections`, if they were computed with others.
        """
        (compress_k, compress_v), (window_k, window_v) = self._inputs(x, k, v, done)
        if self.rotates and self.phi_k is None:
            compress_k = rotate(compress_k, *rope)
        if window_k is not None:
            # Autocast gives projections a lower precision than the rotation.
            window_k = (rotate(window_k, *rope) if self.rotates else window_k).to(v.dtype)
        return BranchTensors(compress_k.to(v.dtype), compress_v, window_k, window_v)

    def with_phi(self, tensors: BranchTensors, rotary: Rotary) -> Branches:
        """Return the branches of what `forward` returned.

        Args:
            tensors: Keys and values.
            rotary: Computes cosines and sines of positions.
        """
        late = self.rotates and self.phi_k is not None
        return Branches(
            compress_k=tensors.compress_k,
            compress_v=tensors.compress_v,
            phi_k=_mean if self.phi_k is None else partial(_call, self.phi_k),
            phi_v=_mean if self.phi_v is None else partial(_call, self.phi_v),
            rotary=rotary if late else None,
            window_k=tensors.window_k,
            window_v=tensors.window_v,
        )


def _call(
    phi: nn.Module, x: Tensor, settings: AttentionSettings, packing: Packing | None
) -> Tensor:
    """Compress (B, G, T, D) with a module: (B, G, C, D)."""
    compressed: Tensor = phi(x, settings, packing)
    return compressed
