"""An open document: counts, search, and answers from parts of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import Event, drain
from nsa_cli.results import Passage


@pytest.fixture
def opened(
    tiny_model: Path,
    text_file: Path,
    cache_folder: Path,  # noqa: ARG001
) -> OpenDocument:
    """A document of three chunks, prefilled."""
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9, max_tokens=4)
    return Engine(options, print).open(read_sources([str(text_file)], on_note=print), "a", 300)


def test_counts(opened: OpenDocument) -> None:
    assert opened.tokens == len(opened.text.ids) > opened.text.document_tokens > 1024
    assert opened.reused_tokens == 0
    assert not opened.is_short
    assert opened.block_tokens == opened.model.config.select_block


def test_a_search_returns_the_best_blocks_first_with_their_lines(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.zeros(-(-len(opened.text.ids) // opened.block_tokens))
    scores[[4, 12, 20]] = torch.tensor([0.25, 1.0, 0.5])
    monkeypatch.setattr(OpenDocument, "scores", lambda *_: scores)
    query = opened.prompts.question("report")
    matches = opened.find(query, 2)
    lines = opened.document.text.splitlines()
    assert [match.score for match in matches] == [0.6667, 0.3333]
    for match, block in zip(matches, (12, 20), strict=True):
        assert match.quote == "\n".join(lines[match.line_start - 1 : match.line_end])
        span = opened.text.span(block * opened.block_tokens, (block + 1) * opened.block_tokens)
        assert span is not None
        first = opened.document.text.count("\n", 0, span[0]) + 1
        last = opened.document.text.count("\n", 0, span[1]) + 1
        assert first <= match.line_start <= match.line_end <= last
    scores.zero_()
    assert opened.find(query, 2) == []


@pytest.mark.parametrize("whole", [False, True])
def test_an_answer_does_not_change_the_cache(opened: OpenDocument, whole: bool) -> None:
    question, cache = opened.prompts.question("Who wrote report 17?"), opened.windows[0].cache
    length, passage = cache.length, Passage(start=0, end=400, score=1.0)
    events: list[Event] = []
    steps = opened.generate([passage], question, opened.options, time.monotonic(), whole=whole)
    generated = drain(steps, events.append)
    assert 0 < generated.tokens <= 4
    assert cache.length == length
    # attention covers only the passage, or the whole window
    size = generated.attention.size
    expected = opened.windows[0].text if whole else opened._excerpts([passage])[0]
    assert len(generated.attention.mass) == -(-len(expected.ids) // size)


def test_a_canceled_answer_does_not_change_the_cache(opened: OpenDocument) -> None:
    question, [window] = opened.prompts.question("Who wrote report 17?"), opened.windows
    length = window.cache.length
    steps = opened.generate([], question, opened.options, time.monotonic())
    next(steps)  # verifies all blocks, which may use another cache
    assert window.cache.length > length
    steps.close()
    assert window.cache.length == length
