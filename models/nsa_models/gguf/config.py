"""Convert the metadata of a GGUF file to a transformers configuration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from nsa_models.errors import ModelError
from nsa_models.gguf.file import GGUFFile

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Class names of transformers by `model_type`."""

GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Supported values of `general.architecture`; files of Mistral and SmolLM say llama."""

LLAMA3_ROPE = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""Parameters of every published Llama 3; GGUF files hold only the factors that result."""


def model_config(gguf: GGUFFile) -> dict[str, Any]:
    """Return the `config.json` that transformers would write for this model.

    Raises:
        ModelError: With code `model_unsupported` for an unsupported architecture or rotary
            scaling, and `model_broken` when a required key is missing.
    """
    architecture = gguf.facts.get("general.architecture")
    if architecture not in GGUF_ARCHITECTURES:
        raise ModelError(
            f"{gguf.path.name} holds a model of architecture {architecture!r}, "
            f"supported are {', '.join(GGUF_ARCHITECTURES)}",
            code="model_unsupported",
        )
    facts = _ModelFacts(gguf, str(architecture))
    # Among files that say llama, only Mistral's have a sliding window.
    window = facts.get("attention.sliding_window")
    model_type = "mistral" if architecture == "llama" and window else str(architecture)
    heads = int(facts.need("attention.head_count"))
    hidden_size = int(facts.need("embedding_length"))
    head_dim = int(facts.get("attention.key_length") or hidden_size // heads)
    if int(facts.get("attention.value_length") or head_dim) != head_dim:
        raise _unsupported(gguf, "keys and values of different sizes")
    if int(facts.get("rope.dimension_count") or head_dim) != head_dim:
        raise _unsupported(gguf, "rotary embeddings on a part of each head")
    context_tokens = int(facts.need("context_length"))
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0],
        "hidden_size": hidden_size,
        "intermediate_size": int(facts.need("feed_forward_length")),
        "num_hidden_layers": int(facts.need("block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(facts.get("attention.head_count_kv") or heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": context_tokens,
        "rms_norm_eps": _short(facts.need("attention.layer_norm_rms_epsilon")),
        "rope_parameters": _rope_parameters(gguf, facts, head_dim, context_tokens),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": "bfloat16",
    }
    has_attention_bias = "blk.0.attn_q.bias" in gguf.tensors
    if model_type == "llama":
        config |= {"attention_bias": has_attention_bias, "mlp_bias": False}
    elif model_type == "qwen3":
        config |= {"attention_bias": has_attention_bias, "use_sliding_window": False}
    elif model_type == "qwen2":
        config |= {"use_sliding_window": False}
    else:
        config |= {"sliding_window": int(window) if window else None}
    return config | token_ids(gguf)


def token_ids(gguf: GGUFFile) -> dict[str, Any]:
    """Return `bos_token_id`, `eos_token_id` and `pad_token_id`, without ids that the file lacks."""
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    ids = {}
    for ours, theirs in names.items():
        token_id = gguf.facts.get(f"tokenizer.ggml.{theirs}_token_id")
        if token_id is not None:
            ids[f"{ours}_token_id"] = int(token_id)
    return ids


def rotary_factors(parameters: dict[str, Any], head_dim: int) -> npt.NDArray[np.float64]:
    """Return Llama 3's divisors of the rotary frequencies: (D / 2,), as in `rope_freqs.weight`.

    Source: Llama 3.1's reference code.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    frequencies = float(parameters["rope_theta"]) ** -exponents
    wavelengths = 2 * math.pi / frequencies
    original = parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    factor = parameters["factor"]
    smooth = np.clip((original / wavelengths - low) / (high - low), 0.0, 1.0)
    factors: npt.NDArray[np.float64] = 1 / ((1 - smooth) / factor + smooth)
    return factors


def _rope_parameters(
    gguf: GGUFFile, facts: _ModelFacts, head_dim: int, context_tokens: int
) -> dict[str, Any]:
    parameters: dict[str, Any] = {"rope_theta": _short(facts.get("rope.freq_base") or 10000.0)}
    stored = gguf.tensors.get("rope_freqs.weight")
    kind = facts.get("rope.scaling.type") or "none"
    if stored is not None:
        factors = stored.rows.reshape(-1).view(np.float32)
        parameters |= {"rope_type": "llama3", "factor": _short(factors.max()), **LLAMA3_ROPE}
        if factors.shape != (head_dim // 2,) or not np.allclose(
            factors, rotary_factors(parameters, head_dim), rtol=1e-3
        ):
            raise _unsupported(gguf, "rotary factors other than Llama 3's")
    elif kind == "none":
        parameters["rope_type"] = "default"
    elif kind in ("linear", "yarn"):
        parameters |= {"rope_type": kind, "factor": _short(facts.need("rope.scaling.factor"))}
        if kind == "yarn":
            original = facts.get("rope.scaling.original_context_length")
            parameters["original_max_position_embeddings"] = int(
                original or context_tokens / parameters["factor"]
            )
    else:
        raise _unsupported(gguf, f"rotary scaling {kind!r}")
    return parameters


class _ModelFacts:
    """The metadata whose keys begin with the architecture's name."""

    def __init__(self, gguf: GGUFFile, architecture: str) -> None:
        self._gguf = gguf
        self._prefix = architecture

    def get(self, key: str) -> Any:
        value = self._gguf.facts.get(f"{self._prefix}.{key}")
        if isinstance(value, np.ndarray):
            if value.size and (value == value[0]).all():
                return value[0].item()
            raise _unsupported(self._gguf, f"{key} that differs from layer to layer")
        return value

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise ModelError(
                f"{self._gguf.path.name} lacks {self._prefix}.{key}", code="model_broken"
            )
        return value


def _short(value: Any) -> float:
    """Return a float32 as a short decimal number: 1e-06, not 9.999999974752427e-07."""
    return float(f"{float(value):.7g}")


def _unsupported(gguf: GGUFFile, feature: str) -> ModelError:
    return ModelError(
        f"{gguf.path.name} has {feature}, which is not supported", code="model_unsupported"
    )
