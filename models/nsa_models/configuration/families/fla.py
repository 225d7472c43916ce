"""`nsa`: the models of flash-linear-attention with its `NativeSparseAttention` layer.

Compressed keys are means of blocks that do not overlap, and these blocks are also the selection
blocks. The present code of fla always selects the first block and the last two. Its first kernel,
in fla-org/native-sparse-attention, always selected the query's own block only, and early layers
had a head dim of 64 for any `head_dim`. Configurations do not record the version of the code.

Source: fla-org/flash-linear-attention, `fla/models/nsa`, `fla/layers/nsa.py`, `fla/ops/nsa`.
"""

from __future__ import annotations

from typing import Any

from nsa_models.configuration.families.fields import Fields, rope, unsupported
from nsa_models.configuration.families.llama_nsa import kernel_settings

_WITHOUT_EFFECT = (
    "elementwise_affine",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "fuse_norm",
    "fuse_swiglu",
    "use_l2warp",
)
"""Choices of training kernels, and `elementwise_affine`, which fla's code does not read."""

NAMES = (
    ("model.embeddings.", "model.embed_tokens."),
    (".attn_norm.", ".input_layernorm."),
    (".mlp_norm.", ".post_attention_layernorm."),
    (".attn.g_proj.", ".self_attn.gate_proj."),
    (".attn.", ".self_attn."),
)
"""Pairs of parts of tensor names: published, internal."""


def read(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a `config.json` to arguments of `NSAConfig`.

    Raises:
        ModelError: If a field is unknown or not supported.
    """
    fields = Fields(values, _WITHOUT_EFFECT)
    fields.refuse("attnres_block_size", (None,), "residuals over several layers are not supported")
    fields.refuse("quantization_config", (None,), "quantized weights are not supported")
    act = fields.get("hidden_act", "swish")
    if act not in ("swish", "silu"):
        raise unsupported(f"config.json has hidden_act {act!r}, which is not supported")
    heads, width = fields.number("num_heads", 64), fields.number("hidden_size", 2048)
    ratio, inner = fields.get("hidden_ratio") or 4, fields.get("intermediate_size")
    window = fields.get("window_size", 512) or 0
    arguments: dict[str, Any] = {
        "vocab_size": fields.number("vocab_size", 32000),
        "hidden_size": width,
        "intermediate_size": inner or 256 * -(-int(width * ratio * 2 / 3) // 256),
        "num_hidden_layers": fields.number("num_hidden_layers", 24),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("num_kv_heads", 4) or heads,
        "head_dim": fields.number("head_dim", 32),
        "hidden_act": "silu",
        "max_position_embeddings": fields.number("max_position_embeddings", 2048),
        "rms_norm_eps": fields.get("norm_eps", 1e-6),
        "tie_word_embeddings": fields.get("tie_word_embeddings", False),
        "rope_parameters": rope(fields, 10000.0),
        "attention_bias": bool(fields.get("qkv_bias", False)),
        "dtype": fields.dtype(),
        **fields.tokens(bos_token_id=1, eos_token_id=2),
        **kernel_settings(fields.number("block_size", 64), fields.number("block_counts", 16)),
        "window": window,
        "answer_window": window,
        "init_blocks": 1,
        "local_blocks": 2,
    }
    fields.finish()
    return arguments
