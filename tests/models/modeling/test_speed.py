"""The measurement that chooses a format of weights: what it counts, not how long it takes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling import speed
from nsa_models.modeling.linear import Linear
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.modeling.speed import AS_STORED, FormatSpeed, measure_formats


@pytest.fixture
def config() -> NSAConfig:
    return NSAConfig(
        vocab_size=96, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_format_is_measured(
    config: NSAConfig, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_LEAST_BYTES", 1 << 16)
    threads = torch.get_num_threads()
    found = measure_formats(config, dtype)
    assert list(found) == [AS_STORED, "int8"]
    for each in found.values():
        assert 0 < each.token_seconds < math.inf
        assert 0 < each.reading_seconds < math.inf
    assert torch.get_num_threads() == threads


def test_an_answer_reads_passages_and_decodes_sentences() -> None:
    assert FormatSpeed(token_seconds=0.5, reading_seconds=0.0).answer_seconds == 32
    assert FormatSpeed(token_seconds=0.0, reading_seconds=0.25).answer_seconds == 512


def test_all_projections_count(config: NSAConfig) -> None:
    model = NSALanguageModel(config)
    layers = sum(x.weight.numel() for x in model.modules() if isinstance(x, Linear))
    assert speed._values(config) == (layers, model.lm_head.weight.numel())


def test_the_time_of_a_model_is_that_of_its_weights(
    config: NSAConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each product takes a millisecond here."""
    monkeypatch.setattr(speed._Copies, "seconds", lambda *_: 1e-3)
    measured = 2 * 64 * 160
    layers, head = speed._values(config)
    for found in measure_formats(config, torch.float32).values():
        assert found.token_seconds == pytest.approx(2e-3 * (layers + head) / measured)
        rows = speed.SEGMENT_ROWS
        assert found.reading_seconds == pytest.approx(2e-3 * layers / measured / rows)


def test_copies_are_used_in_turn() -> None:
    class Noted(nn.Module):
        used: list[int] = []  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.zeros(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.used.append(self.weight.data_ptr())
            return x

    copies = speed._Copies(Noted(), 3)
    for _ in range(6):
        copies.seconds(torch.zeros(1, 3))
    assert len({*Noted.used}) == 3
    assert Noted.used[:3] == Noted.used[3:]
