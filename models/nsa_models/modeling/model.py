"""A decoder-only transformer whose attention is Native Sparse Attention.

Tensors have the names of dense checkpoints in transformers; see
`nsa_models.configuration.dense_families`.

Letters: B batch, T tokens of this call, S tokens so far, H query heads, G key/value groups,
D head dim, N selection blocks, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.pointwise import rotate, silu_product
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import Compressor, KVCache, LayerDevices, NoCache
from nsa_models.cache.layer_cache import LayerCache
from nsa_models.cache.layer_devices import HOST, device_runs, layer_devices
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.rotary import inverse_frequencies
from nsa_models.modeling.branches import (
    AttentionBranches,
    BranchTensors,
    key_norm,
    split_heads,
)
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.linear import Linear
from nsa_models.modeling.low_rank import LowRankChanges
from nsa_models.modeling.norm import RMSNorm

Merged = Callable[[Tensor], dict[str, Tensor]]
"""One product for several projections of x, by name; see `nsa_models.modeling.merged`."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


@dataclass
class NSAOutput:
    """Output of `NSALanguageModel`.

    Attributes:
        logits: (B, T or `last_logits`, V); None without positions.
        mass: (L, B, H, T, N) attention mass of each selection block, with `return_mass`.
    """

    logits: Tensor | None = None
    mass: Tensor | None = None


