"""The gated branches in bounded memory, and InfLLM-v2's scores, against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nsa_kernels import branches
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings

PAPER = AttentionSettings(combine="gated", select_count=4, window=100)
PLAIN = AttentionSettings(
    combine="gated",
    compress_block=16,
    compress_stride=16,
    select_block=16,
    select_count=16,
    select_run=16,
    init_blocks=0,
    local_blocks=1,
    window=40,
)
SETTINGS = [
    PAPER,
    PLAIN,
    replace(PLAIN, select_count=11),
    replace(PLAIN, select_count=3, select_run=None, local_blocks=0),
    replace(PLAIN, select_tile=8, score_stride=4),
    replace(PLAIN, window=0),
    replace(PAPER, select_count=None, window=0),
    replace(PAPER, select_tile=16, score_stride=4),
]
INFLLM = AttentionSettings(
    select_count=3, window=64, local_blocks=0, score_pooling="max", score_norm=4
)


def draw(seed: int, queries: int, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries of two groups of three heads, keys, values and gates; scores spread widely."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    q, k, v = normal(2, 6, queries, 8) * 2, normal(2, 2, length, 8), normal(2, 2, length, 8)
    return q, k, v, torch.rand(2, 6, queries, 3, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1), (15, 15), (64, 64), (300, 300), (700, 700), (37, 600)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_the_reference(
    settings: AttentionSettings, shape: tuple[int, int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of a few queries as well. Scores are in fp32, so a near tie may change its order."""
    q, k, v, gates = draw(seed, *shape)
    out, blocks, mass = nsa_reference(q, k, v, settings, gates=gates)
    for budget in (2**25, 2**16):
        monkeypatch.setattr(branches, "_AT_ONCE", budget)
        found = nsa_attention(q, k, v, settings, gates=gates, impl=Impl.BLOCKWISE, return_mass=True)
        assert found.mass is not None
        same = torch.ones(out.shape[:3], dtype=torch.bool)
        if settings.select_count is not None:
            assert found.blocks is not None
            assert found.blocks.shape == blocks.shape
            tiles = (found.blocks.sort(dim=-1).values == blocks.sort(dim=-1).values).all(dim=-1)
            assert tiles.float().mean() > 0.98
            offset = shape[1] - shape[0]
            of = torch.arange(offset, shape[1]) // settings.select_tile
            same = tiles[:, :, of - of[0]].repeat_interleave(3, dim=1)
        torch.testing.assert_close(found.out[same], out[same], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.mass[same].double(), mass[same], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [PAPER, replace(PLAIN, select_tile=8), replace(PLAIN, window=0)]
)
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (300, 300), (37, 600)])
def test_the_windows_own_keys_as_the_reference(
    settings: AttentionSettings, shape: tuple[int, int], seed: int
) -> None:
    """All of them, or the last that the queries can see; with the gradients of both."""
    queries, length = shape
    q, k, v, gates = draw(seed, *shape)
    _, window_k, window_v, _ = draw(seed + 1, *shape)
    reach = min(length, queries + max(0, settings.window - 1))
    exact, blocks, _ = nsa_reference(
        q, k, v, settings, window_k=window_k, window_v=window_v, gates=gates
    )
    slope = torch.randn_like(exact)
    for first in (0, length - reach):
        own = [x[:, :, first:].clone().requires_grad_() for x in (window_k, window_v)]
        gradients = []
        for impl in (Impl.REFERENCE, Impl.BLOCKWISE):
            found = nsa_attention(
                q, k, v, settings, window_k=own[0], window_v=own[1], gates=gates, impl=impl
            )
            assert found.blocks is not None
            same = (found.blocks.sort(dim=-1).values == blocks.sort(dim=-1).values).all(dim=-1)
            of = torch.arange(length - queries, length) // settings.select_tile
            same = same[:, :, of - of[0]].repeat_interleave(3, dim=1)
            assert same.float().mean() > 0.95
            torch.testing.assert_close(found.out[same], exact[same], atol=1e-5, rtol=1e-5)
            if settings.window:
                gradients.append(torch.autograd.grad(found.out, own, slope))
        if gradients:
            for one, other in zip(*gradients, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_windows_own_keys_that_do_not_fit(seed: int) -> None:
    q, k, v, gates = draw(seed, 10, 300)
    few = {"window_k": k[:, :, 200:], "window_v": v[:, :, 200:]}
    with pytest.raises(ValueError, match="W from 109 to 300"):
        nsa_attention(q, k, v, PAPER, gates=gates, **few)
    with pytest.raises(ValueError, match="they need the same"):
        nsa_attention(q, k, v, PAPER, gates=gates, window_k=k)
    with pytest.raises(ValueError, match="combine='union' has one set of keys"):
        nsa_attention(q, k, v, INFLLM, window_k=k, window_v=v)


@pytest.mark.parametrize("settings", [replace(PAPER, select_count=64), replace(PLAIN, window=7)])
def test_bfloat16(settings: AttentionSettings, seed: int) -> None:
    """All blocks are selected, so that rounding does not affect the selection."""
    settings = replace(settings, select_count=64, select_run=None)
    q, k, v, gates = (x.bfloat16() for x in draw(seed, 200, 260))
    out = nsa_attention(q, k, v, settings, gates=gates).out
    exact, _, _ = nsa_reference(q.double(), k.double(), v.double(), settings, gates=gates.double())
    assert out.dtype == torch.bfloat16
    assert (out.double() - exact).abs().max() < 0.06


@pytest.mark.parametrize("settings", [PAPER, PLAIN])
def test_gradients(settings: AttentionSettings, seed: int) -> None:
    tensors = [x.requires_grad_() for x in draw(seed, 90, 90)]
    q, k, v, gates = tensors
    direction = torch.randn_like(q)
    expected = torch.autograd.grad(
        (nsa_reference(q, k, v, settings, gates=gates)[0] * direction).sum(), tensors
    )
    out = nsa_attention(q, k, v, settings, gates=gates, impl=Impl.BLOCKWISE).out
    for ours, theirs in zip(
        torch.autograd.grad((out * direction).sum(), tensors), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(64, 64), (300, 300), (900, 900), (5, 900)])
