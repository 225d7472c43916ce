"""Selected blocks against the reference's, from its importances in fp64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exactness import DEVICE, SMALL, Tensors, assert_same_choice, draw, pack, tile_count
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.gpu import selection
from nsa_kernels.gpu.layout import Packing, Problem
from nsa_kernels.settings import AttentionSettings

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def choose(settings: AttentionSettings, tensors: Tensors, packing: Packing | None = None) -> Tensor:
    problem = Problem.of(*(tensors[x] for x in "qkv"), settings, packing)
    return selection.select_blocks(problem, tensors["q"], tensors["summary_k"], None)


def compare(settings: AttentionSettings, tensors: Tensors, got: Tensor) -> None:
    """Compare the selected blocks, and the window's blocks after them."""
    q, k, summary_k = (tensors[x].double() for x in ("q", "k", "summary_k"))
    position = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=DEVICE)
    _, probs = reference.compression_attention(q, k, summary_k, summary_k, settings)
    importances = reference.importance(probs, k.shape[1], position, settings)
    own = reference.select(importances, position, settings)
    assert settings.select_count is not None
    chosen = got[..., : settings.select_count]
    scored = q.shape[1] // k.shape[1] * settings.select_tile // settings.score_stride
    assert_same_choice(chosen, own, importances, terms=q.shape[3] + 3 * scored)
    current = position[:: 1 if settings.select_tile == 1 else len(position)]
    recent = got[..., settings.select_count :]
    if settings.combine == "gated":
        assert recent.shape[-1] == 0
        return
    assert recent.shape[-1] == settings.window_blocks + 1
    tiles = tile_count(q.shape[2], k.shape[2], settings)
    first = int(position[0]) // settings.select_tile
    current = (torch.arange(tiles, device=DEVICE) + first) * settings.select_tile
    current = (current // settings.select_block)[:, None]
    expected = (current - torch.arange(recent.shape[-1], device=DEVICE)).clamp(min=-1)
    assert (recent == expected).all()


@pytest.mark.parametrize(
    ("changes", "queries", "seq_len", "repeat"),
    [
        ({}, 200, 200, 2),
        ({"combine": "union", "window": 32}, 90, 300, 3),
        ({"select_tile": 1}, 5, 200, 1),
        ({"select_tile": 1, "combine": "union", "window": 32}, 5, 200, 6),
        ({"compress_block": 4, "score_stride": 4}, 70, 133, 7),
        ({"compress_block": 12, "score_stride": 4, "combine": "union", "window": 16}, 70, 333, 1),
        ({"compress_block": 16, "compress_stride": 16}, 133, 133, 16),
        ({"compress_block": 8, "compress_stride": 8, "select_tile": 4}, 30, 90, 32),
        ({"compress_block": 20}, 33, 250, 2),
        (
            {
                "select_block": 64,
                "select_tile": 64,
                "score_stride": 4,
                "compress_block": 32,
                "compress_stride": 16,
            },
            100,
            700,
            32,
        ),
        (
            {"select_block": 128, "select_tile": 64, "combine": "union", "window": 128},
            90,
            1000,
            3,
        ),
        ({"init_blocks": 0, "local_blocks": 0, "select_count": 1}, 40, 120, 2),
        ({"init_blocks": 3, "local_blocks": 5, "select_count": 6}, 40, 120, 2),
        ({"init_blocks": 0, "local_blocks": 0, "select_count": 6, "select_tile": 4}, 60, 120, 1),
        ({"select_count": 40}, 40, 120, 2),
        ({"init_blocks": 0, "local_blocks": 0, "combine": "union", "window": 320}, 40, 120, 2),
    ],
)
def test_the_selection_equals_the_reference(
    changes: dict[str, object], queries: int, seq_len: int, repeat: int, seed: int
) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, **changes)  # type: ignore[arg-type]
    tensors = draw(settings, queries, seq_len, groups=1, repeat=repeat, summaries=True)
    compare(settings, tensors, choose(settings, tensors))


