"""A prefill killed at any moment loses at most its unsaved part, and the answer stays correct."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.kv_store import integrity, store

KILLS = 20

SERVER = """
import os, sys, time
import torch
torch.set_num_threads(1)
import nsa_cli.engine.answer
import nsa_cli.kv_store.prefill as reading
from nsa_cli.answering.ask import ask
from nsa_cli.config.options import Options
whole = reading.prefill
def slow(*arguments, **named):
    for done in whole(*arguments, **named, chunk_size=64):
        yield done
        time.sleep(0.1)
reading.prefill = slow
options = Options(model=sys.argv[1], max_tokens=6, cache_limit_bytes=10**9)
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        list(ask([sys.argv[2]], ["Who wrote the report?"], options, lambda event: None))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Forks a process per line of input that prefills slowly, block by block."""


@pytest.fixture
def server(tiny_model: Path, text_file: Path) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tiny_model), str(text_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def journaled_tokens(cache: Path) -> int:
    """Tokens in the journal of the only stored KV cache."""
    found = [integrity.read_journal(path.parent) for path in cache.glob("readings/*/manifest.json")]
    return max((records[-1].tokens for records in found if records), default=0)


@pytest.mark.long
def test_twenty_kills_at_random_moments(
    server: Any, asker: Any, text_file: Path, cache_folder: Path, substance: Any
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    expected = asker(text_file, store=False)
    kept, killed = 0, 0
    for _ in range(KILLS):
        server.stdin.write("go\n")
        server.stdin.flush()
        child = int(server.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.3))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        killed += int(server.stdout.readline()) == signal.SIGKILL
        assert journaled_tokens(cache_folder) >= kept, "what was kept is lost"
        kept = journaled_tokens(cache_folder)
    assert killed
    found = asker(text_file)
    assert found.stats.reused_tokens >= kept
    assert found.answer == expected.answer
    assert [c.quote for c in found.citations] == [c.quote for c in expected.citations]
    again = asker(text_file)
    assert again.stats.reused_tokens == again.stats.document_tokens
    assert substance(again) == substance(found)


def test_another_format_is_reported_and_prefilled_again(
    asker: Any, text_file: Path, substance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FORMAT", 1)
    before = asker(text_file)
    [old] = asker.readings
    monkeypatch.undo()
    monkeypatch.setenv("NSA_CACHE_DIR", str(asker.cache))
    monkeypatch.setenv("NSA_OFFLINE", "1")
    found = asker(text_file)
    assert substance(found) == substance(before)
    assert found.stats.reused_tokens == 0
    assert asker.notes == [
        f"{text_file} was read by another version of nsa (format 1, now 2); reading it again"
    ]
    assert not old.exists()