@pytest.mark.parametrize(
    "settings",
    [
        INFLLM,
        replace(INFLLM, score_norm=1),
        replace(INFLLM, score_pooling="sum"),
        replace(INFLLM, select_tile=64, score_stride=16),
        replace(INFLLM, dense_below=301),
    ],
)
def test_scores_of_infllm(settings: AttentionSettings, shape: tuple[int, int], seed: int) -> None:
    q, k, v, _ = draw(seed, *shape)
    out, blocks, _ = nsa_reference(q, k, v, settings)
    found = nsa_attention(q, k, v, settings, impl=Impl.BLOCKWISE)
    same = torch.ones(out.shape[:3], dtype=torch.bool)
    if found.blocks is None:
        assert settings.covers(shape[1])
    else:
        width = found.blocks.shape[-1]
        kept = blocks[..., :width].sort(dim=-1).values
        tiles = (found.blocks.sort(dim=-1).values == kept).all(dim=-1)
        assert tiles.float().mean() > 0.98
        of = torch.arange(shape[1] - shape[0], shape[1]) // settings.select_tile
        same = tiles[:, :, of - of[0]].repeat_interleave(3, dim=1)
    torch.testing.assert_close(found.out[same], out[same], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (PLAIN, "select_run"),
        (replace(PAPER, window=0), "window"),
        (INFLLM, "score_pooling"),
        (replace(INFLLM, score_pooling="sum", score_norm=1, dense_below=900), "dense_below"),
    ],
)
def test_triton_refuses_unsupported_settings(settings: AttentionSettings, word: str) -> None:
    pytest.importorskip("triton")
    q, k, v, gates = (x.float() for x in draw(0, 64, 64))
    given = gates if settings.combine == "gated" else None
    with pytest.raises(UnsupportedError, match=word):
        nsa_attention(q, k, v, settings, gates=given, impl=Impl.TRITON)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score_pooling": "mean"}, "score_pooling is 'mean'"),
        ({"score_norm": 0}, "score_norm is 0"),
        ({"score_pooling": "max", "combine": "gated"}, "compression branch"),
        ({"select_run": 15, "combine": "gated"}, "must be even"),
        ({"select_run": 16}, "set select_run to None"),
        ({"window": 0}, "see itself"),
        ({"window": -1, "combine": "gated"}, "window is -1"),
        ({"dense_below": 8, "combine": "gated"}, "dense_below to 0"),
        ({"dense_below": -1}, "dense_below is -1"),
    ],
)
def test_contradicting_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionSettings(**values)  # type: ignore[arg-type]
