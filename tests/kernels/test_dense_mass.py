"""Dense attention with the mass of each block, against full rows of scores in fp64."""

from __future__ import annotations

import pytest
import torch

from nsa_kernels import dense_mass
from nsa_kernels.api import nsa_attention
from nsa_kernels.blockwise import block_mass
from nsa_kernels.dense_mass import dense_with_mass
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(select_count=None, select_block=16)


@pytest.mark.parametrize(
    ("at_once", "keys"),
    [(1, 2**12), (16 * 12 * 40, 2**12), (2**21, 100), (2**21, 2**12)],
    ids=["blocks", "parts", "one-softmax", "whole"],
)
@pytest.mark.parametrize(
    ("length", "queries"), [(700, 30), (704, 16), (699, 1), (40, 40), (5, 3), (129, 100)]
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float64, 1e-7)]
)
def test_output_and_mass_equal_full_attention(
    at_once: int,
    keys: int,
    length: int,
    queries: int,
    dtype: torch.dtype,
    tolerance: float,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dense_mass, "_SCORES_AT_ONCE", at_once)
    monkeypatch.setattr(dense_mass, "_KEYS_AT_ONCE", keys)
    torch.manual_seed(seed)
    q = torch.randn(2, 6, queries, 8).to(dtype)
    k, v = torch.randn(2, 3, length, 8).to(dtype) * 3, torch.randn(2, 3, length, 5).to(dtype)
    out, mass = dense_with_mass(q, k, v, 16)
    assert out.dtype == dtype
    assert mass.dtype == torch.float32
    torch.testing.assert_close(
        mass, block_mass(q.double(), k.double(), None, SETTINGS).float(), rtol=1e-4, atol=1e-5
    )
    keys, values = (x.double().repeat_interleave(2, dim=1) for x in (k, v))
    scores = q.double() @ keys.transpose(2, 3) / 8**0.5
    hidden = torch.ones(queries, length, dtype=torch.bool).triu(length - queries + 1)
    exact = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1) @ values
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)


def test_large_scores_stay_finite() -> None:
    q, k, v = torch.ones(1, 2, 3, 8) * 1e4, torch.randn(1, 1, 90, 8) * 1e4, torch.randn(1, 1, 90, 8)
    out, mass = dense_with_mass(q, k, v, 16)
    assert out.isfinite().all()
    torch.testing.assert_close(mass.sum(dim=-1), torch.ones(1, 2, 3))


def test_the_operation_uses_it_without_gradients(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    torch.manual_seed(seed)
    q, k, v = torch.randn(1, 4, 20, 8), torch.randn(1, 2, 200, 8), torch.randn(1, 2, 200, 8)
    slow = nsa_attention(q, k, v, SETTINGS, return_mass=True)
    calls = []
    monkeypatch.setattr(
        "nsa_kernels.api.dense_with_mass", lambda *a: calls.append(1) or dense_with_mass(*a)
    )
    nsa_attention(q, k, v, SETTINGS, return_mass=True)
    assert not calls
    with torch.inference_mode():
        quick = nsa_attention(q, k, v, SETTINGS, return_mass=True)
    assert calls
    assert quick.blocks is None
    torch.testing.assert_close(quick.out, slow.out, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quick.mass, slow.mass, rtol=1e-4, atol=1e-5)
