"""Device maps: accelerate spreads weights over the GPUs of the machine when one is too small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from nsa_models.cache.kv_cache import LayerDevices
from nsa_models.cache.layer_devices import HOST
from nsa_models.cache.placement import cache_bytes, free_bytes, least_work_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError, ModelError

if TYPE_CHECKING:
    from nsa_models.modeling.model import NSALanguageModel


_TEXT_TOKENS = 131072
"""Tokens (or the context, if shorter) whose keys and values must fit beside the weights, because
decoding with an offloaded cache copies them in every step."""


def likely_layer_devices(
    config: NSAConfig, weights: int, dtype: torch.dtype, device: torch.device
) -> LayerDevices:
    """Estimate the device of each layer before the model is loaded.

    Args:
        config: The model's configuration.
        weights: Size of the weights in bytes.
        dtype: Type of keys and values.
        device: The requested device.
    """
    layers = config.num_hidden_layers
    if not _needs_several(config, weights, dtype, device):
        return [device] * layers
    count = torch.cuda.device_count()
    return [torch.device("cuda", layer * count // layers) for layer in range(layers)]


def move_model(model: NSALanguageModel, device: torch.device) -> None:
    """Move a model to a device, or spread it over all GPUs if one of them is too small.

    Raises:
        DoesNotFitError: If all GPUs together are too small.
        ModelError: If accelerate is needed and missing.
    """
    dispatch(model, device_map(model, device))


def dispatch(model: NSALanguageModel, devices: Mapping[str, Any]) -> None:
    """Move the modules of a model to the devices of a device map."""
    if len(devices) > 1:
        from accelerate import dispatch_model

        dispatch_model(model, dict(devices))
    else:
        model.to(devices[""])
    if model.retrieval_head_weights is not None:
        model.retrieval_head_weights = model.retrieval_head_weights.to(model.device)


def device_map(model: NSALanguageModel, device: torch.device) -> dict[str, Any]:
    """Return the device of each module by name, or of the whole model under the empty name.

    Raises:
        DoesNotFitError: If all GPUs together are too small.
        ModelError: If accelerate is needed and missing.
    """
    needed = weight_bytes(model)
    if not _needs_several(model.config, needed, model.dtype, device):
        return {"": device}
    fits_one = needed <= _free_for_weights(model.config, model.dtype, device)
    try:
        from accelerate import infer_auto_device_map
        from accelerate.utils import get_balanced_memory
    except ImportError as error:
        if fits_one:
            return {"": device}
        raise ModelError(
            f"the weights need {needed / 1e9:.1f} GB, more than one GPU has free",
            hint="pip install accelerate, which spreads them over the GPUs of this machine",
            code="memory",
        ) from error
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    free = {gpu.index: _free_for_weights(model.config, model.dtype, gpu) for gpu in gpus}
    unsplit = model._no_split_modules
    balanced = get_balanced_memory(model, dict(free), no_split_module_classes=unsplit)
    for limits in (balanced, free):
        devices = infer_auto_device_map(model, dict(limits), no_split_module_classes=unsplit)
        if not set(devices.values()) & set(HOST):
            return dict(devices)
    if fits_one:
        return {"": device}
    raise DoesNotFitError(
        f"the weights need {needed / 1e9:.1f} GB; the {len(gpus)} GPUs of this machine have "
        f"{sum(free.values()) / 1e9:.1f} GB free for them"
    )


def _needs_several(
    config: NSAConfig, weights: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Return whether weights and a text exceed one GPU and the machine has more GPUs."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return False
    text = min(config.max_position_embeddings, _TEXT_TOKENS)
    return weights + cache_bytes(config, text, dtype) > _free_for_weights(config, dtype, device)


def weight_bytes(model: NSALanguageModel) -> int:
    """Return the size of a model's weights in bytes."""
    return sum(parameter.nbytes for parameter in model.parameters())


def _free_for_weights(config: NSAConfig, dtype: torch.dtype, gpu: torch.device) -> int:
    """Return a GPU's free memory minus the memory of the shortest chunk, in bytes."""
    return max(0, free_bytes(gpu) - least_work_bytes(config, dtype))
