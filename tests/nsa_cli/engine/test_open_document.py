"""An open document: counts, search, and answers from parts of it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import drain
from nsa_cli.results import Passage
from nsa_cli.retrieval.pages import within


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
def test_an_answer_does_not_change_its_context(opened: OpenDocument, whole: bool) -> None:
    question, passage = opened.prompts.question("Who?"), Passage(start=0, end=400, score=1.0)
    passages = [] if whole else [passage]
    context = opened.context(passages, question, opened.options, opened.scores(question))
    excerpts = opened.prompts.excerpts(opened.document, passages)
    expected = opened.windows[0].text if whole else excerpts
    assert context.text.ids.tolist() == expected.ids.tolist()
    length = context.cache.length
    generated = drain(opened.generate(context, question, opened.options, time.monotonic()), print)
    assert 0 < generated.tokens <= 4
    assert context.cache.length == length == len(expected.ids)
    assert len(generated.attention.mass) == -(-length // generated.attention.size)


def test_a_canceled_answer_does_not_change_its_context(opened: OpenDocument) -> None:
    question, context = opened.prompts.question("Who wrote report 17?"), opened.whole()
    length = context.cache.length
    steps = opened.generate(context, question, opened.options, time.monotonic())
    next(steps)
    assert context.cache.length > length
    steps.close()
    assert context.cache.length == length


@pytest.mark.parametrize("source", ["pages", "pages+passages"])
@pytest.mark.parametrize(("move", "candidates"), [(True, 2), (False, 0)])
def test_an_answer_from_pages_prefills_no_page_again(
    opened: OpenDocument, source: Literal["pages", "pages+passages"], move: bool, candidates: int
) -> None:
    question = opened.prompts.question("Who wrote report 17?")
    scores = opened.scores(question)
    options = replace(
        opened.options, source=source, page_tokens=900, candidates=candidates, move=move
    )
    passage = Passage(start=0, end=200, score=1.0)
    context = opened.context([passage], question, options, scores)
    pages = opened.retriever.pages(768)
    settings = opened.model.config.answer_settings()
    ranked = opened.retriever.rank_pages(question, scores, candidates, settings, 768)
    assert sorted(ranked) == list(range(len(pages)))
    taken = within(pages, ranked, 900)
    head, window = opened.retriever.head, opened.windows[0]
    expected = [window.text.ids[:head], *(window.text.ids[p.start : p.stop] for p in taken)]
    if source == "pages+passages":
        expected.append(opened.prompts.excerpts(opened.document, [passage]).ids[head:])
    assert context.text.ids.tolist() == np.concatenate(expected).tolist()
    assert context.cache.length == len(context.text.ids) == len(context.text.characters)
    assert context.cache.capacity >= context.cache.length + opened.room
    value = window.cache.values[-1][:, :, taken[0].start : taken[0].stop]
    assert torch.equal(context.cache.values[-1][:, :, head : head + len(taken[0])], value)
    generated = drain(opened.generate(context, question, options, time.monotonic()), print)
    assert generated.attention.text.ids.tolist() == context.text.ids.tolist()
