"""A decoder-only transformer whose attention is Native Sparse Attention.

It carries the weights of dense checkpoints under transformers' own tensor names; see
`nsa_models.configuration.dense_families`.

Letters: B batch, T tokens of this call, S tokens so far, H query heads, G key/value groups,
D head dim, N selection blocks, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from nsa_kernels.api import nsa_attention
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache, LayerCache, LayerDevices, Summarise
from nsa_models.cache.layer_devices import HOST, device_runs, layer_devices
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.rotary import inverse_frequencies
from nsa_models.errors import unsupported
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.linear import Linear

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}

Answering = tuple[int, AttentionSettings]
"""The position at which a question begins, and what it and the answer attend to."""

Probe = Callable[[int, Tensor, Tensor], None]
"""Shown a layer's number, its queries (B, H, T, D) and its keys (B, G, S, D), both rotated."""


@dataclass
class NSAOutput(ModelOutput):
    """What `NSALanguageModel` returns.

    Attributes:
        loss: Mean cross-entropy of the next token, if labels were given.
        logits: (B, T or `last_logits`, V).
        mass: (L, B, H, T, N) attention mass of each selection block, if asked for.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    mass: Tensor | None = None


class RotaryEmbedding:
    """Cosines and sines of the rotary position embedding, in every form transformers knows.

    No module: it lies on no one device.
    """

    def __init__(self, config: NSAConfig) -> None:
        self.config = config
        self._inverse: dict[torch.device, Tensor] = {}
        self.scaling = 1.0

    def frequencies(self, device: torch.device) -> Tensor:
        """Inverse frequencies (D / 2,), made at first use: a model may be built without data."""
        if device not in self._inverse:
            inverse, self.scaling = inverse_frequencies(self.config)
            self._inverse[device] = inverse.to(device)
        return self._inverse[device]

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (..., D) of positions (...), or of the part of D that is rotated."""
        angles = positions[..., None].float() * self.frequencies(positions.device)
        angles = torch.cat([angles, angles], dim=-1)
        return (angles.cos() * self.scaling).to(dtype), (angles.sin() * self.scaling).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding (T, D) or (B, 1, T, D) to queries or keys (B, heads, T, D).

    An embedding of fewer columns than D turns these, and leaves the rest as it is.
    """
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat([rotate(x[..., :width], cos, sin), x[..., width:]], dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class RMSNorm(nn.Module):
    """Root mean square normalisation with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., size) in fp32."""
        quick = x.is_cuda and not torch.is_grad_enabled() and x.dtype == self.weight.dtype
        if quick:  # one kernel in the place of eight
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)


class NSAAttention(nn.Module):
    """Projections around `nsa_attention`."""

    def __init__(self, config: NSAConfig, layer: int) -> None:
        super().__init__()
        assert config.head_dim is not None
        self.layer = layer
        self.heads = config.num_attention_heads
        self.head_dim = config.head_dim
        width, dim, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.q_proj = Linear(width, self.heads * dim, bias=bias)
        self.k_proj = Linear(width, config.num_key_value_heads * dim, bias=bias)
        self.v_proj = Linear(width, config.num_key_value_heads * dim, bias=bias)
        self.o_proj = Linear(self.heads * dim, width, bias=config.output_bias)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        self.norm_whole = config.qk_norm_whole
        if config.qk_norm or self.norm_whole:
            wide = (self.heads * dim, config.num_key_value_heads * dim)
            sizes = wide if self.norm_whole else (dim, dim)
            self.q_norm, self.k_norm = (RMSNorm(size, config.rms_norm_eps) for size in sizes)
        self.rotates = config.no_rope_layers is None or bool(config.no_rope_layers[layer])
        self.query_scale = 1.0  # what `nsa_attention` does not multiply with by itself
        if config.attention_multiplier is not None:
            self.query_scale = config.attention_multiplier * math.sqrt(dim)
        self.gate_proj: Linear | None = None
        if config.combine == "gated":
            self.gate_proj = Linear(width, self.heads * 3, bias=config.gate_bias)
        self.compression_branch = config.compression_branch
        self.compression: Compression | None = None
        if config.compress_hidden is not None:
            self.compression = Compression(
                config.compress_block, config.compress_stride, dim, config.compress_hidden
            )
        self.probe: Probe | None = None

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        frequencies: Tensor,
        settings: AttentionSettings,
        cache: LayerCache | None,
        return_mass: bool,
        answering: Answering | None,
        fill: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Attend: output (B, T, width) and, if asked for, block mass (B, H, T, N).

        With `fill` keys and values go to the cache and nothing is made of them.
        """
        k = self._heads(self.k_proj(x), self.k_norm, rope)
        v = self.v_proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        k = k.to(v.dtype)  # autocast makes projections of a lower precision than the rotation
        summarise: Summarise | None = None
        if self.compression is not None:
            summarise = partial(self.compression, frequencies=frequencies)
        if fill and self.probe is None:
            assert isinstance(cache, KVCache)
            cache.append(self.layer, k, v, settings, summarise)
            return None, None
        q = self._heads(self.q_proj(x), self.q_norm, rope)
        if self.query_scale != 1.0:
            q = q * self.query_scale
        q = q.to(v.dtype)
        if self.probe is not None:
            self.probe(self.layer, q, k)
        gates = None
        if self.gate_proj is not None:
            gates = self.gate_proj(x).sigmoid().unflatten(-1, (self.heads, 3)).transpose(1, 2)
            if not self.compression_branch:
                gates = F.pad(gates[..., 1:], (1, 0))
        if cache is None:
            parts = [(0, q.shape[2], settings)]
            if answering is not None:
                parts = [(0, answering[0], settings), (answering[0], q.shape[2], answering[1])]
            results = []
            for start, end, of in parts:
                keys = k[:, :, :end]
                summary_k = None
                if summarise is not None and not of.covers(end):
                    summary_k = summarise(keys)
                results.append(
                    nsa_attention(
                        q[:, :, start:end],
                        keys,
                        v[:, :, :end],
                        of,
                        summary_k=summary_k,
                        gates=None if gates is None else gates[:, :, start:end],
                        return_mass=return_mass,
                    )
                )
            out = torch.cat([each.out for each in results], dim=2)
            mass = results[-1].mass
        else:
            out, mass = cache.attend(self.layer, q, k, v, settings, gates, return_mass, summarise)
        return self.o_proj(out.transpose(1, 2).flatten(2)), mass

    def _heads(self, made: Tensor, norm: nn.Module, rope: tuple[Tensor, Tensor]) -> Tensor:
        """A projection (B, T, heads * D) as normed and turned heads (B, heads, T, D)."""
        if self.norm_whole:
            made = norm(made)
        heads = made.unflatten(-1, (-1, self.head_dim))
        if not self.norm_whole:
            heads = norm(heads)
        heads = heads.transpose(1, 2)
        return rotate(heads, *rope) if self.rotates else heads


