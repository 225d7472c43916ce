"""Checksums and the journal that tell which part of a stored KV cache is whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nsa_models.cache.kv_cache import KVCache

BlockChecksums = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint32]]


def crc(tensor: Tensor, before: int = 0) -> int:
    """Return the CRC-32 of a contiguous tensor's bytes."""
    return zlib.crc32(tensor.view(torch.uint8).numpy().data, before)


def block_checksums(cache: KVCache, size: int, start: int, stop: int) -> BlockChecksums:
    """Return the checksums (N, L, G, 2) of the blocks from token `start` to `stop`.

    Args:
        cache: The KV cache.
        size: Tokens of a block.
        start: First token of a block.
        stop: One past the last token.
    """
    layers, _, groups = cache.shape[:3]
    blocks = range(start, stop, size)
    checks = np.empty((len(blocks), layers, groups, 2), dtype=np.uint32)
    for number, tensor in enumerate((cache.keys, cache.values)):
        for layer in range(layers):
            for group in range(groups):
                strip = tensor[layer][0, group]
                for row, first in enumerate(blocks):
                    checks[row, layer, group, number] = crc(strip[first : min(first + size, stop)])
    return checks


JOURNAL_BODY = struct.Struct("<QIII")
_JOURNAL_RECORD = struct.Struct("<QIIII")
"""Tokens so far; checksums of the chunk's keys and values, of its rows of `checks.bin`, of its
compressed keys, and of the record itself."""


class JournalRecord(NamedTuple):
    """One chunk in the journal; see `_JOURNAL_RECORD`."""

    tokens: int
    chunk: int
    checks: int
    summaries: int


def read_journal(folder: Path) -> list[JournalRecord]:
    """Return the records of a journal up to the first corrupt one, rising in tokens."""
    try:
        data = (folder / "journal.bin").read_bytes()
    except OSError:
        return []
    records: list[JournalRecord] = []
    whole = len(data) - len(data) % _JOURNAL_RECORD.size
    for *body, own in _JOURNAL_RECORD.iter_unpack(data[:whole]):
        record = JournalRecord(*body)
        after = records[-1].tokens if records else 0
        if own != zlib.crc32(JOURNAL_BODY.pack(*record)) or record.tokens <= after:
            break
        records.append(record)
    return records


def checksum(cache: KVCache, start: int, stop: int) -> int:
    """Return the CRC-32 over the keys and values of tokens `start` to `stop`."""
    return strips_crc(cache.values, start, stop, strips_crc(cache.keys, start, stop))


def verified_tokens(cache: KVCache, records: Sequence[JournalRecord], most: int) -> int:
    """Return the tokens up to the first chunk of a cache with a wrong checksum.

    Chunks are verified by as many threads as torch uses: a checksum runs beside Python.

    Args:
        cache: The KV cache.
        records: Its journal.
        most: Tokens of its text; a chunk beyond them is wrong.
    """
    starts = [0, *(record.tokens for record in records)]

    def is_whole(start: int, record: JournalRecord) -> bool:
        return record.tokens <= most and checksum(cache, start, record.tokens) == record.chunk

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        found = threads.map(is_whole, starts[:-1], records)
        return starts[sum(1 for _ in takewhile(bool, found))]


def strips_crc(layers: Sequence[Tensor], start: int, stop: int, value: int = 0) -> int:
    """Return the CRC-32 over rows `start` to `stop` of each layer's (B, G, rows, D)."""
    for strip in strips(layers):
        value = crc(strip[start:stop], value)
    return value


def strips(layers: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the contiguous (rows, D) of each text and group in each layer's (B, G, rows, D)."""
    for layer in layers:
        yield from layer.flatten(0, 1)
