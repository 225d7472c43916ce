"""A cache joined from excerpts equals a prefill of their text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation.excerpts import Excerpt, join_excerpts
from nsa_models.modeling.model import NSALanguageModel

DENSE = AttentionSettings(select_count=None)


def tiny(layers: int, seed: int, **fields: Any) -> NSALanguageModel:
    torch.manual_seed(seed)
    config = NSAConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, **fields,
    )  # fmt: skip
    model = NSALanguageModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    return model


def read(model: NSALanguageModel, ids: Tensor) -> KVCache:
    cache = KVCache(model.config, len(ids) + 8)
    with torch.inference_mode():
        model(ids[None], cache=cache, settings=DENSE, last_logits=0)
    return cache


def logits(model: NSALanguageModel, cache: KVCache, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        output = model(ids[None], cache=cache, settings=DENSE)
    assert output.logits is not None
    return output.logits


@pytest.mark.parametrize("fields", [{}, {"no_rope_layers": [0]}])
def test_moved_keys_equal_a_prefill_of_the_excerpts(seed: int, fields: dict[str, Any]) -> None:
    """In the first layer, keys depend only on a token and its position."""
    model = tiny(1, seed, **fields)
    ids, question = torch.randint(64, (300,)), torch.randint(64, (5,))
    parts = [(0, 7), (250, 300), (40, 90)]
    cache = read(model, ids)
    joined = join_excerpts(model, [Excerpt(cache, *part) for part in parts], 8)
    anew = read(model, torch.cat([ids[start:stop] for start, stop in parts]))
    assert joined.length == anew.length == 107
    for got, wanted in zip((*joined.keys, *joined.values), (*anew.keys, *anew.values), strict=True):
        torch.testing.assert_close(got[:, :, :107], wanted[:, :, :107], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        logits(model, joined, question), logits(model, anew, question), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("move", [True, False])
def test_an_excerpt_of_the_whole_text(seed: int, move: bool) -> None:
    model = tiny(3, seed)
    ids, question = torch.randint(64, (90,)), torch.randint(64, (5,))
    cache = read(model, ids)
    joined = join_excerpts(model, [Excerpt(cache, 0, 90)], 8, move=move)
    assert joined.position_offset == 0
    assert torch.equal(logits(model, joined, question), logits(model, cache, question))


def test_excerpts_that_keep_their_positions_stay_unchanged(seed: int) -> None:
    model = tiny(2, seed)
    first, second = (read(model, torch.randint(64, (120,))) for _ in range(2))
    joined = join_excerpts(model, [Excerpt(first, 0, 10), Excerpt(second, 60, 100)], 8, move=False)
    assert joined.length == 50
    assert joined.positions(2, torch.device("cpu")).tolist() == [100, 101]
    for layer in range(2):
        assert torch.equal(joined.keys[layer][:, :, :10], first.keys[layer][:, :, :10])
        assert torch.equal(joined.keys[layer][:, :, 10:50], second.keys[layer][:, :, 60:100])
        assert torch.equal(joined.values[layer][:, :, 10:50], second.values[layer][:, :, 60:100])


def test_excerpts_of_two_texts_equal_both_texts_in_a_row(seed: int) -> None:
    """Keys moved far away and back stay equal up to rounding."""
    model = tiny(2, seed)
    cache = read(model, torch.randint(64, (60,)))
    far = join_excerpts(model, [Excerpt(cache, 0, 60), Excerpt(cache, 0, 60)], 8)
    back = join_excerpts(model, [Excerpt(far, 60, 120)], 8)
    for layer in range(2):
        torch.testing.assert_close(
            back.keys[layer][:, :, :60], cache.keys[layer][:, :, :60], atol=1e-4, rtol=1e-4
        )
