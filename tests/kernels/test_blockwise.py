"""The blockwise implementation against the reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nsa_kernels import blockwise, scoring
from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.blockwise import block_mass, dense_attention, union_attention
from nsa_kernels.reference import compress, compression_attention, importance, nsa_reference
from nsa_kernels.scoring import TilePlan, mean_summaries, select_blocks
from nsa_kernels.settings import AttentionSettings

SETTINGS = AttentionSettings(select_count=3, window=64)
COVERED = (3 + 1 + 1) * 64


def draw(
    seed: int,
    *,
    queries: int,
    length: int,
    per_group: int = 3,
    batch: int = 1,
    dim: int = 8,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random queries, keys and values of two groups."""
    random = torch.Generator().manual_seed(seed)

    def normal(heads: int, tokens: int) -> Tensor:
        return torch.randn(batch, heads, tokens, dim, generator=random, dtype=torch.float64)

    q, k, v = normal(2 * per_group, queries) * 2, normal(2, length), normal(2, length)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def hits(blocks: Tensor, count: int) -> Tensor:
    """Mask of the selected blocks among `count`: (B, G, U, N), bool."""
    assert ((blocks >= -1) & (blocks < count)).all()
    chosen = (blocks[..., None] == torch.arange(count)).sum(dim=-2)
    assert chosen.max() <= 1, "a block was selected twice"
    return chosen > 0


def true_importance(q: Tensor, k: Tensor, settings: AttentionSettings) -> tuple[Tensor, Tensor]:
    """Importance in fp64 (B, G, U, N), and the index of each query's tile (T,)."""
    q, k = q.double(), k.double()
    position = torch.arange(k.shape[2] - q.shape[2], k.shape[2])
    summaries = compress(k, settings)
    _, probs = compression_attention(q, k, summaries, summaries, settings)
    tile = position // settings.select_tile
    return importance(probs, k.shape[1], position, settings), tile - tile[0]


