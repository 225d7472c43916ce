"""Pages are ranked by the likelihood of the question."""

from __future__ import annotations

import numpy as np
import torch

from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.retrieval.likelihood import (
    page_fit,
    question_likelihoods,
    question_states,
    with_likelihoods,
)
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.model import NSALanguageModel


def test_the_likelihood_covers_only_the_question(seed: int) -> None:
    torch.manual_seed(seed)
    config = NSAConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    model = NSALanguageModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.2)
    dense = AttentionSettings(select_count=None)
    ids = np.array([7, 8, 9, 10, 11, 12, 13], np.int32)
    question = TokenizedQuestion(text="?", ids=ids, instruction=2, asked=4)
    texts = [torch.randint(50, (length,)) for length in (30, 12)]
    caches, expected = [], []
    for text in texts:
        cache = KVCache(config, len(text) + 7)
        with torch.inference_mode():
            model(text[None], cache=cache, settings=dense, last_logits=0)
            whole = torch.cat([text, torch.tensor(ids[:6])])
            logits = model(whole[None], settings=dense).logits[0].log_softmax(dim=-1)
        caches.append(cache)
        places = range(len(text) + 2, len(text) + 6)
        expected.append(sum(float(logits[p - 1, whole[p]]) for p in places) / 4)
    states = question_states(model, caches, question, dense)
    assert states.shape == (2, 4, 32)
    found = question_likelihoods(model, states, question)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def order(scores: torch.Tensor) -> list[int]:
    return scores.argsort(descending=True, stable=True).tolist()


def test_pages_fit_by_attention_and_words() -> None:
    attention, words = torch.tensor([0.0, 4.0, 1.0]), torch.tensor([3.0, 1.0, 0.0])
    blocks = torch.zeros(3)
    assert order(page_fit(attention, words, blocks, 1.0)) == [1, 0, 2]
    assert order(page_fit(attention, words, blocks, 3.0)) == [0, 1, 2], "words count for more"
    assert order(page_fit(torch.zeros(3), torch.zeros(3), words, 1.0)) == [0, 1, 2]


def test_the_likelihood_decides_among_candidates() -> None:
    fit = torch.tensor([0.0, 2.0, 1.0, 1.5])
    candidates = torch.tensor([1, 2])
    assert order(with_likelihoods(fit, candidates, torch.tensor([-5.0, -1.0]))) == [2, 1, 3, 0]
    assert order(with_likelihoods(fit, candidates, torch.tensor([-1.0, -5.0]))) == [1, 2, 3, 0]
    none = torch.empty(0, dtype=torch.long)
    assert torch.equal(with_likelihoods(fit, none, torch.empty(0)), fit)
    every = torch.arange(4)
    assert order(with_likelihoods(fit, every, torch.tensor([9.0, 1, 1, 1])))[0] == 0
