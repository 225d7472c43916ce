"""Inverse frequencies of the rotary position embedding, with LongRoPE.

LongRoPE has one set of factors for texts within the original training context and one for longer
texts. The cache holds rotated keys, so one set is chosen for the whole text before its prefill.

Source: Ding et al. 2024, "LongRoPE", arXiv 2402.13753.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError


def inverse_frequencies(config: NSAConfig) -> tuple[Tensor, float]:
    """Return inverse frequencies (D / 2,) in fp32 and the multiplier of cosines and sines.

    Raises:
        ModelError: If the numbers of LongRoPE factors and of frequencies differ.
    """
    rope, dim = config.rope_parameters, config.head_dim
    assert rope is not None
    assert dim is not None
    kind = rope["rope_type"]
    if kind not in ("default", "longrope"):
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # takes a second

        from nsa_models.configuration.pretrained import pretrained

        inverse, scaling = ROPE_INIT_FUNCTIONS[kind](pretrained(config))
        return inverse, scaling
    dim = int(dim * rope.get("partial_rotary_factor", 1.0))
    even = torch.arange(0, dim, 2, dtype=torch.float32)
    inverse = 1.0 / (rope["rope_theta"] ** (even / dim))
    if kind == "default":
        return inverse, 1.0
    original = rope["original_max_position_embeddings"]
    factor_set = config.rope_factors
    if factor_set is None:
        factor_set = "long" if config.max_position_embeddings > original else "short"
    factors = torch.tensor(rope[f"{factor_set}_factor"], dtype=torch.float32)
    if factors.shape != inverse.shape:
        raise ModelError(
            f"LongRoPE has {len(factors)} factors for {len(inverse)} frequencies",
            hint="its config.json is broken; fetch the model again",
            code="model_broken",
        )
    scaling = rope.get("attention_factor")
    if scaling is None:
        factor = rope.get("factor") or config.max_position_embeddings / original
        scaling = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return inverse / factors, float(scaling)


def fit_rotary(config: NSAConfig, tokens: int) -> None:
    """Choose LongRoPE's factors for a text of `tokens` tokens, unless they are already chosen."""
    rope = config.rope_parameters or {}
    if rope.get("rope_type") == "longrope" and config.rope_factors is None:
        original = rope["original_max_position_embeddings"]
        config.rope_factors = "long" if tokens > original else "short"
