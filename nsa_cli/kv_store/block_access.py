"""Blocks of a stored KV cache that attention reads, each verified when it is first read.

A question attends to a few blocks of a long text. Only these, and the compressed keys that
selected them, are read from disk, so only these must be verified.

Letters: L layers, G key/value groups, N blocks, D head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsa_cli.kv_store.integrity import BlockChecksums, crc
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache


class CorruptBlockError(Exception):
    """A block of a stored KV cache does not have its checksum."""


class BlockAccess:
    """Counts and verifies what attention reads of the tokens that a cache holds now.

    Args:
        cache: The cache; calls this object at each layer.
        size: Tokens of a block.
        checks: (N, L, G, 2) checksums of each block's keys and values; None to verify nothing.
    """

    def __init__(self, cache: KVCache, size: int, checks: BlockChecksums | None = None) -> None:
        self._cache = cache
        self._size = size
        self._checks = checks
        self._length = cache.length
        layers, _, groups, _, dim = cache.shape
        self._token_bytes = dim * cache.dtype.itemsize
        self._touched = torch.zeros(
            layers, groups, -(-self._length // size), dtype=torch.bool, device="cpu"
        )
        self._verified = torch.zeros_like(self._touched)
        self._summaries: dict[tuple[int, int, int], int] = {}
        cache.observe = self

    def __call__(
        self,
        layer: int,
        blocks: Tensor | None,
        settings: AttentionSettings,
        seq_len: int,
        queries: int,
    ) -> None:
        """Count what one layer attended to; arguments as for `KVCache.observe`.

        Raises:
            CorruptBlockError: If a block read for the first time does not have its checksum.
        """
        groups, count = self._touched.shape[1:]
        wanted = torch.ones(groups, count, dtype=torch.bool)
        if blocks is not None:
            kind = (layer, settings.compress_block, settings.compress_stride)
            self._summaries[kind] = self._summary_bytes(settings)
            last = (seq_len - 1) // settings.select_block
            first = (seq_len - queries) // settings.select_block - settings.window_blocks
            wanted = torch.zeros(groups, last + 1, dtype=torch.bool)
            wanted[:, max(0, first) :] = True
            for group in range(groups):
                chosen = blocks[:, group].flatten().cpu()
                wanted[group, chosen[chosen >= 0]] = True
            wanted = wanted[:, :count]
        self._mark(layer, wanted)

    def read(self, start: int, stop: int) -> None:
        """Count and verify all layers' blocks of the tokens `start` to `stop`.

        Raises:
            CorruptBlockError: If a block read for the first time does not have its checksum.
        """
        blocks = torch.zeros(self._touched.shape[1:], dtype=torch.bool)
        blocks[:, start // self._size : -(-stop // self._size)] = True
        for layer in range(len(self._touched)):
            self._mark(layer, blocks)

    def _mark(self, layer: int, blocks: Tensor) -> None:
        """Count the blocks (G, N) of a layer, and verify those that are new."""
        new = blocks & ~self._verified[layer]
        self._touched[layer] |= blocks
        self._verified[layer] |= blocks
        if self._checks is not None:
            for group, block in new.nonzero().tolist():
                self._check(layer, group, block)

    def restart(self) -> None:
        """Reset the counts; verified blocks stay verified."""
        self._touched.zero_()
        self._summaries.clear()

    def _check(self, layer: int, group: int, block: int) -> None:
        assert self._checks is not None
        part = slice(block * self._size, min((block + 1) * self._size, self._length))
        for number, tensor in enumerate((self._cache.keys, self._cache.values)):
            if crc(tensor[layer][0, group, part]) != self._checks[block, layer, group, number]:
                raise CorruptBlockError(f"layer {layer}, group {group}, block {block}")

    def _summary_bytes(self, settings: AttentionSettings) -> int:
        """Bytes of one layer's compressed keys."""
        complete = settings.complete_blocks(self._length)
        return complete * self._touched.shape[1] * self._token_bytes

    @property
    def bytes_touched(self) -> int:
        """Bytes of keys, values and compressed keys that attention has read since."""
        blocks = int(self._touched.sum()) * self._size
        partial = -self._length % self._size
        blocks -= int(self._touched[:, :, -1:].sum()) * partial
        return 2 * blocks * self._token_bytes + sum(self._summaries.values())

    @property
    def bytes_held(self) -> int:
        """Bytes of all keys and values, and of the compressed keys that were scored."""
        layers, groups = self._touched.shape[:2]
        whole = 2 * layers * groups * self._length * self._token_bytes
        return whole + sum(self._summaries.values())
