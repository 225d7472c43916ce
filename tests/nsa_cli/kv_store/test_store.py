"""Stored KV caches: all that is intact is used."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch

from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.kv_store.inventory import disk_bytes
from nsa_cli.kv_store.store import KVStore, StoredPrefix, copy_tokens
from nsa_cli.system import resident_bytes
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig

CONFIG = NSAConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16
)
RECORD = 24
"""Bytes of a journal record."""
STRIP = 16 * 4
"""Bytes of one token's key or value in one layer and group."""


def make_store(root: Path, fingerprint: str = "f", limit: int = 10**9) -> KVStore:
    return KVStore(root, fingerprint, CONFIG, torch.float32, limit)


def ids(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 1000, count, dtype=np.int32)


def store_prefix(store: KVStore, text: Any, *ends: int) -> tuple[StoredPrefix, KVCache]:
    """Store random keys and values in chunks with the given ends."""
    stored = store.allocate(text)
    cache = store.open(stored, writable=True)
    start = 0
    for end in ends or (len(text),):
        for tensor in (*cache.keys, *cache.values):
            tensor[:, :, start:end] = torch.randn_like(tensor[:, :, start:end])
        cache.length = end
        store.commit(stored, cache, start)
        start = end
    return stored, cache


def reopened(store: KVStore, text: Any) -> KVCache:
    [(_, stored)] = store.match_prefix(text).found
    return store.open(stored, writable=False)


def contents(cache: KVCache, length: int) -> list[torch.Tensor]:
    """Copies of the first keys and values: (L, B, G, S, D) each."""
    return [torch.stack(layers)[..., :length, :] for layers in (cache.keys, cache.values)]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


@pytest.fixture
def store(tmp_path: Path) -> KVStore:
    return make_store(tmp_path / "readings")


def test_a_stored_cache_is_read_back(store: KVStore) -> None:
    text = ids(300)
    _, cache = store_prefix(store, text, 128, 300)
    again = reopened(store, text)
    assert again.length == 300
    assert again.capacity == 300 + ANSWER_ROOM
    for ours, theirs in zip(contents(again, 300), contents(cache, 300), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system cannot release pages")
@pytest.mark.parametrize("writable", [False, True])
def test_released_pages_lose_nothing(store: KVStore, writable: bool) -> None:
    text = ids(60_000)
    stored, cache = store_prefix(store, text)
    if not writable:
        cache = store.open(stored, writable=False)
    before_it = contents(cache, 60_000)
    before = resident_bytes()
    cache.release_pages()
    assert before - resident_bytes() > 0.9 * before_it[0].nbytes
    cache.keys[0][:, :, 60_000:60_100] = 1.0  # written by a question
    cache.release_pages()
    for ours, theirs in zip(contents(cache, 60_000), before_it, strict=True):
        assert torch.equal(ours, theirs)


def test_nothing_is_found_before_the_first_chunk(store: KVStore) -> None:
    text = ids(100)
    store.allocate(text)
    assert store.match_prefix(text).found == []


def test_the_longest_prefix_is_matched(store: KVStore) -> None:
    text = ids(200)
    other = text.copy()
    other[50:] += 1
    store_prefix(store, other)
    store_prefix(store, text[:120])
    store_prefix(store, ids(80, seed=5))
    assert [(shared, len(stored.ids)) for shared, stored in store.match_prefix(text).found] == [
        (120, 120),
        (50, 200),
    ]


def test_only_committed_tokens_are_shared(store: KVStore) -> None:
    text = ids(200)
    store_prefix(store, text, 64)
    [(shared, stored)] = store.match_prefix(text).found
    assert (shared, stored.claimed, store.open(stored, writable=False).length) == (64, 64, 64)


def test_another_fingerprint_shares_nothing(store: KVStore) -> None:
    text = ids(100)
    store_prefix(store, text)
    other = make_store(store.root, "g")
    assert other.match_prefix(text).found == []
    assert other.folder(text) != store.folder(text)
    assert len(store.match_prefix(text).found) == 1


def test_a_folder_with_a_name_of_other_ids_is_ignored(store: KVStore) -> None:
    text = ids(100)
    stored, _ = store_prefix(store, text)
    changed = text.copy()
    changed[3] += 1
    changed.tofile(stored.folder / "tokens.bin")
    assert store.match_prefix(text).found == store.match_prefix(changed).found == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b"{}", b'{"format": 1}', b'{"format": 99}'],
)
def test_a_malformed_manifest(store: KVStore, content: bytes) -> None:
    stored, _ = store_prefix(store, ids(100))
    (stored.folder / "manifest.json").write_bytes(content)
    assert store.match_prefix(stored.ids).found == []


