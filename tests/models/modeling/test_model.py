"""The model against transformers' models, where the budget covers the text; and training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.pretrained import NSAPretrainedConfig
from nsa_models.configuration.yarn import extend_context
from nsa_models.errors import ModelError
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.load import load_config, load_model

VOCABULARY = 96
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
DENSE: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "qwen3-bias": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8, "attention_bias": True}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama-rope": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": LLAMA3_ROPE}),
    "llama-tied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama-bias": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
}
every_dense = pytest.mark.parametrize("kind", DENSE)


def make_dense(kind: str, seed: int, **changes: Any) -> Any:
    """A random dense model in which every parameter has an effect."""
    config_class, model_class, special = DENSE[kind]
    torch.manual_seed(seed)
    values = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 3000.0},
    }
    model = model_class(config_class(**{**values, **special, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


def load(folder: Path, **settings: Any) -> NSAForCausalLM:
    config, _ = load_config(folder, **settings)
    return load_model(folder, config, dtype=torch.float32)


def random_ids(seed: int, *shape: int) -> Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Assert that the largest difference is small relative to the largest logit."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def dense_logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def greedy(model: NSAForCausalLM, ids: list[int], count: int, stop: frozenset[int]) -> list[int]:
    """Prefill the first half, then decode after the rest, which the answer may quote."""
    cache = KVCache(model.config, len(ids) + count)
    half = len(ids) // 2
    list(prefill(model, ids[:half], cache))
    steps = decode(
        model, ids[half:], cache, DecodeOptions(max_tokens=count, stop_ids=stop), quoted=ids[:half]
    )
    return [step.id for step in steps]


@every_dense
def test_logits_of_one_call(kind: str, seed: int, tmp_path: Path) -> None:
    dense = make_dense(kind, seed)
    dense.save_pretrained(tmp_path)
    ids = random_ids(seed, 2, 150)
    model = load(tmp_path)
    assert_same(model(ids).logits, dense_logits(dense, ids))
    assert_same(model(ids, last_logits=3).logits, dense_logits(dense, ids)[:, -3:])
    assert model(ids, last_logits=0).logits is None


@every_dense
@pytest.mark.parametrize("settings", [{}, {"select_count": 1, "window": 128}])
def test_logits_after_prefill_and_decode(
    kind: str, settings: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    """Chunks, a few tokens at once, and single tokens."""
    dense = make_dense(kind, seed)
    dense.save_pretrained(tmp_path)
    ids = random_ids(seed, 1, 160)
    model = load(tmp_path, **settings)
    cache = KVCache(model.config, 160)
    assert list(prefill(model, ids[0, :130], cache, chunk_size=64)) == [64, 128, 130]
    parts = [ids[:, 130:150], *ids[:, 150:].split(1, dim=1)]
    logits = [model(part, cache=cache).logits for part in parts]
    assert_same(torch.cat(logits, dim=1), dense_logits(dense, ids)[:, 130:])


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_yarn(kind: str, seed: int, tmp_path: Path) -> None:
    """Texts longer than the original context."""
    dense = make_dense(kind, seed, max_position_embeddings=64)
    dense.save_pretrained(tmp_path)
    config, family = load_config(tmp_path)
    extend_context(config, family)
    model = load_model(tmp_path, config)
    rope = {
        "rope_type": "yarn",
        "rope_theta": 3000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    extended = make_dense(kind, seed, max_position_embeddings=256, rope_parameters=rope)
    extended.load_state_dict(dense.state_dict())
    ids = random_ids(seed, 1, 200)
    assert_same(model(ids).logits, dense_logits(extended, ids))
    difference = (model(ids).logits - dense_logits(dense, ids)).abs().max()
    assert difference > 0.01 * model(ids).logits.abs().max()


def test_dynamic_rope(seed: int, tmp_path: Path) -> None:
    """Its frequencies depend on the text's length, which a cache cannot follow."""
    rope = {"rope_type": "dynamic", "rope_theta": 3000.0, "factor": 4.0}
    dense = make_dense("llama", seed, max_position_embeddings=32, rope_parameters=rope)
    dense.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="dynamic"):
        load(tmp_path)


