"""Dense families against transformers' models, where the budget covers the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.dense_families import split_fused
from nsa_models.errors import ModelError
from nsa_models.generation.generate import prefill
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.load import load_config, load_model

VOCABULARY = 96
LENGTH = 150
SETTINGS = {"select_block": 16, "select_tile": 16, "window": 32, "select_count": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
HALF = {"rope_type": "default", "rope_theta": 3000.0, "partial_rotary_factor": 0.5}
GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 12.0,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.22,
}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama3": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": LLAMA3}),
    "qwen2.5": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None, "head_dim": 16}),
    "phi3": (Phi3Config, Phi3ForCausalLM, {}),
    "phi4-mini": (Phi3Config, Phi3ForCausalLM, {"rope_parameters": HALF}),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM, {"no_rope_layer_interval": 2}),
    "granite": (GraniteConfig, GraniteForCausalLM, GRANITE),
    "olmo2": (Olmo2Config, Olmo2ForCausalLM, {}),
}
every_family = pytest.mark.parametrize("kind", FAMILIES)


def make(kind: str, seed: int, **changes: Any) -> Any:
    """A random dense model in which every parameter has an effect."""
    config_class, model_class, special = FAMILIES[kind]
    torch.manual_seed(seed)
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model = model_class(config_class(**{**values, **special, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def random_ids(seed: int, *shape: int) -> Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def load(folder: Path, **options: Any) -> NSAForCausalLM:
    config, _ = load_config(folder, **SETTINGS)
    return load_model(folder, config, **options)


def dense_logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(ids).logits
    return logits


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Assert equality up to rounding, as a share of the largest logit."""
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < tolerance


@every_family
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("shard", ["20KB", "5GB"], ids=["shards", "single"])
def test_logits_of_one_call(kind: str, tied: bool, shard: str, seed: int, tmp_path: Path) -> None:
    dense, ids = make(kind, seed, tie_word_embeddings=tied), random_ids(seed, 2, LENGTH)
    dense.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    ours = load(tmp_path)
    with torch.no_grad():
        assert_same(ours(ids).logits, dense_logits(dense, ids))
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == tied


@every_family
def test_chunks_and_decoding(kind: str, seed: int, tmp_path: Path) -> None:
    dense, ids = make(kind, seed), random_ids(seed, 1, LENGTH)
    dense.save_pretrained(tmp_path)
    ours = load(tmp_path)
    expected = dense_logits(dense, ids)[0]
    cache = KVCache(ours.config, LENGTH)
    list(prefill(ours, ids[0, :140], cache, chunk_size=32))
    rows = []
    with torch.no_grad():
        for at in range(140, LENGTH):
            step = ours(ids[:, at : at + 1], cache=cache, settings=ours.config.answer_settings())
            rows.append(step.logits[0, 0])
    assert_same(torch.stack(rows), expected[140:])


@every_family
def test_attention_is_sparse_past_the_budget(kind: str, seed: int, tmp_path: Path) -> None:
    """Otherwise the tests above would compare a dense model with itself."""
    dense, ids = make(kind, seed), random_ids(seed, 1, 400)
    dense.save_pretrained(tmp_path)
    config, _ = load_config(tmp_path, **{**SETTINGS, "select_count": 3})
    ours = load_model(tmp_path, config)
    with torch.no_grad():
        got, expected = ours(ids).logits, dense_logits(dense, ids)
    assert_same(got[:, :80], expected[:, :80])
    assert (got[:, 200:] - expected[:, 200:]).abs().max() > 1e-3 * expected.abs().max()


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(kind: str, dtype: torch.dtype, seed: int, tmp_path: Path) -> None:
    """Loaded with the stored dtype; nearly as close to fp32 as transformers."""
    dense, ids = make(kind, seed).to(dtype), random_ids(seed, 1, LENGTH)
    dense.save_pretrained(tmp_path)
    logits = {}
    for precision in (dtype, torch.float32):
        ours = load(tmp_path, dtype=None if precision is dtype else precision)
        assert {parameter.dtype for parameter in ours.parameters()} == {precision}
        # Load again: `.to` also rounds the frequencies of the rotary embedding.
        theirs = type(dense).from_pretrained(tmp_path, dtype=precision)
        with torch.no_grad():
            logits[precision] = ours(ids).logits, dense_logits(theirs, ids)
    wide = logits[torch.float32]
    assert_same(*wide)
    errors = [float((x - wide[1]).square().mean().sqrt()) for x in logits[dtype]]
    assert errors[0] < 1.5 * errors[1]


