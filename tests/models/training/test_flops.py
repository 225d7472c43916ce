"""Model FLOPs: the visible keys are those that a mask has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.config import NSAConfig
from nsa_models.training.flops import (
    multiplied_parameters,
    peak_flops,
    step_flops,
    visible_keys,
)
from nsa_models.training.initial import initial_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("length", [1, 7, 8, 100])
def test_visible_keys_are_counted_query_by_query(length: int) -> None:
    settings = AttentionSettings(
        combine="gated", compress_block=8, compress_stride=4, select_block=8, select_count=3,
        window=10,
    )  # fmt: skip
    counted = 0
    for query in range(length):
        counted += min(query + 1, 24) + min(query + 1, 10)
        counted += sum(first + 8 <= query + 1 for first in range(0, length, 4))
    assert visible_keys(length, settings) == counted
    dense = AttentionSettings(select_count=None)
    assert visible_keys(length, dense) == length * (length + 1) // 2


def test_a_step_costs_six_a_parameter_and_the_attention(
    native_config: Callable[..., NSAConfig],
) -> None:
    config = native_config(combine="union", select_count=None)
    parameters = multiplied_parameters(initial_model(config, 0, CPU))
    flops = step_flops((3, 2), config, config.prefill_settings(), parameters)
    assert flops == 6 * parameters * 5 + 12 * 2 * 4 * 16 * (6 + 3)
    untied = native_config(combine="union", select_count=None, tie_word_embeddings=False)
    assert multiplied_parameters(initial_model(untied, 0, CPU)) == parameters


def test_a_cpu_has_no_known_peak() -> None:
    assert peak_flops(CPU) is None
