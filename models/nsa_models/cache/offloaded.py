"""A cache that a device has no room for: it lies with the host and comes a layer at a time.

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
    """Keys and values with the host, two layers of them and all summaries on each device.

    While a layer attends, the next one is on its way. A long segment hides the transfer behind
    its arithmetic; a step of one token waits for it.

    Args:
        config: Of the model.
        host: Where keys and values lie, in memory or in a mapped file; what it holds counts as
            read, and what is appended goes there too.
        device: Where the model is, or each of its layers.
    """

    def __init__(
        self, config: NSAConfig, host: KVCache, device: torch.device | LayerDevices
    ) -> None:
        self._host = host
        super().__init__(
            config, host.capacity, batch=host.shape[1], dtype=host.dtype, device=device
        )
        self.length = host.length
        homes = set(self.layer_devices)
        # (2, 2, B, G, T_max, D): two layers' room, keys and values.
        shape = (2, 2, *host.shape[1:])
        self._rooms = {home: torch.zeros(shape, dtype=host.dtype, device=home) for home in homes}
        self._held = {home: [(-1, 0), (-1, 0)] for home in homes}
        self._transfers = {home: torch.cuda.Stream(home) for home in homes if home.type == "cuda"}

    def _room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
        kept = {"keys": self._host.keys, "values": self._host.values}
        return kept[name] if name in kept else super()._room(name, shape, dtype)

    def update(
        self, layer: int, k: Tensor, v: Tensor, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Append a layer's keys and values; return all of them, on the device; see `KVCache`."""
        start, end = self.length, self.length + k.shape[2]
        assert end <= self.capacity, (end, self.capacity)
        self._forget_summaries(layer)
        home = self.layer_devices[layer]
        room, held = self._rooms[home][layer % 2], self._held[home]
        if held[layer % 2] != (layer, start):
            self._fetch(layer)
        self._await(home)
        room[0, :, :, start:end] = k
        room[1, :, :, start:end] = v
        held[layer % 2] = (-1, 0)  # until the step is counted, it may be made anew
        for kept, made in ((self.keys, room[0]), (self.values, room[1])):
            _copy_strips(made, kept[layer], start, end)
        if layer + 1 < len(self.keys):
            self._fetch(layer + 1)
        keys, values = room[0, :, :, :end], room[1, :, :, :end]
        if settings.covers(end):
            return keys, values, None
        return keys, values, self._summarise(layer, keys, settings)

    def summaries(self, settings: AttentionSettings) -> list[Tensor]:
        """Each layer's summaries of what is filled, brought up to date: (B, G, C, D)."""
        found = []
        for layer, home in enumerate(self.layer_devices):
            self._fetch(layer)
            self._await(home)
            keys = self._rooms[home][layer % 2, 0, :, :, : self.length]
            found.append(self._summarise(layer, keys, settings))
        return found

    def settle(self) -> None:
        """Wait until what was appended lies with the host."""
        for home in self._transfers:
            torch.cuda.current_stream(home).synchronize()

    def _await(self, home: torch.device) -> None:
        """Have what follows on a device wait for what is on its way there."""
        if home in self._transfers:
            torch.cuda.current_stream(home).wait_stream(self._transfers[home])

    def _fetch(self, layer: int) -> None:
        """Send a layer's filled part on its way to its device, into the room that is its own."""
        home = self.layer_devices[layer]
        room = self._rooms[home][layer % 2]
        context: AbstractContextManager[object] = nullcontext()
        if home in self._transfers:
            # Whoever attended from this room has done so, and what was appended has left.
            self._transfers[home].wait_stream(torch.cuda.current_stream(home))
            context = torch.cuda.stream(self._transfers[home])
        with context:
            for kept, made in ((self.keys, room[0]), (self.values, room[1])):
                _copy_strips(kept[layer], made, 0, self.length)
        self._held[home][layer % 2] = (layer, self.length)


def _copy_strips(source: Tensor, target: Tensor, start: int, stop: int) -> None:
    """Copy some tokens of (B, G, T_max, D) strip by strip, each contiguous on either side."""
    for ours, theirs in zip(source.flatten(0, 1), target.flatten(0, 1), strict=True):
        theirs[start:stop].copy_(ours[start:stop], non_blocking=True)
