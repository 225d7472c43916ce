"""Likelihoods of an answer with and without the document."""

from __future__ import annotations

import pytest
import torch

from nsa_cli.engine.answer_signals import answer_signals
from nsa_cli.engine.open_document import OpenDocument


def test_signals_are_likelihoods_of_the_models_whole_text(opened: OpenDocument) -> None:
    question, answer = opened.prompts.question("Who wrote report 17?"), "The worker of line 3."
    context, model = opened.whole(), opened.model
    length = context.cache.length
    settings = opened.options.attention(model.config)
    found = answer_signals(opened, context, question, answer, settings)
    assert found is not None
    assert context.cache.length == length
    said = opened.tokenizer.encode(answer)
    head = context.text.ids[: opened.retriever.head]
    for before, asked, mean in (
        (head, found.question_alone, found.answer_alone),
        (context.text.ids, found.question, found.answer),
    ):
        ids = torch.tensor([*before, *question.ids, *said], dtype=torch.long)
        cache = opened.retriever.join([], len(question) + len(said))
        if len(before) == length:
            cache = context.cache
        with torch.inference_mode():
            part = ids[len(before) :]
            logits = model(part[None], cache=cache, settings=settings).logits
        cache.truncate(len(before))
        each = logits[0, :-1].log_softmax(dim=-1).gather(1, part[1:, None])[:, 0]
        first = question.instruction - 1
        assert asked == pytest.approx(float(each[first : first + question.asked].mean()), abs=1e-4)
        assert mean == pytest.approx(float(each[-len(said) :].mean()), abs=1e-4)
    assert found.least_likely <= found.answer < 0


def test_an_empty_answer_has_no_signals(opened: OpenDocument) -> None:
    question, context = opened.prompts.question("Who?"), opened.whole()
    settings = opened.options.attention(opened.model.config)
    assert answer_signals(opened, context, question, "", settings) is None
