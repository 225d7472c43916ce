"""MiniCPM4 with InfLLM-v2 against a separate implementation of its authors' code."""

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

from nsa_models.configuration.rotary import inverse_frequencies
from nsa_models.errors import ModelError
from nsa_models.weights.load import load_config

SPARSE = {
    "kernel_size": 32,
    "kernel_stride": 16,
    "init_blocks": 1,
    "block_size": 64,
    "window_size": 2048,
    "topk": 64,
    "use_nope": False,
    "dense_len": 8192,
}
"""As in the model cards."""

MINICPM4_8B = {
    "architectures": ["MiniCPMForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_minicpm.MiniCPMConfig"},
    "bos_token_id": 1,
    "eos_token_id": [2, 73440],
    "pad_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.1,
    "intermediate_size": 16384,
    "max_position_embeddings": 32768,
    "model_type": "minicpm",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "rope_type": "longrope",
        "long_factor": [1.0 + i / 64 for i in range(64)],
        "short_factor": [1.0 + i / 64 for i in range(64)],
        "original_max_position_embeddings": 32768,
    },
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 73448,
    "rope_theta": 10000.0,
    "scale_emb": 12,
    "dim_model_base": 256,
    "scale_depth": 1.4,
    "mup_denominator": 32,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "sparse_config": SPARSE,
}
TOY = {
    **MINICPM4_8B,
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "dim_model_base": 16,
    "eos_token_id": [2, 3],
    "rope_scaling": {
        "rope_type": "longrope",
        "long_factor": [1.0, 1.3, 2.5, 4.0],
        "short_factor": [1.0, 1.1, 1.2, 1.4],
        "original_max_position_embeddings": 512,
    },
    "sparse_config": {
        **SPARSE,
        "kernel_size": 8,
        "kernel_stride": 4,
        "block_size": 16,
        "window_size": 32,
        "topk": 4,
        "dense_len": 120,
    },
}
BLOCKS_OF_64 = {**SPARSE, "window_size": 64, "topk": 3, "dense_len": 256}
CONFIGS: dict[str, dict[str, Any]] = {
    "MiniCPM4": TOY,
    "MiniCPM4, 4x the context": {**TOY, "max_position_embeddings": 2048},
    "MiniCPM4, no scaling": {**TOY, "rope_scaling": None},
    "MiniCPM4, tied": {**TOY, "tie_word_embeddings": True, "attention_bias": True},
    "MiniCPM4, always sparse": {
        **TOY,
        "sparse_config": {**TOY["sparse_config"], "dense_len": -1, "init_blocks": 2},  # type: ignore[dict-item]
    },
}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The published tensors."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    dim = width // heads
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], width)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        rows = {"q": heads * dim, "k": groups * dim, "v": groups * dim, "o": width}
        for kind, count in rows.items():
            across = heads * dim if kind == "o" else width
            found[f"{layer}.self_attn.{kind}_proj.weight"] = (count, across)
            if config["attention_bias"]:
                found[f"{layer}.self_attn.{kind}_proj.bias"] = (count,)
        found[f"{layer}.mlp.gate_proj.weight"] = (inner, width)
        found[f"{layer}.mlp.up_proj.weight"] = (inner, width)
        found[f"{layer}.mlp.down_proj.weight"] = (width, inner)
        found[f"{layer}.input_layernorm.weight"] = (width,)
        found[f"{layer}.post_attention_layernorm.weight"] = (width,)
    return found


def rotary(config: dict[str, Any]) -> tuple[Tensor, float]:
    """Inverse frequencies, and the factor of cosines and sines."""
    dim = config["hidden_size"] // config["num_attention_heads"]
    inverse = plain_frequencies(dim, config["rope_theta"])
    scaling = config["rope_scaling"]
    if scaling is None:
        return inverse, 1.0
    context, original = (
        config["max_position_embeddings"],
        scaling["original_max_position_embeddings"],
    )
    factors = scaling["long_factor" if context > original else "short_factor"]
    grown = math.log(context / original) / math.log(original)
    return inverse / torch.tensor(factors, dtype=torch.float64), math.sqrt(1 + grown)