class MLP(nn.Module):
    """The gated MLP of Llama and its kin."""

    def __init__(self, config: NSAConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(width, inner, bias=bias)
        self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        down: Tensor = self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))
        return down


class NSADecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: NSAConfig, layer: int) -> None:
        super().__init__()
        self.scale = config.residual_scale
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = NSAAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, *attention: Any) -> tuple[Tensor, Tensor | None]:
        """(B, T, width) to (B, T, width), and the block mass; see `NSAAttention.forward`."""
        attended, mass = self.self_attn(self.input_layernorm(x), *attention)
        if attended is None:
            return x, None
        x = x + (attended if self.scale == 1.0 else attended * self.scale)
        made = self.mlp(self.post_attention_layernorm(x))
        return x + (made if self.scale == 1.0 else made * self.scale), mass


class NormAfterDecoderLayer(nn.Module):
    """Attention and MLP, each followed by a norm and added to the residual stream (OLMo 2)."""

    def __init__(self, config: NSAConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = NSAAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, *attention: Any) -> tuple[Tensor, Tensor | None]:
        """(B, T, width) to (B, T, width), and the block mass; see `NSAAttention.forward`."""
        attended, mass = self.self_attn(x, *attention)
        if attended is None:
            return x, None
        x = x + self.post_attention_layernorm(attended)
        return x + self.post_feedforward_layernorm(self.mlp(x)), mass