@every_dense
def test_greedy_answers(kind: str, seed: int, tmp_path: Path) -> None:
    dense = make_dense(kind, seed)
    dense.save_pretrained(tmp_path)
    model = load(tmp_path)
    for length in (2, 17, 70):
        ids = random_ids(seed + length, 1, length)
        theirs = dense.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
        )
        assert greedy(model, ids[0].tolist(), 12, frozenset()) == theirs[0, length:].tolist()


def test_the_loss_equals_transformers(seed: int, tmp_path: Path) -> None:
    dense = make_dense("llama", seed)
    dense.save_pretrained(tmp_path)
    ids = random_ids(seed, 2, 40)
    labels = ids.clone()
    labels[:, :10] = -100
    model = load_model(tmp_path, load_config(tmp_path)[0], kind=NSAForCausalLM)
    with torch.no_grad():
        theirs = dense(ids, labels=labels).loss
    torch.testing.assert_close(model(ids, labels=labels).loss, theirs, rtol=1e-4, atol=0)


def tiny_config(**changes: Any) -> NSAConfig:
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "compress_block": 8,
        "compress_stride": 4,
        "select_block": 16,
        "select_count": 2,
        "select_tile": 1,
        "score_stride": 1,
        "window": 16,
    }
    return NSAConfig(**{**values, **changes})


GATED: dict[str, Any] = {"combine": "gated", "answer_window": 16, "window": 20}
SEPARATE: dict[str, Any] = {
    **GATED,
    "answer_compress_block": 8,
    "answer_compress_stride": 4,
    "branch_keys": "separate",
}
SPARSE: dict[str, dict[str, Any]] = {
    "union": {"answer_window": 16},
    "gated": GATED,
    "separate": SEPARATE,
    "separate-mlp": {**SEPARATE, "compress_phi": "mlp", "compress_hidden": 12},
    "shared-linear": {**SEPARATE, "branch_keys": "shared", "compress_phi": "linear"},
}
sparse = pytest.mark.parametrize("changes", SPARSE.values(), ids=SPARSE.keys())


