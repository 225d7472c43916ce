"""Blocks of a prefilled document are scored by attention and BM25 together."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.kv_store.block_access import BlockAccess
from nsa_cli.kv_store.integrity import block_checksums
from nsa_cli.retrieval.attention import without_attention_sinks
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.ranking import BlockScores, block_spans, hybrid_scores
from nsa_cli.retrieval.retriever import Retriever


def test_scores_combine_attention_and_words(opened: OpenDocument) -> None:
    question = opened.prompts.question("Who wrote report 17?")
    retriever, size = opened.retriever, opened.block_tokens
    attention = without_attention_sinks(retriever.attention(question), opened.text, size)
    spans = block_spans(opened.text, size)
    words = Bm25([opened.document.text[start:end] for start, end in spans]).scores(question.text)
    assert len(spans) == len(attention) == -(-len(opened.text.ids) // size)
    few = opened.model.config.answer_settings().select_count is not None
    expected = hybrid_scores(attention, words, few=few)
    for scores in (retriever.scores(question), opened.scores(question)):
        torch.testing.assert_close(scores.attention, attention)
        torch.testing.assert_close(scores.words, words)
        torch.testing.assert_close(scores.hybrid, expected)


def test_many_windows_are_scored_a_few_at_a_time(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, released = list[int](), list[int]()

    def over_windows(windows: Any, _step: Any) -> list[torch.Tensor]:
        together.append(len(windows))
        return [torch.tensor([float(window.number)]) for window in windows]

    monkeypatch.setattr("nsa_cli.retrieval.retriever.over_windows", over_windows)
    windows: Any = [
        SimpleNamespace(
            number=number,
            text=SimpleNamespace(ids=range(64)),
            cache=SimpleNamespace(release_pages=lambda n=number: released.append(n)),
        )
        for number in range(6)
    ]
    retriever = Retriever(opened.model, windows, opened.document, opened.text)
    found = retriever.attention(opened.prompts.question("Who?"))
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    assert together == [4, 2]
    assert released == [0, 1, 2, 3, 4, 5]


def test_words_choose_the_windows_of_a_very_long_text(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only windows with the best pages are attended to; other blocks have their words alone."""
    attended = list[int]()
    size, blocks = opened.block_tokens, 2

    def over_windows(windows: Any, _step: Any) -> list[torch.Tensor]:
        attended.extend(window.number for window in windows)
        return [torch.ones(blocks) for _ in windows]

    monkeypatch.setattr("nsa_cli.retrieval.retriever.over_windows", over_windows)
    monkeypatch.setattr(
        "nsa_cli.retrieval.retriever.without_attention_sinks", lambda scores, *_: scores
    )
    windows: Any = [
        SimpleNamespace(
            number=number,
            text=SimpleNamespace(ids=range(size * blocks)),
            cache=SimpleNamespace(release_pages=lambda: None),
        )
        for number in range(15)
    ]
    starts = tuple(range(0, 15 * blocks * size, blocks * size))
    text = replace(opened.text, starts=starts)
    retriever = Retriever(opened.model, windows, opened.document, text)
    texts = ["the harbor"] * (15 * blocks)
    for block in (0, 26, 27):  # of the windows 0 and 13
        texts[block] = "page that names the lighthouse"
    for window in (7, 9, 14):
        texts[2 * window] = texts[2 * window + 1] = "nothing of it"
    monkeypatch.setattr(Retriever, "bm25", Bm25(texts))

    scores = retriever.scores(opened.prompts.question("Is a lighthouse in the harbor?"))
    assert attended == [0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13]
    expected = [float(n in attended) for n in range(15) for _ in range(blocks)]
    assert scores.attention.tolist() == expected

    attended.clear()
    retriever.scores(opened.prompts.question("Wo steht der Leuchtturm?"))
    assert attended == list(range(15))  # no word of the question is in the text
    attended.clear()
    retriever.attention(opened.prompts.question("Is a lighthouse in the harbor?"))
    assert attended == list(range(15))


def test_joined_pages_do_not_stay_in_memory(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = list[Any]()
    monkeypatch.setattr("nsa_cli.retrieval.retriever.release_mapped", released.append)
    retriever = opened.retriever
    joined = retriever.join(retriever.pages(64)[:2], 8)
    assert joined.length > retriever.head
    assert released == [opened.windows[0].cache]


@pytest.mark.parametrize("tensor", ["keys", "values"])
@pytest.mark.parametrize("head", [True, False])
def test_a_window_with_a_corrupt_block_is_prefilled_again_before_its_pages_are_joined(
    opened: OpenDocument, monkeypatch: pytest.MonkeyPatch, tensor: str, head: bool
) -> None:
    whole, retriever, notes = opened.windows[0], opened.retriever, list[str]()
    page = retriever.pages(768)[-1]
    expected = retriever.join([page], 10)
    checks = block_checksums(whole.cache, 64, 0, whole.cache.length)
    assert whole._prefilled is not None
    whole._prefilled = whole._prefilled._replace(access=BlockAccess(whole.cache, 64, checks))
    monkeypatch.setattr(whole.prefiller, "emit", lambda event: notes.append(event.text))
    token = 0 if head else page.start
    damaged = getattr(whole.cache, tensor)[1][0, 1, token]
    damaged.view(torch.uint8)[3] ^= 1 << 3
    joined = retriever.join([page], 10)
    assert notes == [f"the stored reading of {whole.name} is damaged; reading that part again"]
    for layer in range(2):
        length = expected.length
        for kept, made in ((expected.keys, joined.keys), (expected.values, joined.values)):
            torch.testing.assert_close(made[layer][:, :, :length], kept[layer][:, :, :length])
    assert retriever.join([page], 10).length == length
    assert len(notes) == 1


def test_tables_of_contents_lose(opened: OpenDocument, monkeypatch: pytest.MonkeyPatch) -> None:
    question, settings = opened.prompts.question("Who?"), opened.model.config.answer_settings()
    zeros = torch.zeros(-(-len(opened.text.ids) // opened.block_tokens))
    scores, retriever = BlockScores(zeros, zeros, few=False), opened.retriever
    before = retriever.page_scores(question, scores, 0, settings, 256)
    assert len(before) > 3
    index = retriever._index(256)._replace(contents=[1, 3])
    monkeypatch.setattr(retriever, "_index", lambda _: index)
    after = retriever.page_scores(question, scores, 0, settings, 256)
    lost = torch.zeros(len(before))
    lost[[1, 3]] = 3.0
    torch.testing.assert_close(before - after, lost)
