"""Attention block by block against plain softmax attention under a mask."""

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
    seen_in,
)
from torch import Tensor

from nsa_kernels.gpu import by_block
from nsa_kernels.gpu.by_block import Chunks, by_block_forward, goes_by_block, parts
from nsa_kernels.gpu.layout import Packing, Problem, empty_rows
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

OWN = replace(SMALL, select_tile=1, select_count=5)


def lists(settings: AttentionSettings, queries: int, seq_len: int) -> Tensor:
    """Blocks as `select_blocks` lists them, the free ones drawn: (1, 2, T, n)."""
    union = settings.combine == "union"
    back = settings.window_blocks if union else settings.local_blocks - 1
    assert settings.select_count is not None
    rows = []
    for position in range(seq_len - queries, seq_len):
        current = position // settings.select_block
        near = [block for block in range(current, current - back - 1, -1) if block >= 0]
        pool = range(max(current - settings.window_blocks, 0) if union else current + 1)
        forced = [x for x in pool if x < settings.init_blocks or (x in near and not union)]
        free = [x for x in pool if x not in forced]
        drawn = [free[i] for i in torch.randperm(len(free)).tolist()]
        row = (forced + drawn)[: settings.select_count]
        row += [-1] * (settings.select_count - len(row))
        if union:
            row += near + [-1] * (back + 1 - len(near))
        rows.append(row)
    one = torch.tensor(rows, dtype=torch.int32, device=DEVICE)
    return torch.stack([one, one])[None]


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


def attend(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    others: Tensor | None,
    packing: Packing | None = None,
) -> tuple[Tensor, Tensor]:
    q, k, v = (tensors[x] for x in "qkv")
    problem = Problem.of(q, k, v, settings, packing)
    if others is None:
        return by_block_forward(problem, q, k, v, blocks)
    rows = empty_rows(q, v.shape[3]).copy_(others)
    return by_block_forward(
        problem, q, k, v, blocks, gate=tensors["gates"][..., 1], others=rows
    )


@pytest.mark.parametrize(
    ("changes", "queries", "seq_len", "repeat", "room"),
    [
        ({}, 130, 130, 2, 2**29),
        ({}, 77, 150, 7, 40_000),
        ({"local_blocks": 1, "init_blocks": 2}, 100, 131, 1, 20_000),
        ({"init_blocks": 0}, 65, 90, 3, 10_000),
        ({"combine": "union", "window": 32}, 120, 120, 6, 60_000),
        ({"combine": "union", "window": 16, "select_count": 2}, 40, 140, 16, 50_000),
        ({"select_block": 64, "select_count": 6}, 60, 500, 32, 2**29),
    ],
)
def test_going_by_block_equals_a_mask(
    changes: dict[str, int],
    queries: int,
    seq_len: int,
    repeat: int,
    room: int,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With rooms so small that there are several chunks, across groups and along queries."""
    torch.manual_seed(seed)
    monkeypatch.setattr(by_block, "_ROOM", room)
    settings = replace(OWN, **changes)  # type: ignore[arg-type]
    tensors = draw(settings, queries, seq_len, repeat=repeat, dim=24, value_dim=16)
    blocks = lists(settings, queries, seq_len)
    others = None
    if settings.combine == "gated":
        others = torch.randn(1, 2 * repeat, queries, 16, device=DEVICE)
    compare(settings, tensors, blocks, others, attend(settings, tensors, blocks, others))


@pytest.mark.parametrize("room", [2**29, 6_000])
def test_packed_sequences_attend_to_their_own_blocks(
    room: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    monkeypatch.setattr(by_block, "_ROOM", room)
    lengths = [(1, 1), (5, 140), (0, 0), (1, 70), (90, 90)]
    packing, pieces = pack(lengths, OWN)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(OWN, queries, keys, repeat=3)
    others = torch.randn(1, 6, queries, 16, device=DEVICE)
    chosen = [lists(OWN, *length) for length in lengths if length[0]]
    blocks = torch.cat(chosen, dim=2)
    out, lse = attend(OWN, tensors, blocks, others, packing)
    kept = [piece for piece, (count, _) in zip(pieces, lengths, strict=True) if count]
    for part, own in zip(kept, chosen, strict=True):
        here = others[:, :, part.queries]
        got = (out[:, :, part.queries], lse[:, :, part.queries])
        compare(OWN, part.of(tensors), own, here, got)


def test_chunks_cover_every_query_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.zeros(1, 8, 1000, 16, device=DEVICE)
    k = torch.zeros(1, 4, 1000, 16, device=DEVICE)
    problem = Problem.of(q, k, k, OWN, None)
    row = problem.repeat * 16 * q.element_size() * parts(problem)
    for room, chunks in ((row * 5000, 1), (row * 2500, 2), (row * 1000, 4), (row * 300, 16)):
        monkeypatch.setattr(by_block, "_ROOM", room)
        found = Chunks.of(problem, 4, 1000)
        assert len(found) == chunks
        numbers = found.numbers(q.device)
        seen = torch.zeros_like(numbers)
        for chunk in found:
            own = (
                slice(chunk.first_group, chunk.first_group + chunk.groups),
                slice(chunk.first, chunk.first + chunk.queries),
            )
            seen[own] += 1
            assert (numbers[own] == chunk.number).all()
        assert (seen == 1).all()


def test_only_many_queries_with_blocks_of_their_own_go_by_block() -> None:
    def of(queries: int, seq_len: int, settings: AttentionSettings) -> bool:
        q = torch.zeros(1, 4, queries, 16, device=DEVICE)
        k = torch.zeros(1, 2, seq_len, 16, device=DEVICE)
        return goes_by_block(Problem.of(q, k, k, settings, None))

    assert of(4096, 4096, OWN)
    assert not of(4096, 4096, replace(OWN, select_tile=4))
    assert not of(20, 4096, OWN)
    assert not of(4096, 4096, replace(OWN, select_count=3))
    assert not of(4096, 4096, replace(OWN, local_blocks=0))
