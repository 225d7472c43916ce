"""The device of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby, pairwise
from typing import Any

import torch

from nsa_models.cache.kv_cache import LayerDevices
from nsa_models.errors import UsageError

HOST = ("cpu", "disk")
"""Entries of a device map whose weights are copied to the first GPU at each use."""


def pick_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is a CUDA device if the machine has one.

    Raises:
        UsageError: With code `no_cuda` for `cuda` on a machine without a CUDA device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device", code="no_cuda")
    return torch.device(name)


def layer_devices(device_map: Mapping[str, Any], layers: int) -> LayerDevices:
    """Return the device of each layer.

    Args:
        device_map: The device of each module by name, as accelerate writes it.
        layers: Number of layers (L).
    """
    gpus = [place for place in device_map.values() if str(place) not in HOST]
    first = _device(gpus[0] if gpus else "cpu")
    devices = []
    for layer in range(layers):
        name = f"model.layers.{layer}"
        while name and name not in device_map:
            name = name.rpartition(".")[0]
        place = device_map[name]
        devices.append(first if str(place) in HOST else _device(place))
    return devices


def device_runs(devices: LayerDevices) -> list[tuple[torch.device, range]]:
    """Return the runs of consecutive layers on one device: the device and its layers."""
    ends = [0]
    for _, run in groupby(devices):
        ends.append(ends[-1] + len(list(run)))
    return [(devices[first], range(first, end)) for first, end in pairwise(ends)]


def _device(place: Any) -> torch.device:
    """Return the device of an entry of a device map, where numbers stand for GPUs."""
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
