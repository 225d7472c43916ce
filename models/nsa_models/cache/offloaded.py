"""KV cache in host memory: each device holds two layers at a time.

Letters: L layers, B batch, G key/value groups, D head dim, T_max capacity in tokens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache, LayerDevices
from nsa_models.configuration.config import NSAConfig


class OffloadedCache(KVCache):
    """Keys and values on the host, with buffers for two layers and all summaries on each device.

    The next layer is copied to the device while a layer attends. The computation of a long chunk
    hides the copy; a decoding step waits for it.

    Args:
        config: The model's configuration.
        host: Cache in host memory or in a mapped file. Its content counts as filled, and new
            tokens are appended to it.
        device: Device of the model, or of each layer.
    """

    def __init__(
        self, config: NSAConfig, host: KVCache, device: torch.device | LayerDevices
    ) -> None:
        self._host = host
        super().__init__(
            config, host.capacity, batch=host.shape[1], dtype=host.dtype, device=device
        )
        self.length = host.length
        devices = set(self.layer_devices)
        # (2, 2, B, G, T_max, D): two layers, keys and values.
        shape = (2, 2, *host.shape[1:])
        self._staging = {
            each: torch.zeros(shape, dtype=host.dtype, device=each) for each in devices
        }
        # Layer and number of tokens in each of the two buffers.
        self._staged = {each: [(-1, 0), (-1, 0)] for each in devices}
        self._streams = {each: torch.cuda.Stream(each) for each in devices if each.type == "cuda"}

    def _buffers(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
        host_buffers = {"keys": self._host.keys, "values": self._host.values}
        return host_buffers[name] if name in host_buffers else super()._buffers(name, shape, dtype)

    def update(
        self, layer: int, k: Tensor, v: Tensor, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Append a layer's keys and values; return all of them, on the device; see `KVCache`."""
        start, end = self.length, self.length + k.shape[2]
        assert end <= self.capacity, (end, self.capacity)
        self._drop_summaries(layer)
        device = self.layer_devices[layer]
        buffer, staged = self._staging[device][layer % 2], self._staged[device]
        if staged[layer % 2] != (layer, start):
            self._fetch(layer)
        self._wait(device)
        buffer[0, :, :, start:end] = k
        buffer[1, :, :, start:end] = v
        staged[layer % 2] = (-1, 0)  # until `advance`, a failed step may be repeated
        for host, copy in ((self.keys, buffer[0]), (self.values, buffer[1])):
            _copy_tokens(copy, host[layer], start, end)
        if layer + 1 < len(self.keys):
            self._fetch(layer + 1)
        keys, values = buffer[0, :, :, :end], buffer[1, :, :, :end]
        if settings.covers(end) or self._recent is not None:
            return keys, values, None
        return keys, values, self._update_summaries(layer, keys, settings)

    def summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Return each layer's summaries of the filled keys, up to date; see `KVCache`."""
        if self._recent is not None:
            return super().summaries(settings)
        summaries = []
        for layer, device in enumerate(self.layer_devices):
            self._fetch(layer)
            self._wait(device)
            keys = self._staging[device][layer % 2, 0, :, :, : self.length]
            summaries.append(self._update_summaries(layer, keys, settings))
        return summaries

    def synchronize(self) -> None:
        """Wait until all appended tokens are on the host."""
        for device in self._streams:
            torch.cuda.current_stream(device).synchronize()

    def _wait(self, device: torch.device) -> None:
        """Make later work on a device wait for the copies to it."""
        if device in self._streams:
            torch.cuda.current_stream(device).wait_stream(self._streams[device])

    def _fetch(self, layer: int) -> None:
        """Start the copy of a layer's filled tokens to its buffer on the device."""
        device = self.layer_devices[layer]
        buffer = self._staging[device][layer % 2]
        context: AbstractContextManager[object] = nullcontext()
        if device in self._streams:
            # The last attention from this buffer and the copy of its new tokens are complete.
            self._streams[device].wait_stream(torch.cuda.current_stream(device))
            context = torch.cuda.stream(self._streams[device])
        with context:
            for host, copy in ((self.keys, buffer[0]), (self.values, buffer[1])):
                _copy_tokens(host[layer], copy, 0, self.length)
        self._staged[device][layer % 2] = (layer, self.length)


def _copy_tokens(source: Tensor, target: Tensor, start: int, stop: int) -> None:
    """Copy a range of tokens of (B, G, T_max, D), one contiguous slice per row and group."""
    for ours, theirs in zip(source.flatten(0, 1), target.flatten(0, 1), strict=True):
        theirs[start:stop].copy_(ours[start:stop], non_blocking=True)
