"""A cache that a device has no room for: it lies with the host and comes a layer at a time.

Letters: L layers, B batch, G key/value groups, D head dim, T_max capacity in tokens.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache import KVCache
from nsa_models.configuration import NSAConfig


class StreamedCache(KVCache):
    """Keys and values with the host, two layers of them and all summaries on the device.

    While a layer attends, the next one is on its way. A long segment hides the transfer behind
    its arithmetic; a step of one token waits for it.

    Args:
        config: Of the model.
        host: Where keys and values lie, in memory or in a mapped file; what it holds counts as
            read, and what is appended goes there too.
        device: Where the model is.
    """

    def __init__(self, config: NSAConfig, host: KVCache, device: torch.device) -> None:
        kept = {"keys": host.keys, "values": host.values}
        dtype = host.keys.dtype

        def allocate(name: str, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
            if name in kept:
                return kept[name]
            return torch.zeros(shape, dtype=kind, device=device)

        batch = host.keys.shape[1]
        super().__init__(config, host.capacity, batch=batch, dtype=dtype, allocate=allocate)
        self.length = host.length
        # (2, 2, B, G, T_max, D): two layers' room, keys and values.
        self._rooms = torch.zeros(2, 2, *host.keys.shape[1:], dtype=dtype, device=device)
        self._held: list[tuple[int, int]] = [(-1, 0), (-1, 0)]
        self._transfers = torch.cuda.Stream(device) if device.type == "cuda" else None

    def update(
        self, layer: int, k: Tensor, v: Tensor, settings: AttentionSettings
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Append a layer's keys and values; return all of them, on the device; see `KVCache`."""
        start, end = self.length, self.length + k.shape[2]
        assert end <= self.capacity, (end, self.capacity)
        self._forget_summaries(layer)
        room = self._rooms[layer % 2]
        if self._held[layer % 2] != (layer, start):
            self._fetch(layer)
        if self._transfers is not None:
            torch.cuda.current_stream(room.device).wait_stream(self._transfers)
        room[0, :, :, start:end] = k
        room[1, :, :, start:end] = v
        self._held[layer % 2] = (-1, 0)  # until the step is counted, it may be made anew
        for kept, made in ((self.keys, room[0]), (self.values, room[1])):
            _copy_strips(made, kept[layer], start, end)
        if layer + 1 < len(self.keys):
            self._fetch(layer + 1)
        keys, values = room[0, :, :, :end], room[1, :, :, :end]
        if settings.covers(end):
            return keys, values, None
        return keys, values, self._summarise(layer, keys, settings)

    def summaries(self, settings: AttentionSettings) -> Tensor:
        """Every layer's summaries of what is filled, brought up to date: (L, B, G, C, D)."""
        for layer in range(len(self.keys)):
            self._fetch(layer)
            if self._transfers is not None:
                torch.cuda.current_stream(self._rooms.device).wait_stream(self._transfers)
            keys = self._rooms[layer % 2, 0, :, :, : self.length]
            self._summarise(layer, keys, settings)
        total = max(0, (self.length - settings.compress_block) // settings.compress_stride + 1)
        return self.summary_room(settings)[..., :total, :]

    def settle(self) -> None:
        """Wait until what was appended lies with the host."""
        if self._transfers is not None:
            torch.cuda.current_stream(self._rooms.device).synchronize()

    def _fetch(self, layer: int) -> None:
        """Send a layer's filled part on its way to the device, into the room that is its own."""
        room = self._rooms[layer % 2]
        context: AbstractContextManager[object] = nullcontext()
        if self._transfers is not None:
            # Whoever attended from this room has done so, and what was appended has left.
            self._transfers.wait_stream(torch.cuda.current_stream(room.device))
            context = torch.cuda.stream(self._transfers)
        with context:
            for kept, made in ((self.keys, room[0]), (self.values, room[1])):
                _copy_strips(kept[layer], made, 0, self.length)
        self._held[layer % 2] = (layer, self.length)


def _copy_strips(source: Tensor, target: Tensor, start: int, stop: int) -> None:
    """Copy some tokens of (B, G, T_max, D) strip by strip, each contiguous on either side."""
    for ours, theirs in zip(source.flatten(0, 1), target.flatten(0, 1), strict=True):
        theirs[start:stop].copy_(ours[start:stop], non_blocking=True)
