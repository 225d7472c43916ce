"""What was read, kept on disk: keys and values of a text, mapped from a file.

A reading is a folder named after a hash of everything that its content depends on:

    readings/<hash of fingerprint and ids>/
        manifest.json   format, fingerprint, shape; written last, so that without it nothing counts
        tokens.bin      the ids, int32
        tensors.bin     keys, then values, each (L, B, G, T_max, D); written in place while reading
        journal.bin     one record per segment: tokens so far and a checksum of its keys and values

The journal tells which prefix is whole, and checksums hold it to that, so that a crash, a full
disk or a damaged file costs at most a part of the reading, never a wrong answer. One process
writes a reading at a time, under a lock that the operating system drops when the process ends.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from nsa_models.cache import KVCache, cache_shape
from nsa_models.configuration import NSAConfig

FORMAT = 1
ANSWER_ROOM = 4096
"""Tokens of room behind the text for questions and answers; a hole in the file, never written."""

_RECORD = struct.Struct("<QII")
"""Journal record: tokens so far, checksum of the segment, checksum of the record itself."""

Ids = np.ndarray[tuple[int], np.dtype[np.int32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A reading found on disk: its folder, its ids, and how many tokens are claimed whole."""

    folder: Path
    ids: Ids
    claimed: int


class ReadingStore:
    """The readings of one model with one way of reading.

    Args:
        root: Folder of all readings.
        fingerprint: Of model, attention settings and numeric format.
        config: Of the model; gives the shape of the tensors.
        dtype: Of keys and values.
        limit_bytes: Size that all readings together may have on disk.
    """

    def __init__(
        self,
        root: Path,
        fingerprint: str,
        config: NSAConfig,
        dtype: torch.dtype,
        limit_bytes: int,
    ) -> None:
        self.root = root
        self.fingerprint = fingerprint
        self.config = config
        self.dtype = dtype
        self.limit_bytes = limit_bytes

    def folder(self, ids: Ids) -> Path:
        """Where the reading of exactly these ids is kept."""
        digest = hashlib.sha256(f"{FORMAT} {self.fingerprint} ".encode() + ids.tobytes())
        return self.root / digest.hexdigest()[:32]

    def find(self, ids: Ids) -> list[tuple[int, Stored]]:
        """Readings that share a first part with `ids`, and its length, the longest first."""
        found = []
        for manifest in self.root.glob("*/manifest.json"):
            stored = self._stored(manifest.parent)
            if stored is not None:
                shared = _common_prefix(stored.ids[: stored.claimed], ids)
                if shared:
                    found.append((shared, stored))
        return sorted(found, key=lambda pair: pair[0], reverse=True)

    def _stored(self, folder: Path) -> Stored | None:
        """Read a folder's small files; None unless they are whole and of this fingerprint."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["format"] != FORMAT or manifest["fingerprint"] != self.fingerprint:
                return None
            ids = np.fromfile(folder / "tokens.bin", dtype=np.int32)
            size = (folder / "tensors.bin").stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if self.folder(ids) != folder or size != self._tensor_bytes(len(ids)):
            return None
        records = _journal(folder)
        return Stored(folder=folder, ids=ids, claimed=records[-1][0] if records else 0)

    def _tensor_bytes(self, tokens: int) -> int:
        shape = cache_shape(self.config, tokens + ANSWER_ROOM)
        return 2 * int(np.prod(shape)) * self.dtype.itemsize

    def open(self, stored: Stored, *, writable: bool) -> KVCache:
        """Map a reading; tokens whose checksum does not hold are not counted.

        A mapping that is not writable is private: what the answer appends stays in memory.
        """
        cache = self._map(stored.folder / "tensors.bin", len(stored.ids), shared=writable)
        start = 0
        for tokens, checksum, _ in _journal(stored.folder):
            if tokens > len(stored.ids) or _checksum(cache, start, tokens) != checksum:
                break
            start = tokens
        cache.length = start
        with suppress(OSError):  # a read-only disk, or a reading removed since it was found
            os.utime(stored.folder / "manifest.json")
        return cache

    def _map(self, path: Path, tokens: int, *, shared: bool) -> KVCache:
        size = self._tensor_bytes(tokens) // self.dtype.itemsize
        flat = torch.from_file(str(path), shared=shared, size=size, dtype=self.dtype)
        halves = dict(zip(("keys", "values"), flat.chunk(2), strict=True))

        def allocate(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            if name in halves:
                return halves[name].view(shape)
            return torch.zeros(shape, dtype=dtype)

        return KVCache(self.config, tokens + ANSWER_ROOM, dtype=self.dtype, allocate=allocate)

    def lock(self, ids: Ids) -> filelock.BaseFileLock:
        """The lock that a process holds while it writes the reading of these ids."""
        self.root.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.root / f"{self.folder(ids).name}.lock")

    def create(self, ids: Ids) -> Stored:
        """Make an empty reading with its room on disk set aside; the caller holds the lock.

        Raises:
            OSError: If the disk has no room or cannot be written.
        """
        folder = self.folder(ids)
        shutil.rmtree(folder, ignore_errors=True)
        needed = self._data_bytes(len(ids))
        if needed > self.limit_bytes:
            raise OSError(
                errno.EDQUOT,
                f"its {needed / 1e9:.2f} GB are more than the limit of "
                f"{self.limit_bytes / 1e9:.2f} GB (--cache-limit)",
            )
        self.make_room(needed)
        folder.mkdir(parents=True)
        try:
            self._reserve(folder / "tensors.bin", len(ids))
            ids.tofile(folder / "tokens.bin")
            (folder / "journal.bin").touch()
            manifest = {
                "format": FORMAT,
                "fingerprint": self.fingerprint,
                "tokens": len(ids),
                "dtype": str(self.dtype).removeprefix("torch."),
            }
            (folder / "manifest.tmp").write_text(json.dumps(manifest, indent=1))
            (folder / "manifest.tmp").replace(folder / "manifest.json")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Stored(folder=folder, ids=ids, claimed=0)

    def _data_bytes(self, tokens: int) -> int:
        shape = cache_shape(self.config, tokens)
        return 2 * int(np.prod(shape)) * self.dtype.itemsize

    def _reserve(self, path: Path, tokens: int) -> None:
        """Set the tensors' room aside, so that a full disk shows now and not while reading."""
        free = shutil.disk_usage(path.parent).free
        needed = self._data_bytes(tokens)
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and {free:,} are free")
        layers, batch, groups, capacity, dim = cache_shape(self.config, tokens + ANSWER_ROOM)
        strip = capacity * dim * self.dtype.itemsize
        filled = tokens * dim * self.dtype.itemsize
        with path.open("wb") as file:
            file.truncate(self._tensor_bytes(tokens))
            if hasattr(os, "posix_fallocate"):
                for number in range(2 * layers * batch * groups):
                    os.posix_fallocate(file.fileno(), number * strip, filled)

    def commit(self, stored: Stored, cache: KVCache, start: int) -> None:
        """Record that the tokens from `start` to the cache's end are written whole."""
        body = struct.pack("<QI", cache.length, _checksum(cache, start, cache.length))
        with (stored.folder / "journal.bin").open("ab") as file:
            file.write(body + struct.pack("<I", zlib.crc32(body)))

    def rewind(self, stored: Stored, length: int) -> None:
        """Forget journal records past `length` tokens."""
        kept = [record for record in _journal(stored.folder) if record[0] <= length]
        with (stored.folder / "journal.bin").open("wb") as file:
            file.writelines(_RECORD.pack(*record) for record in kept)

    def make_room(self, needed: int) -> None:
        """Remove the readings used longest ago until `needed` more bytes fit the limit."""
        folders = [folder for folder in self.root.glob("*") if folder.is_dir()]
        used = {folder: _last_use(folder) for folder in folders}
        sizes = {folder: disk_bytes(folder) for folder in folders}
        total = sum(sizes.values())
        for folder in sorted(folders, key=lambda f: used[f]):
            if total + needed <= self.limit_bytes:
                return
            if _remove_unlocked(folder):
                total -= sizes[folder]