class RotaryEmbedding:
    """Cosines and sines of the rotary position embedding, of every type in transformers.

    It is not a module, because several devices may share it.
    """

    def __init__(self, config: NSAConfig) -> None:
        self.config = config
        self._inverse: dict[torch.device, Tensor] = {}
        self.scaling = 1.0

    def frequencies(self, device: torch.device) -> Tensor:
        """Return inverse frequencies (D / 2,), computed at first use: a meta model has no data."""
        if device not in self._inverse:
            inverse, self.scaling = inverse_frequencies(self.config)
            self._inverse[device] = inverse.to(device)
        return self._inverse[device]

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (..., D) of positions (...); D is the rotated part of a head."""
        angles = positions[..., None].float() * self.frequencies(positions.device)
        angles = torch.cat([angles, angles], dim=-1)
        return (angles.cos() * self.scaling).to(dtype), (angles.sin() * self.scaling).to(dtype)


class AttentionInputs(NamedTuple):
    """Inputs of a layer's attention.

    Attributes:
        k: (B, G, T, D) rotated keys.
        v: (B, G, T, D) values.
        branches: Keys and values of the other branches, if they differ.
        q: (B, H, T, D) rotated queries, unless only keys and values were projected.
        gates: (B, H, T, 3), with `gated`.
    """

    k: Tensor
    v: Tensor
    branches: BranchTensors | None
    q: Tensor | None = None
    gates: Tensor | None = None


class NSAAttention(nn.Module):
    """Projections, norms and rotary embedding around the cache's attention."""

    def __init__(self, config: NSAConfig, layer: int) -> None:
        super().__init__()
        assert config.head_dim is not None
        self.layer = layer
        self.merged: Merged | None = None
        self.heads = config.num_attention_heads
        self.head_dim = config.head_dim
        width, dim, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.q_proj = Linear(width, self.heads * dim, bias=bias)
        self.k_proj = Linear(width, config.num_key_value_heads * dim, bias=bias)
        self.v_proj = Linear(width, config.num_key_value_heads * dim, bias=bias)
        self.o_proj = Linear(self.heads * dim, width, bias=config.output_bias)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm = key_norm(config)
        self.norm_whole = config.qk_norm_whole
        if config.qk_norm or self.norm_whole:
            size = self.heads * dim if self.norm_whole else dim
            self.q_norm = RMSNorm(size, config.rms_norm_eps)
        self.rotates = config.no_rope_layers is None or bool(config.no_rope_layers[layer])
        self.query_scale = 1.0  # in addition to the 1 / sqrt(D) of `nsa_attention`
        if config.attention_multiplier is not None:
            self.query_scale = config.attention_multiplier * math.sqrt(dim)
        self.gate_proj: Linear | None = None
        if config.combine == "gated":
            self.gate_proj = Linear(width, self.heads * 3, bias=config.gate_bias)
        self.compression_branch = config.compression_branch
        self.branches: AttentionBranches | None = None
        self.compression: Compression | None = None
        if config.branch_inputs:
            self.branches = AttentionBranches(config, rotates=self.rotates)
        elif config.compress_hidden is not None:
            self.compression = Compression(
                config.compress_block, config.compress_stride, dim, config.compress_hidden
            )

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        rotary: RotaryEmbedding,
        settings: AttentionSettings,
        cache: LayerCache,
        return_mass: bool,
        append_only: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Attend: output (B, T, width) and, with `return_mass`, block mass (B, H, T, N).

        With `append_only` keys and values are appended to the cache, without attention.
        """
        inputs = self.project(x, rope, queries=not append_only)
        compress: Compressor | None = None
        if self.branches is not None:
            assert inputs.branches is not None
            compress = self.branches.with_phi(inputs.branches, rotary)
        elif self.compression is not None:
            compress = partial(self.compression, frequencies=rotary.frequencies(x.device))
        k, v = inputs.k, inputs.v
        if append_only:
            assert isinstance(cache, KVCache)
            cache.append(self.layer, k, v, settings, compress)
            return None, None
        q, gates = inputs.q, inputs.gates
        assert q is not None
        out, mass = cache.attend(self.layer, q, k, v, settings, gates, return_mass, compress)
        return self.o_proj(out.transpose(1, 2).flatten(2)), mass

    def project(
        self, x: Tensor, rope: tuple[Tensor, Tensor], *, queries: bool = True
    ) -> AttentionInputs:
        """Project x (B, T, width) to the inputs of the attention.

        Args:
            x: (B, T, width).
            rope: Cosines and sines of the tokens' positions.
            queries: Whether to compute queries and gates, too.
        """
        done = self.merged(x) if self.merged is not None and queries else None
        k = self._heads(self.k_proj(x) if done is None else done["k"], self.k_norm)
        v = self.v_proj(x) if done is None else done["v"]
        v = v.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        branches = None if self.branches is None else self.branches(x, k, v, rope, done)
        if self.rotates:
            k = rotate(k, *rope)
        k = k.to(v.dtype)  # autocast gives projections a lower precision than the rotation
        if not queries:
            return AttentionInputs(k, v, branches)
        q = self._heads(self.q_proj(x) if done is None else done["q"], self.q_norm)
        if self.rotates:
            q = rotate(q, *rope)
        if self.query_scale != 1.0:
            q = q * self.query_scale
        q = q.to(v.dtype)
        gates = None
        if self.gate_proj is not None:
            gates = self.gate_proj(x) if done is None else done["gates"]
            gates = gates.sigmoid().unflatten(-1, (self.heads, 3)).transpose(1, 2)
            if not self.compression_branch:
                gates = F.pad(gates[..., 1:], (1, 0))
        return AttentionInputs(k, v, branches, q, gates)

    def projections(self) -> dict[str, nn.Module]:
        """Return the projections of x by name, for `merged`."""
        layers: dict[str, nn.Module] = {"q": self.q_proj, "k": self.k_proj, "v": self.v_proj}
        if self.branches is not None:
            layers |= self.branches.projections()
        if self.gate_proj is not None:  # last: the others are whole heads
            layers["gates"] = self.gate_proj
        return layers

    def _heads(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Split a projection (B, T, heads * D) and normalize it: (B, heads, T, D)."""
        return split_heads(x, norm, self.head_dim, whole=self.norm_whole)


