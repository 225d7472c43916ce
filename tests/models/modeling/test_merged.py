"""Merged projections give the results of the single ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.int8 import Int8Linear
from nsa_models.modeling.linear import Linear
from nsa_models.modeling.merged import merge_projections
from nsa_models.transformers_model import NSAForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GATED: dict[str, Any] = {
    "combine": "gated",
    "answer_compress_block": 32,
    "answer_compress_stride": 16,
    "compress_block": 32,
    "compress_stride": 16,
    "branch_keys": "separate",
}


def build(**changes: Any) -> NSAForCausalLM:
    model = NSAForCausalLM(NSAConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 5),
        ({"attention_bias": True, "qk_norm": True}, 5),
        ({**GATED, "gate_bias": True}, 10),
        ({**GATED, "branch_keys": "shared", "compress_phi": "linear"}, 6),
        (GATED, 10),
    ],
)
def test_merging_changes_nothing(changes: dict[str, Any], count: int) -> None:
    """Logits of a prefill and of a step, and the names and values of the weights."""
    model, ids = build(**changes), torch.randint(96, (2, 70))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = []
    for merged in (False, True):
        if merged:
            assert merge_projections(model) == 2 * count
        cache = KVCache(model.config, 80, batch=2)
        with torch.inference_mode():
            model(ids[:, :69], cache=cache, last_logits=0)
            found.append(model(ids[:, 69:], cache=cache).logits)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    after = model.state_dict()
    assert {*after} == {*before}
    assert all(torch.equal(after[name], x) for name, x in before.items())


def test_merged_weights_take_no_more_memory() -> None:
    model = build()
    merge_projections(model)
    attention = model.attentions[0]
    places = {
        each.weight.untyped_storage().data_ptr()
        for each in (attention.q_proj, attention.k_proj, attention.v_proj)
    }
    assert len(places) == 1


def test_other_classes_stay_as_they_are() -> None:
    model = build(num_hidden_layers=1)
    attention = model.attentions[0]
    assert isinstance(attention.q_proj, Linear)
    attention.q_proj = Int8Linear(attention.q_proj)  # type: ignore[assignment]
    assert merge_projections(model) == 2
    assert attention.merged is None
