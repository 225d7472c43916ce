"""Excerpts of prefilled texts as one KV cache, without a second prefill.

Keys and values of parts of a text are copied together. Each token keeps the context it was
prefilled with. Keys are rotated to new positions, so that the parts follow each other.

Letters: G key/value groups, T tokens, D head dim.

Source: Su et al. 2021, "RoFormer", arXiv 2104.09864, section 3.2: a rotary embedding is a rotation,
so rotating a key by the difference of two positions moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nsa_kernels.pointwise import rotate
from nsa_models.cache.kv_cache import KVCache
from nsa_models.errors import ModelError
from nsa_models.modeling.model import NSALanguageModel


class Excerpt(NamedTuple):
    """Tokens `start` to `stop` of a prefilled text.

    Attributes:
        cache: The cache of the text.
        start: First token.
        stop: One past the last token.
    """

    cache: KVCache
    start: int
    stop: int


def join_excerpts(
    model: NSALanguageModel, excerpts: Sequence[Excerpt], room: int, *, move: bool = True
) -> KVCache:
    """Copy excerpts into one cache, in the given order.

    Args:
        model: The model that prefilled all excerpts.
        excerpts: At least one.
        room: Capacity after the excerpts, in tokens.
        move: Whether the excerpts get consecutive positions from 0. Otherwise each key keeps its
            position, and the next token follows the greatest one.

    Returns:
        A cache of batch 1 on the model's devices.

    Raises:
        ModelError: If the model's branches have other keys and values than its selection; a cache
            holds these of the end of a text alone.
    """
    if model.config.branch_inputs:
        raise ModelError(
            "this model cannot answer from parts of a stored text: the keys and values of its "
            "branches are stored for the end of the text alone",
            hint="answer from passages, which are prefilled again",
            code="attention_unsupported",
        )
    tokens = sum(stop - start for _, start, stop in excerpts)
    joined = KVCache(
        model.config,
        tokens + room,
        dtype=excerpts[0].cache.dtype,
        device=model.layer_devices,
    )
    with torch.inference_mode():
        for cache, start, stop in excerpts:
            part = slice(joined.length, joined.length + stop - start)
            shift = joined.length - start if move else 0
            for layer, attention in enumerate(model.attentions):
                keys, values = joined.keys[layer], joined.values[layer]
                moved = cache.keys[layer][:, :, start:stop].to(keys.device)
                if shift and attention.rotates:
                    moved = _moved(model, moved, shift)
                keys[:, :, part] = moved
                values[:, :, part] = cache.values[layer][:, :, start:stop].to(values.device)
            joined.advance(stop - start)
    if not move:
        joined.position_offset = max(stop for _, _, stop in excerpts) - tokens
    return joined


def _moved(model: NSALanguageModel, keys: Tensor, shift: int) -> Tensor:
    """Rotate keys (1, G, T, D) by `shift` positions, in fp32."""
    angles = shift * model.model.rotary.frequencies(keys.device).double()
    angles = torch.cat([angles, angles])[None]
    moved = rotate(keys.float(), angles.cos().float(), angles.sin().float())
    return moved.to(keys.dtype)
