"""Prefill of one text: stored keys and values are reused, the rest is computed and stored."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import filelock
import numpy as np
import torch

from nsa_cli.context.tokens import ANSWER_ROOM, Ids
from nsa_cli.events import Emit, Note, Progress, drain
from nsa_cli.kv_store.block_access import BlockAccess
from nsa_cli.kv_store.inventory import remove_folder
from nsa_cli.kv_store.store import FORMAT, KVStore, PrefixMatch, StoredPrefix, copy_tokens
from nsa_cli.kv_store.write_behind import WriteBehind
from nsa_cli.system import resident_bytes
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.layer_devices import pick_device
from nsa_models.cache.offloaded import OffloadedCache
from nsa_models.cache.placement import new_cache
from nsa_models.configuration.config import NSAConfig, attention_fields
from nsa_models.errors import NsaError
from nsa_models.generation.generate import prefill
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.paths import readings_folder

if TYPE_CHECKING:
    from nsa_cli.config.options import Options

_TOLD_SECONDS = 0.1
"""Least time between two reports from within a chunk."""


def open_store(
    config: NSAConfig, dtype: torch.dtype, weights: str, tokenizer: str, options: Options
) -> KVStore | None:
    """Open the store of one model with one set of attention settings.

    None with `--no-store`, and on a device with its own memory for a model whose branches have
    other keys and values than its selection: these are not written back from there.

    Args:
        config: Configuration of the model.
        dtype: Type of its keys and values.
        weights: Fingerprint of the weights.
        tokenizer: Fingerprint of the tokenizer.
        options: Whether to store anything, and how much.
    """
    apart = config.branch_inputs and pick_device(options.device).type != "cpu"
    if not options.store or apart:
        return None
    facts = [
        weights,
        tokenizer,
        attention_fields(config.prefill_settings()),
        attention_fields(config.answer_settings()),
        config.rope_parameters,
        str(dtype),
    ]
    if config.rope_factors is not None:
        facts.append(config.rope_factors)
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return KVStore(readings_folder(), fingerprint, config, dtype, options.cache_limit_bytes)


def layers_told(emit: Emit, progress: Progress) -> Callable[[int], None]:
    """Return a receiver of the tokens done within a chunk, which emits them now and then.

    Args:
        emit: Receives the progress.
        progress: The progress at another number of tokens.
    """
    last = time.monotonic()

    def told(done: int) -> None:
        nonlocal last
        if done < progress.total and time.monotonic() - last >= _TOLD_SECONDS:
            last = time.monotonic()
            emit(replace(progress, done=done))

    return told


class Prefilled(NamedTuple):
    """A prefilled text.

    Attributes:
        cache: Its keys and values, with room after them.
        reused_tokens: Tokens whose keys and values were stored.
        access: Counts the blocks that attention reads, and verifies them where `prefill` did not.
    """

    cache: KVCache
    reused_tokens: int
    access: BlockAccess


Chunks = Generator[Progress, None, Prefilled]


@dataclass(slots=True, kw_only=True)
class Prefiller:
    """Prefills texts with one model.

    Attributes:
        model: The model.
        store: Where keys and values are stored; None to store nothing.
        emit: Receives notes.
        memory_bytes: Resident memory above which written pages are released after each chunk.
        contents: Hashes of the document's files, by which what is stored is removed.
    """

    model: NSALanguageModel
    store: KVStore | None
    emit: Emit
    memory_bytes: int = 2**62
    contents: Sequence[str] = ()

    def match(self, ids: Ids) -> PrefixMatch:
        """Look up what is stored of a text."""
        return PrefixMatch(ids=ids) if self.store is None else self.store.match_prefix(ids)

    def run(self, match: PrefixMatch, room: int, name: str) -> Prefilled:
        """Prefill a text and verify all that was stored; arguments as for `chunks`."""
        return drain(self.chunks(match, room, name), self.emit)

    def chunks(
        self, match: PrefixMatch, room: int, name: str, *, verify_later: bool = False
    ) -> Chunks:
        """Prefill a text chunk by chunk; what is done is stored when the generator is closed.

        Args:
            match: The text, and what is stored of it.
            room: Tokens that the question and the answer need after it.
            name: Name of the document, for progress and notes.
            verify_later: Whether a stored block may be verified when it is attended to.

        Yields:
            Progress in tokens.

        Returns:
            The prefilled text.
        """
        cache, reused, checks = None, 0, None
        if self.store is not None:
            try:
                fits = room <= ANSWER_ROOM and not self._apart
                stored = match.whole
                if verify_later and fits and stored is not None:
                    opened = self.store.open_unchecked(stored)
                    if opened is not None:
                        (cache, checks), reused = opened, len(match.ids)
                if cache is None:
                    cache, reused = yield from self._stored(self.store, match, room, name)
            except OSError as error:
                why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
                root = self.store.root
                self.emit(Note(text=f"cannot store this reading in {root}: {why}; reading anyway"))
                cache, reused = None, 0
        if cache is None:
            cache = self._new_cache(len(match.ids) + room)
            for _, progress in self._compute(match.ids, cache, name):
                yield progress
        return Prefilled(cache, reused, BlockAccess(cache, self.model.config.select_block, checks))

    @property
    def _apart(self) -> bool:
        """Whether the model runs on a device with its own memory."""
        return bool(self.model.device.type != "cpu")

    def _new_cache(self, capacity: int, host: KVCache | None = None) -> KVCache:
        """A cache on the model's devices, or offloaded to `host` if it does not fit there."""
        model = self.model
        return new_cache(model.config, capacity, model.dtype, model.layer_devices, host=host)

    def _stored(
        self, store: KVStore, match: PrefixMatch, room: int, name: str
    ) -> Generator[Progress, None, tuple[KVCache, int]]:
        """Map what is stored of a text, after storing what is missing."""
        whole = self._complete(store, match.whole)
        if whole is None:
            with self._lock(store, match.ids, name) as waited:
                if waited:  # the other process may have stored this text or a part of it
                    match = store.match_prefix(match.ids)
                whole = self._complete(store, store.match_whole(match.ids))
                if whole is None:
                    return (yield from self._write(store, match, room, name))
        return self._placed(whole, room), len(match.ids)

    def _placed(self, whole: KVCache, room: int) -> KVCache:
        """A stored cache where the model can answer from it, with room for that."""
        enough = room <= ANSWER_ROOM
        if enough and not self._apart:
            return whole
        length = whole.length
        cache = self._new_cache(length + room, whole if enough else None)
        if cache.length < length:
            copy_tokens(whole, cache, 0, length)
        return cache

    @staticmethod
    def _complete(store: KVStore, stored: StoredPrefix | None) -> KVCache | None:
        """Map a stored prefix if all of its tokens are there and verified."""
        if stored is None or stored.claimed != len(stored.ids):
            return None
        cache = store.open(stored, writable=False)
        return cache if cache.length == len(stored.ids) else None

    @contextmanager
    def _lock(self, store: KVStore, ids: Ids, name: str) -> Iterator[bool]:
        """Hold the lock of a text; gives whether another process held it first."""
        lock, waited = store.lock(ids), False
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            waited = True
            self.emit(Note(text=f"another nsa is reading {name}; waiting for it"))
            lock.acquire()
        try:
            yield waited
        finally:
            lock.release()

    def _write(
        self, store: KVStore, match: PrefixMatch, room: int, name: str
    ) -> Generator[Progress, None, tuple[KVCache, int]]:
        """Compute and store a text, after the longest stored prefix.

        Returns:
            A cache to answer from, and how many tokens were stored before.
        """
        ids = match.ids
        self._remove_outdated(match, name)
        own, kept = self._resume(store, match)
        reused = start = kept.length
        live = self._new_cache(len(ids) + room, kept) if self._apart else kept
        if self._apart and not isinstance(live, OffloadedCache):
            copy_tokens(kept, live, 0, start)
            with WriteBehind(store, own, live, kept, self.memory_bytes) as writer:
                for done, progress in self._compute(ids, live, name):
                    if done > start:
                        writer.put(start, done)
                        start = done
                    yield progress
            return live, reused
        for done, progress in self._compute(ids, live, name):
            if done > start:
                if isinstance(live, OffloadedCache):  # its tokens are written into the mapping
                    live.synchronize()
                    kept.length = done
                    kept.copy_compressors(live)
                store.commit(own, kept, start)
                start = done
                if live is kept and resident_bytes() > self.memory_bytes:
                    kept.release_pages()
            yield progress
        del live  # free its memory on the device before the next cache is made
        return self._placed(store.open(own, writable=False), room), reused

    def _remove_outdated(self, match: PrefixMatch, name: str) -> None:
        """Remove this text's KV caches in other formats, and say so."""
        removed = [form for form, folder in match.outdated if remove_folder(folder)]
        if removed:
            self.emit(
                Note(
                    text=f"{name} was read by another version of nsa (format {removed[-1]}, now "
                    f"{FORMAT}); reading it again"
                )
            )

    def _resume(self, store: KVStore, match: PrefixMatch) -> tuple[StoredPrefix, KVCache]:
        """The stored prefix to continue: this text's own, or a new one with a copied prefix."""
        ids, block = match.ids, self.model.config.select_block
        own = store.match_whole(ids)  # under the lock; the match may be older
        found = [pair for pair in match.found if not np.array_equal(pair[1].ids, ids)]
        if own is not None and own.claimed:
            found = sorted([(own.claimed, own), *found], key=lambda pair: pair[0], reverse=True)
        for shared, stored in found:
            if stored is own:
                cache = store.open(own, writable=True)
                store.truncate(own, cache.length)
                return own, cache
            if shared < block or not self._read_alike(len(stored.ids), len(ids)):
                continue
            cache = store.open(stored, writable=False)
            usable = min(shared, cache.length) // block * block
            if usable:
                own = store.allocate(ids)
                target = store.open(own, writable=True)
                copy_tokens(cache, target, 0, usable)
                store.commit(own, target, 0)
                return own, target
        own = store.allocate(ids)
        return own, store.open(own, writable=True)

    def _read_alike(self, tokens: int, others: int) -> bool:
        """Whether texts of these lengths are both prefilled densely, or neither."""
        below: int = self.model.config.dense_below
        return (tokens < below) == (others < below)

    def _compute(self, ids: Ids, cache: KVCache, name: str) -> Iterator[tuple[int, Progress]]:
        """Prefill the tokens that a cache lacks; yields tokens done, with progress."""
        task, total = f"Reading {name}", len(ids)
        yield cache.length, Progress(task=task, done=cache.length, total=total, unit="tokens")
        told = layers_told(self.emit, Progress(task=task, done=0, total=total, unit="tokens"))
        try:
            for done in prefill(self.model, torch.from_numpy(ids), cache, on_tokens=told):
                yield done, Progress(task=task, done=done, total=total, unit="tokens")
        except RuntimeError as error:  # a full GPU raises a subclass, a full CPU this one
            if not isinstance(error, torch.OutOfMemoryError) and "memory" not in str(error):
                raise
            raise NsaError(
                f"memory ran out after {cache.length:,} of {total:,} tokens of {name}",
                hint="close other programs and run the same command again: it continues there",
                code="memory",
            ) from error
