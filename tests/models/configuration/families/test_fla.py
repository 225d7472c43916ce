"""flash-linear-attention's NSA models against a separate implementation of its code."""

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

DEFAULTS = {
    "model_type": "nsa",
    "architectures": ["NSAForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_heads": 64,
    "num_kv_heads": 4,
    "head_dim": 32,
    "qkv_bias": False,
    "block_size": 64,
    "block_counts": 16,
    "window_size": 512,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "hidden_ratio": 4,
    "intermediate_size": None,
    "hidden_act": "swish",
    "initializer_range": 0.02,
    "elementwise_affine": True,
    "norm_eps": 1e-6,
    "use_cache": True,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "fuse_norm": True,
    "fuse_swiglu": True,
    "fuse_cross_entropy": True,
    "fuse_linear_cross_entropy": False,
    "use_l2warp": False,
    "vocab_size": 32000,
}
"""Of fla's `NSAConfig`."""

TOY = {
    **DEFAULTS,
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "block_size": 16,
    "block_counts": 4,
    "window_size": 50,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "fla": TOY,
    "fla, published blocks": {**TOY, "block_size": 64, "block_counts": 16, "window_size": 512},
    "fla, 3 blocks": {**TOY, "block_counts": 3},
    "fla, 16 blocks of 16": {**TOY, "block_counts": 16},
    "fla, no window": {**TOY, "window_size": 0},
    "fla, tied": {**TOY, "tie_word_embeddings": True, "qkv_bias": True},
    "fla, default width": {**TOY, "intermediate_size": None, "hidden_ratio": None},
}


def inner_width(config: dict[str, Any]) -> int:
    """Two thirds of the ratio's width, rounded up to a multiple of 256."""
    if config["intermediate_size"] is not None:
        return int(config["intermediate_size"])
    ratio = 4 if config["hidden_ratio"] is None else config["hidden_ratio"]
    return 256 * math.ceil(int(config["hidden_size"] * ratio * 2 / 3) / 256)


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of fla's checkpoints."""
    width, inner, dim = config["hidden_size"], inner_width(config), config["head_dim"]
    heads, groups = config["num_heads"], config["num_kv_heads"]
    found: dict[str, tuple[int, ...]] = {
        "model.embeddings.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], width)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        for kind, count in (("q", heads), ("k", groups), ("v", groups)):
            found[f"{layer}.attn.{kind}_proj.weight"] = (count * dim, width)
            if config["qkv_bias"]:
                found[f"{layer}.attn.{kind}_proj.bias"] = (count * dim,)
        found[f"{layer}.attn.g_proj.weight"] = (3 * heads, width)
        found[f"{layer}.attn.o_proj.weight"] = (width, heads * dim)
        found[f"{layer}.mlp.gate_proj.weight"] = (inner, width)
        found[f"{layer}.mlp.up_proj.weight"] = (inner, width)
        found[f"{layer}.mlp.down_proj.weight"] = (width, inner)
        found[f"{layer}.attn_norm.weight"] = (width,)
        found[f"{layer}.mlp_norm.weight"] = (width,)
    return found


def selected(probs: list[float], own: int, config: dict[str, Any]) -> list[int]:
    """Select blocks as the kernel's running list does; the first and the last two rank first."""
    room, kept = config["block_size"], []
    for start in range(0, own + 1, room):
        run = by_score(
            (math.inf if i in (0, own - 1, own) else probs[i], i)
            for i in range(start, min(start + room, own + 1))
        )
        kept = by_score(cut(kept, room // 2) + cut(run, room // 2)) if start else run
    return [block for _, block in cut(kept, 2 ** math.ceil(math.log2(config["block_counts"])))]


def nsa(q: Tensor, k: Tensor, v: Tensor, gates: Tensor, config: dict[str, Any]) -> Tensor:
    """Attention of one layer: (H, T, D), gates (T, H, 3)."""
    size, window, length, per = (
        config["block_size"],
        config["window_size"],
        q.shape[1],
        len(q) // len(k),
    )
    place = torch.arange(length)
    causal = place <= place[:, None]
    out = []
    for h in range(len(q)):
        keys, values = k[h // per], v[h // per]
        group = slice(h // per * per, (h // per + 1) * per)
        short_k, short_v = means(keys, size, size), means(values, size, size)
        ends = torch.arange(1, len(short_k) + 1) * size - 1
        compressed, probs = attended(q[group], short_k, short_v, ends <= place[:, None])
        allowed = torch.zeros_like(causal)
        for t in range(length):
            of = [*probs[:, t].mean(0).tolist(), 0.0]
            for block in selected(of, t // size, config):
                allowed[t, block * size : (block + 1) * size] = True
        picked, _ = attended(q[h : h + 1], keys, values, causal & allowed)
        total = gates[:, h, 1, None] * picked[0] + gates[:, h, 0, None] * compressed[h % per]
        if window > 0:
            near = causal & (place >= place[:, None] - (window - 1))
            recent, _ = attended(q[h : h + 1], keys, values, near)
            total = total + gates[:, h, 2, None] * recent[0]
        out.append(total)
    return torch.stack(out)


def render(config: dict[str, Any], tensors: Tensors, ids: Tensor, _: list[int]) -> Tensor:
    eps, dim = config["norm_eps"], config["head_dim"]
    table = tensors["model.embeddings.weight"].double()
    x, inverse = table[ids], plain_frequencies(dim, config["rope_theta"])
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        h = norm(x, tensors[f"{layer}.attn_norm.weight"], eps)
        q, k, v = (heads_of(linear(h, tensors, f"{layer}.attn.{c}_proj"), dim) for c in "qkv")
        gates = linear(h, tensors, f"{layer}.attn.g_proj").sigmoid().reshape(len(ids), -1, 3)
        out = nsa(rotated(q, inverse), rotated(k, inverse), v, gates, config)
        x = x + linear(out.transpose(0, 1).flatten(1), tensors, f"{layer}.attn.o_proj")
        h = norm(x, tensors[f"{layer}.mlp_norm.weight"], eps)
        x = x + gated_mlp(h, tensors, f"{layer}.mlp")
    x = norm(x, tensors["model.norm.weight"], eps)
    return x @ tensors.get("lm_head.weight", table).double().T


@pytest.mark.parametrize("length", [1, 15, 16, 17, 49, 51, 64, 65, 150])
def test_lengths(length: int, seed: int, tmp_path: Path) -> None:
    """Around the first complete block, the window, and the first block outside the budget."""
    agree(tmp_path, TOY, shapes(TOY), render, length, seed, label="fla")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shards", [1, 3])
def test_variants(name: str, shards: int, seed: int, tmp_path: Path) -> None:
    config = CONFIGS[name]
    length = 280 if "16 blocks" in name else 100
    agree(tmp_path, config, shapes(config), render, length, seed, label=name, shards=shards)


def test_defaults(tmp_path: Path) -> None:
    for values in (DEFAULTS, {"model_type": "nsa"}):
        write(tmp_path, values, {"x": torch.zeros(1)})
        config, family = load_config(tmp_path)
        reading = config.prefill_settings()
        assert (family, reading.combine) == ("nsa", "gated")
        assert (reading.select_block, reading.select_count, reading.select_run) == (64, 16, None)
        assert (reading.compress_block, reading.compress_stride) == (64, 64)
        assert (reading.init_blocks, reading.local_blocks, reading.window) == (1, 2, 512)
        assert (config.head_dim, config.intermediate_size) == (32, 5632)
        assert config.answer_settings() == reading


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attnres_block_size": 4}, "residuals over several layers"),
        ({"hidden_act": "powlu"}, "hidden_act 'powlu'"),
        ({"block_counts": 32}, "at most as many blocks"),
        ({"block_counts": None}, "block_counts None, which is not an integer"),
        ({"num_kv_heads": 3}, "4 query heads are not a multiple of 3"),
        ({"softcap": 3.0}, "may change the computation: softcap"),
    ],
)
def test_unsupported_configurations(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, {**TOY, **change}, {"x": torch.zeros(1)})
    with pytest.raises(ModelError, match=message) as caught:
        load_config(tmp_path)
    assert caught.value.code == "model_unsupported"


@pytest.mark.parametrize(
    "name",
    ["model.embeddings.weight", "model.layers.1.attn.g_proj.weight",
     "model.layers.0.mlp_norm.weight"],
)  # fmt: skip
def test_tensor_names_of_fla(name: str, seed: int, tmp_path: Path) -> None:
    tensors = random_tensors(shapes(TOY), seed)
    write(tmp_path, TOY, {k: x for k, x in tensors.items() if k != name})
    with pytest.raises(ModelError, match=rf"lacks {name}"):
        load(tmp_path)
    write(tmp_path, TOY, {**tensors, f"{name}s": torch.zeros(3)})
    with pytest.raises(ModelError, match=rf"has surplus {name}s"):
        load(tmp_path)
