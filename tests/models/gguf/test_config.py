"""Configurations from the metadata of a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nsa_models.errors import ModelError
from nsa_models.gguf.config import LLAMA3_ROPE, model_config, rotary_factors
from nsa_models.gguf.file import GGUFFile, GGUFTensor, read_gguf

HEAD_DIM = 16


@pytest.fixture
def llama(tiny_llama: Any, write_gguf: Any, tmp_path: Path) -> GGUFFile:
    path = write_gguf(tmp_path / "m.gguf", model=tiny_llama, architecture="llama", pre="smollm")
    return read_gguf(path)


def with_rotary_factors(file: GGUFFile, factors: np.ndarray[Any, Any]) -> GGUFFile:
    file.tensors["rope_freqs.weight"] = GGUFTensor(
        name="rope_freqs.weight",
        shape=factors.shape,
        kind=GGMLQuantizationType.F32,
        rows=factors.astype(np.float32).reshape(1, -1).view(np.uint8),
    )
    return file


def test_transformers_reads_the_configuration(llama: GGUFFile, tiny_llama: Any) -> None:
    config = model_config(llama)
    read = AutoConfig.for_model(**config)
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_parameters",
        "tie_word_embeddings",
        "head_dim",
        "attention_bias",
    ):
        assert getattr(read, name) == getattr(tiny_llama.config, name), name


def test_qwen3_has_a_separate_head_dim(llama: GGUFFile) -> None:
    facts = {key.replace("llama.", "qwen3."): value for key, value in llama.facts.items()} | {
        "general.architecture": "qwen3",
        "qwen3.attention.key_length": 32,
    }
    config = model_config(GGUFFile(path=llama.path, facts=facts, tensors=llama.tensors))
    assert (config["model_type"], config["head_dim"]) == ("qwen3", 32)
    assert AutoConfig.for_model(**config).architectures == ["Qwen3ForCausalLM"]


def test_a_sliding_window_makes_it_mistral(llama: GGUFFile) -> None:
    llama.facts["llama.attention.sliding_window"] = 4096
    config = model_config(llama)
    assert AutoConfig.for_model(**config).sliding_window == 4096
    assert config["architectures"] == ["MistralForCausalLM"]


def test_rotary_factors_equal_transformers() -> None:
    parameters = {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, **LLAMA3_ROPE}
    config = LlamaConfig(
        hidden_size=512,
        num_attention_heads=4,
        max_position_embeddings=131072,
        rope_parameters=parameters,
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 500000.0 ** (-torch.arange(0, 128, 2) / 128)
    np.testing.assert_allclose(rotary_factors(parameters, 128), (plain / scaled).numpy(), rtol=1e-4)


def test_llama3_scaling_is_recognized(llama: GGUFFile) -> None:
    parameters = {"rope_theta": 10000.0, "factor": 32.0, **LLAMA3_ROPE}
    config = model_config(with_rotary_factors(llama, rotary_factors(parameters, HEAD_DIM)))
    assert config["rope_parameters"] == {**parameters, "rope_type": "llama3"}


def test_other_rotary_factors_are_refused(llama: GGUFFile) -> None:
    with pytest.raises(ModelError, match="rotary factors other than"):
        model_config(with_rotary_factors(llama, np.linspace(1, 8, HEAD_DIM // 2)))


def test_yarn_and_linear_scaling(llama: GGUFFile) -> None:
    llama.facts.update({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0})
    assert model_config(llama)["rope_parameters"] == {
        "rope_theta": 10000.0,
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    llama.facts["llama.rope.scaling.type"] = "linear"
    assert model_config(llama)["rope_parameters"] == {
        "rope_theta": 10000.0,
        "rope_type": "linear",
        "factor": 4.0,
    }


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"llama.rope.scaling.type": "longrope"}, "'longrope'"),
        ({"llama.rope.dimension_count": 8}, "a part of each head"),
        ({"llama.attention.value_length": 8}, "different sizes"),
        ({"llama.attention.head_count": np.array([4, 2])}, "layer to layer"),
    ],
)
def test_unsupported_files(llama: GGUFFile, facts: dict[str, Any], why: str) -> None:
    llama.facts.update(facts)
    with pytest.raises(ModelError, match=why) as caught:
        model_config(llama)
    assert caught.value.code == "model_unsupported"


def test_a_missing_key_is_named(llama: GGUFFile) -> None:
    del llama.facts["llama.embedding_length"]
    with pytest.raises(ModelError, match=r"llama\.embedding_length") as caught:
        model_config(llama)
    assert caught.value.code == "model_broken"