class MLP(nn.Module):
    """The gated MLP of Llama-like models."""

    def __init__(self, config: NSAConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(width, inner, bias=bias)
        self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)
        self.act = activation(config.hidden_act)
        self.merged: Merged | None = None

    def projections(self) -> dict[str, nn.Module]:
        """Return the projections of x by name, for `merged`."""
        return {"gate": self.gate_proj, "up": self.up_proj}

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP: (B, T, width) to (B, T, width)."""
        if self.merged is not None:
            done = self.merged(x)
            gate, up = done["gate"], done["up"]
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        down: Tensor = self.down_proj(
            silu_product(gate, up) if self.act is F.silu else self.act(gate) * up
        )
        return down


class NSADecoderLayer(nn.Module):
    """Attention and MLP, each preceded by a norm and added to the residual stream."""

    def __init__(self, config: NSAConfig, layer: int) -> None:
        super().__init__()
        self.scale = config.residual_scale
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = NSAAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, *attention: Any) -> tuple[Tensor, Tensor | None]:
        """Run the layer over x (B, T, width); return the same shape and the block mass."""
        attended, mass = self.self_attn(self.input_layernorm(x), *attention)
        return (x, None) if attended is None else (self.add(x, attended), mass)

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's output and the MLP's to x; each is (B, T, width)."""
        x = x + (attended if self.scale == 1.0 else attended * self.scale)
        out: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + (out if self.scale == 1.0 else out * self.scale)


