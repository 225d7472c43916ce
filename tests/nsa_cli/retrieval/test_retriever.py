"""Blocks of a prefilled document are scored by attention and BM25 together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.retrieval.attention import without_attention_sinks
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.ranking import block_spans, hybrid_scores
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
    torch.testing.assert_close(retriever.scores(question), expected)
    torch.testing.assert_close(opened.scores(question), expected)


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
            number=number, cache=SimpleNamespace(release_pages=lambda n=number: released.append(n))
        )
        for number in range(6)
    ]
    retriever = Retriever(opened.model, windows, opened.document, opened.text)
    found = retriever.attention(opened.prompts.question("Who?"))
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    assert together == [4, 2]
    assert released == [0, 1, 2, 3, 4, 5]
