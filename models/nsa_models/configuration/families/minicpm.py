"""`minicpm`: MiniCPM4 and MiniCPM4.1 with InfLLM-v2, and their dense predecessors.

InfLLM-v2 computes one softmax over the first blocks, the window's blocks and the best other
blocks. A block's score is the maximum over its compressed keys (means of 32 tokens, every 16) of a
softmax whose denominator comes from compressed keys four times as coarse. The window's blocks are
added to `topk`. Texts shorter than `dense_len` use dense attention. Without `sparse_config` a
checkpoint is dense.

Neighboring blocks share a compressed key, so two blocks often have the same score. This code
prefers the earlier one; the authors' code leaves the order open. Their kernel ignores the last
coarse key when a text ends one token before a multiple of 64; this code uses it at every length.

Source: MiniCPM team 2025, arXiv 2506.07900 and 2509.24663; OpenBMB's modeling code, and its
kernels in OpenBMB/infllmv2_cuda_impl (`csrc/max_pooling_1d.cuh`, `infllmv2_attn_stage1`).
"""

from __future__ import annotations

import math
from typing import Any

from nsa_models.configuration.families.fields import Fields, rope, unsupported

_COARSER = 4
"""Coarseness of the keys in the denominator, a constant of the authors' code."""


def read(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a `config.json` to arguments of `NSAConfig`.

    Raises:
        ModelError: If a field is unknown or not supported.
    """
    # `mup_denominator` only affects the draft heads of speculative decoding.
    fields = Fields(values, ("mup_denominator", "rope_scaling_type"))
    fields.refuse("pretraining_tp", (1,), "tensors split for several devices are not supported")
    fields.refuse("quantization_config", (None,), "quantized weights are not supported")
    fields.refuse("num_experts", (None, 0), "mixtures of experts are not supported")
    fields.refuse("use_mup", (True,), "MiniCPM's code always scales by muP")
    heads, width = fields.number("num_attention_heads", 32), fields.number("hidden_size", 4096)
    layers = fields.number("num_hidden_layers", 32)
    bias = bool(fields.get("attention_bias", False))
    context = fields.number("max_position_embeddings", 2048)
    rotary = rope(fields, 10000.0)
    scale_depth = fields.get("scale_depth", 1)
    arguments: dict[str, Any] = {
        "vocab_size": fields.number("vocab_size", 32000),
        "hidden_size": width,
        "intermediate_size": fields.number("intermediate_size", 11008),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("num_key_value_heads") or heads,
        "head_dim": fields.get("head_dim") or width // heads,
        "hidden_act": fields.get("hidden_act", "silu"),
        "max_position_embeddings": context,
        "rms_norm_eps": fields.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": fields.get("tie_word_embeddings", True),
        "rope_parameters": rotary,
        "attention_bias": bias,
        "output_bias": bias,
        "embedding_scale": float(fields.get("scale_emb", 1)),
        "residual_scale": scale_depth / math.sqrt(layers),
        "logit_scale": fields.get("dim_model_base", 1) / width,
        "dtype": fields.dtype(),
        **fields.tokens(bos_token_id=1, eos_token_id=2),
    }
    if rotary["rope_type"] == "longrope":
        # The authors' code builds its tables once, for the whole context.
        original = rotary["original_max_position_embeddings"]
        arguments["rope_factors"] = "long" if context > original else "short"
        scaling = math.sqrt(1 + math.log(context / original) / math.log(original))
        arguments["rope_parameters"] = {**rotary, "attention_factor": scaling}
    sparse = fields.get("sparse_config")
    fields.finish()
    return arguments if sparse is None else {**arguments, **_infllm(dict(sparse))}


def _infllm(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a `sparse_config` to attention settings."""
    fields = Fields(values)
    fields.refuse("use_nope", (False, None), "blocks scored by unrotated keys are not supported")
    kernel, stride = fields.number("kernel_size", 32), fields.number("kernel_stride", 16)
    block, window = fields.number("block_size", 64), fields.number("window_size", 2048)
    first, topk = fields.number("init_blocks", 1), fields.number("topk", 64)
    dense = fields.number("dense_len", 8192)
    fields.finish()
    # topk and the window's blocks together include the query's own; `select_count` excludes it.
    count = topk - 1
    if count < max(1, first):
        raise unsupported(
            f"config.json has topk {topk} and init_blocks {first} in sparse_config; topk must be "
            "larger than init_blocks and at least 2"
        )
    return {
        "combine": "union",
        "compress_block": kernel,
        "compress_stride": stride,
        "answer_compress_block": kernel,
        "answer_compress_stride": stride,
        "select_block": block,
        "select_count": count,
        "answer_select_count": count,
        "select_tile": 1,
        "score_stride": 1,
        "init_blocks": first,
        "local_blocks": 0,
        "window": window,
        "answer_window": window,
        "score_pooling": "max",
        "score_norm": _COARSER,
        "dense_below": max(0, dense),
    }
