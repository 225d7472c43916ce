"""An open document: counts, search, and answers from parts of it."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from nsa_cli.config.options import Options
from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.documents.sources import read_sources
from nsa_cli.engine import answer_context
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import drain
from nsa_cli.results import Passage
from nsa_cli.retrieval.pages import within
from nsa_cli.retrieval.ranking import BlockScores


def test_counts(opened: OpenDocument) -> None:
    assert opened.tokens == len(opened.text.ids) > opened.text.document_tokens > 1024
    assert opened.reused_tokens == 0
    assert not opened.is_short
    assert opened.block_tokens == opened.model.config.select_block


def test_a_search_returns_the_best_blocks_first_with_their_lines(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = torch.zeros(-(-len(opened.text.ids) // opened.block_tokens))
    blocks = (4, 12, 22)
    attention[list(blocks)] = torch.tensor([0.25, 1.0, 0.5])
    scores = BlockScores(attention, torch.zeros_like(attention), few=False)
    monkeypatch.setattr(OpenDocument, "scores", lambda *_: scores)
    query = opened.prompts.question("unheard-of")
    opened = replace(opened, options=replace(opened.options, candidates=0))
    matches = opened.find(query, 2)
    lines = opened.document.text.splitlines()
    assert [match.score for match in matches] == sorted((m.score for m in matches), reverse=True)
    assert sum(match.score for match in matches) == pytest.approx(1, abs=1e-3)
    for match, block in zip(matches, (12, 22), strict=True):
        assert match.quote == "\n".join(lines[match.line_start - 1 : match.line_end])
        span = opened.text.span(block * opened.block_tokens, (block + 1) * opened.block_tokens)
        assert span is not None
        first = opened.document.text.count("\n", 0, span[0]) + 1
        last = opened.document.text.count("\n", 0, span[1]) + 1
        assert first <= match.line_start <= match.line_end <= last
    attention.zero_()
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


def _asked(opened: OpenDocument, context: AnswerContext, question: TokenizedQuestion) -> list[int]:
    """Decode an answer, and return how many tokens each pass of the model has."""
    passes: list[int] = []
    hook = opened.model.model.embed_tokens.register_forward_hook(
        lambda _, ids, __: passes.append(ids[0].shape[1])
    )
    drain(opened.generate(context, question, opened.options, time.monotonic()), print)
    hook.remove()
    return passes


def test_passages_and_question_are_prefilled_in_one_pass(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, other = (opened.prompts.question(text) for text in ("Who paid?", "And why?"))
    passages, scores = [Passage(start=0, end=400, score=1.0)], opened.scores(question)
    context = opened.context(passages, question, opened.options, scores)
    assert context.cache.length == len(context.text.ids)
    apart = opened.excerpts(passages)
    both = [
        drain(opened.generate(each, question, opened.options, time.monotonic()), print)
        for each in (context, apart)
    ]
    assert both[0].text == both[1].text
    torch.testing.assert_close(both[0].attention.mass, both[1].attention.mass)
    context = opened.context(passages, question, opened.options, scores)
    assert _asked(opened, context, question)[0] < 10  # the last token and its drafts
    context = opened.context(passages, question, opened.options, scores)
    shared = question.instruction  # the other question begins with the same instruction
    assert _asked(opened, context, other)[0] == len(other) - 1 - shared
    monkeypatch.setattr(answer_context, "_both_dense", lambda *_: False)
    context = opened.context(passages, question, opened.options, scores)
    assert _asked(opened, context, question)[0] == len(question) - 1


@pytest.mark.parametrize("source", ["pages", "pages+passages"])
@pytest.mark.parametrize(("move", "candidates"), [(True, 2), (False, 0)])
def test_an_answer_from_pages_prefills_no_page_again(
    opened: OpenDocument, source: Literal["pages", "pages+passages"], move: bool, candidates: int
) -> None:
    question = opened.prompts.question("Who wrote report 17?")
    scores = opened.scores(question)
    options = replace(
        opened.options,
        source=source,
        page_tokens=900,
        part_tokens=768,
        candidates=candidates,
        move=move,
    )
    passage = Passage(start=0, end=200, score=1.0)
    context = opened.context([passage], question, options, scores)
    pages = opened.retriever.pages(768)
    settings = opened.model.config.answer_settings()
    values = opened.retriever.page_scores(question, scores, candidates, settings, 768)
    assert values.shape == (len(pages),)
    ranked = values.argsort(descending=True, stable=True).tolist()
    taken = [pages[index] for index in within(pages, ranked, 900)]
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


def test_an_answer_is_decoded_from_the_best_parts(opened: OpenDocument) -> None:
    question = opened.prompts.question("Who wrote report 17?")
    scores, options = opened.scores(question), replace(opened.options, page_tokens=600)
    passages = opened.passages(question, options, scores)
    settings = options.attention(opened.model.config)
    values = opened.retriever.page_scores(question, scores, 8, settings, 256)
    parts, texts = opened.retriever.pages(256), [window.text for window in opened.windows]
    best = parts[int(values.argmax())]
    span = texts[best.window].span(best.start, best.stop)
    assert span is not None
    assert any(each.start <= span[0] and span[1] <= each.end for each in passages)
    assert sum(each.score for each in passages) == pytest.approx(1, abs=1e-5)
    assert all(a.end < b.start for a, b in pairwise(passages)), "in document order, apart"
    tokens = len(opened.prompts.excerpts(opened.document, passages).ids)
    assert tokens < opened.tokens / 2


def test_the_end_of_a_text_without_pages_is_always_read(opened: OpenDocument) -> None:
    question = opened.prompts.question("Who wrote report 17?")
    passages = opened.passages(question, opened.options, opened.scores(question))
    last = opened.document.text.rstrip().splitlines()[-1]
    assert last in opened.document.text[passages[-1].start : passages[-1].end]


@pytest.mark.usefixtures("cache_folder")
def test_a_search_in_a_short_text_quotes_several_places(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    lines = [f"Line {n} says that number {n} is good. " * 3 + "\n" for n in range(9)]
    path.write_text("".join(lines))
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9)
    short = Engine(options, print).open(read_sources([str(path)], on_note=print), "a", 300)
    assert short.is_short
    question = short.prompts.question("Which number?")
    short.scores(question)
    assert _asked(short, short.whole(), question)[0] < 10, "the search has run the question"
    attention = torch.ones(-(-len(short.text.ids) // short.block_tokens)).cumsum(0)
    scores = BlockScores(attention, torch.zeros_like(attention), few=False)
    monkeypatch.setattr(OpenDocument, "scores", lambda *_: scores)
    matches = short.find(short.prompts.question("unheard-of"), 3)
    assert len(matches) == 3
    assert len({(match.line_start, match.quote) for match in matches}) == 3
    assert [match.score for match in matches] == sorted((m.score for m in matches), reverse=True)


def test_a_cut_in_the_text_around_a_quote_is_marked(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle of the text is cut on both sides, its ends on one."""
    attention = torch.zeros(-(-len(opened.text.ids) // opened.block_tokens))
    scores = BlockScores(attention, torch.zeros_like(attention), few=False)
    monkeypatch.setattr(OpenDocument, "scores", lambda *_: scores)
    opened = replace(opened, options=replace(opened.options, candidates=0))
    for block, before, after in ((0, False, True), (len(attention) // 2, True, True)):
        attention.zero_()
        attention[block] = 1.0
        [match] = opened.find(opened.prompts.question("unheard-of"), 1)
        assert match.before.startswith("… ") is before
        assert match.after.endswith(" …") is after
        around = match.before.removeprefix("… ") + match.quote + match.after.removesuffix(" …")
        assert around in opened.document.text


@pytest.mark.usefixtures("cache_folder")
def test_for_arithmetic_rows_of_cut_tables_are_read_beside_the_best_parts(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    rows = [f"Hall {n} of wing {n % 7} {n},812.00 {n},407.00\n" for n in range(10, 90)]
    rows[60] = "Visitors of the garden 3,120 2,816\n"
    path.write_text("Accounts in euros\n2019 2018\n" + "".join(rows) + "The end of it all.\n" * 9)
    options = Options(model=str(tiny_model), cache_limit_bytes=10**9)
    found = Engine(options, print).open(read_sources([str(path)], on_note=print), "a", 300)
    assert not found.is_short
    first = -torch.arange(len(found.retriever.pages(256))).float()
    monkeypatch.setattr(OpenDocument, "part_scores", lambda *_: first)
    blocks = torch.ones(-(-len(found.text.ids) // found.block_tokens))
    scores = BlockScores(blocks, torch.zeros_like(blocks), few=False)

    def read(asked: str, *, compute: bool = True) -> str:
        own = replace(found.options, page_tokens=256, compute=compute)
        passages = found.passages(found.prompts.question(asked), own, scores)
        assert all(a.end < b.start for a, b in pairwise(passages))
        return "\n".join(found.document.text[each.start : each.end] for each in passages)

    growth = "By how many percent did visitors of the garden grow from 2018 to 2019?"
    assert rows[60] in f"{read(growth)}\n"
    assert "Hall 40" not in read(growth)
    assert rows[60] not in read(growth, compute=False)
    assert rows[60] not in read("Who are the visitors of the garden?")
