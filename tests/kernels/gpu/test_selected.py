"""Attention to given blocks against plain softmax attention under a mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exactness import (
    DEVICE,
    SMALL,
    Tensors,
    assert_as_exact,
    draw,
    masked_attention,
    pack,
    random_blocks,
    seen_in,
    union_blocks,
)
from torch import Tensor

from nsa_kernels.gpu.layout import Packing, Problem, empty_rows
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selection import select_blocks
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def attend(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    others: Tensor | None,
    packing: Packing | None = None,
) -> tuple[Tensor, Tensor]:
    """The kernel's output, added with its gate to the sum of the other branches if given."""
    q, k, v = (tensors[x] for x in "qkv")
    problem = Problem.of(q, k, v, settings, packing)
    if others is None:
        return selected_forward(problem, q, k, v, blocks)
    rows = empty_rows(q, v.shape[3]).copy_(others)
    gate = tensors["gates"][..., 1]
    return selected_forward(problem, q, k, v, blocks, gate=gate, others=rows)


def compare(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    others: Tensor | None,
    got: tuple[Tensor, Tensor],
) -> None:
    q, k, v = (tensors[x] for x in "qkv")
    seen = seen_in(blocks, q.shape[2], k.shape[2], settings)

    def whole(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        out, lse = masked_attention(q.to(dtype), k.to(dtype), v.to(dtype), seen)
        if others is not None:
            out = others.to(dtype) + tensors["gates"][..., 1, None].to(dtype) * out
        return out, lse

    (exact, exact_lse), (eager, _) = whole(torch.float64), whole(torch.float32)
    assert_as_exact("out", got[0], exact, eager, terms=q.shape[3] + k.shape[2], unit=1.0)
    torch.testing.assert_close(got[1].double(), exact_lse, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("gated", "changes", "queries", "seq_len", "repeat"),
    [
        (True, {}, 65, 65, 2),
        (True, {"select_tile": 1}, 7, 65, 6),
        (False, {"select_tile": 1}, 5, 33, 32),
        (False, {"select_tile": 4}, 22, 133, 3),
        (True, {"select_block": 64, "select_tile": 64}, 70, 201, 7),
        (False, {"select_block": 128, "select_tile": 16}, 20, 300, 16),
        (True, {"select_block": 32}, 31, 31, 1),
    ],
)
def test_attention_to_blocks_equals_a_mask(
    gated: bool, changes: dict[str, int], queries: int, seq_len: int, repeat: int, seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, **changes)  # type: ignore[arg-type]
    tensors = draw(settings, queries, seq_len, repeat=repeat, dim=24, value_dim=16)
    blocks = random_blocks(settings, queries, seq_len, count=5)
    others = torch.randn(1, 2 * repeat, queries, 16, device=DEVICE) if gated else None
    compare(settings, tensors, blocks, others, attend(settings, tensors, blocks, others))


@pytest.mark.parametrize("tile", [1, 16])
def test_packed_sequences_attend_within_their_sequence(tile: int, seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, select_tile=tile)
    lengths = [(1, 1), (5, 40), (0, 0), (1, 70), (9, 20)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys, repeat=3)
    others = torch.randn(1, 6, queries, 16, device=DEVICE)
    chosen = [random_blocks(settings, *length, count=3) for length in lengths]
    blocks = torch.cat(chosen, dim=2)
    out, lse = attend(settings, tensors, blocks, others, packing)
    for (count, _), part, own in zip(lengths, parts, chosen, strict=True):
        if count:
            here = others[:, :, part.queries]
            got = (out[:, :, part.queries], lse[:, :, part.queries])
            compare(settings, part.of(tensors), own, here, got)


@pytest.mark.parametrize(
    ("tile", "queries", "seq_len"), [(16, 100, 100), (4, 22, 133), (16, 33, 81), (1, 3, 40)]
)
def test_lists_of_union_equal_a_mask(tile: int, queries: int, seq_len: int, seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, combine="union", select_tile=tile, window=32)
    tensors = draw(settings, queries, seq_len, repeat=3)
    blocks = union_blocks(settings, queries, seq_len)
    compare(settings, tensors, blocks, None, attend(settings, tensors, blocks, None))


@pytest.mark.parametrize(
    ("tile", "queries", "seq_len"), [(16, 100, 100), (4, 22, 133), (16, 33, 81), (1, 3, 40)]
)
def test_lengths_of_lists_of_union_follow_from_the_position(
    tile: int, queries: int, seq_len: int, seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, combine="union", select_tile=tile, window=32)
    tensors = draw(settings, queries, seq_len, repeat=3, summaries=True)
    q, k, v = (tensors[x] for x in "qkv")
    problem = Problem.of(q, k, v, settings, None)
    found = select_blocks(problem, q, tensors["summary_k"], None)
    drawn = union_blocks(settings, queries, seq_len)
    assert found.shape == drawn.shape
    assert torch.equal(found < 0, drawn < 0)
    assert settings.select_count is not None
    assert torch.equal(found[..., settings.select_count :], drawn[..., settings.select_count :])
