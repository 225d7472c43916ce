"""Random models and filled caches, to compare ways of decoding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.transformers_model import NSAForCausalLM

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def random_model(
    sizes: dict[str, Any], dtype: torch.dtype = torch.float32, *, noise: float = 0.15
) -> NSAForCausalLM:
    """A random model whose answers have the same attention as its prefill."""
    sizes = dict(sizes)
    for name in ("compress_block", "compress_stride", "select_count", "window"):
        if name in sizes:
            sizes[f"answer_{name}"] = sizes[name]
    model = NSAForCausalLM(NSAConfig(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise)
    return model.to(device=DEVICE, dtype=dtype).requires_grad_(False)


def filled(model: NSAForCausalLM, ids: Tensor, room: int) -> KVCache:
    """A cache with texts (B, T) and room for more tokens."""
    batch, tokens = ids.shape
    cache = KVCache(model.config, tokens + room, batch=batch, dtype=model.dtype, device=DEVICE)
    with torch.inference_mode():
        model(ids, cache=cache, last_logits=0)
    cache.release_recent()
    return cache