class NormAfterDecoderLayer(nn.Module):
    """Attention and MLP, each followed by a norm and added to the residual stream (OLMo 2)."""

    def __init__(self, config: NSAConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = NSAAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, *attention: Any) -> tuple[Tensor, Tensor | None]:
        """Run the layer over x (B, T, width); return the same shape and the block mass."""
        attended, mass = self.self_attn(x, *attention)
        return (x, None) if attended is None else (self.add(x, attended), mass)

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's output and the MLP's to x; each is (B, T, width)."""
        x = x + self.post_attention_layernorm(attended)
        out: Tensor = self.post_feedforward_layernorm(self.mlp(x))
        return x + out


class NSAModel(nn.Module):
    """Embedding, decoder layers and the final norm, under transformers' names."""

    def __init__(self, config: NSAConfig) -> None:
        super().__init__()
        # Uninitialized: random initialization of a meta tensor takes seconds of imports.
        empty = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(empty, freeze=False)
        kind = NormAfterDecoderLayer if config.norm_after else NSADecoderLayer
        self.layers = nn.ModuleList(
            kind(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config)


class NSALanguageModel(nn.Module):
    """A language model with Native Sparse Attention.

    `NSAForCausalLM` adds the interface of transformers' models, which takes seconds to import.
    The embedding is uninitialized until weights are loaded.

    Attributes:
        config: The configuration.
        retrieval_head_weights: (L, H) weight of each head's attention in the retrieval score of a
            block; equal weights when None.
        verifier: Changes by which the model checks answers; None without.
    """

    _no_split_modules = ["NSADecoderLayer", "NormAfterDecoderLayer"]  # noqa: RUF012

    def __init__(self, config: NSAConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.build(config)

    def build(self, config: NSAConfig) -> None:
        """Create the modules; a subclass with its own set-up calls this too."""
        self.model = NSAModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.retrieval_head_weights: Tensor | None = None
        self.verifier: LowRankChanges | None = None
        if config.retrieval_head_weights is not None:  # never on the meta device
            self.retrieval_head_weights = torch.tensor(config.retrieval_head_weights, device="cpu")

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the first floating-point parameter."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def attentions(self) -> list[NSAAttention]:
        """The attention of every layer, in order."""
        attentions = [layer.self_attn for layer in self.model.layers]
        assert all(isinstance(attention, NSAAttention) for attention in attentions)
        return attentions  # type: ignore[return-value]

    @property
    def layer_devices(self) -> LayerDevices:
        """The device of each layer, in order."""
        device_map = getattr(self, "hf_device_map", None)
        if device_map is None:
            return [self.device] * len(self.model.layers)
        return layer_devices(device_map, len(self.model.layers))

    @property
    def on_gpus(self) -> bool:
        """Whether all weights are on GPUs and none on the host or the disk."""
        device_map = getattr(self, "hf_device_map", {})
        return self.device.type == "cuda" and not {*map(str, device_map.values())} & {*HOST}

    def forward(
        self,
        input_ids: Tensor,
        *,
        cache: LayerCache | None = None,
        settings: AttentionSettings | None = None,
        last_logits: int | None = None,
        return_mass: bool = False,
    ) -> NSAOutput:
        """Run the model over the next tokens.

        Args:
            input_ids: (B, T).
            cache: Cache of the previous tokens, extended in place.
            settings: Attention settings; the configuration's prefill settings when None.
            last_logits: Number of positions, from the end, with logits; all when None.
            return_mass: Whether to return every layer's attention mass per block.
        """
        cache = NoCache() if cache is None else cache
        # Without logits and mass, the last layer only has to append its keys and values.
        append_only = last_logits == 0 and not return_mass and isinstance(cache, KVCache)
        x, masses = self.hidden_states(
            input_ids, cache, settings, return_mass=return_mass, append_only=append_only
        )
        if last_logits is not None:
            x = x[:, x.shape[1] - last_logits :]
        return NSAOutput(
            logits=self.logits(x) if x.shape[1] else None,
            mass=torch.stack(masses) if return_mass else None,
        )

    def hidden_states(
        self,
        input_ids: Tensor,
        cache: LayerCache,
        settings: AttentionSettings | None = None,
        *,
        return_mass: bool = False,
        append_only: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run all layers over the next tokens and advance the cache.

        Args:
            input_ids: (B, T).
            cache: See `forward`.
            settings: See `forward`.
            return_mass: See `forward`.
            append_only: Whether the last layer appends to the cache without attention.

        Returns:
            The last layer's output (B, T, width) and, with `return_mass`, each layer's mass
            (B, H, T, N).
        """
        settings = self.config.prefill_settings() if settings is None else settings
        x, masses = self.embed(input_ids), []
        for device, layers in device_runs(self.layer_devices):
            x, layer_masses = self.run_layers(
                *(x.to(device), layers, settings, cache),
                return_mass=return_mass,
                append_only=append_only,
            )
            masses += [mass.to(input_ids.device) for mass in layer_masses]
        cache.advance(input_ids.shape[1])
        return x, masses

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embed token ids (B, T) for the first layer: (B, T, width)."""
        x: Tensor = self.model.embed_tokens(input_ids)
        return x if self.config.embedding_scale == 1.0 else x * self.config.embedding_scale

    def run_layers(
        self,
        x: Tensor,
        layers: range,
        settings: AttentionSettings,
        cache: LayerCache,
        *,
        return_mass: bool = False,
        append_only: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run layers of one device: x (B, T, width) and, with `return_mass`, their masses.

        Args:
            x: (B, T, width), on the device of the layers.
            layers: Indices of the layers.
            settings: See `forward`.
            cache: See `forward`.
            return_mass: See `forward`.
            append_only: See `hidden_states`.
        """
        rope = self.model.rotary(cache.positions(x.shape[1], x.device), x.dtype)
        masses = []
        for layer in layers:
            last = layer == len(self.model.layers) - 1
            x, mass = self.model.layers[layer](
                *(x, rope, self.model.rotary, settings, cache, return_mass), append_only and last
            )
            if mass is not None:
                masses.append(mass)
        return x, masses

    def logits(self, x: Tensor) -> Tensor:
        """Convert the last layer's output (B, T, width) to logits (B, T, V)."""
        x = self.model.norm(x)
        if self.config.logit_scale != 1.0:
            x = x * self.config.logit_scale
        logits: Tensor = self.lm_head(x)
        return logits


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return an activation by its name in transformers."""
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    from transformers.activations import ACT2FN  # takes seconds

    function: Callable[[Tensor], Tensor] = ACT2FN[name]
    return function
