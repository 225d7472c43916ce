"""The layers of a model in a decode step, with few kernels around the attention.

A layer is four kernels and those of its attention: norm, projections and rotation of heads; the
output's projection and its sum with the residual stream; norm and gated half of the MLP; its other
half and the sum.

Letters: B batch, T new tokens of a text, M = B * T rows, H query heads, G key/value groups, D head
dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode_linear import (
    MOST_ROWS,
    Finish,
    HeadParts,
    Norm,
    Positions,
    Projection,
    add_projection,
    gated_projection,
    project_heads,
)
from nsa_models.cache.branches import Rotary
from nsa_models.cache.kv_cache import Compressor
from nsa_models.modeling.branches import BranchTensors
from nsa_models.modeling.linear import Linear
from nsa_models.modeling.merged import MergedProjections
from nsa_models.modeling.model import MLP, NSAAttention, NSADecoderLayer, NSALanguageModel
from nsa_models.modeling.norm import RMSNorm

_GATES = "gates"


@dataclass(frozen=True, kw_only=True)
class StepHeads:
    """What a step's attention takes in one layer.

    Attributes:
        q: (B, H, T, D) rotated queries.
        k: (B, G, T, D) rotated keys.
        v: (B, G, T, D) values.
        gates: (B, H, T, 3) or None.
        compress: φ, perhaps with the branches' keys and values.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    gates: Tensor | None
    compress: Compressor | None


