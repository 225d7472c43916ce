"""Convert configurations of dense transformers checkpoints to arguments of `NSAConfig`.

Unknown keys of config.json raise an error, because they may change the computation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

DENSE_FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "phi3", "smollm3", "granite", "olmo2")
"""Model types of dense checkpoints that run with union attention without training."""

_WHY_NOT = {
    "gemma2": "its attention caps logits and uses a sliding window in every other layer",
    "gemma3": "its attention uses a sliding window in five of six layers",
    "gemma3_text": "its attention uses a sliding window in five of six layers",
}
"""Reasons why popular families are not supported."""

_COPIED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "tie_word_embeddings",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)

_MULTIPLIERS = frozenset(
    {"attention_multiplier", "embedding_multiplier", "logits_scaling", "residual_multiplier"}
)
"""Multipliers of Granite."""

_UNDERSTOOD = frozenset(
    {
        *_COPIED,
        "attention_bias",
        "dtype",
        "head_dim",
        "layer_types",
        "mlp_bias",
        "model_type",
        "rope_parameters",
        "sliding_window",
        "use_sliding_window",
    }
)
"""Keys of all families that this module or transformers reads."""

_UNDERSTOOD_OF = {
    "granite": _MULTIPLIERS,
    "smollm3": frozenset({"no_rope_layers", "no_rope_layer_interval"}),
}
"""Further keys that are read, by family."""

_INDIFFERENT = frozenset(
    {
        "attention_dropout",
        "auto_map",
        "embd_pdrop",
        "is_llama_config",
        "max_window_layers",
        "original_max_position_embeddings",
        "partial_rotary_factor",
        "pretraining_tp",
        "resid_pdrop",
        "rope_scaling",
        "rope_theta",
        "transformers.js_config",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
"""Keys without effect on a loaded model, or repeated in `rope_parameters`."""

_NEUTRAL = {"full_attn_mod": 1, "interpolate_factor": 1, "is_causal": True}
"""Keys without effect as long as they have this value."""

_PLAIN_ROPE = {
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
}


def describe_dense(dense: PretrainedConfig) -> dict[str, Any]:
    """Return the arguments of `NSAConfig` for a dense checkpoint.

    Args:
        dense: Configuration of one of `DENSE_FAMILIES`.

    Raises:
        ModelError: If the family or one of its features is not supported.
    """
    family = dense.model_type
    if family not in DENSE_FAMILIES:
        why = f": {_WHY_NOT[family]}" if family in _WHY_NOT else ""
        raise _unsupported(
            f"model type {family!r} is not supported{why}",
            f"supported are {', '.join(DENSE_FAMILIES)}",
        )
    _refuse_unknown(dense)
    _refuse_windows(dense)
    bias = bool(getattr(dense, "attention_bias", False))
    described = {
        **{name: getattr(dense, name) for name in _COPIED},
        "head_dim": getattr(dense, "head_dim", None),
        "rope_parameters": _rope(dense),
        "attention_bias": family == "qwen2" or bias,
        "output_bias": family != "qwen2" and bias,
        "mlp_bias": bool(getattr(dense, "mlp_bias", False)),
        "qk_norm": family == "qwen3",
        "dtype": dense.dtype,
    }
    if family == "granite":
        described |= {
            "attention_multiplier": dense.attention_multiplier,
            "embedding_scale": dense.embedding_multiplier,
            "residual_scale": dense.residual_multiplier,
            "logit_scale": 1 / dense.logits_scaling,
        }
    if family == "olmo2":
        described |= {"qk_norm_whole": True, "norm_after": True}
    if family == "smollm3":
        described["no_rope_layers"] = list(dense.no_rope_layers)
    return described


def split_fused(tensors: dict[str, Tensor], query_rows: int, key_rows: int) -> dict[str, Tensor]:
    """Split fused projections (Phi-3) into separate tensors; other tensors stay unchanged.

    Args:
        tensors: Tensors by name.
        query_rows: Rows of a query projection, H * D.
        key_rows: Rows of a key projection and of a value projection, G * D.

    Raises:
        ModelError: If a fused projection has a different number of rows.
    """
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ".qkv_proj." in name:
            parts, rows = ["q_proj", "k_proj", "v_proj"], [query_rows, key_rows, key_rows]
        elif ".gate_up_proj." in name:
            parts, rows = ["gate_proj", "up_proj"], [len(tensor) // 2] * 2
        else:
            split[name] = tensor
            continue
        if sum(rows) != len(tensor):
            raise ModelError(
                f"{name} has {len(tensor)} rows; config.json describes {sum(rows)}",
                hint="config.json and weights are of different models",
                code="model_broken",
            )
        fused = name.split(".")[-2]
        for part, piece in zip(parts, tensor.split(rows), strict=True):
            split[name.replace(fused, part)] = piece
    return split


def _rope(dense: PretrainedConfig) -> dict[str, Any]:
    """Return a copy of the rotary embedding's parameters; raise for unsupported ones."""
    rope = dict(dense.rope_parameters)
    kind = rope["rope_type"]
    if kind == "dynamic":
        raise _unsupported(
            f"rotary embedding of type {kind!r} is not supported",
            "it depends on the length of the text; choose another checkpoint",
        )
    if kind == "default" and (unknown := sorted(rope.keys() - _PLAIN_ROPE)):
        raise _unsupported(
            f"the rotary embedding has an unknown parameter {unknown[0]!r}",
            "choose another checkpoint",
        )
    part = rope.get("partial_rotary_factor", 1.0)
    if part != 1.0 and dense.model_type != "phi3":
        raise _unsupported(
            f"this {dense.model_type} checkpoint rotates a part ({part}) of each head, "
            "which is supported only in phi3",
            "choose another checkpoint",
        )
    return rope


