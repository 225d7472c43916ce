"""Attention with separate keys and values for its branches, and a φ of trained weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache import kv_cache
from nsa_models.cache.kv_cache import NoCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling import branches
from nsa_models.modeling.model import NSAAttention, RotaryEmbedding
from nsa_models.training.packed_attention import PackedAttention
from nsa_models.transformers_model import NSAForCausalLM

KEYS = ("shared", "separate")
PHIS = ("mean", "linear", "mlp")
NATIVE = pytest.mark.parametrize(
    ("keys", "phi"), [(k, p) for k in KEYS for p in PHIS if (k, p) != ("shared", "mean")]
)
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 40,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "combine": "gated",
    "compress_block": 8,
    "compress_stride": 4,
    "answer_compress_block": 8,
    "answer_compress_stride": 4,
    "select_block": 16,
    "select_tile": 16,
    "window": 20,
    "answer_window": 20,
}
FORCED = {"select_count": 3, "init_blocks": 1, "local_blocks": 2}
"""A selection that rounding cannot change: all selected blocks are always selected."""


def native(keys: str, phi: str, **changes: Any) -> NSAConfig:
    hidden = 24 if phi == "mlp" else None
    sizes = {**SIZES, "branch_keys": keys, "compress_phi": phi, "compress_hidden": hidden}
    return NSAConfig(**{**sizes, **changes})


def noisy(module: torch.nn.Module) -> torch.nn.Module:
    """Add noise to every parameter, so that each has an effect."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """The rotary embedding of (B, heads, T, D) at positions (T,), as complex numbers."""
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    turn = torch.polar(
        torch.ones(1, dtype=torch.float64), positions.double()[:, None] * frequencies
    )
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([turned.real, turned.imag], dim=-1)


class Exact:
    """The attention of a layer in fp64, written from the paper's equations and the reference."""

    def __init__(self, attention: NSAAttention, config: NSAConfig) -> None:
        self.config = config
        self.weights = {
            name: parameter.detach().double().requires_grad_()
            for name, parameter in attention.named_parameters()
        }

    def project(self, x: Tensor, name: str) -> Tensor:
        wide = F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        return wide.unflatten(-1, (-1, 16)).transpose(1, 2)

    def key(self, x: Tensor, at: str) -> Tensor:
        k = self.project(x, f"{at}k_proj")
        norm = self.weights.get(f"{at}k_norm.weight")
        return k if norm is None else self.normalized(k, norm)

    def normalized(self, x: Tensor, weight: Tensor) -> Tensor:
        eps = self.config.rms_norm_eps
        return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight

    def compressed(self, x: Tensor, settings: AttentionSettings, which: str) -> Tensor:
        of = {
            name.removeprefix(f"branches.{which}."): weight
            for name, weight in self.weights.items()
            if name.startswith(f"branches.{which}.")
        }
        if self.config.compress_phi == "mean":
            return reference.compress(x, settings)
        if self.config.compress_phi == "linear":
            return reference.compress(x, settings, lambda at: at.flatten(-2) @ of["weight"].t())
        names = ("position", "inner.weight", "inner.bias", "outer.weight", "outer.bias")

        def mlp(blocks: Tensor) -> Tensor:
            return reference.mlp_phi(blocks, *(of[name] for name in names))

        return reference.compress(x, settings, mlp)

    def __call__(self, x: Tensor, settings: AttentionSettings) -> Tensor:
        at = torch.arange(x.shape[1])
        q = self.project(x, "q_proj")
        if self.config.qk_norm:
            q = self.normalized(q, self.weights["q_norm.weight"])
        k, v = self.key(x, ""), self.project(x, "v_proj")
        compress, window = (k, v), (k, v)
        if self.config.branch_keys == "separate":
            compress, window = (
                (self.key(x, f"branches.{name}."), self.project(x, f"branches.{name}.v_proj"))
                for name in ("compress", "window")
            )
        summary_v = self.compressed(compress[1], settings, "phi_v")
        if self.config.compress_phi == "mean":
            summary_k = self.compressed(rotated(compress[0], at), settings, "phi_k")
        else:
            summary_k = self.compressed(compress[0], settings, "phi_k")
            starts = torch.arange(summary_k.shape[2]) * settings.compress_stride
            summary_k = rotated(summary_k, starts + (settings.compress_block - 1) / 2)
        gates = F.linear(x, self.weights["gate_proj.weight"], self.weights["gate_proj.bias"])
        out, _, _ = reference.nsa_reference(
            rotated(q, at), rotated(k, at), v, settings,
            summary_k=summary_k, summary_v=summary_v,
            window_k=rotated(window[0], at), window_v=window[1],
            gates=gates.sigmoid().unflatten(-1, (-1, 3)).transpose(1, 2),
        )  # fmt: skip
        return F.linear(out.transpose(1, 2).flatten(2), self.weights["o_proj.weight"])


def run(attention: NSAAttention, config: NSAConfig, x: Tensor) -> Tensor:
    rotary = RotaryEmbedding(config)
    cache = NoCache()
    rope = rotary(cache.positions(x.shape[1], x.device), x.dtype)
    out, _ = attention(x, rope, rotary, config.prefill_settings(), cache, False, False)
    assert out is not None
    return out


