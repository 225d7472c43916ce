"""KV caches on disk: keys and values of a text, mapped from a file.

Each KV cache has a folder, named after a hash of everything that its content depends on:

    readings/<hash of fingerprint and ids>/
        manifest.json   format, fingerprint, shape; written last: without it the folder is ignored
        tokens.bin      the ids, int32
        tensors.bin     keys, then values, each (L, B, G, T_max, D); written in place during prefill
        summaries.bin   compressed keys (L, B, G, C_max, D), where answers select blocks, and
                        compressed values of a model with separate branches
        checks.bin      a checksum of each block's keys and values, by layer and group
        branches-*.bin  the last tokens of separate branches; see `branch_state`
        journal.bin     one record per chunk: tokens so far, and checksums of its part of all these

The journal says which prefix is complete, and checksums verify it, so a crash, a full disk or a
damaged file costs at most a part of the prefill and never yields a wrong answer. An answer that
selects blocks verifies the compressed keys first, and each block when it attends to it. One
process writes a KV cache at a time, under a lock that the operating system releases when the
process ends.
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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from nsa_cli.context.tokens import ANSWER_ROOM, Ids
from nsa_cli.kv_store.branch_state import (
    read_branch_state,
    remove_earlier_states,
    write_branch_state,
)
from nsa_cli.kv_store.integrity import (
    JOURNAL_BODY,
    BlockChecksums,
    block_checksums,
    checksum,
    read_journal,
    strips,
    strips_crc,
    verified_tokens,
)
from nsa_cli.kv_store.inventory import disk_bytes, remove_folder
from nsa_models.cache.kv_cache import KVCache, cache_shape
from nsa_models.configuration.config import NSAConfig
from nsa_models.paths import atomic_write, private_folder

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrefix:
    """A KV cache on disk: its folder, its ids, and the tokens that its journal claims."""

    folder: Path
    ids: Ids
    claimed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixMatch:
    """What is stored of a text, from one look at the store.

    Attributes:
        ids: The text.
        found: Stored prefixes with the tokens that they share with `ids`, the longest first.
        outdated: Folders of exactly these ids in another format, with that format.
    """

    ids: Ids
    found: Sequence[tuple[int, StoredPrefix]] = ()
    outdated: Sequence[tuple[int, Path]] = ()

    @property
    def whole(self) -> StoredPrefix | None:
        """The stored prefix of exactly these ids, if its journal claims all of them."""
        for shared, stored in self.found:
            if shared == len(self.ids) == len(stored.ids):
                return stored
        return None

    @property
    def reused_tokens(self) -> int:
        """Tokens that need no prefill."""
        return self.found[0][0] if self.found else 0


class KVStore:
    """KV caches of one model with one set of attention settings.

    Args:
        root: Folder of all of them.
        fingerprint: Of model, attention settings and numeric format.
        config: Configuration of the model; gives the shape of the tensors.
        dtype: Type of keys and values.
        limit_bytes: Maximum size of all stored KV caches on disk.
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
        answering = config.answer_settings()
        self.choosing = None if answering.dense else answering
        # Where branches have other keys and values, summaries cannot be computed again.
        self._kept = ("summary", "value_summary") if config.branch_inputs else ("summary",)

    def folder(self, ids: Ids) -> Path:
        """Folder of the KV cache of exactly these ids."""
        digest = hashlib.sha256(f"{FORMAT} {self.fingerprint} ".encode() + ids.tobytes())
        return self.root / digest.hexdigest()[:32]

    def match_prefix(self, ids: Ids) -> PrefixMatch:
        """Find the stored prefixes of a text; scans the store once."""
        found, outdated = [], []
        for manifest in self.root.glob("*/manifest.json"):
            stored = self._stored(manifest.parent)
            if stored is not None:
                shared = _common_prefix(stored.ids[: stored.claimed], ids)
                # Of separate branches the end of a text alone is stored.
                if shared and (len(self._kept) == 1 or np.array_equal(stored.ids, ids)):
                    found.append((shared, stored))
            elif (form := _other_format(manifest, ids)) is not None:
                outdated.append((form, manifest.parent))
        found.sort(key=lambda pair: pair[0], reverse=True)
        return PrefixMatch(ids=ids, found=found, outdated=outdated)

    def match_whole(self, ids: Ids) -> StoredPrefix | None:
        """Find the KV cache of exactly these ids, complete or not; looks at one folder."""
        return self._stored(self.folder(ids))

    def _stored(self, folder: Path) -> StoredPrefix | None:
        """Read a folder's small files; None unless they are complete and of this fingerprint."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["format"] != FORMAT or manifest["fingerprint"] != self.fingerprint:
                return None
            ids = np.fromfile(folder / "tokens.bin", dtype=np.int32)
            size = (folder / "tensors.bin").stat().st_size
            if self.config.branch_inputs:  # these summaries cannot be computed again
                room = self._summary_bytes(len(ids) + ANSWER_ROOM)
                if (folder / "summaries.bin").stat().st_size != room:
                    return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if self.folder(ids) != folder or size != self._tensor_bytes(len(ids)):
            return None
        records = read_journal(folder)
        return StoredPrefix(folder=folder, ids=ids, claimed=records[-1].tokens if records else 0)

    def _tensor_bytes(self, tokens: int) -> int:
        shape = cache_shape(self.config, tokens + ANSWER_ROOM)
        return 2 * int(np.prod(shape)) * self.dtype.itemsize

    def open(self, stored: StoredPrefix, *, writable: bool) -> KVCache:
        """Map a KV cache; its length ends before the first chunk with a wrong checksum.

        A mapping that is not writable is private: tokens of the answer stay in memory.
        """
        cache = self._map(stored.folder / "tensors.bin", len(stored.ids), shared=writable)
        records = read_journal(stored.folder)
        cache.length = cache.mapped_tokens = verified_tokens(cache, records, len(stored.ids))
        if self.config.branch_inputs and not self._restore_branches(stored, cache):
            cache.truncate(0)
        _mark_used(stored)
        return cache

    def _restore_branches(self, stored: StoredPrefix, cache: KVCache) -> bool:
        """Whether the summaries and last tokens of separate branches are stored, and verified."""
        assert self.choosing is not None  # `gated` attention always selects
        state = read_branch_state(stored.folder, cache.length)
        if state is None:
            return False
        summaries, start = cache.adopt_summaries(self.choosing), 0
        for record in read_journal(stored.folder):
            if record.tokens > cache.length:
                break
            first, stop = self._complete(start), self._complete(record.tokens)
            if strips_crc(summaries, first, stop) != record.summaries:
                return False
            start = record.tokens
        cache.restore_branches(state)
        return True

    def open_unchecked(self, stored: StoredPrefix) -> tuple[KVCache, BlockChecksums] | None:
        """Map a KV cache whose blocks are verified only when an answer attends to them.

        Returns:
            The cache and the checksums of its blocks; None if it is incomplete, or if answers
            attend to all of it anyway.
        """
        records = read_journal(stored.folder)
        # In `gated` mode values are compressed too, from all of them.
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
        cache.length = cache.mapped_tokens = len(stored.ids)
        summaries = cache.adopt_summaries(self.choosing)
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
        """Compressed keys whose block ends within the first `tokens` tokens."""
        assert self.choosing is not None
        return self.choosing.complete_blocks(tokens)

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
            whole = torch.from_file(str(summaries), shared=shared, size=size, dtype=self.dtype)
            for name, part in zip(self._kept, whole.chunk(len(self._kept)), strict=True):
                mapped[f"{name}_{block}_{stride}"] = part

        def allocate(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            if name in mapped and mapped[name].numel() == math.prod(shape):
                return mapped[name].view(shape)
            return torch.zeros(shape, dtype=dtype)

        cache = KVCache(
            self.config,
            tokens + ANSWER_ROOM,
            dtype=self.dtype,
            allocate=allocate,
        )
        cache.mapped = memory
        return cache

    def lock(self, ids: Ids) -> filelock.BaseFileLock:
        """Lock that a process holds while it writes the KV cache of these ids."""
        private_folder(self.root)
        return filelock.FileLock(self.root / f"{self.folder(ids).name}.lock")

    def allocate(self, ids: Ids) -> StoredPrefix:
        """Make an empty KV cache and reserve its disk space; the caller holds the lock.

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
        self.evict(needed)
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
            with atomic_write(folder / "manifest.json") as partial:
                partial.write_text(json.dumps(manifest, indent=1))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return StoredPrefix(folder=folder, ids=ids, claimed=0)

    def _data_bytes(self, tokens: int) -> int:
        shape = cache_shape(self.config, tokens)
        return 2 * int(np.prod(shape)) * self.dtype.itemsize + self._summary_bytes(tokens)

    def _summary_bytes(self, tokens: int) -> int:
        if self.choosing is None:
            return 0
        shape = cache_shape(self.config, tokens // self.choosing.compress_stride)
        return len(self._kept) * math.prod(shape) * self.dtype.itemsize

    def _reserve(self, path: Path, tokens: int) -> None:
        """Reserve the tensors' disk space, so that a full disk shows now and not during prefill."""
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
            count = len(self._kept) * layers * batch * groups
            strip, filled = room // count, self._summary_bytes(tokens) // count
            with path.with_name("summaries.bin").open("wb") as file:
                file.truncate(room)
                if filled and hasattr(os, "posix_fallocate"):
                    for number in range(count):
                        os.posix_fallocate(file.fileno(), number * strip, filled)

    def commit(self, stored: StoredPrefix, cache: KVCache, start: int) -> None:
        """Record in the journal that the tokens from `start` to the cache's end are written."""
        size, summaries = self.config.select_block, 0
        checks = block_checksums(cache, size, start, cache.length)
        if self.choosing is not None:
            first, stop = self._complete(start), self._complete(cache.length)
            summaries = strips_crc(cache.summaries(self.choosing), first, stop)
        with (stored.folder / "checks.bin").open("r+b") as file:
            file.seek(start // size * checks[:1].nbytes)
            file.write(checks.tobytes())
        chunk = checksum(cache, start, cache.length)
        body = JOURNAL_BODY.pack(cache.length, chunk, zlib.crc32(checks.tobytes()), summaries)
        if self.config.branch_inputs:
            write_branch_state(stored.folder, cache)
        with (stored.folder / "journal.bin").open("ab") as file:
            file.write(body + struct.pack("<I", zlib.crc32(body)))
        if self.config.branch_inputs:
            remove_earlier_states(stored.folder, cache.length)

    def truncate(self, stored: StoredPrefix, length: int) -> None:
        """Remove the journal records past `length` tokens, and the rest of a cut-off one."""
        path = stored.folder / "journal.bin"
        records = [each for each in read_journal(stored.folder) if each.tokens <= length]
        bodies = [JOURNAL_BODY.pack(*each) for each in records]
        kept = b"".join(body + struct.pack("<I", zlib.crc32(body)) for body in bodies)
        if path.read_bytes() != kept:
            with atomic_write(path) as partial:  # a kill must not lose the records that stay
                partial.write_bytes(kept)

    def evict(self, needed: int) -> None:
        """Remove the least recently used KV caches until `needed` more bytes fit the limit."""
        folders = [folder for folder in self.root.glob("*") if folder.is_dir()]
        used = {folder: _last_use(folder) for folder in folders}
        sizes = {folder: disk_bytes(folder) for folder in folders}
        total = sum(sizes.values())
        for folder in sorted(folders, key=lambda f: used[f]):
            if total + needed <= self.limit_bytes:
                return
            if remove_folder(folder):
                total -= sizes[folder]


def _other_format(manifest: Path, ids: Ids) -> int | None:
    """Format of a KV cache of exactly these ids, if it is not this one."""
    try:
        form: int = json.loads(manifest.read_text())["format"]
        if form == FORMAT:
            return None
        kept = np.fromfile(manifest.with_name("tokens.bin"), dtype=np.int32)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return form if np.array_equal(kept, ids) else None


def _last_use(folder: Path) -> float:
    try:
        return (folder / "manifest.json").stat().st_mtime
    except OSError:
        return 0.0


def _mark_used(stored: StoredPrefix) -> None:
    with suppress(OSError):  # a read-only disk, or a folder removed since it was found
        os.utime(stored.folder / "manifest.json")


def _common_prefix(first: Ids, second: Ids) -> int:
    """Return the length of the longest common prefix."""
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def copy_tokens(source: KVCache, target: KVCache, start: int, stop: int) -> None:
    """Copy the tokens from `start` to `stop` into a cache that holds those before them.

    Each copy is contiguous on both sides, since one cache may be on a device.
    """
    for ours, theirs in ((source.keys, target.keys), (source.values, target.values)):
        for strip, room in zip(strips(ours), strips(theirs), strict=True):
            room[start:stop] = strip[start:stop]
    target.length = stop
    target.copy_branches(source)
