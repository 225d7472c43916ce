"""Reading an ordinary `config.json` without transformers gives what transformers gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.plain_dense import describe_plain

SIZES: dict[str, Any] = {
    "vocab_size": 77,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 123,
    "initializer_range": 0.07,
    "rms_norm_eps": 1e-3,
    "tie_word_embeddings": True,
    "rope_theta": 1234.0,
}

ORDINARY: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2"},
    "qwen2 of the hub": {
        "model_type": "qwen2",
        "bos_token_id": 3,
        "eos_token_id": [4, 5],
        "max_window_layers": 2,
        "sliding_window": 64,
        "use_sliding_window": False,
        "torch_dtype": "bfloat16",
        "rope_scaling": None,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 16, "attention_bias": True},
    "llama": {"model_type": "llama", "mlp_bias": True, "dtype": "float16"},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "head_dim": 8},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "a whole number": {"model_type": "llama", "rope_theta": 10000},
    "the rope of transformers 5": {
        "model_type": "llama",
        "rope_theta": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 7.0},
        "layer_types": ["full_attention"] * 3,
    },
}


def written(values: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in {**SIZES, **values}.items() if name != "rope_theta" or x}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files(name: str, tmp_path: Path) -> None:
    values = written(ORDINARY[name])
    (tmp_path / "config.json").write_text(json.dumps(values))
    described = describe_plain(values)
    assert described is not None
    expected = NSAConfig.from_dense(AutoConfig.from_pretrained(tmp_path))
    assert NSAConfig(**described) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "phi3"},
        {"model_type": ["llama"]},
        {"model_type": "llama", "hidden_size": "24"},
        {"model_type": "llama", "hidden_size": 25},
        {"model_type": "llama", "vocab_size": None},
        {"model_type": "llama", "tie_word_embeddings": None},
        {"model_type": "llama", "quantization_config": {"quant_method": "gptq"}},
        {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"model_type": "llama", "rope_theta": None},
        {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}},
        {"model_type": "llama", "layer_types": ["full_attention"]},
        {"model_type": "llama", "dtype": "float8_e4m3fn"},
        {"model_type": "mistral"},
        {"model_type": "mistral", "sliding_window": 64},
        {"model_type": "mistral", "sliding_window": None, "layer_types": ["full_attention"] * 3},
        {"model_type": "qwen2", "use_sliding_window": True},
        {"model_type": "qwen3"},
    ],
    ids=lambda values: json.dumps(values),
)
def test_other_files_are_left_to_transformers(values: dict[str, Any]) -> None:
    assert describe_plain(written(values)) is None