def make_sparse(seed: int, **changes: Any) -> NSAForCausalLM:
    torch.manual_seed(seed)
    model = NSAForCausalLM(tiny_config(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


@sparse
def test_mass_of_every_layer(changes: dict[str, Any], seed: int) -> None:
    model = make_sparse(seed, **changes)
    with torch.no_grad():
        mass = model(random_ids(seed, 2, 100), return_mass=True).mass
    assert mass.shape == (2, 2, 6, 100, 7)
    torch.testing.assert_close(mass.sum(dim=-1), torch.ones(2, 2, 6, 100))
    read = (mass[:, :, :, -1] > 0).sum(dim=-1)
    assert read.min() >= 2
    assert read.max() <= 4


@sparse
def test_attention_is_causal(changes: dict[str, Any], seed: int) -> None:
    """With a selection for every query."""
    model = make_sparse(seed, **changes)
    ids = random_ids(seed, 1, 120)
    other = ids.clone()
    other[:, 101:] = (other[:, 101:] + 1) % VOCABULARY
    with torch.no_grad():
        first, second = model(ids).logits, model(other).logits
    assert_same(first[:, :101], second[:, :101], 1e-5)
    assert (first[:, 101:] - second[:, 101:]).abs().max() > 0.01 * first.abs().max()


@sparse
def test_a_cache_changes_nothing(changes: dict[str, Any], seed: int) -> None:
    model = make_sparse(seed, **changes)
    ids = random_ids(seed, 1, 130)
    cache = KVCache(model.config, 130)
    with torch.no_grad():
        whole = model(ids).logits
        parts = [model(part, cache=cache).logits for part in ids.split([70, 30, 1, 1, 28], dim=1)]
    assert_same(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("branch", [1, 2])
def test_each_gate_opens_one_branch(branch: int, seed: int) -> None:
    """An open gate of a branch that covers the text gives the dense model."""
    dense = make_dense("llama", seed)
    model = NSAForCausalLM(NSAConfig.from_dense(dense.config, combine="gated")).eval()
    found = model.load_state_dict(dense.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert len(found.missing_keys) == 4
    ids = random_ids(seed, 1, 100)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.gate_proj.weight.zero_()
            gates = layer.self_attn.gate_proj.bias.view(6, 3)
            gates.fill_(-40.0)
            gates[:, branch] = 40.0
        assert_same(model(ids).logits, dense_logits(dense, ids))


@sparse
def test_training(changes: dict[str, Any], seed: int) -> None:
    """The loss on one sequence falls, and every parameter gets a gradient."""
    torch.manual_seed(seed)
    model = NSAForCausalLM(tiny_config(**changes)).train()
    ids = random_ids(seed, 1, 24).repeat(1, 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(20):
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("tied", [False, True])
@sparse
def test_round_trip_through_a_folder(
    changes: dict[str, Any], tied: bool, seed: int, tmp_path: Path
) -> None:
    """With transformers' loader, and with ours."""
    model = make_sparse(seed, tie_word_embeddings=tied, **changes)
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is NSAPretrainedConfig
    assert {**config.to_dict(), "_name_or_path": ""} == model.config.to_dict()
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(again) is NSAForCausalLM
    ids = random_ids(seed, 1, 100)
    with torch.no_grad():
        expected = model(ids).logits
        assert torch.equal(again(ids).logits, expected)
        assert torch.equal(load(tmp_path)(ids).logits, expected)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied


@pytest.mark.model
@pytest.mark.long
def test_the_default_model(default_model_folder: Path) -> None:
    """Logits of 200 tokens, and four answers, one of which quotes."""
    tokenizer = AutoTokenizer.from_pretrained(default_model_folder)
    ids = torch.tensor([tokenizer(Path(__file__).read_text()).input_ids[:200]])
    prompts = [
        "def fibonacci(n):\n",
        "The capital of France is",
        "<|im_start|>user\nName three colors.<|im_end|>\n<|im_start|>assistant\n",
        (
            "<|im_start|>user\nRepeat: the keeper counted 42 white gulls.<|im_end|>\n"
            "<|im_start|>assistant\n"
        ),
    ]
    questions = [tokenizer(prompt).input_ids for prompt in prompts]
    dense = AutoModelForCausalLM.from_pretrained(default_model_folder, dtype=torch.float32)
    logits = dense_logits(dense, ids)
    answers = [
        dense.generate(
            torch.tensor([question]),
            attention_mask=torch.ones(1, len(question), dtype=torch.long),
            max_new_tokens=16,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
        )[0, len(question) :].tolist()
        for question in questions
    ]
    ends = dense.generation_config.eos_token_id
    del dense
    model = load(default_model_folder)
    with torch.no_grad():
        assert_same(model(ids).logits, logits)
        cache = KVCache(model.config, 200)
        list(prefill(model, ids[0, :150], cache, chunk_size=64))
        assert_same(model(ids[:, 150:], cache=cache).logits, logits[:, 150:])
    stop = frozenset([ends] if isinstance(ends, int) else ends)
    assert [greedy(model, question, 16, stop) for question in questions] == answers


def test_every_layer_uses_the_settings(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the call if given, or else the prefill settings."""
    from nsa_models.cache import kv_cache

    asked = []
    original: Callable[..., Any] = kv_cache.nsa_attention

    def watch(q: Tensor, k: Tensor, v: Tensor, settings: Any, **options: Any) -> Any:
        asked.append(settings)
        return original(q, k, v, settings, **options)

    monkeypatch.setattr(kv_cache, "nsa_attention", watch)
    model = make_sparse(seed, answer_select_count=5, answer_window=32)
    ids = random_ids(seed, 1, 8)
    model(ids)
    model(ids, settings=model.config.answer_settings())
    assert asked == [model.config.prefill_settings()] * 2 + [model.config.answer_settings()] * 2
