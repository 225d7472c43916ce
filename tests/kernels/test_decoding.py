"""A decode step as large products against the reference in fp64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nsa_kernels import decoding
from nsa_kernels.api import AttentionResult, nsa_attention
from nsa_kernels.reference import compress, nsa_reference
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(
    compress_block=16, compress_stride=16, select_count=3, window=64, select_tile=1, score_stride=1
)
COVERED = (3 + 1 + 1) * 64


def draw(length: int, heads: int, batch: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(batch, heads, 1, 8, dtype=torch.float64) * 2
    k, v = (torch.randn(batch, 2, length, 8, dtype=torch.float64) for _ in range(2))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def stepped(
    q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings, summary_k: Tensor | None = None
) -> AttentionResult:
    """The operation's result; asserts that it comes from the decode step."""
    with torch.no_grad():
        assert decoding.takes(q, k.shape[2], settings)
        return nsa_attention(q, k, v, settings, summary_k=summary_k, return_mass=True)


@pytest.mark.parametrize("length", [COVERED + 1, COVERED + 63, COVERED + 64, 449, 1000])
@pytest.mark.parametrize(("heads", "batch"), [(2, 1), (14, 1), (6, 3)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"compress_block": 4, "compress_stride": 4},
        {"compress_block": 32, "compress_stride": 16},
        {"select_count": 1, "init_blocks": 0, "local_blocks": 1},
        {"select_count": 100, "init_blocks": 2, "local_blocks": 3},
        {"select_block": 32, "window": 96},
    ],
)
def test_equals_the_reference(
    length: int, heads: int, batch: int, changes: dict[str, int], seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(SETTINGS, **changes)
    q, k, v = draw(length, heads, batch, torch.float64)
    if settings.covers(length):
        assert not decoding.takes(q, length, settings)
        return
    found = stepped(q, k, v, settings)
    out, blocks, mass = nsa_reference(q, k, v, settings)
    assert found.blocks is not None
    assert torch.equal(found.blocks.sort().values, blocks.sort().values)
    assert found.mass is not None
    torch.testing.assert_close(found.mass.double(), mass, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.out, out, rtol=1e-4, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_step_equals_a_cpu_step(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(1000, 6, 1, torch.float32)
    expected = stepped(*tensors, SETTINGS)
    q, k, v = (x.cuda() for x in tensors)
    found = stepped(q, k, v, SETTINGS)
    assert found.blocks is not None
    assert expected.blocks is not None
    assert torch.equal(found.blocks.cpu().sort().values, expected.blocks.sort().values)
    assert found.mass is not None
    torch.testing.assert_close(found.mass.cpu(), expected.mass, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.out.cpu(), expected.out, rtol=1e-4, atol=1e-5)


def test_bf16_is_no_worse_than_its_rounding(seed: int) -> None:
    torch.manual_seed(seed)
    q, k, v = draw(900, 6, 1, torch.bfloat16)
    found = stepped(q, k, v, SETTINGS)
    assert found.out.dtype == torch.bfloat16
    assert found.blocks is not None
    with torch.no_grad():
        same = torch.zeros(900, dtype=torch.bool)
        same[(900 - 1) // 64 * 64 - 64 :] = True
        for block in found.blocks[0, 0, 0].tolist():
            same[block * 64 : block * 64 + 64] = True
        scores = q[:, :3].double() @ k[:, :1].double().transpose(-1, -2) / 8**0.5
        exact = scores.masked_fill(~same, float("-inf")).softmax(-1) @ v[:, :1].double()
    torch.testing.assert_close(found.out[:, :3].double(), exact, rtol=2e-2, atol=2e-2)


def test_given_summaries_select_the_blocks(seed: int) -> None:
    """A learned compression; summaries past the text are not read."""
    torch.manual_seed(seed)
    q, k, v = draw(1000, 4, 1, torch.float64)
    own = torch.randn(1, 2, 80, 8, dtype=torch.float64)
    own[:, :, 1000 // 16 :] = float("nan")
    found = stepped(q, k, v, SETTINGS, own)
    out, blocks, _ = nsa_reference(q, k, v, SETTINGS, summary_k=own[:, :, : 1000 // 16])
    assert found.blocks is not None
    assert torch.equal(found.blocks.sort().values, blocks.sort().values)
    torch.testing.assert_close(found.out, out, rtol=1e-4, atol=2e-5)
    assert not torch.equal(own[:, :, : 1000 // 16], compress(k, SETTINGS))


@pytest.mark.parametrize(
    "changes",
    [
        {"select_tile": 64},
        {"select_tile": 4, "score_stride": 4},
        {"score_pooling": "max"},
        {"combine": "gated"},
        {"select_count": None},
    ],
)
def test_unsupported_calls(changes: dict[str, object]) -> None:
    q, k, _ = draw(1000, 4, 1, torch.float32)
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    with torch.no_grad():
        assert decoding.takes(q, 1000, SETTINGS)
        assert not decoding.takes(q, 1000, settings)
        assert not decoding.takes(torch.cat([q, q], dim=2), 1000, SETTINGS)
        assert not decoding.takes(q, COVERED, SETTINGS)
    assert not decoding.takes(q, 1000, SETTINGS)
    assert k.shape[2] == 1000
