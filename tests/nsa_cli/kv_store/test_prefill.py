"""A text is prefilled once: stored, resumed, shared, and never the cause of a wrong answer."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.events import Event, Note, Progress
from nsa_cli.kv_store import prefill
from nsa_cli.kv_store.prefill import Prefiller, open_store
from nsa_cli.kv_store.store import KVStore
from nsa_models.cache.kv_cache import KVCache
from nsa_models.errors import NsaError
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.adapter import Adapter, save_adapter
from nsa_models.weights.load import load_config, load_model

SLOW = """
import time
import nsa_cli.kv_store.prefill as reading
quick = reading.prefill
def slow(*arguments, **named):
    for done in quick(*arguments, **named):
        yield done
        time.sleep({seconds})
reading.prefill = slow
"""
"""Code that makes a process prefill slowly, with a pause after each stored chunk."""


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> NSAForCausalLM:
    return load_model(tiny_model, load_config(tiny_model)[0])


@pytest.fixture
def make(model: NSAForCausalLM) -> Callable[..., tuple[Prefiller, list[Event]]]:
    """A function that creates prefillers and returns them with their events."""

    def build(*, store: bool = True, weights: str = "w", tokenizer: str = "t") -> Any:
        events: list[Event] = []
        options = Options(model="m", store=store, cache_limit_bytes=10**9)
        store = open_store(model.config, model.dtype, weights, tokenizer, options)
        return Prefiller(model=model, store=store, emit=events.append), events

    return build


def prefilled(prefiller: Prefiller, ids: Any, room: int, name: str) -> tuple[KVCache, int]:
    """Prefill a text; return its cache and the number of stored tokens."""
    done = prefiller.run(prefiller.match(ids), room, name)
    return done.cache, done.reused_tokens


def ids(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 300, count, dtype=np.int32)


def contents(cache: KVCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of the prefilled keys and values."""
    keys, values = (
        torch.stack(layers)[..., : cache.length, :] for layers in (cache.keys, cache.values)
    )
    return keys, values


def same(first: KVCache, second: KVCache) -> bool:
    return first.length == second.length and all(
        torch.equal(a, b) for a, b in zip(contents(first), contents(second), strict=True)
    )


def close(first: KVCache, second: KVCache) -> bool:
    """Equal up to rounding: products of another height sum in another order."""
    return first.length == second.length and all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(contents(first), contents(second), strict=True)
    )


def test_a_reopened_cache_equals_the_prefilled_one(make: Any) -> None:
    text = ids(2500)
    fresh, none = prefilled(make(store=False)[0], text, 50, "a")
    kept, read = prefilled(make()[0], text, 50, "a")
    again, reused = prefilled(make()[0], text, 50, "a")
    assert (none, read, reused) == (0, 0, 2500)
    assert same(fresh, kept)
    assert same(fresh, again)
    assert kept.capacity == again.capacity == 2500 + ANSWER_ROOM