class StepAttention(Protocol):
    """The attention of a step's layers."""

    def place(self, layer: int) -> Positions:
        """Return where the new tokens of a layer are."""
        ...

    def kept(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return keys and values of the cache to write to; None if `attend_heads` writes them."""
        ...

    def attend_heads(self, layer: int, heads: StepHeads) -> Tensor:
        """Attend in one layer: (B, H, T, D)."""
        ...


class FusedLayers:
    """The decoder layers of a model, on one device, for steps of few rows.

    Projections of one input become views of one weight.

    Args:
        model: The model; later changes of its weights' type or device are not seen.
        rows: Most rows M of a step.

    Raises:
        UnsupportedError: If the kernels do not support a layer.
    """

    def __init__(self, model: NSALanguageModel, rows: int) -> None:
        if rows > MOST_ROWS:
            raise UnsupportedError(f"{rows} rows; fused layers take {MOST_ROWS}")
        if model.device.type == "cuda" and model.dtype == torch.float32:
            raise UnsupportedError("fused layers take no weights in fp32 on a GPU")
        frequencies = model.model.rotary.frequencies(model.device)
        scaling = model.model.rotary.scaling
        self._rotary = model.model.rotary
        for layer in model.model.layers:
            _check(layer, frequencies)
        self._layers = [
            _FusedLayer(layer, frequencies, scaling)
            for layer in model.model.layers
            if isinstance(layer, NSADecoderLayer)
        ]

    def run(self, x: Tensor, attention: StepAttention) -> Tensor:
        """Run all layers over x (B, T, width); return the same shape.

        Args:
            x: The embedded tokens.
            attention: Appends to the cache and attends.
        """
        batch, tokens, _ = x.shape
        rows = x.flatten(0, 1).contiguous()
        for number, layer in enumerate(self._layers):
            heads = layer.heads(rows, attention.place(number), attention.kept(number))
            split = {
                name: _heads(x, batch, 3 if name == _GATES else layer.dim)
                for name, x in heads.items()
            }
            out = attention.attend_heads(number, layer.inputs(split, self._rotary))
            rows = layer.add(rows, out.transpose(1, 2).reshape(batch * tokens, -1))
        return rows.view(batch, tokens, -1)


class _FusedLayer:
    """One layer: its weights as the kernels take them."""

    def __init__(self, layer: NSADecoderLayer, frequencies: Tensor, scaling: float) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        merged, halves = _merged(attention), _merged(mlp)
        self.dim = attention.head_dim
        self._attention = attention
        self._sizes = dict(zip(merged.names, merged.sizes, strict=True))
        self._norms = [_norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)]
        self._in = Projection(weight=merged.weight, bias=merged.bias)
        self._gated = Projection(weight=halves.weight, bias=halves.bias)
        self._out, self._down = _projection(attention.o_proj), _projection(mlp.down_proj)
        table = [part for parts in _parts(attention, self._sizes) for part in parts]
        self._parts = HeadParts(
            table=torch.tensor(table, dtype=torch.int32, device=frequencies.device),
            head_dim=self.dim,
            frequencies=frequencies,
            scaling=scaling,
        )

    def heads(
        self, rows: Tensor, positions: Positions, kept: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        """Project rows (M, width) to the attention's inputs by name, each (M, outputs)."""
        out = project_heads(rows, self._norms[0], self._in, self._parts, positions, kept)
        return dict(zip(self._sizes, out.split(list(self._sizes.values()), dim=-1), strict=True))

    def inputs(self, split: dict[str, Tensor], rotary: Rotary) -> StepHeads:
        """Return the attention's inputs of heads (B, heads, T, D) by name."""
        compress: Compressor | None = None
        attention, k, v = self._attention, split["k"], split["v"]
        if attention.branches is not None:
            branches = BranchTensors(
                split.get("compress_k", k),
                split.get("compress_v", v),
                split.get("window_k"),
                split.get("window_v"),
            )
            compress = attention.branches.with_phi(branches, rotary)
        elif attention.compression is not None:
            compress = partial(attention.compression, frequencies=self._parts.frequencies)
        gates = split.get(_GATES)
        return StepHeads(q=split["q"], k=k, v=v, gates=gates, compress=compress)

    def add(self, rows: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's and the MLP's outputs to rows (M, width)."""
        rows = add_projection(rows, attended, self._out)
        return add_projection(rows, gated_projection(rows, self._norms[1], self._gated), self._down)


def _merged(module: NSAAttention | MLP) -> MergedProjections:
    """Return the merged projections of a module, which may have them already."""
    if not isinstance(module.merged, MergedProjections):
        module.merged = MergedProjections(module.projections())
    return module.merged


def _norm(norm: RMSNorm) -> Norm:
    return Norm(weight=norm.weight.detach(), eps=norm.eps)


def _projection(layer: nn.Linear) -> Projection:
    bias = None if layer.bias is None else layer.bias.detach()
    return Projection(weight=layer.weight.detach(), bias=bias)


def _heads(x: Tensor, batch: int, size: int) -> Tensor:
    """Split (M, heads * size) into (B, heads, T, size)."""
    heads: Tensor = x.unflatten(0, (batch, -1)).unflatten(-1, (-1, size))
    return heads.transpose(1, 2)


def _parts(attention: NSAAttention, sizes: dict[str, int]) -> Iterator[list[list[int]]]:
    """Yield the rows of `HeadParts.table` of each projection."""
    first, dim = 0, attention.head_dim
    rotated = {"q", "k", "window_k"} if attention.rotates else set()
    if attention.rotates and attention.branches is not None and attention.branches.phi_k is None:
        rotated.add("compress_k")
    for name, size in sizes.items():
        finish = Finish.ROTATION if name in rotated else Finish.NOTHING
        if name == _GATES:
            finish = Finish.SIGMOID
        kept = {"k": 1, "v": 2}.get(name, 0)
        yield [
            [first + at, min(dim, size - at), int(finish), kept, at // dim]
            for at in range(0, size, dim)
        ]
        first += size


def _check(layer: nn.Module, frequencies: Tensor) -> None:
    """Raise UnsupportedError for a layer that the kernels do not support."""
    if not isinstance(layer, NSADecoderLayer) or not isinstance(layer.mlp, MLP):
        raise UnsupportedError(f"fused layers do not support {type(layer).__name__}")
    attention, mlp = layer.self_attn, layer.mlp
    linears = (*attention.projections().values(), *mlp.projections().values())
    linears = (*linears, attention.o_proj, mlp.down_proj)
    for each in linears:
        if type(each) is not Linear or each._forward_hooks:
            raise UnsupportedError("fused layers do not support quantized or changed projections")
    norms = [attention.q_norm, attention.k_norm]
    branches = attention.branches
    if branches is not None and branches.compress is not None and branches.window is not None:
        norms += [branches.compress.k_norm, branches.window.k_norm]
    elif branches is not None and branches.phi_k is not None and attention.rotates:
        raise UnsupportedError("fused layers do not support a trained φ of the selection's keys")
    if any(isinstance(each, RMSNorm) for each in norms):
        raise UnsupportedError("fused layers do not support norms of queries and keys")
    if layer.scale != 1.0 or attention.query_scale != 1.0 or not attention.compression_branch:
        raise UnsupportedError("fused layers do not support scales, or a model without compression")
    if mlp.act is not F.silu:
        raise UnsupportedError("fused layers support silu alone")
    if attention.compression is not None and 2 * len(frequencies) != attention.head_dim:
        raise UnsupportedError("fused layers compress wholly rotated keys alone")
    types = {each.weight.dtype for each in (*linears, layer.input_layernorm)}
    if len(types) > 1:
        raise UnsupportedError(f"fused layers do not support weights of several types: {types}")
