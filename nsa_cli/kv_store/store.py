"""What was read, kept on disk: keys and values of a text, mapped from a file.

A reading is a folder named after a hash of everything that its content depends on:

    readings/<hash of fingerprint and ids>/
        manifest.json   format, fingerprint, shape; written last, so that without it nothing counts
        tokens.bin      the ids, int32
        tensors.bin     keys, then values, each (L, B, G, T_max, D); written in place while reading
        summaries.bin   (L, B, G, C_max, D), by which an answer chooses its blocks; if it does so
        checks.bin      a checksum of each block's keys and values, by layer and group
        journal.bin     one record per segment: tokens so far and checksums of its part of all these

The journal tells which prefix is whole, and checksums hold it to that, so that a crash, a full
disk or a damaged file costs at most a part of the reading, never a wrong answer. An answer that
selects blocks checks the summaries at once and blocks as it comes to them. One process
writes a reading at a time, under a lock that the operating system drops when the process ends.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
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

from nsa_cli.context.tokens import ANSWER_ROOM, Ids
from nsa_cli.kv_store.integrity import (
    JOURNAL_BODY,
    Checks,
    block_checks,
    checksum,
    read_journal,
    strips,
    strips_crc,
)
from nsa_cli.kv_store.inventory import disk_bytes, remove_folder
from nsa_models.cache.kv_cache import KVCache, cache_shape
from nsa_models.configuration.config import NSAConfig

FORMAT = 2


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
        answering = config.answering()
        self.choosing = None if answering.dense else answering

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

    def remove_outdated(self, ids: Ids) -> int | None:
        """Remove readings of exactly these ids in another format; return that format."""
        found = None
        for path in self.root.glob("*/manifest.json"):
            try:
                form = json.loads(path.read_text())["format"]
                kept = np.fromfile(path.with_name("tokens.bin"), dtype=np.int32)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if form != FORMAT and np.array_equal(kept, ids) and remove_folder(path.parent):
                found = form
        return found

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
        records = read_journal(folder)
        return Stored(folder=folder, ids=ids, claimed=records[-1].tokens if records else 0)

    def _tensor_bytes(self, tokens: int) -> int:
        shape = cache_shape(self.config, tokens + ANSWER_ROOM)
        return 2 * int(np.prod(shape)) * self.dtype.itemsize

    def open(self, stored: Stored, *, writable: bool) -> KVCache:
        """Map a reading; tokens whose checksum does not hold are not counted.

        A mapping that is not writable is private: what the answer appends stays in memory.
        """
        cache = self._map(stored.folder / "tensors.bin", len(stored.ids), shared=writable)
        start = 0
        for record in read_journal(stored.folder):
            whole = record.tokens <= len(stored.ids)
            if not whole or checksum(cache, start, record.tokens) != record.segment:
                break
            start = record.tokens
        cache.length = start
        _mark_used(stored)
        return cache

    def open_unchecked(self, stored: Stored) -> tuple[KVCache, Checks] | None:
        """Map a reading for an answer that touches little of it, and checks what it touches.

        Returns:
            The cache, and the checksums of its blocks; None if the reading is not whole, or if
            answers attend to all of it anyway.
        """
        records = read_journal(stored.folder)
        # Values are summarised too in `gated` mode, from all of them.
        gated = self.config.combine == "gated"
        if self.choosing is None or gated or not records or records[-1].tokens != len(stored.ids):
            return None
        try:
            checks = np.fromfile(stored.folder / "checks.bin", dtype=np.uint32)
        except OSError:
            return None
        layers, _, groups = cache_shape(self.config, 1)[:3]
        size = self.config.select_block
        if checks.size != -(-len(stored.ids) // size) * layers * groups * 2:
            return None
        checks = checks.reshape(-1, layers, groups, 2)
        cache = self._map(stored.folder / "tensors.bin", len(stored.ids), shared=False)
        cache.length = len(stored.ids)
        summaries = cache.trust_summaries(self.choosing)
        start = 0
        for record in records:
            rows = checks[start // size : -(-record.tokens // size)]
            first, stop = self._complete(start), self._complete(record.tokens)
            made = strips_crc(summaries, first, stop)
            if zlib.crc32(rows.tobytes()) != record.checks or made != record.summaries:
                return None
            start = record.tokens
        _mark_used(stored)
        return cache, checks

    def _complete(self, tokens: int) -> int:
        """Summaries that end within the first `tokens` tokens."""
        assert self.choosing is not None
        block, stride = self.choosing.compress_block, self.choosing.compress_stride
        return max(0, (tokens - block) // stride + 1)

    def _map(self, path: Path, tokens: int, *, shared: bool) -> KVCache:
        access = mmap.ACCESS_WRITE if shared else mmap.ACCESS_COPY
        with path.open("r+b" if shared else "rb") as file:
            memory = mmap.mmap(file.fileno(), self._tensor_bytes(tokens), access=access)
        flat = torch.frombuffer(memory, dtype=self.dtype)
        mapped = dict(zip(("keys", "values"), flat.chunk(2), strict=True))
        summaries = path.with_name("summaries.bin")
        if self.choosing is not None and summaries.exists():
            block, stride = self.choosing.compress_block, self.choosing.compress_stride
            size = summaries.stat().st_size // self.dtype.itemsize
            mapped[f"summary_{block}_{stride}"] = torch.from_file(
                str(summaries), shared=shared, size=size, dtype=self.dtype
            )

        def allocate(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            if name in mapped and mapped[name].numel() == math.prod(shape):
                return mapped[name].view(shape)
            return torch.zeros(shape, dtype=dtype)

        cache = KVCache(
            self.config,
            tokens + ANSWER_ROOM,
            dtype=self.dtype,
            allocate=allocate,
            lasting=frozenset(mapped),
        )
        cache.mapped = memory
        return cache

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
            (folder / "checks.bin").touch()
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
        return 2 * int(np.prod(shape)) * self.dtype.itemsize + self._summary_bytes(tokens)

    def _summary_bytes(self, tokens: int) -> int:
        if self.choosing is None:
            return 0
        shape = cache_shape(self.config, tokens // self.choosing.compress_stride)
        return math.prod(shape) * self.dtype.itemsize

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
        if self.choosing is not None:
            room = self._summary_bytes(tokens + ANSWER_ROOM)
            strip = room // (layers * batch * groups)
            filled = self._summary_bytes(tokens) // (layers * batch * groups)
            with path.with_name("summaries.bin").open("wb") as file:
                file.truncate(room)
                if filled and hasattr(os, "posix_fallocate"):
                    for number in range(layers * batch * groups):
                        os.posix_fallocate(file.fileno(), number * strip, filled)

    def commit(self, stored: Stored, cache: KVCache, start: int) -> None:
        """JournalRecord that the tokens from `start` to the cache's end are written whole."""
        size, summaries = self.config.select_block, 0
        checks = block_checks(cache, size, start, cache.length)
        if self.choosing is not None:
            first, stop = self._complete(start), self._complete(cache.length)
            summaries = strips_crc(cache.summaries(self.choosing), first, stop)
        with (stored.folder / "checks.bin").open("r+b") as file:
            file.seek(start // size * checks[:1].nbytes)
            file.write(checks.tobytes())
        segment = checksum(cache, start, cache.length)
        body = JOURNAL_BODY.pack(cache.length, segment, zlib.crc32(checks.tobytes()), summaries)
        with (stored.folder / "journal.bin").open("ab") as file:
            file.write(body + struct.pack("<I", zlib.crc32(body)))

    def rewind(self, stored: Stored, length: int) -> None:
        """Forget journal records past `length` tokens."""
        kept = [record for record in read_journal(stored.folder) if record.tokens <= length]
        with (stored.folder / "journal.bin").open("wb") as file:
            for record in kept:
                body = JOURNAL_BODY.pack(*record)
                file.write(body + struct.pack("<I", zlib.crc32(body)))

    def make_room(self, needed: int) -> None:
        """Remove the readings used longest ago until `needed` more bytes fit the limit."""
        folders = [folder for folder in self.root.glob("*") if folder.is_dir()]
        used = {folder: _last_use(folder) for folder in folders}
        sizes = {folder: disk_bytes(folder) for folder in folders}
        total = sum(sizes.values())
        for folder in sorted(folders, key=lambda f: used[f]):
            if total + needed <= self.limit_bytes:
                return
            if remove_folder(folder):
                total -= sizes[folder]


def _last_use(folder: Path) -> float:
    try:
        return (folder / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0


def _mark_used(stored: Stored) -> None:
    with suppress(OSError):  # a read-only disk, or a reading removed since it was found
        os.utime(stored.folder / "manifest.json")


def _common_prefix(first: Ids, second: Ids) -> int:
    """Length of the longest common prefix."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def copy_tokens(source: KVCache, target: KVCache, start: int, stop: int) -> None:
    """Copy the tokens from `start` to `stop` into a cache that holds those before them.

    Strip by strip, each contiguous on either side: one cache may lie on a device.
    """
    for ours, theirs in ((source.keys, target.keys), (source.values, target.values)):
        for strip, room in zip(strips(ours), strips(theirs), strict=True):
            room[start:stop] = strip[start:stop]
    target.length = stop
