"""Initial weights follow from seed and name alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.initial import initial_model

CPU = torch.device("cpu")


def test_twins_share_the_weights_of_their_common_parameters(
    native_config: Callable[..., NSAConfig],
) -> None:
    native = dict(initial_model(native_config(compress_hidden=8), 5, CPU).named_parameters())
    dense = native_config(combine="union", select_count=None, answer_select_count=None)
    for name, parameter in initial_model(dense, 5, CPU).named_parameters():
        assert torch.equal(parameter, native.pop(name)), name
    assert all(".gate_proj" in name or ".compression." in name for name in native)
    other = dict(initial_model(dense, 6, CPU).named_parameters())
    name = "model.embed_tokens.weight"
    assert not torch.equal(other[name], dict(initial_model(dense, 5, CPU).named_parameters())[name])


def test_weights_have_their_deviation_and_are_tied(
    native_config: Callable[..., NSAConfig],
) -> None:
    model = initial_model(native_config(initializer_range=0.03), 0, CPU)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    attention = model.model.layers[0].self_attn
    assert abs(float(attention.q_proj.weight.detach().std()) - 0.03) < 0.003  # of 4,096 numbers
    assert abs(float(attention.o_proj.weight.detach().std()) - 0.015) < 0.0015
    assert bool((model.model.norm.weight == 1).all())
    assert not attention.gate_proj.bias.any()
