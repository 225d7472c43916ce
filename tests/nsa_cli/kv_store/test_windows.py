"""Texts longer than the model's context: prefilled in windows, stored, searched together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsa_cli.context.prompt import OVERLAP_TOKENS, PromptBuilder
from nsa_cli.context.tokens import joined
from nsa_cli.documents.text import read_text
from nsa_cli.events import Progress
from nsa_cli.kv_store.store import KVStore
from nsa_models.errors import DoesNotFitError
from nsa_models.tokenization.tokenizer import Tokenizer


@pytest.fixture
def long_file(tmp_path: Path, prose: Any) -> Path:
    """A text of about 9,000 tokens for a model trained with 4,096."""
    path = tmp_path / "long.txt"
    path.write_text(prose(500))
    return path


def test_windows_cover_a_text_and_overlap(tiny_model: Path, prose: Any) -> None:
    prompter = PromptBuilder(Tokenizer.from_folder(tiny_model), None)
    document = read_text(prose(120).encode(), "a.txt")
    whole = prompter.whole(document)
    head = len(whole.ids) - whole.document_tokens
    windows = prompter.windows(whole, 1000)
    assert all(len(window.ids) <= 1000 for window in windows)
    step = 1000 - head - OVERLAP_TOKENS
    for number, window in enumerate(windows):
        assert np.array_equal(window.ids[:head], whole.ids[:head])
        window_ids = whole.ids[head + number * step :][: 1000 - head]
        assert np.array_equal(window.ids[head:], window_ids)
        assert window.characters[head] == whole.characters[head + number * step]
    assert windows[-1].ids[-1] == whole.ids[-1]
    text = joined(windows, 64)
    assert len(text.starts) == len(windows) > 2
    assert text.end == len(document.text)
    for start, window in zip(text.starts, windows, strict=True):
        assert start % 64 == 0
        assert np.array_equal(text.ids[start : start + len(window.ids)], window.ids)
        first = start + head
        span = text.span(first, first + 50)
        assert span == window.span(head, head + 50)
    assert text.document_tokens == (text.characters >= 0).sum()


def test_a_text_that_fits_is_one_window(tiny_model: Path) -> None:
    prompter = PromptBuilder(Tokenizer.from_folder(tiny_model), None)
    document = read_text(b"It rained in March.", "a.txt")
    [window] = prompter.windows(prompter.whole(document), 1000)
    assert np.array_equal(window.ids, prompter.whole(document).ids)
    assert joined([window], 64) is window


def test_a_long_text_is_prefilled_in_windows_and_stored(asker: Any, long_file: Path) -> None:
    first = asker(long_file, "Who wrote report 17?")
    assert first.stats.document_tokens > 2 * 4096
    assert first.stats.reused_tokens == 0
    assert len(asker.readings) == 3
    steps = [
        event for event in asker.events if isinstance(event, Progress) and event.stage == "reading"
    ]
    assert [event.done for event in steps] == sorted(event.done for event in steps)
    assert {event.total for event in steps} == {first.stats.document_tokens}
    assert steps[-1].done == first.stats.document_tokens
    lines = long_file.read_text().splitlines()
    assert first.citations
    for citation in first.citations:
        cited = lines[citation.line_start - 1 : citation.line_end]
        assert citation.quote == "\n".join(cited)
    again = asker(long_file, "Who wrote report 17?")
    assert again.stats.reused_tokens == again.stats.document_tokens
    assert (again.answer, again.citations) == (first.answer, first.citations)
    assert asker(long_file, "Who?", store=False).stats.reused_tokens == 0


def test_only_the_last_window_of_a_grown_text_is_prefilled(
    asker: Any, long_file: Path, prose: Any
) -> None:
    before = asker(long_file).stats
    with long_file.open("a") as file:
        file.write(prose(20))
    after = asker(long_file).stats
    assert after.document_tokens > before.document_tokens
    assert after.reused_tokens > before.document_tokens - 64 - 1


def test_a_damaged_window_is_prefilled_again(asker: Any, long_file: Path) -> None:
    first = asker(long_file)
    damaged = asker.readings[1] / "tensors.bin"
    with damaged.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 16]))
    again = asker(long_file)
    assert (again.answer, again.citations) == (first.answer, first.citations)
    assert again.stats.reused_tokens < again.stats.document_tokens


def test_windows_that_are_not_attended_to_stay_closed(
    asker: Any, long_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a text with many windows; one that is damaged is found when it is attended to."""
    monkeypatch.setattr("nsa_cli.kv_store.windows.MOST_ATTENDED", 1)
    monkeypatch.setattr("nsa_cli.retrieval.retriever.MOST_ATTENDED", 1)
    first = asker(long_file, "Who wrote report 17?")
    opened = list[Path]()
    real = KVStore.open

    def opens(store: KVStore, stored: Any, *, writable: bool) -> Any:
        opened.append(stored.folder)
        return real(store, stored, writable=writable)

    monkeypatch.setattr(KVStore, "open", opens)
    monkeypatch.setattr(KVStore, "open_unchecked", lambda *_: None)
    again = asker(long_file, "Who wrote report 17?")
    assert (again.answer, again.citations) == (first.answer, first.citations)
    assert again.stats.reused_tokens == again.stats.document_tokens
    assert again.stats.cache_bytes == first.stats.cache_bytes
    assert 1 <= len(set(opened)) < len(asker.readings) == 3
    attended = opened[0]
    with (attended / "tensors.bin").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 16]))
    mended = asker(long_file, "Who wrote report 17?")
    assert (mended.answer, mended.citations) == (first.answer, first.citations)
    assert mended.stats.reused_tokens < mended.stats.document_tokens


def test_a_capacity_below_one_window_is_refused(asker: Any, long_file: Path) -> None:
    with pytest.raises(DoesNotFitError, match="takes at most 4,096") as caught:
        asker(long_file, max_tokens=3900)
    assert "--max-tokens" in caught.value.hint


def test_a_text_above_the_size_limit_is_refused(asker: Any, long_file: Path) -> None:
    with pytest.raises(DoesNotFitError, match="room for the keys and values of") as caught:
        asker(long_file, cache_limit_bytes=10**6)
    assert "--cache-limit" in caught.value.hint
    assert not asker.readings
