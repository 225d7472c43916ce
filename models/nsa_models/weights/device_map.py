"""Weights that one card has no room for, spread over the cards of the machine by accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from nsa_models.cache.kv_cache import LayerDevices
from nsa_models.cache.layer_devices import HOST
from nsa_models.cache.placement import SMALLER, cache_bytes, free_bytes, least_work_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError, ModelError

if TYPE_CHECKING:
    from nsa_models.modeling.model import NSALanguageModel


_TEXT_TOKENS = 131072
"""Of a text whose keys and values are to lie beside the weights, if the context is as long: from
the host they would come at each step of decoding."""


def likely_layer_devices(
    config: NSAConfig, weights: int, dtype: torch.dtype, device: torch.device
) -> LayerDevices:
    """Where the layers of a model that is not loaded yet will be, about.

    Args:
        config: Of the model.
        weights: Bytes that it takes.
        dtype: Of its keys and values.
        device: Where it is to run.
    """
    layers = config.num_hidden_layers
    if not _needs_several(config, weights, dtype, device):
        return [device] * layers
    count = torch.cuda.device_count()
    return [torch.device("cuda", layer * count // layers) for layer in range(layers)]


def place(model: NSALanguageModel, device: torch.device) -> None:
    """Move a model to a device, or to all cards where that is one with too little room.

    Raises:
        DoesNotFitError: If they have no room either.
        ModelError: If accelerate is not installed.
    """
    dispatch(model, device_map(model, device))


def dispatch(model: NSALanguageModel, placed: Mapping[str, Any]) -> None:
    """Move the parts of a model to where a device map has them."""
    if len(placed) > 1:
        from accelerate import dispatch_model

        dispatch_model(model, dict(placed))
    else:
        model.to(placed[""])
    if model.evidence is not None:
        model.evidence = model.evidence.to(model.device)


def device_map(model: NSALanguageModel, device: torch.device) -> dict[str, Any]:
    """Where the parts of a model go, by name: the model itself, or layers shared out over cards.

    Raises:
        DoesNotFitError: If all cards together have no room for them.
        ModelError: If accelerate is not installed.
    """
    needed = weight_bytes(model)
    if not _needs_several(model.config, needed, model.dtype, device):
        return {"": device}
    alone = needed <= _room(model.config, model.dtype, device)
    try:
        from accelerate import infer_auto_device_map
        from accelerate.utils import get_balanced_memory
    except ImportError as error:
        if alone:
            return {"": device}
        raise ModelError(
            f"the weights take {needed / 1e9:.1f} GB, more than one card has room for",
            hint="pip install accelerate, which spreads them over the cards of this machine",
            code="memory",
        ) from error
    cards = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    room = {card.index: _room(model.config, model.dtype, card) for card in cards}
    whole = model._no_split_modules
    balanced = get_balanced_memory(model, dict(room), no_split_module_classes=whole)
    for most in (balanced, room):
        placed = infer_auto_device_map(model, dict(most), no_split_module_classes=whole)
        if not set(placed.values()) & set(HOST):
            return dict(placed)
    if alone:
        return {"": device}
    raise DoesNotFitError(
        f"the weights take {needed / 1e9:.1f} GB, and the {len(cards)} cards of this machine have "
        f"room for {sum(room.values()) / 1e9:.1f} GB",
        hint=SMALLER,
    )


def _needs_several(
    config: NSAConfig, weights: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether a card has no room for weights and a text, and the machine has more cards."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return False
    text = min(config.max_position_embeddings, _TEXT_TOKENS)
    return weights + cache_bytes(config, text, dtype) > _room(config, dtype, device)


def weight_bytes(model: NSALanguageModel) -> int:
    """Memory that a model's weights take."""
    return sum(each.nbytes for each in model.parameters())


def _room(config: NSAConfig, dtype: torch.dtype, card: torch.device) -> int:
    """Memory that weights may take of a card, beside the work of a segment."""
    return max(0, free_bytes(card) - least_work_bytes(config, dtype))
