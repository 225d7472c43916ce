"""Tokens that stay in a cache after they were set back, against a second pass over them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa_models.cache.ahead import keep_ahead, take_ahead
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation.generate import DecodeOptions, decode, prefill
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.weights.load import random_model

TEXT, QUESTION = list(range(3, 90)), [5, 7, 11, 13, 17]
OPTIONS = DecodeOptions(max_tokens=6, stop_ids=frozenset())


def config_of(count: int | None) -> NSAConfig:
    return NSAConfig(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        select_block=16,
        compress_block=8,
        compress_stride=4,
        window=16,
        select_count=None,
        select_tile=1,
        score_stride=1,
        answer_select_count=count,
        answer_window=16,
    )


@pytest.fixture
def model(seed: int) -> NSALanguageModel:
    """A small dense model with random weights."""
    torch.manual_seed(seed)
    return random_model(config_of(None), dtype=torch.float32)


def with_question(model: NSALanguageModel, length: int = len(QUESTION)) -> KVCache:
    """A cache of the text, with the first tokens of the question ahead."""
    cache = KVCache(model.config, 160)
    ids = QUESTION[:length]
    list(prefill(model, [*TEXT, *ids], cache))
    cache.truncate(len(TEXT))
    keep_ahead(cache, ids, model.config.answer_settings())
    return cache


def answer(model: NSALanguageModel, cache: KVCache) -> tuple[list[int], torch.Tensor, list[int]]:
    """Decode; returns the tokens, their masses, and the lengths of the model's passes."""
    passes: list[int] = []
    hook = model.model.embed_tokens.register_forward_hook(
        lambda _, ids, __: passes.append(ids[0].shape[1])
    )
    found = list(decode(model, QUESTION, cache, OPTIONS, quoted=TEXT))
    hook.remove()
    width = max(each.mass.shape[-1] for each in found)
    padded = [
        torch.nn.functional.pad(each.mass, (0, width - each.mass.shape[-1])) for each in found
    ]
    return [each.id for each in found], torch.stack(padded), passes


def plain(model: NSALanguageModel) -> KVCache:
    cache = KVCache(model.config, 160)
    list(prefill(model, TEXT, cache))
    return cache


@pytest.mark.parametrize("length", [0, 1, 3, len(QUESTION) - 1, len(QUESTION)])
def test_an_answer_with_the_question_ahead_is_the_same(
    model: NSALanguageModel, length: int
) -> None:
    ids, mass, passes = answer(model, with_question(model, length))
    expected, expected_mass, all_passes = answer(model, plain(model))
    assert ids == expected
    torch.testing.assert_close(mass, expected_mass)
    taken = min(length, len(QUESTION) - 1)
    assert sum(passes) == sum(all_passes) - taken


def change_key(model: NSALanguageModel, cache: KVCache) -> None:
    with torch.inference_mode():
        model(torch.tensor([[99, 98]]), cache=cache)
    cache.truncate(len(TEXT))


@pytest.mark.parametrize(
    "use",
    [
        change_key,
        lambda _, cache: cache.truncate(len(TEXT) - 1),
        lambda _, cache: take_ahead(cache, [1], config_of(None).answer_settings()),
    ],
    ids=["another text", "a shorter text", "another question"],
)
def test_other_use_of_a_cache_drops_them(
    model: NSALanguageModel, use: Callable[[NSALanguageModel, KVCache], object]
) -> None:
    cache = with_question(model)
    use(model, cache)
    assert take_ahead(cache, QUESTION, model.config.answer_settings()) == 0


def test_only_the_tokens_that_agree_are_taken(model: NSALanguageModel) -> None:
    cache = with_question(model)
    ids = [*QUESTION[:2], 99, *QUESTION[3:]]
    assert take_ahead(cache, ids, model.config.answer_settings()) == 2
    assert cache.length == len(TEXT) + 2


def test_sparse_attention_keeps_and_takes_nothing(model: NSALanguageModel) -> None:
    sparse = config_of(2).answer_settings()
    cache = with_question(model)
    assert take_ahead(cache, QUESTION, sparse) == 0
    cache.truncate(len(TEXT))
    keep_ahead(cache, QUESTION, sparse)
    assert cache.ahead == ()