def _last_use(folder: Path) -> float:
    try:
        return (folder / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0


def disk_bytes(folder: Path) -> int:
    """Bytes that a folder's files take on disk; holes do not count."""
    total = 0
    with suppress(OSError):  # removed by another process meanwhile
        for path in folder.iterdir():
            stat = path.stat()
            total += stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    return total


def _remove_unlocked(folder: Path) -> bool:
    """Remove a reading unless a process is writing it."""
    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        with lock.acquire(blocking=False):
            (folder / "manifest.json").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    except filelock.Timeout:
        return False
    return True


def _journal(folder: Path) -> list[tuple[int, int, int]]:
    """Whole records of a journal, rising in tokens; what follows a damaged one is left out."""
    try:
        data = (folder / "journal.bin").read_bytes()
    except OSError:
        return []
    records: list[tuple[int, int, int]] = []
    whole = len(data) - len(data) % _RECORD.size
    for tokens, checksum, own in _RECORD.iter_unpack(data[:whole]):
        after = records[-1][0] if records else 0
        if own != zlib.crc32(struct.pack("<QI", tokens, checksum)) or tokens <= after:
            break
        records.append((tokens, checksum, own))
    return records


def _checksum(cache: KVCache, start: int, stop: int) -> int:
    """CRC-32 over the keys and values of some tokens."""
    value = 0
    for tensor in (cache.keys, cache.values):
        strips = tensor.flatten(0, 2)[:, start:stop].view(torch.uint8)
        for strip in strips:
            value = zlib.crc32(strip.numpy(), value)
    return value


def _common_prefix(first: Ids, second: Ids) -> int:
    """Length of the longest common prefix."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def copy_tokens(source: KVCache, target: KVCache, start: int, stop: int) -> None:
    """Copy the tokens from `start` to `stop` into a cache that holds those before them."""
    target.keys[..., start:stop, :] = source.keys[..., start:stop, :]
    target.values[..., start:stop, :] = source.values[..., start:stop, :]
    target.length = stop
