"""Merged block lists and attention to them, against plain Python and masked attention in fp64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from exactness import (
    DEVICE,
    SMALL,
    Tensors,
    assert_as_exact,
    draw,
    gpu,
    masked_attention,
    pack,
    random_blocks,
    seen_in,
    tile_count,
)
from torch import Tensor

from nsa_kernels.gpu import selected, selected_backward
from nsa_kernels.gpu.bands import OutputGradient
from nsa_kernels.gpu.hopper.lists import WarpgroupLists, warpgroup_lists
from nsa_kernels.gpu.layout import Packing, Problem, empty_rows
from nsa_kernels.gpu.merge import merge
from nsa_kernels.gpu.selected import selected_forward
from nsa_kernels.gpu.selected_backward import selected_rows_backward
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")

ONE_BY_ONE = replace(SMALL, select_tile=1)


def force(monkeypatch: pytest.MonkeyPatch, merged: bool) -> None:
    """Make the merged kernels do all the work, or none, for any lists."""

    def forced(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            lists = make(*arguments)
            assert lists is not None
            lists.margin.fill_(-1 if merged else 1)
            return lists

        return made

    for module in (selected, selected_backward):
        monkeypatch.setattr(module, "merge", forced(merge))


def chosen_by(blocks: Tensor, tiles: Iterable[int]) -> list[set[int]]:
    """The blocks that each of the given tiles selected, from (U, n)."""
    return [{int(block) for block in blocks[tile] if block >= 0} for tile in tiles]


@pytest.mark.parametrize(
    ("changes", "queries", "seq_len", "repeat", "members"),
    [
        ({}, 50, 50, 16, 4),
        ({}, 37, 203, 7, 9),
        ({}, 3, 90, 3, 16),
        ({"select_tile": 4}, 22, 133, 3, 5),
        ({"select_tile": 16}, 40, 75, 2, 2),
    ],
)
def test_a_merged_list_names_each_block_once(
    changes: dict[str, int], queries: int, seq_len: int, repeat: int, members: int
) -> None:
    settings = replace(ONE_BY_ONE, **changes)  # type: ignore[arg-type]
    tensors = draw(settings, queries, seq_len, repeat=repeat)
    problem = Problem.of(*(tensors[x] for x in "qkv"), settings, None)
    blocks = random_blocks(settings, queries, seq_len, count=5)
    lists = merge(problem, blocks)
    assert lists is not None
    assert lists.members == members
    tiles = tile_count(queries, seq_len, settings)
    margin = 0
    for group in range(2):
        for merged, first in enumerate(range(0, tiles, members)):
            chosen = chosen_by(blocks[0, group], range(first, min(first + members, tiles)))
            entries = lists.entries[0, group, merged, : lists.counts[0, group, merged]].tolist()
            found = {entry & 0xFFFF: (entry >> 16) & 0xFFFF for entry in entries}
            assert len(found) == len(entries)
            assert found == {
                block: sum(1 << i for i, own in enumerate(chosen) if block in own)
                for block in set().union(*chosen)
            }
            margin += 2 * len(entries) - sum(len(own) for own in chosen)
    assert int(lists.margin) == margin


@pytest.mark.parametrize("tile", [1, 4])
def test_packed_lists_are_separate(tile: int) -> None:
    settings = replace(SMALL, select_tile=tile)
    lengths = [(1, 1), (5, 40), (0, 0), (33, 70), (9, 20), (1, 16)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys, repeat=3)
    problem = Problem.of(*(tensors[x] for x in "qkv"), settings, packing)
    blocks = torch.cat([random_blocks(settings, *length, count=3) for length in lengths], dim=2)
    lists = merge(problem, blocks)
    assert lists is not None
    for number, part in enumerate(parts):
        row = part.tiles.start // lists.members + number
        for first in range(part.tiles.start, part.tiles.stop, lists.members):
            last = min(first + lists.members, part.tiles.stop)
            chosen = set().union(*chosen_by(blocks[0, 1], range(first, last)))
            found = lists.entries[0, 1, row, : lists.counts[0, 1, row]] & 0xFFFF
            assert sorted(found.tolist()) == sorted(chosen)
            row += 1


def test_rows_that_fill_a_program_are_not_merged() -> None:
    settings = replace(SMALL, select_block=64, select_tile=64)
    tensors = draw(settings, 64, repeat=1)
    problem = Problem.of(*(tensors[x] for x in "qkv"), settings, None)
    assert merge(problem, random_blocks(settings, 64, 64, count=2)) is None


def assert_a_warpgroups_list(
    lists: WarpgroupLists, row: list[int], chosen: list[set[int]], first_position: int
) -> None:
    """Assert the union of three warpgroups and each warpgroup's entries."""
    counts = row[6 * lists.room :]
    union = row[: counts[0]]
    assert sorted(union) == sorted(set().union(*chosen))
    whole = [block * 64 + 63 <= first_position for block in union]
    assert whole == sorted(whole, reverse=True)
    each = -(-len(chosen) // 3)
    for w in range(3):
        own = chosen[w * each : (w + 1) * each]
        begin = (3 + w) * lists.room
        entries = [entry & 0xFFFFFFFF for entry in row[begin : begin + counts[1 + w]]]
        places = [entry >> 23 for entry in entries]
        assert places == sorted(set(places))
        found = {
            union[place]: (entry >> 15) & 255 for place, entry in zip(places, entries, strict=True)
        }
        assert [union[place] for place in places] == [entry & 0x7FFF for entry in entries]
        assert found == {
            block: sum(1 << i for i, blocks in enumerate(own) if block in blocks)
            for block in set().union(*own)
        }
        assert counts[4 + w] == sum(whole[place] for place in places)


@pytest.mark.parametrize(
    ("repeat", "count", "queries", "seq_len", "tile"),
    [
        (16, 16, 50, 700, 1),
        (8, 9, 61, 900, 1),
        (16, 5, 7, 7, 1),
        (32, 4, 20, 300, 1),
        (16, 6, 85, 300, 64),
        (8, 5, 40, 133, 4),
    ],
)
def test_lists_of_three_warpgroups(
    repeat: int, count: int, queries: int, seq_len: int, tile: int
) -> None:
    settings = AttentionSettings(combine="gated", select_tile=tile)
    tensors = draw(settings, queries, seq_len, repeat=repeat)
    problem = Problem.of(*(tensors[x] for x in "qkv"), settings, None)
    blocks = random_blocks(settings, queries, seq_len, count=count)
    each = 64 // repeat
    lists = warpgroup_lists(problem, blocks, each, 3)
    rows = lists.rows.view(2, lists.tiles, lists.size).tolist()
    margin = 0
    for group in range(2):
        for number in range(lists.tiles):
            first = number * 3 * each
            tiles = [
                (seq_len - queries + query) // tile - (seq_len - queries) // tile
                for query in range(first, min(first + 3 * each, queries))
            ]
            chosen = chosen_by(blocks[0, group], tiles)
            spare: list[set[int]] = [set()] * (3 * each - len(chosen))
            row = rows[group][number]
            assert_a_warpgroups_list(lists, row, chosen + spare, seq_len - queries + first)
            margin += 2 * row[6 * lists.room] - sum(len(own) for own in chosen)
    assert int(lists.margin) == margin


def attend(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    grad: Tensor,
    others: Tensor | None,
    packing: Packing | None = None,
) -> Tensors:
    """Output, log-sum-exp and gradients of queries and gate by the kernels."""
    q, k, v = (tensors[x] for x in "qkv")
    problem = Problem.of(q, k, v, settings, packing)
    alone, lse = selected_forward(problem, q, k, v, blocks)
    found = {"out": alone, "lse": lse.clone()}
    gate = sums = None
    if others is not None:
        gate, sums = tensors["gates"][..., 1], problem.per_query(q)
        rows = empty_rows(q, v.shape[3]).copy_(others)
        found["out"], _ = selected_forward(problem, q, k, v, blocks, gate=gate, others=rows)
        lse -= gate.log2()
    dots = problem.per_query(q).copy_((alone.float() * grad.float()).sum(-1))
    of = OutputGradient(out=grad, lse=lse, dots=dots)
    dq = torch.zeros_like(q) if others is None else torch.ones_like(q)
    adds = others is not None
    selected_rows_backward(problem, q, k, v, blocks, of, dq, adds=adds, sums=sums)
    found["dq"] = dq - 1 if adds else dq
    return found if gate is None or sums is None else {**found, "dgate": sums / gate}


def by_autograd(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    grad: Tensor,
    others: Tensor | None,
    dtype: torch.dtype,
) -> Tensors:
    """The same results by masked attention."""
    q, k, v = (tensors[x].detach().to(dtype) for x in "qkv")
    q.requires_grad_()
    seen = seen_in(blocks, q.shape[2], k.shape[2], settings)
    out, lse = masked_attention(q, k, v, seen)
    inputs = {"dq": q}
    if others is not None:
        inputs["dgate"] = tensors["gates"][..., 1].detach().to(dtype).requires_grad_()
        out = others.to(dtype) + inputs["dgate"][..., None] * out
    found = torch.autograd.grad(out, list(inputs.values()), grad.to(dtype))
    return {"out": out, "lse": lse, **dict(zip(inputs, found, strict=True))}


def compare(
    settings: AttentionSettings,
    tensors: Tensors,
    blocks: Tensor,
    grad: Tensor,
    others: Tensor | None,
    got: Tensors,
) -> None:
    """Compare within the tolerance."""
    own = tensors["q"].dtype
    exact, eager = (
        by_autograd(settings, tensors, blocks, grad, others, dtype)
        for dtype in (torch.float64, own)
    )
    assert got.keys() == exact.keys()
    lse = got.pop("lse")
    torch.testing.assert_close(lse.double(), exact["lse"], rtol=1e-5, atol=2e-5)
    terms = tensors["q"].shape[3] + tensors["k"].shape[2]
    for name, x in got.items():
        assert_as_exact(name, x.to(own), exact[name], eager[name], terms=terms, unit=4.0)


@pytest.mark.parametrize(
    "merged", [True, pytest.param(False, marks=pytest.mark.long)], ids=["merged", "single"]
)
@pytest.mark.parametrize(
    ("gated", "changes", "queries", "seq_len", "repeat"),
    [
        (True, {}, 17, 35, 16),
        (False, {}, 21, 41, 7),
        (True, {"select_block": 32}, 18, 133, 3),
        (False, {"select_tile": 4, "select_block": 64}, 22, 133, 1),
        (True, {"select_block": 128}, 9, 300, 14),
    ],
)
def test_merged_attention_equals_a_mask(
    gated: bool,
    changes: dict[str, int],
    queries: int,
    seq_len: int,
    repeat: int,
    merged: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch, merged)
    settings = replace(ONE_BY_ONE, **changes)  # type: ignore[arg-type]
    tensors = draw(settings, queries, seq_len, groups=1, repeat=repeat, dim=24, value_dim=16)
    blocks = random_blocks(settings, queries, seq_len, groups=1, count=5)
    shape = (1, repeat, queries, 16)
    others = torch.randn(shape, device=DEVICE) if gated else None
    grad = torch.randn(shape, device=DEVICE)
    got = attend(settings, tensors, blocks, grad, others)
    compare(settings, tensors, blocks, grad, others, got)


@pytest.mark.parametrize("tile", [4, pytest.param(1, marks=pytest.mark.long)])
def test_merged_attention_of_packed_sequences(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, True)
    settings = replace(SMALL, select_tile=tile)
    lengths = [(1, 1), (5, 40), (0, 0), (11, 24)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys, repeat=3)
    chosen = [random_blocks(settings, *length, count=3) for length in lengths]
    # The table has more tiles than the sequences need.
    spare = torch.full((1, 2, 0 if tile == 1 else 9, 3), -1, dtype=torch.int32, device=DEVICE)
    blocks = torch.cat([*chosen, spare], dim=2)
    others, grad = (torch.randn(1, 6, queries, 16, device=DEVICE) for _ in range(2))
    got = attend(settings, tensors, blocks, grad, others, packing)
    for (count, _), part, own in zip(lengths, parts, chosen, strict=True):
        if count:
            at = part.queries
            here = {name: x[:, :, at] for name, x in got.items()}
            compare(settings, part.of(tensors), own, grad[:, :, at], others[:, :, at], here)


@gpu
@pytest.mark.parametrize("merged", [True, False], ids=["merged", "single"])
@pytest.mark.parametrize(
    ("dtype", "dims", "repeat"),
    [
        (torch.bfloat16, (128, 128), 16),
        (torch.bfloat16, (64, 64), 14),
        (torch.float16, (96, 96), 12),
        (torch.bfloat16, (64, 64), 8),
        (torch.bfloat16, (64, 64), 7),
        (torch.float16, (192, 128), 6),
        (torch.bfloat16, (128, 128), 4),
        (torch.float16, (96, 96), 3),
        (torch.float16, (128, 128), 1),
        (torch.float32, (64, 64), 2),
    ],
)
def test_merged_attention_on_cuda(
    dtype: torch.dtype,
    dims: tuple[int, int],
    repeat: int,
    merged: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    force(monkeypatch, merged)
    monkeypatch.setattr(selected, "serves_merged", lambda *_: False)
    settings = replace(ONE_BY_ONE, select_block=64)
    for queries, seq_len in ((333, 333), (77, 700)):
        shape = {"groups": 2, "repeat": repeat, "dim": dims[0], "value_dim": dims[1]}
        tensors = draw(settings, queries, seq_len, dtype=dtype, **shape)
        blocks = random_blocks(settings, queries, seq_len, count=8)
        others, grad = (
            torch.randn(1, 2 * repeat, queries, dims[1], device=DEVICE).to(dtype) for _ in range(2)
        )
        got = attend(settings, tensors, blocks, grad, others)
        compare(settings, tensors, blocks, grad, others, got)