def check(
    q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings, tolerance: float = 2e-5
) -> None:
    """Assert the same blocks, output and mass as the reference in fp64.

    Importance is summed in fp32, so two nearly equal blocks may change places. Such tiles are not
    compared, and must be rare.
    """
    found = nsa_attention(q, k, v, settings, impl=Impl.BLOCKWISE, return_mass=True)
    out, blocks, mass = nsa_reference(q.double(), k.double(), v.double(), settings)
    assert found.out.dtype == q.dtype
    assert found.mass is not None
    assert found.out.shape == out.shape
    assert found.mass.shape == mass.shape
    same = torch.ones(out.shape[:3], dtype=torch.bool)
    if found.blocks is None:
        assert settings.covers(k.shape[2])
    else:
        assert not settings.covers(k.shape[2])
        scores, tile_of = true_importance(q, k, settings)
        ours, theirs = (hits(b, mass.shape[-1]) for b in (found.blocks, blocks))
        differ = ours != theirs
        assert (ours.sum(-1) == theirs.sum(-1)).all()
        lost = scores.masked_fill(~(differ & theirs), 0).sum(-1)
        won = scores.masked_fill(~(differ & ours), 0).sum(-1)
        torch.testing.assert_close(lost, won, rtol=1e-4, atol=1e-6)
        agree = ~differ.any(dim=-1)
        assert agree.float().mean() > 0.98
        same = agree[:, :, tile_of].repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    for got, wanted in ((found.out, out), (found.mass, mass)):
        torch.testing.assert_close(got.double()[same], wanted[same], rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("length", [1, 31, 32, 63, 64, 65, COVERED, COVERED + 1, 1000])
def test_lengths(length: int, dtype: torch.dtype, seed: int) -> None:
    check(*draw(seed, queries=length, length=length, dtype=dtype), SETTINGS)


@pytest.mark.parametrize("per_group", [1, 3, 6, 7, 16])
def test_query_heads_per_group(per_group: int, seed: int) -> None:
    check(*draw(seed, queries=100, length=380, per_group=per_group), SETTINGS)


@pytest.mark.parametrize(
    ("queries", "length"),
    [(1, 400), (1, 64), (63, 400), (64, 384), (65, 65 + 64), (100, COVERED + 3)],
)
@pytest.mark.parametrize("tile", [1, 16, 64])
def test_queries_at_an_offset(queries: int, length: int, tile: int, seed: int) -> None:
    """A batch of two; the last case starts before the covered length and ends past it."""
    settings = replace(SETTINGS, select_tile=tile)
    check(*draw(seed, queries=queries, length=length, batch=2, per_group=2), settings)


@pytest.mark.parametrize(("tile", "stride"), [(16, 1), (16, 8), (64, 1), (64, 4), (64, 64)])
@pytest.mark.parametrize(("queries", "length"), [(450, 450), (170, 541)])
def test_tiles_and_score_strides(
    tile: int, stride: int, queries: int, length: int, seed: int
) -> None:
    settings = replace(SETTINGS, select_tile=tile, score_stride=stride)
    check(*draw(seed, queries=queries, length=length), settings)


@pytest.mark.parametrize(("block", "stride"), [(4, 4), (8, 8), (16, 16), (32, 16), (64, 16)])
@pytest.mark.parametrize("tile", [1, 64])
def test_summaries(block: int, stride: int, tile: int, seed: int) -> None:
    settings = replace(SETTINGS, compress_block=block, compress_stride=stride, select_tile=tile)
    check(*draw(seed, queries=150, length=450), settings)


@pytest.mark.parametrize(
    ("count", "window", "init", "local"),
    [(1, 64, 1, 2), (2, 64, 2, 4), (4, 128, 0, 0), (5, 192, 1, 2), (30, 64, 1, 2)],
)
@pytest.mark.parametrize("tile", [1, 64])
def test_budgets(count: int, window: int, init: int, local: int, tile: int, seed: int) -> None:
    """Budgets smaller and larger than the text."""
    settings = AttentionSettings(
        select_count=count, window=window, init_blocks=init, local_blocks=local, select_tile=tile
    )
    check(*draw(seed, queries=190, length=530), settings)


def test_small_selection_blocks(seed: int) -> None:
    settings = AttentionSettings(
        select_block=16, select_tile=8, window=32, compress_block=8, compress_stride=4
    )
    check(*draw(seed, queries=400, length=400), replace(settings, select_count=5))


@pytest.mark.parametrize("length", [450, 512])
def test_padding_queries_are_not_scored(length: int) -> None:
    """A tile with a single query, first or last: the tile's padding is not scored.

    The query attends to the first block alone. Padding queries would favor the other blocks, which
    one more summary overlaps.
    """
    settings = AttentionSettings(
        select_count=1, window=64, init_blocks=0, local_blocks=0, select_tile=64
    )
    q, k = torch.ones(1, 2, 1, 8), torch.zeros(1, 1, length, 8)
    k[:, :, 16:48] = 30.0
    blocks = select_blocks(q, mean_summaries(k, settings), length, settings)
    assert blocks.tolist() == [[[[0]]]]


def test_queries_that_see_no_summary_do_not_affect_their_tile(seed: int) -> None:
    """Summaries so long that none is complete before the tile's sixteenth query."""
    settings = AttentionSettings(
        compress_block=208,
        compress_stride=16,
        select_count=1,
        window=64,
        init_blocks=0,
        local_blocks=0,
        select_tile=64,
    )
    q, k, v = draw(seed, queries=400, length=400)
    check(q, k, v, settings)
    tile = nsa_attention(q, k, v, settings).blocks[0, :, 3]  # type: ignore[index]
    assert tile.tolist() == [[1], [1]]


@pytest.mark.parametrize("limit", ["_SCORES_AT_ONCE", "_KEYS_AT_ONCE"])
def test_small_memory_budgets(limit: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory budgets down to a single tile."""
    monkeypatch.setattr(blockwise if limit == "_KEYS_AT_ONCE" else scoring, limit, 1000)
    for tile in (1, 64):
        settings = replace(SETTINGS, select_tile=tile)
        check(*draw(seed, queries=150, length=500), settings)


def test_keys_past_the_text_are_not_read(seed: int) -> None:
    """Memory past the text in a cache has no influence."""
    settings = replace(SETTINGS, select_tile=64)
    q, k, v = draw(seed, queries=100, length=450, dtype=torch.float32)
    expected = nsa_attention(q, k, v, settings, return_mass=True)
    rooms = [torch.full((1, 2, 512, 8), math.nan) for _ in range(2)]
    for room, x in zip(rooms, (k, v), strict=True):
        room[:, :, :450] = x
    k, v = (room[:, :, :450] for room in rooms)
    found = nsa_attention(q, k, v, settings, return_mass=True)
    assert torch.equal(found.blocks, expected.blocks)  # type: ignore[arg-type]
    torch.testing.assert_close(found.out, expected.out)
    torch.testing.assert_close(found.mass, expected.mass)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Plain softmax attention in its inputs' precision; `hidden` broadcasts to (B, H, T, S)."""
    per_group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(per_group, dim=1), v.repeat_interleave(per_group, dim=1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(hidden, -math.inf).softmax(dim=-1) @ v


def future(queries: int, length: int) -> Tensor:
    position = torch.arange(length - queries, length)
    return torch.arange(length) > position[:, None]


SHAPES = [(1, 1), (1, 90), (2, 2), (90, 90), (2, 90), (60, 90), (89, 90)]


@pytest.mark.parametrize(("queries", "length"), SHAPES)
@pytest.mark.parametrize("per_group", [1, 7])
def test_dense_attention(queries: int, length: int, per_group: int, seed: int) -> None:
    q, k, v = draw(seed, queries=queries, length=length, per_group=per_group, batch=2)
    expected = softmax_attention(q, k, v, future(queries, length))
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
        out = dense_attention(q.to(dtype), k.to(dtype), v.to(dtype))
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)


def epsilon(values: Tensor, keys: int) -> float:
    """Extra error of bf16 beyond the eager computation in bf16.

    Rounding errors of a sum over `keys` weighted values add up like a random walk: each is half
    a unit in the last place (2^-9) of a share of the largest value. The result is rounded too.
    """
    return 2**-9 * float(values.abs().max()) * (1 + 1 / math.sqrt(keys))


def assert_no_worse_than_eager(out: Tensor, eager: Tensor, exact: Tensor, extra: float) -> None:
    ours, theirs = ((x.double() - exact).abs() for x in (out, eager))
    assert out.dtype == eager.dtype == torch.bfloat16
    assert ours.max() <= theirs.max() + extra
    assert ours.mean() <= theirs.mean() + extra / 10


@pytest.mark.parametrize(("queries", "length"), [(1, 300), (300, 300), (100, 300)])
def test_dense_attention_in_bf16(queries: int, length: int, seed: int) -> None:
    q, k, v = draw(seed, queries=queries, length=length, dim=64, dtype=torch.bfloat16)
    hidden = future(queries, length)
    exact = softmax_attention(q.double(), k.double(), v.double(), hidden)
    eager = softmax_attention(q, k, v, hidden)
    assert_no_worse_than_eager(dense_attention(q, k, v), eager, exact, epsilon(v, length))


@pytest.mark.parametrize("tile", [1, 64])
@pytest.mark.parametrize(("queries", "length"), [(700, 700), (150, 700)])
def test_union_attention_in_bf16(queries: int, length: int, tile: int, seed: int) -> None:
    settings = replace(SETTINGS, select_tile=tile)
    q, k, v = draw(seed, queries=queries, length=length, dim=64, dtype=torch.bfloat16)
    blocks = select_blocks(q, mean_summaries(k, settings), length, settings)
    position = torch.arange(length - queries, length)
    number = torch.arange((length - 1) // 64 + 1)
    seen = hits(blocks, len(number))[:, :, position // tile - position[0] // tile]
    seen = seen | (number >= position[:, None] // 64 - settings.window_blocks)
    hidden = ~seen[..., torch.arange(length) // 64] | future(queries, length)
    hidden = hidden.repeat_interleave(3, dim=1)
    exact = softmax_attention(q.double(), k.double(), v.double(), hidden)
    eager = softmax_attention(q, k, v, hidden)
    out = union_attention(q, k, v, blocks, settings)
    keys = (3 + settings.window_blocks + 1) * 64
    assert_no_worse_than_eager(out, eager, exact, epsilon(v, keys))


@pytest.mark.parametrize("tile", [1, 64])
def test_selection_in_bf16(tile: int, seed: int) -> None:
    """Blocks selected in bf16 have nearly the best importance, up to the loss of eager bf16."""
    settings = replace(SETTINGS, select_tile=tile, compress_block=4, compress_stride=4)
    q, k, v = draw(seed, queries=200, length=900, dim=64, dtype=torch.bfloat16)
    scores, _ = true_importance(q, k, settings)

    def worth(blocks: Tensor) -> Tensor:
        return scores.masked_fill(~hits(blocks, scores.shape[-1]), 0).sum(dim=-1)

    ours = worth(select_blocks(q, mean_summaries(k, settings), 900, settings))
    eager = worth(nsa_reference(q, k, v, settings)[1])
    best = worth(nsa_reference(q.double(), k.double(), v.double(), settings)[1])
    assert (ours <= best * (1 + 1e-9)).all()
    total = scores.sum(dim=-1)
    assert ((best - ours) / total).max() <= ((best - eager) / total).max() + 2**-8
    assert ((best - ours) / total).mean() <= ((best - eager) / total).mean() + 2**-10


@pytest.mark.parametrize("blocks", [(4, 4), (32, 16), (64, 16), (16, 4)])
@pytest.mark.parametrize("length", [0, 3, 4, 33, 100])
def test_mean_summaries(blocks: tuple[int, int], length: int, seed: int) -> None:
    settings = AttentionSettings(compress_block=blocks[0], compress_stride=blocks[1])
    _, k, _ = draw(seed, queries=1, length=100)
    k = k[:, :, :length]
    torch.testing.assert_close(
        mean_summaries(k, settings), compress(k, settings), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("queries", "length"), [(1, 130), (70, 70), (50, 130), (3, 65)])
@pytest.mark.parametrize("tile", [1, 16, 64])
def test_tile_plan_cuts_at_absolute_multiples(queries: int, length: int, tile: int) -> None:
    plan = TilePlan(length, queries, AttentionSettings(select_tile=tile))
    position = torch.arange(length - queries, length)
    tiles = plan.split(position.double()[None, None, :, None])[0, 0, :, :, 0]
    firsts = plan.firsts(0, plan.count, torch.device("cpu"))
    assert (firsts % tile == 0).all()
    there = (firsts[:, None] + torch.arange(tile)).double()
    real = (there >= length - queries) & (there < length)
    assert torch.equal(tiles, there * real)
    assert real.any(dim=1).all()
    assert torch.equal(plan.join(tiles[None, None, ..., None])[0, 0, :, 0], position.double())


@pytest.mark.parametrize("at_once", [1, 2 * 6 * 200, 2**28])
def test_mass_of_dense_attention(at_once: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all queries at once, and in parts."""
    monkeypatch.setattr(blockwise, "_SCORES_AT_ONCE", at_once)
    q, k, _ = draw(seed, queries=5, length=200)
    mass = block_mass(q, k, None, SETTINGS)
    eye = torch.eye(200, dtype=torch.float64).expand(1, 2, 200, 200)
    probs = softmax_attention(q, k, eye, future(5, 200))
    expected = torch.stack([part.sum(-1) for part in probs.split(64, dim=-1)], dim=-1)
    torch.testing.assert_close(mass.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tile", [1, 64])
def test_gradients(tile: int, seed: int) -> None:
    """The gradients equal the reference's if the queries are the whole text."""
    settings = replace(SETTINGS, select_tile=tile)
    inputs = [x.requires_grad_() for x in draw(seed, queries=450, length=450)]
    out = nsa_attention(*inputs, settings).out
    expected, blocks, _ = nsa_reference(*inputs, settings)
    weight = torch.randn_like(expected)
    found = nsa_attention(*inputs, settings).blocks
    same = (hits(found, 8) == hits(blocks, 8)).all(dim=-1)  # type: ignore[arg-type]
    rows = same[:, :, torch.arange(450) // tile].repeat_interleave(3, dim=1)[..., None]
    ours = torch.autograd.grad((out * weight * rows).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight * rows).sum(), inputs)
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_gradients_of_dense_attention_at_an_offset(seed: int) -> None:
    inputs = [x.requires_grad_() for x in draw(seed, queries=20, length=50)]
    expected = softmax_attention(*inputs, future(20, 50))
    weight = torch.randn_like(expected)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    ours = torch.autograd.grad((dense_attention(*inputs) * weight).sum(), inputs)
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