def use(impl: Impl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run attention and φ by one implementation."""
    monkeypatch.setattr(kv_cache, "nsa_attention", partial(nsa_attention, impl=impl))
    for name in ("mean_phi", "linear_phi", "mlp_phi"):
        call = partial(getattr(branches, name), impl=impl)
        monkeypatch.setattr(branches, name, call)


def assert_gradients(config: NSAConfig, tokens: int, batch: int = 2) -> None:
    attention = NSAAttention(config, 0)
    noisy(attention)
    expected_of = Exact(attention, config)
    x = torch.randn(batch, tokens, config.hidden_size)
    inputs = [x.clone().requires_grad_(), x.double().requires_grad_()]
    out = run(attention, config, inputs[0])
    exact = expected_of(inputs[1], config.prefill_settings())
    torch.testing.assert_close(out.double(), exact, atol=1e-4, rtol=1e-4)
    slope = torch.randn_like(out)
    parameters = dict(attention.named_parameters())
    assert parameters.keys() == expected_of.weights.keys()
    ours = torch.autograd.grad(out, [inputs[0], *parameters.values()], slope)
    theirs = torch.autograd.grad(
        exact, [inputs[1], *expected_of.weights.values()], slope.double(), allow_unused=True
    )
    for name, one, other in zip(["x", *parameters], ours, theirs, strict=True):
        assert other is not None, name
        assert other.abs().max() > 0, name
        error = (one.double() - other).abs().max() / other.abs().max()
        assert error < 1e-3, (name, float(error))


@NATIVE
@pytest.mark.parametrize("repeat", [1, 4, 7, 16])
@pytest.mark.parametrize("tokens", [33, 97])
def test_gradients_as_the_reference(keys: str, phi: str, repeat: int, tokens: int) -> None:
    groups = 2 if repeat < 7 else 1
    heads = {"num_attention_heads": groups * repeat, "num_key_value_heads": groups}
    assert_gradients(native(keys, phi, **FORCED, **heads), tokens)


@NATIVE
def test_gradients_with_all_blocks_and_norms(keys: str, phi: str) -> None:
    config = native(keys, phi, select_count=64, qk_norm=True, attention_bias=True)
    assert_gradients(config, 71)


@pytest.mark.parametrize(
    ("keys", "phi", "repeat", "tokens"),
    [
        pytest.param("separate", "mlp", 1, 33, marks=pytest.mark.long),
        ("separate", "mlp", 4, 41),
        pytest.param("separate", "linear", 7, 33, marks=pytest.mark.long),
        ("separate", "mean", 16, 35),
        pytest.param("shared", "mlp", 7, 33, marks=pytest.mark.long),
        ("shared", "linear", 4, 49),
    ],
)
def test_gradients_by_triton(
    keys: str, phi: str, repeat: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    use(Impl.TRITON, monkeypatch)
    heads = {"num_attention_heads": repeat, "num_key_value_heads": 1}
    assert_gradients(native(keys, phi, **FORCED, **heads), tokens, batch=1)


@pytest.mark.parametrize(
    ("way", "phi"),
    [("packing", "mlp"), ("kernels", "linear"), ("one by one", "mlp"), ("one by one", "mean")],
)
def test_packed_texts_equal_separate_ones(way: str, phi: str) -> None:
    layout = pytest.importorskip("nsa_kernels.gpu.layout")
    config = native("separate", phi, **FORCED)
    model = noisy(NSAForCausalLM(config))
    lengths = [20, 33, 11]
    cache: NoCache
    if way == "packing":
        offsets = torch.tensor([0, *lengths]).cumsum(0).int()
        cache = NoCache(
            layout.Packing(cu_queries=offsets, cu_keys=offsets, max_queries=33, max_keys=33)
        )
    else:
        cache = PackedAttention(lengths, torch.device("cpu"), kernels=way == "kernels")
    ids = torch.randint(96, (1, sum(lengths)))
    with torch.no_grad():
        packed = model(ids, cache=cache).logits
        parts = [model(part).logits for part in ids.split(lengths, dim=1)]
    torch.testing.assert_close(packed, torch.cat(parts, dim=1), atol=1e-4, rtol=1e-4)


@NATIVE
def test_every_parameter_of_a_new_model_learns(keys: str, phi: str) -> None:
    config = native(keys, phi, select_count=3)
    model = NSAForCausalLM(config)
    ids = torch.randint(96, (2, 70))
    model(ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_new_linear_phi_is_the_mean() -> None:
    attention = NSAForCausalLM(native("separate", "linear")).attentions[0]
    assert attention.branches is not None
    x, settings = torch.randn(2, 2, 50, 16), native("shared", "mean").prefill_settings()
    found = attention.branches.phi_v(x, settings, None)
    torch.testing.assert_close(found, reference.compress(x, settings))


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_hidden_layers": 1, "hidden_size": 32},
        {"num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 14},
    ],
)
def test_any_size_can_be_initialized(sizes: dict[str, int]) -> None:
    model = NSAForCausalLM(native("separate", "mlp", **sizes))
    for name, parameter in model.named_parameters():
        if name.endswith(("_proj.weight", "inner.weight", "outer.weight")):
            deviation = parameter.detach().std().item()
            assert abs(deviation - model.config.initializer_range) < 0.004, name