@every_family
def test_int8_on_the_cpu(kind: str, seed: int, tmp_path: Path) -> None:
    dense, ids = make(kind, seed), random_ids(seed, 1, LENGTH)
    dense.save_pretrained(tmp_path)
    ours = load(tmp_path, quantization="int8")
    expected = dense_logits(dense, ids)
    with torch.no_grad():
        got = ours(ids).logits
    error = (got - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < float(error) < 0.15


@every_family
def test_saving_as_an_nsa_folder(kind: str, seed: int, tmp_path: Path) -> None:
    dense, ids = make(kind, seed), random_ids(seed, 1, 70)
    dense.save_pretrained(tmp_path / "dense")
    load(tmp_path / "dense", kind=NSAForCausalLM).save_pretrained(tmp_path / "ours")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(ours) is NSAForCausalLM
    with torch.no_grad():
        assert_same(ours(ids).logits, dense_logits(dense, ids))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "do_sample": False}
    assert torch.equal(ours.generate(ids, **options), dense.generate(ids, **options))


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@every_family
@pytest.mark.parametrize(
    "values",
    [
        {"attn_logit_softcapping": 50.0},
        {"attention_chunk_size": 64},
        {"full_attn_mod": 2},
        {"is_causal": False},
        {"clip_qkv": 8.0},
        {"attention_type": "local"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_unknown_keys_are_refused(
    kind: str, values: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    make(kind, seed).config.save_pretrained(tmp_path)
    edit_config(tmp_path, **values)
    with pytest.raises(ModelError, match=next(iter(values))) as caught:
        load_config(tmp_path)
    assert caught.value.code == "model_unsupported"
    assert "\n" not in caught.value.message


@every_family
def test_keys_without_effect(kind: str, seed: int, tmp_path: Path) -> None:
    make(kind, seed).config.save_pretrained(tmp_path)
    before, _ = load_config(tmp_path)
    edit_config(
        tmp_path,
        attn_logit_softcapping=None,
        use_mrope=False,
        interpolate_factor=1,
        pretraining_tp=1,
        unsloth_version="2025.1",
    )
    after, _ = load_config(tmp_path)
    assert after.to_dict() == before.to_dict()


@pytest.mark.parametrize("kind", ["llama3", "qwen2.5", "qwen3", "mistral", "smollm3", "granite"])
def test_a_partial_rotary_embedding_is_refused(kind: str, seed: int, tmp_path: Path) -> None:
    """transformers has no partial rotary embedding in these families."""
    make(kind, seed, rope_parameters=HALF).config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"rotates a part \(0.5\) of each head"):
        load_config(tmp_path)


def test_an_unknown_parameter_of_the_rotary_embedding(seed: int, tmp_path: Path) -> None:
    make("qwen2.5", seed).config.save_pretrained(tmp_path)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    edit_config(tmp_path, rope_parameters=rope)
    with pytest.raises(ModelError, match="mrope_section"):
        load_config(tmp_path)


@pytest.mark.parametrize("kind", ["qwen2.5", "qwen3", "smollm3"])
def test_layers_with_a_window_are_refused(kind: str, seed: int, tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    make(kind, seed, layer_types=kinds).config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="layers of type sliding_attention"):
        load_config(tmp_path)


@pytest.mark.parametrize("kind", ["phi3", "mistral"])
def test_a_sliding_window_is_refused(kind: str, seed: int, tmp_path: Path) -> None:
    make(kind, seed, sliding_window=200).config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="sliding window of 200 tokens"):
        load_config(tmp_path)


def test_a_window_as_long_as_the_context(seed: int, tmp_path: Path) -> None:
    """The window hides no token, as in Phi-3.5."""
    dense, ids = make("phi3", seed, sliding_window=512), random_ids(seed, 1, LENGTH)
    dense.save_pretrained(tmp_path)
    with torch.no_grad():
        assert_same(load(tmp_path)(ids).logits, dense_logits(dense, ids))


def test_quantized_weights_are_refused(seed: int, tmp_path: Path) -> None:
    make("llama3", seed).config.save_pretrained(tmp_path)
    edit_config(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match=r"has quantized weights \(gptq\)") as caught:
        load_config(tmp_path)
    assert caught.value.code == "model_unsupported"


@pytest.mark.parametrize(
    ("config", "why"),
    [(Gemma2Config(), "caps logits"), (Gemma3TextConfig(), "a sliding window in five")],
    ids=["gemma2", "gemma3"],
)
def test_gemma_is_refused_with_the_reason(config: Any, why: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=why) as caught:
        load_config(tmp_path)
    assert caught.value.hint.startswith("supported are qwen2")


def test_fused_projections_of_a_wrong_size(seed: int, tmp_path: Path) -> None:
    make("phi3", seed).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    qkv = "model.layers.1.self_attn.qkv_proj.weight"
    gate_up = "model.layers.0.mlp.gate_up_proj.weight"
    for name, message in ((qkv, r"has 79 rows; .* describes 80"), (gate_up, "has 127 rows")):
        save_file({**stored, name: stored[name][:-1].clone()}, path, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=message) as caught:
            load(tmp_path)
        assert caught.value.code == "model_broken"
    without = {name: tensor for name, tensor in stored.items() if name != qkv}
    save_file(without, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.self_attn\.k_proj"):
        load(tmp_path)
    save_file({**stored, "model.layers.1.self_attn.qkv_proj.bias": torch.zeros(80)}, path)
    with pytest.raises(ModelError, match=r"has surplus model\.layers\.1\.self_attn\.k_proj\.bias"):
        load(tmp_path)


def test_fused_projections_are_split_without_copies(seed: int) -> None:
    torch.manual_seed(seed)
    fused, other = torch.randn(20, 8), torch.randn(4)
    got = split_fused({"a.qkv_proj.weight": fused, "b.weight": other}, 12, 4)
    assert got["b.weight"] is other
    assert [got[f"a.{name}_proj.weight"].shape[0] for name in "qkv"] == [12, 4, 4]
    assert got["a.q_proj.weight"].data_ptr() == fused.data_ptr()
    assert torch.equal(torch.cat([got[f"a.{name}_proj.weight"] for name in "qkv"]), fused)


def test_features_of_single_families(seed: int) -> None:
    config = NSAConfig.from_dense(make("granite", seed).config)
    assert config.attention_multiplier == GRANITE["attention_multiplier"]
    assert (config.embedding_scale, config.residual_scale) == (12.0, 0.22)
    assert config.logit_scale * GRANITE["logits_scaling"] == pytest.approx(1)
    assert NSAConfig.from_dense(make("smollm3", seed).config).no_rope_layers == [1, 0, 1]
    olmo = NSAConfig.from_dense(make("olmo2", seed).config)
    assert olmo.norm_after
    assert olmo.qk_norm_whole
