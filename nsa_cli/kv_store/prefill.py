"""Reading a text once: what is kept is used, what is new is read and kept."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import filelock
import numpy as np
import torch

from nsa_cli.context.tokens import ANSWER_ROOM, Ids
from nsa_cli.events import Event, Note, Progress
from nsa_cli.kv_store.block_access import Ledger
from nsa_cli.kv_store.integrity import Checks
from nsa_cli.kv_store.store import FORMAT, ReadingStore, Stored, copy_tokens
from nsa_cli.kv_store.write_behind import WriteBehind
from nsa_cli.system import memory_limit, resident_bytes
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.offloaded import StreamedCache
from nsa_models.cache.placement import new_cache
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import NsaError
from nsa_models.generation.generate import prefill
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.paths import readings_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_cli.config.options import Options


def open_store(
    config: NSAConfig, dtype: torch.dtype, weights: str, tokenizer: str, options: Options
) -> ReadingStore | None:
    """The readings kept of one model and one way of reading, or None if none are to be kept.

    Args:
        config: Of the model.
        dtype: Of its keys and values.
        weights: The weights' fingerprint.
        tokenizer: The tokenizer's.
        options: Whether to keep any, and how much.
    """
    if not options.store:
        return None
    facts = [
        weights,
        tokenizer,
        asdict(config.reading()),
        asdict(config.answering()),
        config.rope_parameters,
        str(dtype),
    ]
    if config.rope_factors is not None:
        facts.append(config.rope_factors)
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return ReadingStore(readings_folder(), fingerprint, config, dtype, options.cache_limit_bytes)


@dataclass(slots=True, kw_only=True)
class Readings:
    """Reads texts with one model.

    Attributes:
        model: The model.
        store: Where readings are kept; None to keep none.
        emit: Receives progress and notes.
        memory_bytes: From which on what is written is let go of after each segment.
        tokens: Tokens of the text that was read last.
        ledger: What is touched of the text that was read last.
    """

    model: NSALanguageModel
    store: ReadingStore | None
    emit: Callable[[Event], None]
    memory_bytes: int = 2**62
    tokens: int = 0
    ledger: Ledger | None = None
    _checks: Checks | None = None

    @classmethod
    def open(
        cls,
        model: NSALanguageModel,
        weights: str,
        tokenizer: str,
        options: Options,
        emit: Callable[[Event], None],
    ) -> Readings:
        """Readings of one model; `weights` and `tokenizer` are fingerprints."""
        store = open_store(model.config, model.dtype, weights, tokenizer, options)
        return cls(
            model=model, store=store, emit=emit, memory_bytes=memory_limit(options.memory_bytes)
        )

    def read(self, ids: Ids, room: int, name: str, *, sparing: bool = False) -> tuple[KVCache, int]:
        """Read a text, as much of it as is not kept.

        Args:
            ids: The text.
            room: Tokens of room that the question and the answer need behind it.
            name: Of the document, for the progress bar.
            sparing: Whether only blocks that are attended to need be whole: `ledger` checks
                them then as they are, and may find one damaged.

        Returns:
            The cache, with that room, and how many tokens did not have to be read.
        """
        self.tokens = len(ids)
        cache, reused = self._read(ids, room, name, sparing)
        size = self.model.config.select_block
        self.ledger = Ledger(cache, size, self._checks)
        return cache, reused

    def _read(self, ids: Ids, room: int, name: str, sparing: bool) -> tuple[KVCache, int]:
        self._checks = None
        if self.store is None:
            return self._in_memory(ids, room, name), 0
        try:
            fits = room <= ANSWER_ROOM and not self._apart
            if sparing and fits and (found := self._unchecked(self.store, ids)):
                cache, self._checks = found
                return cache, len(ids)
            return self._kept(self.store, ids, room, name)
        except OSError as error:
            why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
            self.emit(
                Note(text=f"this reading is not kept in {self.store.root}: {why}; reading anyway")
            )
            return self._in_memory(ids, room, name), 0

    def _in_memory(self, ids: Ids, room: int, name: str) -> KVCache:
        cache = self._new_cache(len(ids) + room)
        for _ in self._segments(ids, cache, name):
            pass
        return cache

    @property
    def _apart(self) -> bool:
        """Whether the model's memory is not that which files are mapped into."""
        return bool(self.model.device.type != "cpu")

    def _new_cache(self, capacity: int, host: KVCache | None = None) -> KVCache:
        """A cache where the model is, or streamed there from `host` if it does not fit."""
        model = self.model
        return new_cache(model.config, capacity, model.dtype, model.homes, host=host)

    def _kept(self, store: ReadingStore, ids: Ids, room: int, name: str) -> tuple[KVCache, int]:
        complete, live = self._complete(store, ids), None
        reused = len(ids)
        if complete is None:
            with self._writing(store, ids, name):
                complete = self._complete(store, ids)
                if complete is None:
                    live, reused = self._write(store, ids, room, name)
        if live is not None:
            return live, reused
        assert complete is not None
        return self._placed(complete, room), reused

    def _placed(self, complete: KVCache, room: int) -> KVCache:
        """A kept reading where the model can answer from it, with room for that."""
        enough = room <= ANSWER_ROOM
        if enough and not self._apart:
            return complete
        length = complete.length
        cache = self._new_cache(length + room, complete if enough else None)
        if cache.length < length:
            copy_tokens(complete, cache, 0, length)
        return cache

    def _complete(self, store: ReadingStore, ids: Ids) -> KVCache | None:
        """A kept reading of exactly these ids, whole, mapped for answering."""
        for shared, stored in store.find(ids):
            if shared == len(ids) == len(stored.ids):
                cache = store.open(stored, writable=False)
                if cache.length == len(ids):
                    return cache
        return None

    def _unchecked(self, store: ReadingStore, ids: Ids) -> tuple[KVCache, Checks] | None:
        """A kept reading of exactly these ids, to be checked block by block."""
        for shared, stored in store.find(ids):
            if shared == len(ids) == len(stored.ids):
                return store.open_unchecked(stored)
        return None

    @contextmanager
    def _writing(self, store: ReadingStore, ids: Ids, name: str) -> Iterator[None]:
        lock = store.lock(ids)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            self.emit(Note(text=f"another nsa is reading {name}; waiting for it"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _write(self, store: ReadingStore, ids: Ids, room: int, name: str) -> tuple[KVCache, int]:
        """Read and keep a text, going on from the longest first part that is kept.

        Returns:
            A cache to answer from, and how many tokens did not have to be read.
        """
        if (old := store.remove_outdated(ids)) is not None:
            self.emit(
                Note(
                    text=f"{name} was read by another version of nsa (format {old}, now "
                    f"{FORMAT}); reading it anew"
                )
            )
        own, kept = self._resume(store, ids)
        reused = start = kept.length
        live = self._new_cache(len(ids) + room, kept) if self._apart else kept
        if self._apart and not isinstance(live, StreamedCache):
            copy_tokens(kept, live, 0, start)
            with WriteBehind(store, own, live, kept, self.memory_bytes) as writer:
                for done in self._segments(ids, live, name):
                    writer.put(start, done)
                    start = done
            return live, reused
        for done in self._segments(ids, live, name):
            if isinstance(live, StreamedCache):  # its tokens are written into the mapping
                live.settle()
                kept.length = done
                kept.learn(live)
            store.commit(own, kept, start)
            start = done
            if live is kept and resident_bytes() > self.memory_bytes:
                kept.let_go()
        del live  # its room on the device goes before the next one's comes
        return self._placed(store.open(own, writable=False), room), reused

    def _resume(self, store: ReadingStore, ids: Ids) -> tuple[Stored, KVCache]:
        """The reading to go on with: this text's own, or a new one with a kept first part."""
        block = self.model.config.select_block
        for shared, stored in store.find(ids):
            same = np.array_equal(stored.ids, ids)
            if not same and (shared < block or not self._read_alike(len(stored.ids), len(ids))):
                continue
            cache = store.open(stored, writable=same)
            if same:
                store.rewind(stored, cache.length)
                return stored, cache
            usable = min(shared, cache.length) // block * block
            if usable:
                own = store.create(ids)
                target = store.open(own, writable=True)
                copy_tokens(cache, target, 0, usable)
                store.commit(own, target, 0)
                return own, target
        own = store.create(ids)
        return own, store.open(own, writable=True)

    def _read_alike(self, tokens: int, others: int) -> bool:
        """Whether texts of these lengths are both read as short ones, or neither."""
        below: int = self.model.config.dense_below
        return (tokens < below) == (others < below)

    def _segments(self, ids: Ids, cache: KVCache, name: str) -> Iterator[int]:
        task, total = f"Reading {name}", len(ids)
        self.emit(Progress(task=task, done=cache.length, total=total, unit="tokens"))
        try:
            for done in prefill(self.model, torch.from_numpy(ids), cache):
                yield done
                self.emit(Progress(task=task, done=done, total=total, unit="tokens"))
        except RuntimeError as error:  # a full GPU raises a subclass, a full CPU this one
            if not isinstance(error, torch.OutOfMemoryError) and "memory" not in str(error):
                raise
            raise NsaError(
                f"memory ran out after {cache.length:,} of {total:,} tokens of {name}",
                hint="close other programs and run the same command again: it goes on from there",
                code="memory",
            ) from error