@pytest.mark.parametrize("seq_len", [1, 7, 8, 17])
@pytest.mark.parametrize("combine", ["gated", "union"])
def test_short_texts(combine: str, seq_len: int, seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, combine=combine, window=16)  # type: ignore[arg-type]
    tensors = draw(settings, seq_len, batch=2, summaries=True)
    compare(settings, tensors, choose(settings, tensors))


def test_a_tile_without_a_scored_query_selects_the_earliest_blocks() -> None:
    settings = replace(SMALL, score_stride=4, select_count=6)
    tensors = draw(settings, 3, 160, summaries=True)
    assert choose(settings, tensors).tolist() == [[[[0, 8, 9, 1, 2, 3]]] * 2]


@pytest.mark.parametrize("room", [1, 100])
def test_a_small_buffer_takes_several_rounds(
    room: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 60, 100, groups=1, batch=2, summaries=True)
    at_once = choose(SMALL, tensors)
    monkeypatch.setattr(selection, "_ROOM", room)
    assert torch.equal(choose(SMALL, tensors), at_once)


def test_more_blocks_than_there_are_classes(seed: int) -> None:
    """The best blocks come from one residue class repeatedly."""
    torch.manual_seed(seed)
    settings = replace(SMALL, compress_block=16, compress_stride=16, select_count=12)
    tensors = draw(settings, 3, 16 * 700, groups=1, repeat=1, summaries=True)
    tensors["q"].fill_(1.0)
    tensors["summary_k"] *= 0.1
    for place, block in enumerate((7, 135, 263, 391, 519, 647, 128, 8)):
        tensors["summary_k"][:, :, block] = 1.0 - 0.05 * place
    got = choose(settings, tensors)
    compare(settings, tensors, got)
    assert got[0, 0, 0, :11].tolist() == [0, 698, 699, 7, 135, 263, 391, 519, 647, 128, 8]


@pytest.mark.parametrize("combine", ["gated", "union"])
def test_equal_importances_go_to_the_earlier_block(combine: str) -> None:
    settings = replace(
        SMALL,
        combine=combine,  # type: ignore[arg-type]
        compress_block=4,
        select_tile=4,
        select_count=6,
        window=32,
    )
    tensors = draw(settings, 140, groups=1, repeat=3, summaries=True)
    tensors["summary_k"].zero_()[..., 0] = 1.0  # one term per score: sums are exact
    got = choose(settings, tensors)[0, 0, :, :6].tolist()
    for tile, chosen in enumerate(got):
        current = tile // 4
        end = current + 1 if combine == "gated" else current - 2
        forced = [n for n in range(end) if n == 0 or n > current - 2]
        rest = [n for n in range(end) if n not in forced]
        assert chosen == (forced + rest + [-1] * 6)[:6]


@pytest.mark.parametrize("combine", ["gated", "union"])
@pytest.mark.parametrize("tile", [1, 16])
def test_packed_sequences_select_separately(combine: str, tile: int, seed: int) -> None:
    torch.manual_seed(seed)
    settings = replace(SMALL, combine=combine, window=16, select_tile=tile)  # type: ignore[arg-type]
    lengths = [(1, 1), (5, 90), (0, 0), (1, 133)]
    lengths += [] if tile == 1 else [(33, 150)]
    packing, parts = pack(lengths, settings)
    queries, keys = (sum(x) for x in zip(*lengths, strict=True))
    tensors = draw(settings, queries, keys)
    tensors["summary_k"] = torch.randn(1, 2, parts[-1].summaries.stop, 16, device=DEVICE)
    got = choose(settings, tensors, packing)
    for (count, _), part in zip(lengths, parts, strict=True):
        if count:
            compare(settings, part.of(tensors), got[:, :, part.tiles])


def test_a_given_log_sum_exp_is_used(seed: int) -> None:
    torch.manual_seed(seed)
    tensors = draw(SMALL, 70, groups=1, summaries=True)
    problem = Problem.of(*(tensors[x] for x in "qkv"), SMALL, None)
    q, summary_k = tensors["q"], tensors["summary_k"]
    band = selection.Band(key_block=8, key_stride=4)
    _, lse = selection.banded_forward(problem, band, q, summary_k, summary_k, values=False)
    got = selection.select_blocks(problem, q, summary_k, lse)
    assert torch.equal(got, choose(SMALL, tensors))
