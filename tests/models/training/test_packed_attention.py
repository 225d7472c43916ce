"""A packed document has the outputs and gradients that it has alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import NoCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.training.initial import initial_model
from nsa_models.training.packed_attention import PackedAttention
from nsa_models.training.rows import PackedBatch
from nsa_models.training.token_losses import TokenLosses

CPU = torch.device("cpu")


@pytest.mark.parametrize("hidden", [None, 8])
def test_packed_documents_equal_documents_alone(
    native_config: Callable[..., NSAConfig], hidden: int | None
) -> None:
    model = initial_model(native_config(compress_hidden=hidden), 0, CPU)
    losses = TokenLosses(model, 16)
    lengths = (5, 40, 1, 18)
    ids, targets = torch.randint(0, 63, (2, 1, sum(lengths)))
    total, packed = losses(PackedBatch(ids, targets, lengths))
    total.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    alone, start = [], 0
    for length in lengths:
        part = slice(start, start + length)
        one, each = losses(PackedBatch(ids[:, part], targets[:, part], (length,)))
        one.backward()
        alone.append(each)
        start += length
    torch.testing.assert_close(packed, torch.cat(alone, dim=1))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learned", [True, pytest.param(False, marks=pytest.mark.long)])
def test_one_call_of_the_kernels_equals_a_call_for_each_document(learned: bool) -> None:
    pytest.importorskip("triton")
    settings = AttentionSettings(
        combine="gated", compress_block=8, compress_stride=4, select_block=16, select_count=2,
        window=16,
    )  # fmt: skip
    lengths = (12, 3, 21)
    shape = (1, 4, sum(lengths), 16), (1, 2, sum(lengths), 16), (1, 2, sum(lengths), 16)
    results = []
    inputs = [torch.randn(each) for each in shape]
    gates = torch.rand(1, 4, sum(lengths), 3)
    for kernels in (True, False):
        q, k, v = (x.clone().requires_grad_() for x in inputs)
        attention = PackedAttention(lengths, CPU, kernels=kernels)

        def compress(x: torch.Tensor, first: int = 0) -> torch.Tensor:
            return (
                x.unfold(2, 8, 4).mean(dim=-1) * (1.5 + first) if x.shape[2] >= 8 else x[:, :, :0]
            )

        out, _ = attention.attend(0, q, k, v, settings, gates, False, compress if learned else None)
        (out * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
        results.append((out, q.grad, k.grad, v.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)


def test_positions_begin_again_with_each_document() -> None:
    found = PackedAttention((3, 1, 2), CPU).positions(6, CPU)
    assert found.tolist() == [0, 1, 2, 0, 0, 1]
    assert NoCache().positions(3, CPU).tolist() == [0, 1, 2]
