"""The device of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby, pairwise
from typing import Any

import torch

from nsa_models.cache.kv_cache import LayerDevices
from nsa_models.errors import UsageError


def pick_device(wanted: str) -> torch.device:
    """The device to run on; `auto` is a CUDA device where there is one.

    Raises:
        UsageError: If the device asked for is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device", hint="leave --device out")
    return torch.device(wanted)


HOST = ("cpu", "disk")
"""Where a device map has weights that are brought to the first card at each use."""


def layer_devices(placed: Mapping[str, Any], layers: int) -> LayerDevices:
    """Where each layer runs.

    Args:
        placed: A device map: module names, and where each is with all that it has.
        layers: How many there are.
    """
    cards = [where for where in placed.values() if str(where) not in HOST]
    first = _device(cards[0] if cards else "cpu")
    homes = []
    for layer in range(layers):
        name = f"model.layers.{layer}"
        while name and name not in placed:
            name = name.rpartition(".")[0]
        homes.append(first if str(placed[name]) in HOST else _device(placed[name]))
    return homes


def device_runs(homes: LayerDevices) -> list[tuple[torch.device, range]]:
    """Layers that follow each other on one device: where, and which."""
    ends = [0]
    for _, run in groupby(homes):
        ends.append(ends[-1] + len(list(run)))
    return [(homes[first], range(first, end)) for first, end in pairwise(ends)]


def _device(where: Any) -> torch.device:
    """A place of a device map, in which cards have numbers or names."""
    return torch.device("cuda", where) if isinstance(where, int) else torch.device(where)
