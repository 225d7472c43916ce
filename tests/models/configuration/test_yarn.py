"""The context extension; test_model.py compares its results with transformers."""

from __future__ import annotations

from typing import Any

import pytest

from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.yarn import extend_context, longest_context
from nsa_models.hub.registry import MODELS


def config(**changes: Any) -> NSAConfig:
    return NSAConfig(**{"max_position_embeddings": 1000, **changes})


@pytest.mark.parametrize(
    ("family", "tokens"),
    [("qwen2", 4000), ("qwen3", 4000), ("llama", 1000), ("mistral", 1000), ("native_sparse", 1000)],
)
def test_longest_context(family: str, tokens: int) -> None:
    assert longest_context(config(), family) == tokens


def test_the_registry_has_the_same_lengths() -> None:
    for entry in MODELS.values():
        family = "qwen2" if entry.name.startswith("qwen") else "llama"
        promised = entry.extended_context_tokens or entry.context_tokens
        trained = config(max_position_embeddings=entry.context_tokens)
        assert longest_context(trained, family) == promised


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_yarn_parameters_of_the_model_cards(family: str) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6}
    extended = config(rope_parameters=rope)
    extend_context(extended, family)
    assert extended.rope_parameters == {
        "rope_type": "yarn",
        "rope_theta": 1e6,
        "factor": 4.0,
        "original_max_position_embeddings": 1000,
    }
    assert extended.max_position_embeddings == 4000
    assert rope == {"rope_type": "default", "rope_theta": 1e6}


def test_a_context_is_extended_once() -> None:
    extended = config()
    extend_context(extended, "qwen2")
    assert longest_context(extended, "qwen2") == 4000
    with pytest.raises(ValueError, match="'qwen2' has no context extension"):
        extend_context(extended, "qwen2")
    assert extended.max_position_embeddings == 4000


def test_a_family_without_an_extension() -> None:
    plain = config()
    with pytest.raises(ValueError, match="model family 'llama' has no context extension"):
        extend_context(plain, "llama")
    assert plain.max_position_embeddings == 1000
    assert plain.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