class NSAModel(nn.Module):
    """Embedding, decoder layers and the final norm, under transformers' names."""

    def __init__(self, config: NSAConfig) -> None:
        super().__init__()
        # Not drawn at random: without data that alone takes seconds of imports.
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

    `NSAForCausalLM` is this one with what transformers' models have; that takes seconds to import.
    Here the embedding holds no numbers until weights are loaded.

    Attributes:
        config: Its configuration.
        evidence: (L, H) how much each head's look at a block tells what a question is about;
            all alike when None.
    """

    _no_split_modules = ["NSADecoderLayer", "NormAfterDecoderLayer"]  # noqa: RUF012

    def __init__(self, config: NSAConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.build(config)

    def build(self, config: NSAConfig) -> None:
        """Make the parts; those of a subclass that has set up itself otherwise, too."""
        self.model = NSAModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.evidence: Tensor | None = None
        if config.evidence is not None:  # on no meta device, where the weights may be made
            self.evidence = torch.tensor(config.evidence, device="cpu")

    @property
    def device(self) -> torch.device:
        """Where its first weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of its first weights that are no whole numbers."""
        return next(each.dtype for each in self.parameters() if each.is_floating_point())

    @property
    def attentions(self) -> list[NSAAttention]:
        """The attention of every layer, in order."""
        found = [layer.self_attn for layer in self.model.layers]
        assert all(isinstance(each, NSAAttention) for each in found)
        return found  # type: ignore[return-value]

    @property
    def layer_devices(self) -> LayerDevices:
        """Where each layer is, in order."""
        placed = getattr(self, "hf_device_map", None)
        if placed is None:
            return [self.device] * len(self.model.layers)
        return layer_devices(placed, len(self.model.layers))

    @property
    def on_cards(self) -> bool:
        """Whether all weights are on GPUs, with none that accelerate brings from host or disk."""
        placed = getattr(self, "hf_device_map", {})
        return self.device.type == "cuda" and not {*map(str, placed.values())} & {*HOST}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        cache: LayerCache | None = None,
        settings: AttentionSettings | None = None,
        labels: Tensor | None = None,
        last_logits: int | None = None,
        logits_at: Tensor | None = None,
        return_mass: bool = False,
        answering: Answering | None = None,
        return_dict: bool | None = None,
    ) -> NSAOutput:
        """Run the model over the next tokens.

        Args:
            input_ids: (B, T).
            attention_mask: All ones, as tokenizers give it.
            cache: What was read before; these tokens are appended to it.
            settings: What to attend to; the configuration's for reading when None.
            labels: (B, T) the ids themselves, -100 where no loss is wanted.
            last_logits: How many positions, from the end, to give logits for; all when None.
            logits_at: (P,) the positions to give logits for, instead, counted through the rows of
                the batch; the logits are (1, P, V) then.
            return_mass: Whether to return every layer's attention mass per block.
            answering: A question in the same call as the text, as training has it; then there is
                no cache, and the mass is that of the question and the answer.
            return_dict: Not False: there is but one kind of output.

        Raises:
            ModelError: If the attention mask hides a token.
        """
        assert cache is None or answering is None
        assert return_dict is not False
        check_mask(attention_mask)
        settings = self.config.prefill_settings() if settings is None else settings
        x = self.embed(input_ids)
        # Of the last layer nothing but its keys and values may be wanted.
        fill = last_logits == 0 and not return_mass and isinstance(cache, KVCache)
        masses = []
        for home, layers in device_runs(self.layer_devices):
            x, made = self.through(
                *(x.to(home), layers, settings, cache),
                return_mass=return_mass,
                answering=answering,
                fill=fill,
            )
            masses += [mass.to(input_ids.device) for mass in made]
        if cache is not None:
            cache.advance(input_ids.shape[1])
        if logits_at is not None:
            x = x.flatten(0, 1)[None, logits_at]
        elif last_logits is not None:
            x = x[:, x.shape[1] - last_logits :]
        logits = self.logits(x) if x.shape[1] else None
        loss = None
        if labels is not None:
            assert logits is not None
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return NSAOutput(
            loss=loss, logits=logits, mass=torch.stack(masses) if return_mass else None
        )

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, T) to what the first layer takes: (B, T, width)."""
        x: Tensor = self.model.embed_tokens(input_ids)
        return x if self.config.embedding_scale == 1.0 else x * self.config.embedding_scale

    def through(
        self,
        x: Tensor,
        layers: range,
        settings: AttentionSettings,
        cache: LayerCache | None,
        *,
        return_mass: bool = False,
        answering: Answering | None = None,
        fill: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run some layers of one device: x (B, T, width), and their masses if asked for.

        Args:
            x: (B, T, width), where these layers are.
            layers: Which.
            settings: See `forward`.
            cache: See `forward`.
            return_mass: See `forward`.
            answering: See `forward`.
            fill: Whether the model's last layer only appends to the cache.
        """
        if cache is None:
            positions = torch.arange(x.shape[1], device=x.device)
        else:
            positions = cache.positions(x.shape[1], x.device)
        rope = self.model.rotary(positions, x.dtype)
        frequencies = self.model.rotary.frequencies(x.device)
        masses = []
        for layer in layers:
            last = layer == len(self.model.layers) - 1
            x, mass = self.model.layers[layer](
                *(x, rope, frequencies, settings, cache, return_mass, answering), fill and last
            )
            if mass is not None:
                masses.append(mass)
        return x, masses

    def logits(self, x: Tensor) -> Tensor:
        """What the last layer made (B, T, width) to logits (B, T, V)."""
        x = self.model.norm(x)
        if self.config.logit_scale != 1.0:
            x = x * self.config.logit_scale
        made: Tensor = self.lm_head(x)
        return made


def check_mask(attention_mask: Tensor | None) -> None:
    """Raise `ModelError` where an attention mask (B, S) hides a token."""
    if attention_mask is not None and not bool(torch.all(attention_mask)):
        raise unsupported("padding", "give one text at a time, or texts of the same length")


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """An activation by the name that transformers gives it."""
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    from transformers.activations import ACT2FN  # takes seconds

    found: Callable[[Tensor], Tensor] = ACT2FN[name]
    return found
