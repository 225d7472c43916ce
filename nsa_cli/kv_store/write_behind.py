"""Keeping what a device reads, behind the reading: it does not wait for the disk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

import torch

from nsa_cli.kv_store.store import ReadingStore, Stored, copy_tokens
from nsa_cli.system import resident_bytes
from nsa_models.cache.kv_cache import KVCache


class WriteBehind:
    """Copies segments from devices into a kept reading, in order, in a thread of its own.

    What waits to be written lies on the devices anyway, so that any number of segments may wait.
    Leaving the context waits for all of them; an interruption drops those not begun, and where
    one cannot be written those after it are not.

    Args:
        store: Where readings are kept.
        own: The reading that is written.
        live: What is read, on the devices.
        kept: The reading's mapping.
        memory_bytes: From which on what is written is let go of after each segment.
    """

    def __init__(
        self, store: ReadingStore, own: Stored, live: KVCache, kept: KVCache, memory_bytes: int
    ) -> None:
        self._store, self._own, self._live, self._kept = store, own, live, kept
        self._memory_bytes = memory_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nsa-write")
        self._waiting: list[Future[None]] = []
        self._broken = False
        self._streams = [torch.cuda.Stream(home) for home in set(live.homes) if home.type == "cuda"]

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._thread.shutdown(wait=True, cancel_futures=interrupted)
        if kind is None:
            self._raise_what_failed(self._waiting)

    def put(self, start: int, stop: int) -> None:
        """Have the tokens from `start` to `stop`, which are read, written.

        Raises:
            OSError: If something before them could not be written.
        """
        done = [future for future in self._waiting if future.done()]
        self._waiting = [future for future in self._waiting if not future.done()]
        self._raise_what_failed(done)
        ready = []
        for stream in self._streams:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(stream.device))
            ready.append(event)
        self._waiting.append(self._thread.submit(self._write, start, stop, ready))

    @staticmethod
    def _raise_what_failed(futures: list[Future[None]]) -> None:
        for future in futures:
            future.result()

    def _write(self, start: int, stop: int, ready: list[torch.cuda.Event]) -> None:
        if self._broken:
            return
        self._broken = True
        with ExitStack() as streams:
            for stream, event in zip(self._streams, ready, strict=True):
                stream.wait_event(event)
                streams.enter_context(torch.cuda.stream(stream))
            copy_tokens(self._live, self._kept, start, stop)
        self._kept.learn(self._live)
        self._store.commit(self._own, self._kept, start)
        if resident_bytes() > self._memory_bytes:
            self._kept.let_go()
        self._broken = False