@pytest.mark.parametrize("name", ["tensors.bin", "tokens.bin", "journal.bin"])
@pytest.mark.parametrize("change", ["missing", "empty", "shorter"])
def test_incomplete_files(store: KVStore, name: str, change: str) -> None:
    stored, _ = store_prefix(store, ids(100))
    path = stored.folder / name
    if change == "missing":
        path.unlink()
    else:
        os.truncate(path, 0 if change == "empty" else path.stat().st_size - 7)
    assert store.match_prefix(stored.ids).found == []


def test_an_incomplete_journal_record(store: KVStore) -> None:
    stored, _ = store_prefix(store, ids(300), 64, 128, 300)
    path = stored.folder / "journal.bin"
    os.truncate(path, path.stat().st_size - 5)
    assert reopened(store, stored.ids).length == 128


@pytest.mark.parametrize(("record", "left"), [(0, 0), (1, 64), (2, 128)])
@pytest.mark.parametrize("byte", [0, 8, 12, 16, 20])
def test_a_damaged_journal_is_valid_up_to_the_damage(
    store: KVStore, record: int, byte: int, left: int
) -> None:
    stored, _ = store_prefix(store, ids(300), 64, 128, 300)
    flip(stored.folder / "journal.bin", RECORD * record + byte)
    found = store.match_prefix(stored.ids).found
    assert (store.open(found[0][1], writable=False).length if found else 0) == left


def test_a_journal_with_falling_lengths(store: KVStore) -> None:
    stored, _ = store_prefix(store, ids(300), 64, 128)
    path = stored.folder / "journal.bin"
    data = path.read_bytes()
    path.write_bytes(data + data[:RECORD])
    assert reopened(store, stored.ids).length == 128


@pytest.mark.parametrize(
    ("token", "left"), [(0, 0), (63, 0), (64, 64), (127, 64), (128, 128), (299, 128)]
)
@pytest.mark.parametrize("strip", [0, 3, 4, 7], ids=["keys", "last keys", "values", "last values"])
def test_damaged_tensors_are_valid_up_to_the_damage(
    store: KVStore, strip: int, token: int, left: int
) -> None:
    stored, _ = store_prefix(store, ids(300), 64, 128, 300)
    flip(stored.folder / "tensors.bin", (strip * (300 + ANSWER_ROOM) + token) * STRIP + 5)
    assert reopened(store, stored.ids).length == left


def test_damage_after_the_text_is_ignored(store: KVStore) -> None:
    stored, _ = store_prefix(store, ids(300))
    flip(stored.folder / "tensors.bin", 300 * STRIP)
    assert reopened(store, stored.ids).length == 300


def test_a_private_mapping_does_not_change_the_file(store: KVStore) -> None:
    stored, _ = store_prefix(store, ids(100))
    before = (stored.folder / "tensors.bin").read_bytes()
    cache = store.open(stored, writable=False)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(1)
    assert (stored.folder / "tensors.bin").read_bytes() == before
    assert reopened(store, stored.ids).length == 100


def test_rewinding_drops_later_tokens(store: KVStore) -> None:
    own, _ = store_prefix(store, ids(300), 64, 128, 300)
    store.truncate(own, 128)
    [(shared, stored)] = store.match_prefix(own.ids).found
    assert shared == stored.claimed == 128
    cache = store.open(stored, writable=True)
    for keys in cache.keys:
        keys[:, :, 128:200] = 1
    cache.length = 200
    store.commit(stored, cache, 128)
    assert reopened(store, own.ids).length == 200


