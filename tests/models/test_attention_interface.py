"""transformers' models with NSA against the same models with their own attention."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    TorchAoConfig,
)

from nsa_models.attention_interface import register_attention
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.transformers_model import NSAForCausalLM

SMALL = {
    "select_block": 16,
    "select_tile": 16,
    "select_count": 4,
    "window": 32,
    "answer_window": 32,
}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "phi3": (Phi3Config, Phi3ForCausalLM, {"pad_token_id": None}),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM, {"pad_token_id": None}),
    "granite": (GraniteConfig, GraniteForCausalLM, {"attention_multiplier": 0.3}),
}
VOCABULARY = 96
_names = itertools.count()


def register(**settings: Any) -> str:
    """Register the attention under a name that no other test uses."""
    name = f"nsa-test-{next(_names)}"
    register_attention(name, **settings)
    return name


def make(kind: str, seed: int, **changes: Any) -> Any:
    config_class, model_class, special = FAMILIES[kind]
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    }
    model = model_class(config_class(**{**sizes, **special, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


def random_ids(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_where_the_budget_covers_the_text(kind: str, seed: int) -> None:
    model, ids = make(kind, seed), random_ids(seed, 2, 75)
    with torch.no_grad():
        expected = model(ids).logits
        model.set_attn_implementation(register(**SMALL, question_tokens=10))
        first = model(ids[:, :60], use_cache=True)
        second = model(ids[:, 60:74], past_key_values=first.past_key_values)
        third = model(ids[:, 74:], past_key_values=second.past_key_values)
    got = torch.cat([first.logits, second.logits, third.logits], dim=1)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_generate_equals_the_dense_model(kind: str, seed: int) -> None:
    model, ids = make(kind, seed), random_ids(seed, 1, 70)
    options = {"max_new_tokens": 8, "do_sample": False}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    model.set_attn_implementation(register(**SMALL))
    assert torch.equal(
        model.generate(ids, attention_mask=torch.ones_like(ids), **options), expected
    )


def test_attention_is_as_sparse_as_in_our_model(seed: int) -> None:
    """Past the budget it equals our sparse model, not dense attention."""
    dense, ids = make("llama", seed), random_ids(seed, 1, 300)
    settings = {**SMALL, "select_count": 2, "answer_select_count": 3}
    config = NSAConfig.from_dense(dense.config, **settings)
    ours = NSAForCausalLM(config).eval()
    ours.load_state_dict(dense.state_dict())
    cache = KVCache(config, 300)
    with torch.no_grad():
        away = dense(ids).logits
        expected = [
            ours(ids[:, :280], cache=cache, settings=config.prefill_settings()).logits,
            ours(ids[:, 280:], cache=cache, settings=config.answer_settings()).logits,
        ]
        dense.set_attn_implementation(register(**settings, question_tokens=20))
        got = dense(ids).logits
    torch.testing.assert_close(got, torch.cat(expected, dim=1), atol=2e-4, rtol=1e-4)
    assert (got - away).abs().max() > 1e-2


def test_layers_in_several_places(seed: int, tmp_path: Path) -> None:
    """accelerate moves tensors between the places of a device map; each layer attends in one.

    On a machine without a GPU the places are memory and disk.
    """
    model, ids = make("llama", seed), random_ids(seed, 1, 300)
    model.save_pretrained(tmp_path)
    options = {"attn_implementation": register(**{**SMALL, "select_count": 2})}
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk", "lm_head": "cpu"}
    split = LlamaForCausalLM.from_pretrained(
        tmp_path, device_map=places, offload_folder=tmp_path / "offloaded", **options
    )
    assert split.model.layers[1].self_attn.q_proj.weight.is_meta
    whole = LlamaForCausalLM.from_pretrained(tmp_path, **options)
    with torch.no_grad():
        torch.testing.assert_close(split(ids).logits, whole(ids).logits)


def test_training(seed: int) -> None:
    model, ids = make("qwen3", seed), random_ids(seed, 1, 64)
    model(ids, labels=ids).loss.backward()
    expected = {name: x.grad.clone() for name, x in model.named_parameters()}
    model.zero_grad()
    model.set_attn_implementation(register(**SMALL))
    model.train()
    model(ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-3)


def refused(model: Any, message: str, *args: Any, **options: Any) -> None:
    model.set_attn_implementation(register(**SMALL))
    with pytest.raises(ModelError, match=message) as caught:
        model(*args, **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_padding_is_refused(seed: int) -> None:
    ids = random_ids(seed, 2, 20)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    refused(make("llama", seed), "padding", ids, attention_mask=mask)


def test_a_mask_of_four_dimensions_is_refused(seed: int) -> None:
    ids = random_ids(seed, 1, 20)
    mask = torch.zeros(1, 1, 20, 20)
    refused(make("llama", seed), "a 4D attention mask", ids, attention_mask=mask)


def test_packed_texts_are_refused(seed: int) -> None:
    ids = random_ids(seed, 1, 20)
    places = torch.cat([torch.arange(12), torch.arange(8)])[None]
    refused(make("llama", seed), "packed texts", ids, position_ids=places, use_cache=False)


def test_a_sliding_window_is_refused(seed: int) -> None:
    model = make("mistral", seed, sliding_window=256)
    refused(model, "sliding window", random_ids(seed, 1, 20))


def test_dropout_is_refused(seed: int) -> None:
    model = make("llama", seed, attention_dropout=0.25).train()
    refused(model, "dropout of 0.25", random_ids(seed, 1, 20))


def test_gemma_2_is_refused(seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8}
    config = Gemma2Config(vocab_size=VOCABULARY, intermediate_size=64, num_hidden_layers=2, **sizes)
    refused(Gemma2ForCausalLM(config).eval(), "sliding window", random_ids(seed, 1, 20))


@pytest.mark.parametrize(
    ("option", "value"),
    [("softcap", 50.0), ("s_aux", torch.zeros(4)), ("output_attentions", True), ("no_such", 1)],
)
def test_unsupported_options_of_a_layer_are_named(option: str, value: Any) -> None:
    attend = AttentionInterface()[register(**SMALL)]
    x = torch.zeros(1, 4, 8, 8)
    with pytest.raises(ModelError, match=f"does not support {option}"):
        attend(torch.nn.Module(), x, x, x, None, **{option: value})


def test_an_encoder_is_refused(seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=VOCABULARY, num_hidden_layers=1, **sizes)).eval()
    refused(model, "does not support", random_ids(seed, 1, 20))


def test_a_cache_of_a_fixed_size_is_refused(seed: int) -> None:
    model = make("llama", seed)
    model.set_attn_implementation(register(**SMALL))
    ids = random_ids(seed, 1, 20)
    with pytest.raises(ModelError, match="a cache of a fixed size"):
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=2,
            cache_implementation="static",
        )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"windows": 64}, TypeError),
        ({"window": 100}, ValueError),
        ({"combine": "gated"}, ValueError),
        ({"compress_hidden": 8}, ValueError),
        ({"question_tokens": 0}, ValueError),
    ],
)
def test_wrong_settings(settings: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        register(**settings)


@pytest.mark.parametrize("bits", [8, 4])
def test_torchao_quantization(bits: int, tiny_llama: LlamaForCausalLM, tmp_path: Path) -> None:
    """transformers quantizes; within the budget the result equals dense attention."""
    pytest.importorskip("torchao", reason="transformers imports it if installed, with warnings")
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    few = Int8WeightOnlyConfig()
    if bits == 4:
        few = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32))
    tiny_llama.save_pretrained(tmp_path)
    register_attention("nsa-few-bits", select_count=2, window=64)
    ids = torch.randint(90, (1, 600), generator=torch.Generator().manual_seed(1))
    ours, dense = (
        AutoModelForCausalLM.from_pretrained(
            tmp_path, attn_implementation=name, quantization_config=TorchAoConfig(few)
        )
        for name in ("nsa-few-bits", "sdpa")
    )
    with torch.no_grad():
        torch.testing.assert_close(ours(ids[:, :100]).logits, dense(ids[:, :100]).logits)
        long = ours(ids).logits
    assert long.isfinite().all()
    weight = ours.model.layers[0].self_attn.q_proj.weight
    assert type(weight).__module__.startswith("torchao.")
