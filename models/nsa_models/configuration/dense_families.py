"""Dense checkpoints of transformers, described by what our model has of them.

A key of config.json that is not known here may change what is computed, so that it is refused:
nothing is left out in silence.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PretrainedConfig

from nsa_models.errors import ModelError

DENSE_FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "phi3", "smollm3", "granite", "olmo2")
"""Model types of dense checkpoints that run with union attention, untrained."""

_WHY_NOT = {
    "gemma2": "its attention caps the logits and slides a window over every other layer",
    "gemma3": "its attention slides a window over five of six layers",
    "gemma3_text": "its attention slides a window over five of six layers",
}
"""Families that are asked for, and what of theirs the kernels do not have."""

_TAKEN_OVER = (
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
"""Granite's."""

_UNDERSTOOD = frozenset(
    {
        *_TAKEN_OVER,
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
"""Keys of every family that are read, here or by transformers."""

_UNDERSTOOD_OF = {
    "granite": _MULTIPLIERS,
    "smollm3": frozenset({"no_rope_layers", "no_rope_layer_interval"}),
}
"""Keys of one family that are read."""

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
"""Keys that change nothing that a loaded model computes, or that `rope_parameters` repeats."""

_NEUTRAL = {"full_attn_mod": 1, "interpolate_factor": 1, "is_causal": True}
"""Keys that change nothing as long as they have this value."""

_PLAIN_ROPE = {
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
}


def describe_dense(dense: PretrainedConfig) -> dict[str, Any]:
    """What `NSAConfig` is told of a dense checkpoint.

    Args:
        dense: Configuration of one of `DENSE_FAMILIES`.

    Raises:
        ModelError: If the family, or something it does, is not supported.
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
        **{name: getattr(dense, name) for name in _TAKEN_OVER},
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
    """Projections that a checkpoint holds as one (Phi-3's), under the names of several.

    Args:
        tensors: By name; those of other kinds go through as they are.
        query_rows: Rows of a layer's query projection, H * D.
        key_rows: Rows of its key projection, and of its value projection, G * D.

    Raises:
        ModelError: If one has another number of rows than these.
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
                hint="its config.json and its weights do not belong together",
                code="model_broken",
            )
        fused = name.split(".")[-2]
        for part, piece in zip(parts, tensor.split(rows), strict=True):
            split[name.replace(fused, part)] = piece
    return split


def _rope(dense: PretrainedConfig) -> dict[str, Any]:
    """A copy of the rotary embedding's parameters, once each is known to be ours."""
    rope = dict(dense.rope_parameters)
    kind = rope["rope_type"]
    if kind == "dynamic":
        raise _unsupported(
            f"rotary embedding of type {kind!r} is not supported",
            "it depends on the length of the text; choose another checkpoint",
        )
    if kind == "default" and (unknown := sorted(rope.keys() - _PLAIN_ROPE)):
        raise _unsupported(
            f"the rotary embedding has a parameter {unknown[0]!r}, which is not known here",
            "choose another checkpoint",
        )
    part = rope.get("partial_rotary_factor", 1.0)
    if part != 1.0 and dense.model_type != "phi3":
        raise _unsupported(
            f"this {dense.model_type} checkpoint rotates a part ({part}) of each head, "
            "which is supported in phi3 alone",
            "choose another checkpoint",
        )
    return rope


def _refuse_windows(dense: PretrainedConfig) -> None:
    """Raise where a layer attends to less than all that precedes."""
    sliding = getattr(dense, "sliding_window", None)
    used = sliding and getattr(dense, "use_sliding_window", True)
    # Phi-3.5's is longer than its context, and hides nothing.
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
    """Raise where config.json has a key whose meaning is not known here."""
    family, common = dense.model_type, PretrainedConfig().to_dict().keys()
    known = _UNDERSTOOD | _UNDERSTOOD_OF.get(family, frozenset()) | _INDIFFERENT | common
    values = dense.to_dict()
    if quantization := values.get("quantization_config"):
        kind = quantization.get("quant_method", "unknown")
        raise _unsupported(
            f"this {family} checkpoint has quantised weights ({kind}), which are not supported",
            "choose the checkpoint that this one was made from; --quantize int8 makes it smaller",
        )
    for key, value in sorted(values.items()):
        if key in _NEUTRAL:
            known_here = value is None or value == _NEUTRAL[key]
        else:
            known_here = key in known or key.startswith("_") or value is None or value is False
        if not known_here:
            raise _unsupported(
                f"this {family} checkpoint's config.json has {key} = {value!r:.60}, "
                "whose meaning is not known here",
                "remove it if it changes nothing that is computed, or choose another checkpoint",
            )


def _unsupported(message: str, hint: str) -> ModelError:
    return ModelError(message, hint=hint, code="model_unsupported")
