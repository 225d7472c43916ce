"""Initial weights follow from seed and name alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa_kernels.phi import mean_phi
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.branches import MLPPhi
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


@pytest.mark.parametrize(("hidden", "is_mean"), [(32, True), (40, True), (31, False)])
def test_an_mlp_begins_as_the_mean_if_it_is_wide_enough(
    native_config: Callable[..., NSAConfig], hidden: int, is_mean: bool
) -> None:
    config = native_config(compress_phi="mlp", compress_hidden=hidden, head_dim=16)
    attention = initial_model(config, 0, CPU).model.layers[0].self_attn
    settings = config.prefill_settings()
    keys = torch.randn(1, 2, 50, 16, generator=torch.Generator().manual_seed(0))
    for phi in (attention.branches.phi_k, attention.branches.phi_v):
        assert isinstance(phi, MLPPhi)
        with torch.no_grad():
            summaries = phi(keys, settings, None)
        expected = mean_phi(keys, settings)
        assert torch.allclose(summaries, expected, atol=1e-6) == is_mean
        assert phi.inner.weight[2 * 16 :].abs().sum() > 0 or hidden <= 2 * 16