def chosen(q: Tensor, k: Tensor, sparse: dict[str, Any]) -> Tensor:
    """Mask of the keys in the blocks that a group's queries (R, T, D) select: (T, T)."""
    length, dim, size = q.shape[1], q.shape[2], sparse["block_size"]
    block, stride = sparse["kernel_size"], sparse["kernel_stride"]
    local = sparse["window_size"] // size
    fine, coarse = means(k, block, stride), means(k, 4 * block, 4 * stride)
    allowed = torch.zeros(length, length, dtype=torch.bool)
    for t in range(length):
        seen = max(0, (t + 1 - block) // stride + 1)
        seen_coarse = max(0, (t + 1 - 4 * block) // (4 * stride) + 1)
        scores = torch.zeros(len(fine), dtype=torch.float64)
        if seen_coarse:
            for query in q[:, t]:
                total = (coarse[:seen_coarse] @ query / dim**0.5).logsumexp(0)
                scores[:seen] += (fine[:seen] @ query / dim**0.5 - total).exp()
        ranked, own = [], t // size
        step = size // stride
        for j in range(own + 1):
            if j < sparse["init_blocks"] or j >= own - local:
                ranked.append((math.inf, j))
                continue
            near = scores[max(0, j * step - 1) : j * step + step]
            ranked.append((float(near.max()), j))
        for _, j in cut(by_score(ranked), sparse["topk"] + local):
            allowed[t, j * size : (j + 1) * size] = True
    return allowed


def render(config: dict[str, Any], tensors: Tensors, ids: Tensor, seen: list[int]) -> Tensor:
    """`seen` is the length of the text at the step that processed each token."""
    eps, layers = config["rms_norm_eps"], config["num_hidden_layers"]
    dim, sparse = config["hidden_size"] // config["num_attention_heads"], config["sparse_config"]
    table = tensors["model.embed_tokens.weight"].double()
    x, (inverse, scale) = table[ids] * config["scale_emb"], rotary(config)
    place = torch.arange(len(ids))
    causal = place <= place[:, None]
    whole = torch.tensor(seen) < sparse["dense_len"]
    depth = config["scale_depth"] / math.sqrt(layers)
    for n in range(layers):
        layer = f"model.layers.{n}"
        h = norm(x, tensors[f"{layer}.input_layernorm.weight"], eps)
        q, k, v = (heads_of(linear(h, tensors, f"{layer}.self_attn.{c}_proj"), dim) for c in "qkv")
        q, k = rotated(q, inverse, scale), rotated(k, inverse, scale)
        out = []
        for keys, values, queries in zip(k, v, q.chunk(len(k)), strict=True):
            allowed = causal
            if not whole.all():
                allowed = causal & (chosen(queries, keys, sparse) | whole[:, None])
            out.append(attended(queries, keys, values, allowed)[0])
        mixed = torch.cat(out).transpose(0, 1).flatten(1)
        x = x + depth * linear(mixed, tensors, f"{layer}.self_attn.o_proj")
        h = norm(x, tensors[f"{layer}.post_attention_layernorm.weight"], eps)
        x = x + depth * gated_mlp(h, tensors, f"{layer}.mlp")
    x = norm(x, tensors["model.norm.weight"], eps)
    x = x / (config["hidden_size"] / config["dim_model_base"])
    return x @ tensors.get("lm_head.weight", table).double().T


@pytest.mark.parametrize("length", [1, 7, 8, 31, 33, 118, 119, 120, 121, 122, 125, 170])
def test_lengths(length: int, seed: int, tmp_path: Path) -> None:
    """Around the first summary, the window, and the length above which attention is sparse."""
    agree(tmp_path, TOY, shapes(TOY), render, length, seed, label="MiniCPM4")


@pytest.mark.parametrize("length", [255, 256, 258, 330])
def test_blocks_of_the_published_size(length: int, seed: int, tmp_path: Path) -> None:
    config = {**TOY, "sparse_config": BLOCKS_OF_64}
    agree(tmp_path, config, shapes(config), render, length, seed, label="MiniCPM4, blocks of 64")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shards", [1, 3])
def test_variants(name: str, shards: int, seed: int, tmp_path: Path) -> None:
    config = CONFIGS[name]
    agree(tmp_path, config, shapes(config), render, 140, seed, label=name, shards=shards)


def test_the_published_configuration(tmp_path: Path) -> None:
    write(tmp_path, MINICPM4_8B, {"x": torch.zeros(1)})
    config, family = load_config(tmp_path)
    reading = config.prefill_settings()
    assert (family, reading.combine) == ("minicpm", "union")
    assert (reading.compress_block, reading.compress_stride, reading.select_block) == (32, 16, 64)
    # 64 + 32 blocks, 33 of them from the window's first block to the query's own.
    assert (reading.select_count, reading.window_blocks) == (63, 32)
    assert reading.select_count + reading.window_blocks + 1 == 64 + 32
    assert (reading.dense_below, reading.init_blocks) == (8192, 1)
    assert config.answer_settings() == reading
    assert config.residual_scale == 1.4 / math.sqrt(32)
    assert (config.embedding_scale, config.logit_scale) == (12.0, 1 / 16)


def test_without_a_sparse_configuration_it_is_dense(seed: int, tmp_path: Path) -> None:
    """Loaded as a dense checkpoint without training; exact where the budget covers the text."""
    config = {**TOY, "sparse_config": None}
    write(tmp_path, config, tensors := random_tensors(shapes(TOY), seed))
    ids = torch.randint(50, (70,), generator=torch.Generator().manual_seed(seed))
    model = load(tmp_path)
    assert (model.config.score_pooling, model.config.select_tile) == ("sum", 64)
    expected = render(TOY, tensors, ids, [70] * 70)
    with torch.no_grad():
        assert (model(ids[None]).logits[0] - expected).abs().max() < 2e-4


def test_longrope_scales_by_the_context(tmp_path: Path) -> None:
    for context, which in ((32768, "short"), (131072, "long")):
        write(tmp_path, {**MINICPM4_8B, "max_position_embeddings": context}, {"x": torch.zeros(1)})
        config, _ = load_config(tmp_path)
        assert config.rope_factors == which
        _, scaling = inverse_frequencies(config)
        assert scaling == pytest.approx(math.sqrt(1 + math.log(context / 32768) / math.log(32768)))


def _sparse(**change: Any) -> dict[str, Any]:
    return {"sparse_config": {**TOY["sparse_config"], **change}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_sparse(use_nope=True), "unrotated keys"),
        (_sparse(topk=1), "topk must be larger"),
        (_sparse(topk=2, init_blocks=2), "topk must be larger"),
        (_sparse(window_size=33), "window 33 is not a multiple"),
        (_sparse(decay=0.5), "may change the computation: decay"),
        (_sparse(kernel_size=None), "kernel_size None, which is not an integer"),
        ({"scale_width": 2}, "may change the computation: scale_width"),
        ({"num_experts": 8}, "mixtures of experts"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported"),
        ({"rope_scaling": {"type": "longrope"}}, "missing or unknown parameters: .*long_factor"),
    ],
)
def test_unsupported_configurations(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, {**TOY, **change}, {"x": torch.zeros(1)})
    with pytest.raises(ModelError, match=message) as caught:
        load_config(tmp_path)
    assert caught.value.code == "model_unsupported"
    assert "\n" not in caught.value.message


def test_longrope_with_too_few_factors(seed: int, tmp_path: Path) -> None:
    scaling = {**TOY["rope_scaling"], "short_factor": [1.0, 1.0]}  # type: ignore[dict-item]
    write(tmp_path, {**TOY, "rope_scaling": scaling}, random_tensors(shapes(TOY), seed))
    with pytest.raises(ModelError, match="2 factors for 4 frequencies"):
        load(tmp_path)(torch.zeros(1, 3, dtype=torch.long))


def test_missing_and_surplus_tensors(seed: int, tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.o_proj.weight"
    tensors = random_tensors(shapes(TOY), seed)
    write(tmp_path, TOY, {k: x for k, x in tensors.items() if k != name})
    with pytest.raises(ModelError, match=rf"lacks {name}"):
        load(tmp_path)
    write(tmp_path, TOY, {**tensors, "model.layers.0.self_attn.q_norm.weight": torch.ones(8)})
    with pytest.raises(ModelError, match=r"has surplus model\.layers\.0\.self_attn\.q_norm"):
        load(tmp_path)
