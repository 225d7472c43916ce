"""`from_pretrained` and `generate` of transformers, against our loading and decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError, ModelError
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.transformers_generation import GenerationCache
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.adapter import Adapter, load_adapter, save_adapter
from nsa_models.weights.load import load_config, load_model

VOCABULARY = 96
TIGHT = {
    "select_block": 16,
    "select_tile": 16,
    "select_count": 3,
    "window": 32,
    "answer_select_count": 4,
    "answer_window": 32,
}
GATED = {"combine": "gated", "num_attention_heads": 4}
LEARNED = {"compress_hidden": 8}
NATIVE = {**GATED, "branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 8}
GREEDY = {"do_sample": False, "pad_token_id": 0}


def make(seed: int, **changes: Any) -> NSAForCausalLM:
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    }
    model = NSAForCausalLM(NSAConfig(**{**sizes, **TIGHT, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def random_ids(seed: int, *shape: int) -> Tensor:
    """Random tokens without the padding token."""
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def saved(model: Any, folder: Path) -> NSAForCausalLM:
    model.save_pretrained(folder)
    again: NSAForCausalLM = AutoModelForCausalLM.from_pretrained(folder)
    return again


def our_answer(model: NSAForCausalLM, ids: Tensor, question: int, count: int) -> list[int]:
    cache = KVCache(model.config, len(ids) + count)
    list(prefill(model, ids[:-question], cache, chunk_size=64))
    steps = decode(
        model, ids[-question:], cache, DecodeOptions(max_tokens=count, stop_ids=frozenset())
    )
    return [step.id for step in steps]


@pytest.mark.parametrize(
    "changes", [{}, GATED, LEARNED, NATIVE], ids=["union", "gated", "learned", "native"]
)
@pytest.mark.parametrize("length", [40, 333])
def test_generate_equals_our_decoding(
    changes: dict[str, Any], length: int, seed: int, tmp_path: Path
) -> None:
    model = make(seed, **changes)
    ids = random_ids(seed, 1, length)
    expected = our_answer(model, ids[0], 20, 7)
    again = saved(model, tmp_path)
    got = again.generate(ids, question_tokens=20, max_new_tokens=7, **GREEDY)
    assert got[0, :length].tolist() == ids[0].tolist()
    assert got[0, length:].tolist() == expected


def test_generate_equals_the_dense_model_within_the_budget(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    dense = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=2,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    dense.save_pretrained(tmp_path / "dense")
    config, _ = load_config(tmp_path / "dense", **TIGHT)
    ours = saved(load_model(tmp_path / "dense", config, kind=NSAForCausalLM), tmp_path / "ours")
    ids = random_ids(seed, 3, 70)
    options = {"max_new_tokens": 8, "attention_mask": torch.ones_like(ids), **GREEDY}
    assert torch.equal(ours.generate(ids, **options), dense.generate(ids, **options))


def test_a_batch_equals_single_texts(seed: int) -> None:
    model, ids = make(seed), random_ids(seed, 3, 150)
    together = model.generate(ids, max_new_tokens=6, **GREEDY)
    for row, expected in zip(ids, together, strict=True):
        assert torch.equal(model.generate(row[None], max_new_tokens=6, **GREEDY)[0], expected)


def test_an_end_token_stops_generate(seed: int, tmp_path: Path) -> None:
    model, ids = make(seed), random_ids(seed, 1, 90)
    answer = model.generate(ids, max_new_tokens=6, **GREEDY)[0, 90:].tolist()
    model.generation_config.eos_token_id = answer[2]
    short = saved(model, tmp_path).generate(ids, max_new_tokens=6, **GREEDY)[0, 90:].tolist()
    assert short == answer[: answer.index(answer[2]) + 1]


def test_samples_have_the_probabilities_of_the_logits(seed: int) -> None:
    model, ids = make(seed), random_ids(seed, 1, 90)
    torch.manual_seed(seed)
    drawn = model.generate(
        ids, do_sample=True, top_k=2, num_return_sequences=40, max_new_tokens=1, pad_token_id=0
    )[:, -1]
    result = model.generate(
        ids, max_new_tokens=1, output_logits=True, return_dict_in_generate=True, **GREEDY
    )
    best = result.logits[0][0].topk(2).indices.tolist()
    assert set(drawn.tolist()) <= set(best)
    assert len(drawn) == 40


@pytest.mark.parametrize("changes", [{}, NATIVE], ids=["union", "native"])
def test_one_prefill_for_several_questions(changes: dict[str, Any], seed: int) -> None:
    model, text = make(seed, **changes), random_ids(seed, 1, 200)
    cache = GenerationCache(KVCache(model.config, 300))
    for number in (1, 2, 3):
        ids = torch.cat([text, random_ids(seed + number, 1, 10)], dim=1)
        expected = model.generate(ids, question_tokens=10, max_new_tokens=5, **GREEDY)
        got = model.generate(
            ids, past_key_values=cache, question_tokens=10, max_new_tokens=5, **GREEDY
        )
        assert torch.equal(got, expected)
        assert cache.get_seq_length() == 214
        cache.crop(-14)
        assert cache.get_seq_length() == 200


def test_new_tokens_with_a_mask_of_all_tokens(seed: int) -> None:
    model, ids = make(seed), random_ids(seed, 1, 210)
    cache = GenerationCache(KVCache(model.config, 300))
    first = model.generate(
        ids[:, :200], past_key_values=cache, question_tokens=1, max_new_tokens=1, **GREEDY
    )
    assert first.shape == (1, 201)
    assert cache.get_seq_length() == cache.kv.length == 200
    got = model.generate(
        ids[:, 200:],
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        question_tokens=10,
        max_new_tokens=5,
        **GREEDY,
    )
    # The last prefilled token has the answer's budget in one cache but not in the other.
    other = GenerationCache(KVCache(model.config, 300))
    model.generate(
        ids[:, :200], past_key_values=other, question_tokens=1, max_new_tokens=1, **GREEDY
    )
    expected = model.generate(
        ids, past_key_values=other, question_tokens=10, max_new_tokens=5, **GREEDY
    )
    assert got[0, 10:].tolist() == expected[0, 210:].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "beam_search"),
        ({"prompt_lookup_num_tokens": 3}, "assisted_generation"),
        ({"use_cache": False}, "use_cache"),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"prefill_chunk_size": 16}, "prefill_chunk_size"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "output_attentions"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states"),
        ({"past_key_values": DynamicCache()}, "DynamicCache"),
    ],
)
def test_unsupported_options_are_refused(options: dict[str, Any], message: str, seed: int) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        make(seed).generate(random_ids(seed, 1, 20), max_new_tokens=2, **GREEDY, **options)
    assert caught.value.hint


@pytest.mark.parametrize("device_map", [{"": "cpu"}, "auto"])
def test_a_device_map_of_one_device(device_map: Any, seed: int, tmp_path: Path) -> None:
    model, ids = make(seed), random_ids(seed, 1, 100)
    model.save_pretrained(tmp_path)
    placed = AutoModelForCausalLM.from_pretrained(tmp_path, device_map=device_map)
    expected = model.generate(ids, max_new_tokens=5, **GREEDY)
    assert torch.equal(placed.generate(ids, max_new_tokens=5, **GREEDY).cpu(), expected)


def test_layers_in_several_places(seed: int, tmp_path: Path) -> None:
    """On a machine without a GPU the places are memory and disk."""
    model, ids = make(seed, **LEARNED), random_ids(seed, 1, 200)
    model.save_pretrained(tmp_path)
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk"}
    split = AutoModelForCausalLM.from_pretrained(
        tmp_path, device_map=places, offload_folder=tmp_path / "offloaded"
    )
    assert split.model.layers[1].self_attn.q_proj.weight.is_meta
    expected = model.generate(ids, max_new_tokens=5, **GREEDY)
    assert torch.equal(split.generate(ids, max_new_tokens=5, **GREEDY), expected)


def test_padding_is_refused(seed: int) -> None:
    model, ids = make(seed), random_ids(seed, 2, 20)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with pytest.raises(ModelError, match="padding"):
        model.generate(ids, attention_mask=mask, max_new_tokens=2, **GREEDY)
    with pytest.raises(ModelError, match="padding"):
        model(ids, attention_mask=mask)
    assert torch.equal(model(ids, torch.ones_like(ids)).logits, model(ids).logits)


def test_wrong_caches_and_questions(seed: int) -> None:
    model, ids = make(seed), random_ids(seed, 1, 20)
    with pytest.raises(ValueError, match="question_tokens is 0"):
        model.generate(ids, question_tokens=0, max_new_tokens=2, **GREEDY)
    small = GenerationCache(KVCache(model.config, 19))
    with pytest.raises(DoesNotFitError, match="of at most 19 tokens"):
        model.generate(ids, past_key_values=small, max_new_tokens=2, **GREEDY)
    cache = GenerationCache(KVCache(model.config, 40))
    model.generate(ids, past_key_values=cache, max_new_tokens=2, **GREEDY)
    with pytest.raises(ValueError, match="holds all 20 tokens"):
        model.generate(ids, past_key_values=cache, max_new_tokens=2, **GREEDY)
    with pytest.raises(ValueError, match="holds 1 texts; the batch has 2"):
        model.generate(ids.repeat(2, 1), past_key_values=cache, max_new_tokens=2, **GREEDY)
    with pytest.raises(ValueError, match="must not be positive"):
        cache.crop(3)


@pytest.mark.parametrize("size", ["20KB", "5GB"])
@pytest.mark.parametrize(
    "changes", [{}, GATED, LEARNED, NATIVE], ids=["union", "gated", "learned", "native"]
)
def test_transformers_and_our_loader_read_a_folder(
    changes: dict[str, Any], size: str, seed: int, tmp_path: Path
) -> None:
    model, ids = make(seed, **changes), random_ids(seed, 1, 200)
    model.retrieval_head_weights = torch.rand(2, model.config.num_attention_heads)
    model.save_pretrained(tmp_path, max_shard_size=size)
    config, family = load_config(tmp_path)
    assert family == "native_sparse"
    for again in (AutoModelForCausalLM.from_pretrained(tmp_path), load_model(tmp_path, config)):
        with torch.no_grad():
            assert torch.equal(again(ids).logits, model(ids).logits)
        assert again.retrieval_head_weights is not None
        assert torch.equal(again.retrieval_head_weights, model.retrieval_head_weights)


def test_a_merged_and_a_separate_adapter(seed: int, tmp_path: Path) -> None:
    base = make(seed)
    base.save_pretrained(tmp_path / "base")
    projection = "model.layers.1.self_attn.q_proj"
    adapter = Adapter(
        base="tests",
        settings={"compress_hidden": 8, "select_count": 2},
        scale=0.5,
        about={},
        tensors={
            f"lora.{projection}.a": torch.randn(3, 48),
            f"lora.{projection}.b": torch.randn(48, 3),
            "evidence": torch.rand(2, 6),
            **{
                f"compression.{layer}.{name}": torch.randn(shape) * 0.1
                for layer in range(2)
                for name, shape in {
                    "position": (4, 8),
                    "inner.weight": (8, 32),
                    "inner.bias": (8,),
                    "outer.weight": (8, 8),
                    "outer.bias": (8,),
                }.items()
            },
        },
    )
    folder = tmp_path / "base"
    save_adapter(folder, adapter)  # beside the weights, in the same folder
    assert load_adapter(folder).tensors.keys() == adapter.tensors.keys()
    config, _ = load_config(folder, folder)
    model = load_model(folder, config, adapter=folder, kind=NSAForCausalLM)
    merged = saved(model, tmp_path / "merged")
    ids = random_ids(seed, 1, 300)
    assert merged.config.select_count == 2
    assert merged.retrieval_head_weights is not None
    assert torch.equal(merged.retrieval_head_weights, adapter.tensors["evidence"])
    with torch.no_grad():
        assert torch.equal(merged(ids).logits, model(ids).logits)
        assert (merged(ids).logits - base(ids).logits).abs().max() > 1e-3
    assert torch.equal(
        merged.generate(ids, max_new_tokens=4, **GREEDY),
        model.generate(ids, max_new_tokens=4, **GREEDY),
    )


def test_the_output_of_a_tokenizer(seed: int, vocabulary: Any) -> None:
    """`generate(**tokenizer(...))` accepts the tokenizer's output."""
    import tokenizers

    tokens = {token: number for number, token in enumerate(vocabulary.tokens)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(tokens, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    model = make(seed, vocab_size=len(tokens))
    encoded = tokenizer("Where is the quick brown fox?", return_tensors="pt")
    encoded.pop("token_type_ids", None)
    answer = model.generate(**encoded, max_new_tokens=3, **GREEDY)
    assert answer.shape[1] == encoded["input_ids"].shape[1] + 3
