"""`llama-nsa`: the four 1B models of "SSA: Sparse Sparse Attention".

NSA-1B adds the paper's three branches. Its compressed keys are means of blocks that do not
overlap, and these blocks are also the selection blocks. SSA-1B and MoBA-1B have only the selection
branch with its gate; FullAttn-1B, and SSA-1B in `full` mode, apply that gate to dense attention.
All checkpoints contain tensors for all gates.

Source: Shen et al. 2025, arXiv 2511.20102; configurations, modeling code and kernel in
zhenyi4/ssa (`configs`, `hf_files/parallel.py`).
"""

from __future__ import annotations

from typing import Any

from nsa_models.configuration.families.fields import Fields, rope, unsupported

NAMES = ((".self_attn.g_proj.", ".self_attn.gate_proj."),)
"""Pairs of parts of tensor names: published, internal."""


def read(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a `config.json` to arguments of `NSAConfig`.

    Raises:
        ModelError: If a field is unknown or not supported.
    """
    fields = Fields(values)
    fields.refuse("pretraining_tp", (1,), "tensors split for several devices are not supported")
    fields.refuse("quantization_config", (None,), "quantized weights are not supported")
    heads = fields.number("num_attention_heads", 32)
    width = fields.number("hidden_size", 4096)
    bias = bool(fields.get("attention_bias", False))
    window = fields.number("window_size", 512)
    mode = fields.get("inference_mode")
    arguments: dict[str, Any] = {
        "vocab_size": fields.number("vocab_size", 32000),
        "hidden_size": width,
        "intermediate_size": fields.number("intermediate_size", 11008),
        "num_hidden_layers": fields.number("num_hidden_layers", 32),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("num_key_value_heads") or heads,
        "head_dim": fields.get("head_dim") or width // heads,
        "hidden_act": fields.get("hidden_act", "silu"),
        "max_position_embeddings": fields.number("max_position_embeddings", 2048),
        "rms_norm_eps": fields.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": fields.get("tie_word_embeddings", False),
        "rope_parameters": rope(fields, 10000.0),
        "attention_bias": bias,
        "output_bias": bias,
        "mlp_bias": bool(fields.get("mlp_bias", False)),
        "dtype": fields.dtype(),
        **fields.tokens(bos_token_id=1, eos_token_id=2),
        **kernel_settings(fields.number("block_size", 64), fields.number("block_counts", 16)),
        "window": window,
        "answer_window": window,
        "local_blocks": 1,
        "init_blocks": 0,
        "compression_branch": window > 0,
    }
    fields.finish()
    if window and mode not in (None, "sparse"):
        raise unsupported(
            f"config.json has window_size {window} and inference_mode {mode!r}: only models "
            "without a window have dense attention"
        )
    if window == 0:
        if mode not in ("sparse", "full"):
            raise unsupported(
                f"config.json has window_size 0 and inference_mode {mode!r}, which does not say "
                "whether attention is sparse (SSA-1B, MoBA-1B) or dense (FullAttn-1B)",
                hint='add "inference_mode": "sparse" or "full" to config.json',
            )
        if mode == "full":
            arguments |= {"select_count": None, "answer_select_count": None}
    return arguments


def kernel_settings(block: int, count: int) -> dict[str, Any]:
    """Return attention settings that reproduce fla's kernel.

    The kernel rounds the number of selected blocks up to a power of two. It keeps the best blocks
    in a list with as many entries as a block has tokens; each run of blocks replaces half of it.

    Args:
        block: Tokens of a block.
        count: `block_counts` of the configuration.

    Raises:
        ModelError: If the kernel cannot select `count` blocks.
    """
    selected = 1 << (count - 1).bit_length()
    if block < 1 or count < 1 or selected > block:
        raise unsupported(
            f"config.json has block_size {block} and block_counts {count}; fla's kernel selects "
            "at most as many blocks as a block has tokens"
        )
    return {
        "combine": "gated",
        "gate_bias": False,
        "compress_block": block,
        "compress_stride": block,
        "answer_compress_block": block,
        "answer_compress_stride": block,
        "select_block": block,
        "select_count": selected,
        "answer_select_count": selected,
        "select_run": block if selected > block // 2 else None,
        "select_tile": 1,
        "score_stride": 1,
    }