def _refuse_windows(dense: PretrainedConfig) -> None:
    """Raise if a layer does not attend to all previous tokens."""
    sliding = getattr(dense, "sliding_window", None)
    used = sliding and getattr(dense, "use_sliding_window", True)
    # Phi-3.5's window is longer than its context and hides nothing.
    if used and not (dense.model_type == "phi3" and sliding >= dense.max_position_embeddings):
        raise _unsupported(
            f"this {dense.model_type} checkpoint attends within a sliding window of {sliding} "
            "tokens, which is not supported",
            "choose a checkpoint with full attention",
        )
    kinds = set(getattr(dense, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        raise _unsupported(
            f"this {dense.model_type} checkpoint has layers of type {', '.join(sorted(kinds))}, "
            "which are not supported",
            "choose a checkpoint with full attention",
        )


def _refuse_unknown(dense: PretrainedConfig) -> None:
    """Raise if config.json has an unknown key."""
    from transformers import PretrainedConfig

    family, common = dense.model_type, PretrainedConfig().to_dict().keys()
    known = _UNDERSTOOD | _UNDERSTOOD_OF.get(family, frozenset()) | _INDIFFERENT | common
    values = dense.to_dict()
    if quantization := values.get("quantization_config"):
        kind = quantization.get("quant_method", "unknown")
        raise _unsupported(
            f"this {family} checkpoint has quantized weights ({kind}), which are not supported",
            "choose the checkpoint before quantization; it can be loaded in int8",
        )
    for key, value in sorted(values.items()):
        if key in _NEUTRAL:
            known_here = value is None or value == _NEUTRAL[key]
        else:
            known_here = key in known or key.startswith("_") or value is None or value is False
        if not known_here:
            raise _unsupported(
                f"this {family} checkpoint's config.json has {key} = {value!r:.60}, "
                "whose meaning is unknown",
                "remove it if it has no effect on the computation, or choose another checkpoint",
            )


def _unsupported(message: str, hint: str) -> ModelError:
    return ModelError(message, hint=hint, code="model_unsupported")
