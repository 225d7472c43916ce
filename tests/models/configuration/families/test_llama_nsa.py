"""`llama-nsa` against a separate implementation of its authors' code and kernel."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from published import (
    Tensors,
    agree,
    attended,
    by_score,
    cut,
    gated_mlp,
    heads_of,
    linear,
    load,
    means,
    norm,
    plain_frequencies,
    random_tensors,
    rotated,
    write,
)
from torch import Tensor

from nsa_models.errors import ModelError
from nsa_models.weights.load import load_config

NSA_1B = {
    "architectures": ["LlamaNSAForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama-nsa",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
    "block_size": 16,
    "block_counts": 16,
    "window_size": 128,
}
"""Of the published NSA-1B."""

SCALING = {
    "factor": 4.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
"""The authors' extension of the context to 32k."""

TOY = {
    **NSA_1B,
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SSA = {**TOY, "window_size": 0, "inference_mode": "sparse", "rope_scaling": None}
SMALL = {**TOY, "block_size": 8, "block_counts": 5, "window_size": 20}
CONFIGS: dict[str, dict[str, Any]] = {
    "NSA-1B": TOY,
    "NSA-1B, 32k": {
        **TOY,
        "rope_theta": 300.0,
        "rope_scaling": {**SCALING, "original_max_position_embeddings": 64},
    },
    "NSA-1B, few blocks": {**SMALL, "block_counts": 3, "tie_word_embeddings": False},
    "NSA-1B, biases": {**SMALL, "attention_bias": True, "mlp_bias": True},
    "SSA-1B sparse": SSA,
    "SSA-1B full": {**SSA, "inference_mode": "full"},
    "FullAttn-1B": {**SSA, "inference_mode": "full", "block_size": 64},
}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The published tensors."""
    width, inner, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], width)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        sizes = {"q": (heads * dim, width), "k": (groups * dim, width), "v": (groups * dim, width)}
        sizes["o"] = (width, heads * dim)
        for kind, size in sizes.items():
            found[f"{layer}.self_attn.{kind}_proj.weight"] = size
            if config["attention_bias"]:
                found[f"{layer}.self_attn.{kind}_proj.bias"] = size[:1]
        found[f"{layer}.self_attn.g_proj.weight"] = (3 * heads, width)
        for kind, size in (
            ("gate", (inner, width)),
            ("up", (inner, width)),
            ("down", (width, inner)),
        ):
            found[f"{layer}.mlp.{kind}_proj.weight"] = size
            if config["mlp_bias"]:
                found[f"{layer}.mlp.{kind}_proj.bias"] = size[:1]
        found[f"{layer}.input_layernorm.weight"] = (width,)
        found[f"{layer}.post_attention_layernorm.weight"] = (width,)
    return found


def frequencies(config: dict[str, Any]) -> Tensor:
    """Llama 3's scaling: low frequencies are divided, high ones kept, others interpolated."""
    inverse = plain_frequencies(config["head_dim"], config["rope_theta"])
    scaling = config.get("rope_scaling")
    if scaling is None:
        return inverse
    found = []
    for frequency in inverse.tolist():
        turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        found.append(kept * frequency + (1 - kept) * frequency / scaling["factor"])
    return torch.tensor(found, dtype=torch.float64)


def selected(probs: Tensor, own: int, config: dict[str, Any]) -> list[int]:
    """Select blocks as the kernel's running list does, which has one entry per token of a block.

    Args:
        probs: (blocks,) of the compression, summed over the heads of a group.
        own: The query's own block, which ranks before all others.
        config: The model's configuration.
    """
    room = config["block_size"]
    kept: list[tuple[float, int]] = []
    for start in range(0, own + 1, room):
        run = [
            (math.inf if i == own else float(probs[i]), i)
            for i in range(start, min(start + room, own + 1))
        ]
        ranked = by_score(run)
        kept = by_score(cut(kept, room // 2) + cut(ranked, room // 2)) if start else ranked
    count = 2 ** math.ceil(math.log2(config["block_counts"]))
    return [block for _, block in cut(kept, count)]


def sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, gates: Tensor, config: dict[str, Any]
) -> Tensor:
    """Attention of one layer: (H, T, D), gates (T, H, 3)."""
    size, window, length = config["block_size"], config["window_size"], q.shape[1]
    per_group = len(q) // len(k)
    place = torch.arange(length)
    causal = place <= place[:, None]
    near = causal & (place > place[:, None] - window)
    out = torch.zeros_like(q)
    for g in range(len(k)):
        own = slice(g * per_group, (g + 1) * per_group)
        gate = gates[:, own].permute(2, 1, 0)[..., None]
        if config.get("inference_mode") == "full":
            out[own] = gate[1] * attended(q[own], k[g], v[g], causal)[0]
            continue
        short_k, short_v = means(k[g], size, size), means(v[g], size, size)
        complete = (torch.arange(len(short_k)) + 1) * size <= place[:, None] + 1
        compressed, probs = attended(q[own], short_k, short_v, complete)
        allowed = torch.zeros(length, length, dtype=torch.bool)
        for t in range(length):
            scores = torch.zeros(t // size + 1, dtype=torch.float64)
            visible = probs[:, t].sum(0)[: t // size + 1]
            scores[: len(visible)] = visible
            for block in selected(scores, t // size, config):
                allowed[t, block * size : (block + 1) * size] = True
        out[own] = gate[1] * attended(q[own], k[g], v[g], allowed & causal)[0]
        if window:
            out[own] += gate[0] * compressed + gate[2] * attended(q[own], k[g], v[g], near)[0]
    return out


def render(config: dict[str, Any], tensors: Tensors, ids: Tensor, _: list[int]) -> Tensor:
    eps, dim = config["rms_norm_eps"], config["head_dim"]
    table = tensors["model.embed_tokens.weight"].double()
    x, inverse = table[ids], frequencies(config)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        h = norm(x, tensors[f"{layer}.input_layernorm.weight"], eps)
        q, k, v = (heads_of(linear(h, tensors, f"{layer}.self_attn.{c}_proj"), dim) for c in "qkv")
        gates = linear(h, tensors, f"{layer}.self_attn.g_proj").sigmoid()
        gates = gates.reshape(len(ids), -1, 3)
        out = sparse_attention(rotated(q, inverse), rotated(k, inverse), v, gates, config)
        x = x + linear(out.transpose(0, 1).flatten(1), tensors, f"{layer}.self_attn.o_proj")
        h = norm(x, tensors[f"{layer}.post_attention_layernorm.weight"], eps)
        x = x + gated_mlp(h, tensors, f"{layer}.mlp")
    x = norm(x, tensors["model.norm.weight"], eps)
    return x @ tensors.get("lm_head.weight", table).double().T


@pytest.mark.parametrize("length", [1, 15, 16, 17, 127, 129, 256, 257, 300])
@pytest.mark.parametrize("name", ["NSA-1B", "SSA-1B sparse"])
def test_lengths(name: str, length: int, seed: int, tmp_path: Path) -> None:
    """Around the first complete block, the window, and the first blocks outside the budget."""
    config = CONFIGS[name]
    agree(tmp_path, config, shapes(config), render, length, seed, label=name)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shards", [1, 3])
def test_variants(name: str, shards: int, seed: int, tmp_path: Path) -> None:
    config = CONFIGS[name]
    agree(tmp_path, config, shapes(config), render, 150, seed, label=name, shards=shards)


def test_the_published_configuration(tmp_path: Path) -> None:
    write(tmp_path, {**NSA_1B, "rope_scaling": SCALING}, {"x": torch.zeros(1)})
    config, family = load_config(tmp_path)
    reading = config.prefill_settings()
    assert family == "llama-nsa"
    assert (reading.combine, reading.compress_block, reading.compress_stride) == ("gated", 16, 16)
    assert (reading.select_block, reading.select_count, reading.select_run) == (16, 16, 16)
    assert (reading.init_blocks, reading.local_blocks, reading.window) == (0, 1, 128)
    assert config.answer_settings() == reading
    assert config.dtype == torch.bfloat16
    assert config.rope_parameters["rope_type"] == "llama3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sliding_window": 512}, "may change the computation: sliding_window"),
        ({"window_size": 0}, "inference_mode None, which does not say"),
        ({"inference_mode": "full"}, "only models without a window"),
        ({"block_counts": 17}, "at most as many blocks"),
        ({"block_size": 0}, "block_size 0"),
        ({"pretraining_tp": 2}, "pretraining_tp 2"),
        ({"quantization_config": {"bits": 4}}, "quantized weights"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}},
            "parameters: .*high_freq_factor",
        ),
        ({"rope_scaling": {**SCALING, "skew": 2.0}}, "missing or unknown parameters: skew"),
        ({"hidden_size": "wide"}, "hidden_size 'wide', which is not an integer"),
        ({"num_attention_heads": 3}, "3 query heads are not a multiple of 2"),
    ],
)
def test_unsupported_configurations(
    change: dict[str, Any], message: str, seed: int, tmp_path: Path
) -> None:
    write(tmp_path, {**TOY, **change}, random_tensors(shapes(TOY), seed))
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path)
    assert caught.value.code == "model_unsupported"
    assert "\n" not in caught.value.message


def test_dense_attention_is_refused_for_sparse_weights(tmp_path: Path) -> None:
    write(tmp_path, TOY, {"x": torch.zeros(1)})
    with pytest.raises(ModelError, match="trained sparse"):
        load_config(tmp_path, select_count=None)
    write(tmp_path, SSA, {"x": torch.zeros(1)})
    assert load_config(tmp_path, select_count=None)[0].answer_settings().select_count is None


def test_published_tensor_names(seed: int, tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.g_proj.weight"
    tensors = random_tensors(shapes(TOY), seed)
    write(tmp_path, TOY, {k: x for k, x in tensors.items() if k != name})
    with pytest.raises(ModelError, match=rf"lacks {name}"):
        load(tmp_path)
    write(tmp_path, TOY, {**tensors, "model.layers.0.self_attn.g_proj.bias": torch.zeros(12)})
    with pytest.raises(ModelError, match=r"has surplus model\.layers\.0\.self_attn\.g_proj\.bias"):
        load(tmp_path)
    write(tmp_path, TOY, {**tensors, name: torch.zeros(3, 32)})
    with pytest.raises(ModelError, match=rf"has wrong shapes of {name}"):
        load(tmp_path)
