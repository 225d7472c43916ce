"""Read the `config.json` of an ordinary dense checkpoint without transformers.

transformers takes a second to import, and its configuration classes only supply defaults and
checks. A file that states every size, has the default rotary embedding and no other feature needs
neither; every other file is left to transformers and `dense_families`.
"""

from __future__ import annotations

from typing import Any

_FAMILIES = ("qwen2", "qwen3", "llama", "mistral")

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
_NUMBERS = ("initializer_range", "rms_norm_eps")
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
_BIASES = ("attention_bias", "mlp_bias")
_DTYPES = (None, "bfloat16", "float16", "float32")

_DEFAULT_TOKEN_IDS = {
    "llama": {"bos_token_id": 1, "eos_token_id": 2},
    "mistral": {"bos_token_id": 1, "eos_token_id": 2},
}
"""Token ids of a file that does not state them, by family; None for others."""

_WITHOUT_EFFECT = (
    "architectures",
    "attention_dropout",
    "max_window_layers",
    "model_type",
    "pretraining_tp",
    "transformers_version",
    "use_cache",
)

_READ = (
    *(*_SIZES, *_NUMBERS, *_TOKEN_IDS, *_BIASES, *_WITHOUT_EFFECT),
    *("hidden_act", "tie_word_embeddings", "head_dim", "dtype", "torch_dtype", "layer_types"),
    *("rope_parameters", "rope_theta", "rope_scaling", "sliding_window", "use_sliding_window"),
)


def describe_plain(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of `NSAConfig` for an ordinary dense checkpoint.

    Args:
        values: Content of `config.json`.

    Returns:
        What `describe_dense` returns for transformers' configuration of the same file; None if
        the file needs transformers.
    """
    family = values.get("model_type")
    rope = _rope(values)
    if family not in _FAMILIES or rope is None or not _is_ordinary(values):
        return None
    bias, ids = bool(values.get("attention_bias")), _DEFAULT_TOKEN_IDS.get(family, {})
    return {
        **{name: values[name] for name in (*_SIZES, *_NUMBERS)},
        **{name: values.get(name, ids.get(name)) for name in _TOKEN_IDS},
        "hidden_act": values["hidden_act"],
        "tie_word_embeddings": values["tie_word_embeddings"],
        "head_dim": values.get("head_dim"),
        "rope_parameters": rope,
        "attention_bias": family == "qwen2" or bias,
        "output_bias": family != "qwen2" and bias,
        "mlp_bias": bool(values.get("mlp_bias")),
        "qk_norm": family == "qwen3",
        "dtype": values.get("dtype", values.get("torch_dtype")),
    }


def _rope(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return the parameters of a default rotary embedding, in either format; None for others."""
    rope, base = values.get("rope_parameters"), values.get("rope_theta")
    if values.get("rope_scaling") is not None or (rope is None) == (base is None):
        return None
    if rope is None:
        rope = {"rope_theta": base, "rope_type": "default"}
    if not isinstance(rope, dict) or rope.keys() != {"rope_theta", "rope_type"}:
        return None
    ordinary = rope["rope_type"] == "default" and _is_number(rope["rope_theta"])
    return dict(rope) if ordinary else None


def _is_ordinary(values: dict[str, Any]) -> bool:
    """Whether a file of a family states all sizes and has no feature that transformers checks."""
    family, head_dim = values["model_type"], values.get("head_dim")
    return (
        values.keys() <= {*_READ}
        and all(_is_count(values.get(name)) for name in _SIZES)
        and all(_is_number(values.get(name)) for name in _NUMBERS)
        and all(_is_token_id(values.get(name), name) for name in _TOKEN_IDS)
        and all(values.get(name) in (None, True, False) for name in _BIASES)
        and isinstance(values.get("hidden_act"), str)
        and isinstance(values.get("tie_word_embeddings"), bool)
        and (_is_count(head_dim) or (head_dim is None and family != "qwen3"))
        and values.get("dtype", values.get("torch_dtype")) in _DTYPES
        and values["hidden_size"] % values["num_attention_heads"] == 0
        and not _may_slide(values)
    )


def _may_slide(values: dict[str, Any]) -> bool:
    """Whether layers may attend within a sliding window."""
    kinds = values.get("layer_types")
    if kinds is not None and kinds != ["full_attention"] * values["num_hidden_layers"]:
        return True
    if values["model_type"] == "mistral":  # a missing window is one of 4,096 tokens
        return "layer_types" in values or values.get("sliding_window", 4096) is not None
    if values["model_type"] == "llama":
        return values.get("sliding_window") is not None
    return bool(values.get("use_sliding_window"))


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _is_token_id(value: Any, name: str) -> bool:
    if name == "eos_token_id" and isinstance(value, list):
        return all(type(each) is int for each in value)
    return value is None or type(value) is int
