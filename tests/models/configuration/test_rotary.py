"""LongRoPE against transformers, for texts within and past the original context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.rotary import fit_rotary, inverse_frequencies
from nsa_models.generation.generate import prefill
from nsa_models.weights.load import load_config, load_model

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 3000.0,
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [1.0, 2.0, 3.0, 5.0],
    "original_max_position_embeddings": 64,
    "factor": 4.0,
}


def write(folder: Path, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rope_parameters=LONGROPE,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("length", [1, 40, 64, 65, 150])
def test_a_dense_checkpoint(length: int, seed: int, tmp_path: Path) -> None:
    """In one call, and in chunks of which the first would fit the original context."""
    dense = write(tmp_path, seed)
    config, _ = load_config(tmp_path)
    fit_rotary(config, length)
    assert config.rope_factors == ("long" if length > 64 else "short")
    model = load_model(tmp_path, config)
    ids = torch.randint(40, (1, length), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = dense(ids).logits
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=1e-4)
        cache = KVCache(config, length)
        list(prefill(model, ids[0, : length - 1], cache, chunk_size=64))
        last = model(ids[:, length - 1 :], cache=cache, settings=config.answer_settings()).logits
    torch.testing.assert_close(last, expected[:, -1:], atol=1e-4, rtol=1e-4)


def test_factors_are_chosen_once() -> None:
    config = NSAConfig(hidden_size=64, rope_parameters=dict(LONGROPE))
    fit_rotary(config, 65)
    fit_rotary(config, 3)
    assert config.rope_factors == "long"
    plain = NSAConfig(hidden_size=64)
    fit_rotary(plain, 10**6)
    assert plain.rope_factors is None


@pytest.mark.parametrize(
    ("change", "scaling"),
    [({}, 1.1547005), ({"attention_factor": 1.5}, 1.5), ({"factor": 0.5}, 1.0)],
)
def test_the_attention_factor(change: dict[str, Any], scaling: float) -> None:
    config = NSAConfig(hidden_size=64, rope_parameters={**LONGROPE, **change})
    assert inverse_frequencies(config)[1] == pytest.approx(scaling)
