"""Write-behind: a device prefills while a thread writes earlier chunks to disk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

import torch

from nsa_cli.kv_store.store import KVStore, StoredPrefix, copy_tokens
from nsa_cli.system import resident_bytes
from nsa_models.cache.kv_cache import KVCache


class WriteBehind:
    """Copies chunks from devices into a stored KV cache, in order, in one thread.

    Any number of chunks may wait, since they stay on the devices anyway. Leaving the context waits
    for all of them; Ctrl-C drops those not begun. After a chunk that cannot be written, none is.

    Args:
        store: The store.
        own: The stored KV cache.
        live: The cache on the devices.
        kept: The stored cache, mapped.
        memory_bytes: Resident memory above which written pages are released after each chunk.
    """

    def __init__(
        self, store: KVStore, own: StoredPrefix, live: KVCache, kept: KVCache, memory_bytes: int
    ) -> None:
        self._store, self._own, self._live, self._kept = store, own, live, kept
        self._memory_bytes = memory_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nsa-write")
        self._waiting: list[Future[None]] = []
        self._broken = False
        self._streams = [
            torch.cuda.Stream(home) for home in set(live.layer_devices) if home.type == "cuda"
        ]

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A generator that is closed ends like a finished one: what was computed is stored.
        interrupted = kind is not None and not issubclass(kind, (Exception, GeneratorExit))
        self._thread.shutdown(wait=True, cancel_futures=interrupted)
        if kind is None:
            self._raise_what_failed(self._waiting)

    def put(self, start: int, stop: int) -> None:
        """Write the prefilled tokens from `start` to `stop`.

        Raises:
            OSError: If an earlier chunk could not be written.
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
        self._kept.copy_compressors(self._live)
        self._store.commit(self._own, self._kept, start)
        if resident_bytes() > self._memory_bytes:
            self._kept.release_pages()
        self._broken = False