def test_nothing_is_prefilled_again(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prefilled(make()[0], ids(500), 50, "a")

    def never(*_: Any, **__: Any) -> Iterator[int]:
        raise AssertionError("read again")

    monkeypatch.setattr(prefill, "prefill", never)
    readings, events = make()
    assert prefilled(readings, ids(500), 50, "a")[1] == 500
    assert events == []
    with pytest.raises(AssertionError):
        prefilled(readings, ids(501), 50, "a")


def test_without_a_store_nothing_is_stored(make: Any, cache_folder: Path) -> None:
    prefilled(make(store=False)[0], ids(500), 50, "a")
    assert not cache_folder.exists()


@pytest.mark.parametrize("room", [50, ANSWER_ROOM + 1])
def test_the_cache_has_capacity_for_the_answer(make: Any, room: int) -> None:
    fresh, _ = prefilled(make(store=False)[0], ids(300), room, "a")
    for _ in range(2):
        cache, _ = prefilled(make()[0], ids(300), room, "a")
        assert cache.capacity >= 300 + room
        assert same(cache, fresh)


def test_an_answer_does_not_change_the_stored_cache(make: Any) -> None:
    cache, _ = prefilled(make()[0], ids(300), 50, "a")
    before = contents(cache)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(7)
    again, reused = prefilled(make()[0], ids(300), 50, "a")
    assert reused == 300
    assert torch.equal(contents(again)[0], before[0])
    assert torch.equal(contents(again)[1], before[1])


@pytest.mark.parametrize("old", [63, 64, 1000, 1024, 1500, 2047])
def test_only_the_new_part_of_a_text_is_prefilled(make: Any, old: int) -> None:
    text = ids(2200)
    prefilled(make()[0], text[:old], 50, "a")
    readings, events = make()
    cache, reused = prefilled(readings, text, 50, "a")
    assert reused == old // 64 * 64
    began = [e.done for e in events if isinstance(e, Progress)]
    assert began[0] == reused
    assert close(cache, prefilled(make(store=False)[0], text, 50, "a")[0])
    assert prefilled(make()[0], text, 50, "a")[1] == 2200
    assert prefilled(make()[0], text[:old], 50, "a")[1] == old


def test_a_changed_text_reuses_the_prefix(make: Any) -> None:
    text = ids(2200)
    prefilled(make()[0], text, 50, "a")
    changed = text.copy()
    changed[1300] += 1
    cache, reused = prefilled(make()[0], changed, 50, "a")
    assert reused == 1280
    fresh = prefilled(make(store=False)[0], changed, 50, "a")[0]
    assert close(cache, fresh)
    changed[0] += 1
    assert prefilled(make()[0], changed, 50, "a")[1] == 0


def test_a_shortened_text_reuses_the_prefix(make: Any) -> None:
    text = ids(2200)
    prefilled(make()[0], text, 50, "a")
    cache, reused = prefilled(make()[0], text[:1500], 50, "a")
    assert reused == 1472
    assert close(cache, prefilled(make(store=False)[0], text[:1500], 50, "a")[0])


def test_a_prefix_that_is_being_written_is_used(make: Any, model: NSAForCausalLM) -> None:
    text = ids(2200)
    store = make()[0].store
    stored = store.allocate(text)
    cache = store.open(stored, writable=True)
    segments = prefill.prefill(model, torch.from_numpy(text), cache)
    assert next(segments) == 1024
    store.commit(stored, cache, 0)
    longer = np.concatenate([text, ids(100, 1)])
    found, reused = prefilled(make()[0], longer, 50, "b")
    assert reused == 1024
    assert close(found, prefilled(make(store=False)[0], longer, 50, "b")[0])


@pytest.mark.parametrize("change", [{"weights": "x"}, {"tokenizer": "x"}])
def test_another_model_shares_nothing(make: Any, change: dict[str, str]) -> None:
    prefilled(make()[0], ids(300), 50, "a")
    assert prefilled(make(**change)[0], ids(300), 50, "a")[1] == 0
    assert prefilled(make()[0], ids(300), 50, "a")[1] == 300


def test_other_settings_share_nothing(asker: Any, text_file: Path, other_model: Path) -> None:
    asker(text_file)
    assert asker(text_file, dense=True).stats.reused_tokens == 0
    assert asker(text_file, system="Be brief.").stats.reused_tokens == 0
    assert asker(text_file, model=str(other_model)).stats.reused_tokens == 0
    # Capacity beyond the context enables YaRN, which changes the keys.
    assert asker(text_file, "stretch", max_tokens=3000, yarn=True).stats.reused_tokens == 0
    assert len(asker.readings) == 5
    again = asker(text_file)
    assert again.stats.reused_tokens == again.stats.document_tokens


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_prepared_weights_share_kv_caches_with_weights_in_memory(
    quantization: str | None,
    asker: Any,
    text_file: Path,
    substance: Any,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(seed)
    name = "lora.model.layers.0.self_attn.k_proj"
    tensors = {f"{name}.a": torch.randn(2, 64), f"{name}.b": torch.randn(32, 2)}
    tensors["evidence"] = torch.rand(2, 4)
    adapter = Adapter(base="", settings={}, scale=1.0, tensors=tensors, about={})
    save_adapter(tmp_path / "adapter", adapter)
    options = {"adapter": str(tmp_path / "adapter"), "quantization": quantization}

    def in_memory(where: Any, config: Any, **how: Any) -> NSAForCausalLM:
        del how["on_note"]
        return load_model(where.folder, config, adapter=where.adapter, **how)

    with monkeypatch.context() as patch:
        patch.setattr("nsa_models.weights.prepared.load_prepared", in_memory)
        first = asker(text_file, **options)
    made = asker(text_file, **options)
    assert [note for note in asker.notes if "merging the adapter" in note]
    mapped = asker(text_file, **options)
    assert asker.notes == []
    for found in (made, mapped):
        assert found.stats.reused_tokens == found.stats.document_tokens > 0
        assert substance(found) == substance(first)


def test_models_with_other_weights_share_nothing(
    asker: Any, text_file: Path, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for source, copy in ((tiny_model, first), (other_model, second)):
        shutil.copytree(source, copy)
        os.utime(copy / "model.safetensors", (1, 1))  # as archives with fixed times set it
    asker(text_file, model=str(first))
    assert asker(text_file, model=str(second)).stats.reused_tokens == 0


# Interruptions, in separate processes


@pytest.mark.parametrize(
    "kill", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_an_interrupted_prefill_is_resumed(
    kill: int, asker: Any, start_nsa: Any, tmp_path: Path, prose: Any, substance: Any
) -> None:
    (tmp_path / "long.txt").write_text(prose(220))
    process = start_nsa(
        *("ask", "long.txt", "Who?", "--model", str(asker.model), "--max-tokens", "6"),
        first=SLOW.format(seconds=2),
    )
    wait_for_records(asker.cache, 2)
    process.send_signal(kill)
    out, err = process.communicate(timeout=30)
    assert out == ""
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert err == "nsa: interrupted. Run it again to continue; finished work is kept.\n"
    else:
        assert process.returncode == -signal.SIGKILL
    os.chdir(tmp_path)
    expected = asker("long.txt", "Who?", store=False)
    assert expected.stats.document_tokens > 3 * 1024
    resumed = asker("long.txt", "Who?")
    assert resumed.stats.reused_tokens == 2048
    assert substance(resumed) == substance(expected)
    again = asker("long.txt", "Who?")
    assert again.stats.reused_tokens == again.stats.document_tokens
    assert substance(again) == substance(expected)


@pytest.fixture(autouse=True)
def stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Restore the working folder after the test."""
    monkeypatch.chdir(tmp_path)


def wait_for_records(cache: Path, count: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        journals = list(cache.glob("readings/*/journal.bin"))
        if journals and journals[0].stat().st_size >= 24 * count:
            return
        time.sleep(0.02)
    raise AssertionError("nothing was kept")


@pytest.mark.long
def test_two_processes_prefill_a_text_once(
    asker: Any, start_nsa: Any, tmp_path: Path, prose: Any
) -> None:
    (tmp_path / "long.txt").write_text(prose(220))
    command = ("ask", "long.txt", "Who?", "--model", str(asker.model), "--max-tokens", "6")
    both = [start_nsa(*command, "--json", first=SLOW.format(seconds=1)) for _ in range(2)]
    done = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    results = [json.loads(out) for out, _ in done]
    tokens = results[0]["stats"]["document_tokens"]
    assert sorted(result["stats"]["reused_tokens"] for result in results) == [0, tokens]
    waited = [err for _, err in done if "another nsa is reading long.txt; waiting for it" in err]
    assert len(waited) == 1
    expected = asker("long.txt", "Who?", store=False)
    for result in results:
        assert result["answer"] == expected.answer
        assert [c["quote"] for c in result["citations"]] == [c.quote for c in expected.citations]
    assert len(asker.readings) == 1


def test_a_new_process_prefills_nothing_again(asker: Any, start_nsa: Any, text_file: Path) -> None:
    expected = asker(text_file, "Who?")
    shutil.rmtree(asker.cache / "answers")
    process = start_nsa(
        *("ask", str(text_file), "Who?", "--model", str(asker.model), "--max-tokens", "6"),
        "--json",
        # fails if called
        first="import nsa_cli.kv_store.prefill as reading; reading.prefill = None",
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["stats"]["reused_tokens"] == result["stats"]["document_tokens"]
    assert result["stats"]["document_tokens"] == expected.stats.document_tokens
    assert result["answer"] == expected.answer
    assert [c["quote"] for c in result["citations"]] == [c.quote for c in expected.citations]


# Damage


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(8)
        file.seek(offset)
        file.write(bytes(byte ^ 0x55 for byte in data))


def cut(name: str, bytes_off: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - bytes_off)


def strips(first: int, count: int) -> Callable[[Path], None]:
    """Damage tokens in every layer's keys and values."""

    def damage(folder: Path) -> None:
        path = folder / "tensors.bin"
        size = path.stat().st_size // 8
        for strip in range(8):
            for token in range(first, first + count):
                flip(path, strip * size + token * 64 + 16)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], Any], int]] = {
    "tensors, early": (strips(100, 64), 0),
    "tensors, second segment": (strips(1100, 64), 1024),
    "tensors cut": (cut("tensors.bin", 100), 0),
    "tokens cut": (cut("tokens.bin", 100), 0),
    "tokens cut inside one": (cut("tokens.bin", 2), 0),
    "journal cut inside a record": (cut("journal.bin", 9), 1024),
    "journal empty": (lambda folder: os.truncate(folder / "journal.bin", 0), 0),
    "journal garbled": (lambda folder: flip(folder / "journal.bin", 4), 0),
    "manifest garbage": (lambda folder: (folder / "manifest.json").write_text("{]"), 0),
    "manifest empty": (lambda folder: (folder / "manifest.json").write_text(""), 0),
    "tensors missing": (lambda folder: (folder / "tensors.bin").unlink(), 0),
    "journal missing": (lambda folder: (folder / "journal.bin").unlink(), 0),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_never_changes_the_answer(
    kind: str, asker: Any, text_file: Path, substance: Any
) -> None:
    expected = asker(text_file, store=False)
    asker(text_file)
    [folder] = asker.readings
    damage, left = DAMAGES[kind]
    damage(folder)
    found = asker(text_file)
    assert substance(found) == substance(expected)
    assert found.stats.reused_tokens == left
    again = asker(text_file)
    assert substance(again) == substance(expected)
    assert again.stats.reused_tokens == again.stats.document_tokens


def test_damage_in_a_prefix_is_not_copied(make: Any, cache_folder: Path) -> None:
    text = ids(2200)
    prefilled(make()[0], text[:2000], 50, "a")
    [folder] = [path.parent for path in cache_folder.glob("readings/*/manifest.json")]
    strips(1500, 10)(folder)
    cache, reused = prefilled(make()[0], text, 50, "a")
    assert reused == 1024
    assert close(cache, prefilled(make(store=False)[0], text, 50, "a")[0])


# Disks


def check_not_stored(asker: Any, source: Path, substance: Any, why: str) -> None:
    expected = asker(source, store=False)
    found = asker(source)
    assert substance(found) == substance(expected)
    assert len(asker.notes) == 1
    assert why in asker.notes[0]
    assert "cannot store this reading" in asker.notes[0]
    assert found.stats.reused_tokens == 0


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("how", ["disk_usage", "fallocate", "commit"])
def test_a_full_disk(
    how: str, asker: Any, text_file: Path, substance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "disk_usage":
        free = shutil.disk_usage("/")._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    elif how == "fallocate":
        monkeypatch.setattr(os, "posix_fallocate", no_space)
    else:
        monkeypatch.setattr(KVStore, "commit", no_space)
    check_not_stored(asker, text_file, substance, "the disk is full")


@pytest.fixture
def small_disk(cache_folder: Path) -> Iterator[Path]:
    """The cache folder on a disk of one megabyte."""
    cache_folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(cache_folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield cache_folder
    subprocess.run(["umount", "-l", str(cache_folder)], check=True)


@pytest.mark.parametrize("known", [True, False], ids=["known before", "found out while writing"])
def test_a_real_full_disk(
    *,
    known: bool,
    small_disk: Path,
    asker: Any,
    tmp_path: Path,
    prose: Any,
    substance: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "long.txt").write_text(prose(220))
    if not known:
        plenty = shutil.disk_usage("/")._replace(free=10**12)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: plenty)
    check_not_stored(asker, tmp_path / "long.txt", substance, "the disk is full")
    assert [path for path in small_disk.glob("readings/*") if path.is_dir()] == []


def test_a_read_only_cache_folder(
    asker: Any, text_file: Path, substance: Any, cache_folder: Path
) -> None:
    cache_folder.mkdir()
    (cache_folder / "readings").write_text("in the way")
    check_not_stored(asker, text_file, substance, str(cache_folder / "readings"))


def test_a_kv_cache_on_a_read_only_disk_is_used(
    small_disk: Path, asker: Any, tmp_path: Path, prose: Any
) -> None:
    (tmp_path / "short.txt").write_text(prose(50))
    asker(tmp_path / "short.txt")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    again = asker(tmp_path / "short.txt", "Another question?", remember=True)
    assert again.stats.reused_tokens == again.stats.document_tokens


# Size and memory


def test_the_size_limit(asker: Any, tmp_path: Path, prose: Any) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(prose(60, seed=1000 * number))
    limit = 1_500_000  # two KV caches of about 550 kB
    for number in range(3):
        asker(tmp_path / f"{number}.txt", cache_limit_bytes=limit)
        time.sleep(0.02)
    assert len(asker.readings) == 2
    kept = asker(tmp_path / "1.txt", cache_limit_bytes=limit)  # counts as use
    assert kept.stats.reused_tokens == kept.stats.document_tokens
    asker(tmp_path / "3.txt", cache_limit_bytes=limit)
    kept = asker(tmp_path / "1.txt", cache_limit_bytes=limit)
    assert kept.stats.reused_tokens == kept.stats.document_tokens
    assert asker(tmp_path / "2.txt", cache_limit_bytes=limit).stats.reused_tokens < 64


def test_progress_increases_to_the_end(make: Any) -> None:
    readings, events = make()
    prefilled(readings, ids(2500), 50, "a.txt")
    assert {(e.task, e.total, e.unit) for e in events} == {("Reading a.txt", 2500, "tokens")}
    done = [event.done for event in events]  # a slow machine reports within a segment, too
    assert done == sorted(done)
    assert {0, 1024, 2048, 2500} <= {*done}
    assert done[-1] == 2500
    assert not [event for event in events if isinstance(event, Note)]


def test_running_out_of_memory_is_reported(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: Any, **__: Any) -> Iterator[int]:
        yield 1024
        raise torch.OutOfMemoryError

    monkeypatch.setattr(prefill, "prefill", out)
    with pytest.raises(NsaError, match="memory ran out") as caught:
        prefilled(make()[0], ids(2000), 50, "a")
    assert (caught.value.code, caught.value.exit_code) == ("memory", 1)


def test_running_out_of_memory_on_a_cpu_is_reported(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*_: Any, **__: Any) -> Iterator[int]:
        yield 1024
        torch.empty(1 << 55)

    monkeypatch.setattr(prefill, "prefill", out)
    with pytest.raises(NsaError, match="memory ran out"):
        prefilled(make()[0], ids(2000), 50, "a")
