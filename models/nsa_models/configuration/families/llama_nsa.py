"""`llama-nsa`: the four 1B models of "SSA: Sparse Sparse Attention".

NSA-1B sums the paper's three branches; its summaries are means of blocks that do not overlap,
and its selection blocks are these. SSA-1B and MoBA-1B keep the selection branch alone, with its
gate; FullAttn-1B, and SSA-1B in `full` mode, put that gate behind dense attention. All of them
have all gates among their tensors.

Source: Shen et al. 2025, arXiv 2511.20102; the configurations, the modelling code and the kernel
in zhenyi4/ssa (`configs`, `hf_files/parallel.py`).
"""

from __future__ import annotations

from typing import Any

from nsa_models.configuration.families.fields import Fields, rope, unsupported

NAMES = ((".self_attn.g_proj.", ".self_attn.gate_proj."),)
"""Parts of tensors' names: the published one, and the program's."""


def read(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `NSAConfig` for a `config.json`.

    Raises:
        ModelError: If it holds something that is unknown or cannot be done.
    """
    fields = Fields(values)
    fields.refuse("pretraining_tp", (1,), "tensors cut for several devices are not supported")
    fields.refuse("quantization_config", (None,), "quantised weights are not supported")
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
            f"config.json has window_size {window} and inference_mode {mode!r}: only the models "
            "without a window have dense attention"
        )
    if window == 0:
        if mode not in ("sparse", "full"):
            raise unsupported(
                f"config.json has window_size 0 and inference_mode {mode!r}, so that it does not "
                "say whether the model attends sparsely (SSA-1B, MoBA-1B) or densely (FullAttn-1B)",
                hint='add "inference_mode": "sparse" or "full" to it',
            )
        if mode == "full":
            arguments |= {"select_count": None, "answer_select_count": None}
    return arguments


def kernel_settings(block: int, count: int) -> dict[str, Any]:
    """What fla's kernel attends to with blocks of this size and so many of them.

    It selects a power of two of blocks, and keeps its best in a list as long as a block has
    tokens, of which each run of blocks replaces half.

    Raises:
        ModelError: If the kernel could not have selected so many.
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