def test_copying_in_parts(store: KVStore) -> None:
    _, source = store_prefix(store, ids(100))
    target = KVCache(CONFIG, 80)
    for start, stop in ((0, 40), (40, 64)):
        copy_tokens(source, target, start, stop)
        assert target.length == stop
        for ours, theirs in zip(contents(target, stop), contents(source, stop), strict=True):
            assert torch.equal(ours, theirs)
        assert not any(keys[:, :, stop:].any() for keys in target.keys)


def test_creation_allocates_only_the_text(store: KVStore) -> None:
    stored = store.allocate(ids(1000))
    size = (stored.folder / "tensors.bin").stat().st_size
    assert size == 8 * (1000 + ANSWER_ROOM) * STRIP
    assert 8 * 1000 * STRIP <= disk_bytes(stored.folder) < size / 2


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)


@pytest.mark.parametrize("how", ["disk_usage", "fallocate"])
def test_a_full_disk_fails_at_once_and_leaves_nothing(
    store: KVStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "disk_usage":
        no_space(monkeypatch)
    else:
        monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"needed|No space") as caught:
        store.allocate(ids(100))
    assert caught.value.errno == errno.ENOSPC
    assert list(store.root.iterdir()) == []


def age(stored: StoredPrefix, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(stored.folder / "manifest.json", (at, at))


def names(store: KVStore) -> set[str]:
    return {path.parent.name for path in store.root.glob("*/manifest.json")}


def three(root: Path, limit: int) -> tuple[KVStore, list[StoredPrefix]]:
    """Three KV caches of about 150 kB; the first is the least recently used."""
    store = make_store(root)
    kept = [store_prefix(store, ids(300, seed))[0] for seed in range(3)]
    store.limit_bytes = limit
    for number, stored in enumerate(kept):
        age(stored, 1000 - 100 * number)
    return store, kept


def test_the_least_recently_used_is_evicted_first(tmp_path: Path) -> None:
    store, kept = three(tmp_path, 10**9)
    store.open(kept[0], writable=False)  # counts as use
    store.limit_bytes = sum(disk_bytes(stored.folder) for stored in kept) + 1000
    new = store.allocate(ids(300, 9))
    assert names(store) == {s.folder.name for s in (kept[0], kept[2], new)}
    assert not kept[1].folder.exists()


def test_only_as_much_as_needed_is_evicted(tmp_path: Path) -> None:
    store, kept = three(tmp_path, 10**9)
    sizes = [disk_bytes(stored.folder) for stored in kept]
    store.limit_bytes = sum(sizes) + 1000
    store.evict(1000)
    assert len(names(store)) == 3
    store.evict(1001)
    assert names(store) == {stored.folder.name for stored in kept[1:]}


def test_a_cache_that_another_process_writes_is_not_evicted(tmp_path: Path) -> None:
    store, kept = three(tmp_path, 0)
    code = (
        "import filelock, sys\n"
        "with filelock.FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    lock = str(store.lock(kept[0].ids).lock_file)
    command = [sys.executable, "-c", code, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        store.evict(1)
        assert names(store) == {kept[0].folder.name}
        with pytest.raises(filelock.Timeout):
            store.lock(kept[0].ids).acquire(timeout=0)
        holder.kill()
    store.evict(1)
    assert names(store) == set()


def test_a_cache_larger_than_the_limit_is_not_stored(tmp_path: Path) -> None:
    store, _ = three(tmp_path, 1_000_000)
    with pytest.raises(OSError, match="limit"):
        store.allocate(ids(4000, 9))
    assert len(names(store)) == 3


def test_incomplete_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    store, kept = three(tmp_path, 0)
    (kept[0].folder / "manifest.json").unlink()
    store.evict(1)
    assert not kept[0].folder.exists()


def vanishing(original: Callable[..., Any], path: Path) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        shutil.rmtree(path, ignore_errors=True)
        return original(*arguments, **named)

    return call


def test_a_cache_evicted_during_opening_is_usable(
    store: KVStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, _ = store_prefix(store, ids(100))
    monkeypatch.setattr(os, "utime", vanishing(os.utime, stored.folder))
    assert store.open(stored, writable=False).length == 100
