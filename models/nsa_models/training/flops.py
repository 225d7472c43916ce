"""Model FLOPs of a training step, and the peak of known GPUs.

Letters: N parameters, H query heads, D head dim, L layers, l, d and l' tokens of a compression
block, between two of them, and of a selection block.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.model import NSALanguageModel

_PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12,
    "L40S": 362e12, "A10G": 70e12, "A10": 125e12, "L4": 121e12, "RTX 4090": 165e12,
}  # fmt: skip
"""Dense bf16 FLOP/s by a part of the device's name, from the vendor's data sheets."""


def peak_flops(device: torch.device) -> float | None:
    """Return the peak bf16 FLOP/s of a GPU; None for a CPU or an unknown GPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _PEAKS.items() if part in name), None)


def multiplied_parameters(model: NSALanguageModel) -> int:
    """Return N: the parameters without the embedding, whose rows are only looked up.

    Tied embeddings count once, as the projection to logits.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    return total if tied else total - model.model.embed_tokens.weight.numel()


def visible_keys(length: int, settings: AttentionSettings) -> int:
    """Return the keys that all queries of a sequence attend to, over all branches."""
    position = np.arange(1, length + 1, dtype=np.int64)
    if settings.dense:
        return int(position.sum())
    selected = settings.select_count
    picked = (
        position if selected is None else np.minimum(position, selected * settings.select_block)
    )
    block, stride = settings.compress_block, settings.compress_stride
    summaries = np.maximum(position - block + stride, 0) // stride
    if settings.combine == "union":
        return int((picked + summaries).sum())
    return int((picked + summaries + np.minimum(position, settings.window)).sum())


def step_flops(
    lengths: Iterable[int], config: NSAConfig, settings: AttentionSettings, parameters: int
) -> float:
    """Return the FLOPs of forward and backward over sequences, without recomputation.

    They are 6 N a token and, for each query head and visible key, 2 D for the score and 2 D for
    the value, three times: forward, and twice as much backward.

    Args:
        lengths: Tokens of each sequence.
        config: The model's configuration.
        settings: Attention settings of the sequences.
        parameters: N, see `multiplied_parameters`.
    """
    assert config.head_dim is not None
    per_key = 12 * config.head_dim * config.num_attention_heads * config.num_hidden_layers
    total = 0.0
    for length in lengths:
        total += 6.0 * parameters * length + per_key * visible_keys(length, settings)
    return total
