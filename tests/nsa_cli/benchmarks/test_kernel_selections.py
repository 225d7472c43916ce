"""The recorded selections are complete, and kernels and reference attend to them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from nsa_cli.benchmarks.kernel_check import compare, draw_inputs, reference_by_group
from nsa_cli.benchmarks.kernel_results import Shape
from nsa_cli.benchmarks.kernel_selections import load_recording, recorded_blocks, replayed
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.settings import AttentionSettings


def test_the_recording_comes_from_a_model() -> None:
    recording = load_recording()
    assert recording.shape == (4, 32768, 512)
    query = torch.arange(32768)
    block = torch.arange(512)
    assert recording[:, query, query // 64].all()
    assert not recording[:, block[None, :] > (query // 64)[:, None]].any()
    count = recording.sum(dim=-1)
    assert count.max() == 16
    assert (count[:, 1024:] == 16).all()
    kept = (recording[:, 1:] & recording[:, :-1]).sum(dim=-1).double().mean()
    assert kept > 12


def test_a_longer_text_repeats_the_recording() -> None:
    blocks = recorded_blocks(70_000, 40_000, 6, 16, "cpu")
    assert blocks.shape == (1, 6, 40_000, 16)
    assert blocks.dtype == torch.int32
    position = torch.arange(30_000, 70_000)
    own = (position // 64)[:, None]
    assert (blocks == own).any(dim=-1).all()
    assert (blocks <= own).all()
    assert torch.equal(blocks[:, 0], blocks[:, 4])
    start = 32_768 - 30_000
    assert (blocks[0, :, start : start + 64, 0] == 512).all()
    assert (blocks[0, :, start : start + 64, 1:] == -1).all()
    assert ((blocks[0, :, start + 1024 : 65_536 - 30_000] == 0).sum(dim=-1) == 1).all()
    ordered = blocks.sort(dim=-1).values
    assert not ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)).any()


def test_kernels_and_reference_attend_to_the_recording() -> None:
    settings = AttentionSettings(combine="gated", select_count=3)
    inputs = draw_inputs(
        Shape(heads=4, groups=2, dim=16, value_dim=16),
        batch=1,
        queries=9,
        length=700,
        settings=settings,
        dtype=torch.float32,
        device="cpu",
    )
    blocks = recorded_blocks(700, 9, 2, 3, "cpu")

    def attend(*x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = nsa_attention(*x[:3], settings, gates=x[3], impl=Impl.TRITON)
        assert result.blocks is not None
        return result.out, result.blocks

    with replayed(blocks):
        found = compare(attend, inputs, settings, gradients=False)
        _, chosen = reference_by_group(settings, torch.float32)(*inputs.all())
    assert torch.equal(chosen, blocks.long())
    assert found.agreement == 1.0
    assert found.errors["out"] < 1e-5
    assert not torch.equal(attend(*inputs.all())[1], blocks)
