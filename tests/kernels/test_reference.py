"""The reference against a second implementation of the paper: NumPy loops over queries.

It shares only the settings' values with the package.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.reference import compress, importance, mlp_phi, nsa_reference, overlap, select
from nsa_kernels.settings import AttentionSettings

Array = np.ndarray[Any, np.dtype[np.float64]]


class Expected(NamedTuple):
    out: Array
    blocks: list[list[list[list[int]]]]
    mass: Array
    branches: Array


def softmax_over(query: Array, keys: Array, values: Array) -> tuple[Array, Array]:
    """Attention of one query to its visible keys; zeros without keys."""
    if len(keys) == 0:
        return np.zeros(values.shape[1]), np.zeros(0)
    scores = keys @ query / np.sqrt(len(query))
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    return weights @ values, weights


def by_the_paper(
    q: Array, k: Array, v: Array, s: AttentionSettings, gates: Array | None = None
) -> Expected:
    """Native Sparse Attention, query by query, from the paper and the docstrings."""
    batch, heads, queries, dim = q.shape
    groups, length = k.shape[1:3]
    per_group = heads // groups
    offset = length - queries
    n_blocks = (length - 1) // s.select_block + 1
    starts = list(range(0, length - s.compress_block + 1, s.compress_stride))
    shared = np.zeros((len(starts), n_blocks))
    for i, start in enumerate(starts):
        for j in range(n_blocks):
            of_summary = set(range(start, start + s.compress_block))
            of_block = set(range(j * s.select_block, (j + 1) * s.select_block))
            shared[i, j] = len(of_summary & of_block) / s.compress_stride
    out = np.zeros((batch, heads, queries, v.shape[3]))
    mass = np.zeros((batch, heads, queries, n_blocks))
    branches = np.zeros((3, batch, heads, queries, v.shape[3]))
    all_blocks = []
    for b in range(batch):
        all_blocks.append([])
        for g in range(groups):
            keys, values = k[b, g], v[b, g]
            mean_k = np.array([keys[i : i + s.compress_block].mean(0) for i in starts])
            mean_v = np.array([values[i : i + s.compress_block].mean(0) for i in starts])
            mean_k, mean_v = mean_k.reshape(-1, dim), mean_v.reshape(-1, values.shape[1])
            own = range(g * per_group, (g + 1) * per_group)
            score: dict[int, Array] = {}
            for t in range(queries):
                position = offset + t
                seen = sum(start + s.compress_block - 1 <= position for start in starts)
                tile = score.setdefault(position // s.select_tile, np.zeros(n_blocks))
                of_heads = np.zeros(seen)
                for h in own:
                    branches[0, b, h, t], probs = softmax_over(
                        q[b, h, t], mean_k[:seen], mean_v[:seen]
                    )
                    if s.score_norm > 1:
                        probs = coarsely_normed(q[b, h, t], keys, mean_k[:seen], position, s)
                    of_heads = of_heads + probs
                if position % s.score_stride == 0 and s.score_pooling == "sum":
                    tile += of_heads @ shared[:seen]
                elif position % s.score_stride == 0 and seen:
                    tile += (of_heads[:, None] * (shared[:seen] > 0)).max(axis=0)
            chosen = {tile: choose(score[tile], tile, s) for tile in sorted(score)}
            all_blocks[-1].append(list(chosen.values()))
            for t in range(queries):
                position = offset + t
                current = position // s.select_block
                picked = chosen[position // s.select_tile]
                if s.combine == "union":
                    reach = range(max(0, current - s.window // s.select_block), current + 1)
                    picked = sorted({*picked, *reach})
                at = np.array(
                    [
                        p
                        for j in sorted(picked)
                        for p in range(j * s.select_block, (j + 1) * s.select_block)
                        if p <= position
                    ]
                )
                near = np.arange(max(0, position - s.window + 1), position + 1)
                for h in own:
                    branches[1, b, h, t], probs = softmax_over(q[b, h, t], keys[at], values[at])
                    np.add.at(mass[b, h, t], at // s.select_block, probs)
                    branches[2, b, h, t], _ = softmax_over(q[b, h, t], keys[near], values[near])
    if s.combine == "union":
        out = branches[1]
    else:
        assert gates is not None
        out = sum(gates[..., i, None] * branches[i] for i in range(3))
    return Expected(out, all_blocks, mass, branches)


def coarsely_normed(
    query: Array, keys: Array, means: Array, position: int, s: AttentionSettings
) -> Array:
    """Exponentials of the summaries' scores, divided by the sum over coarser means."""
    block, stride = s.compress_block * s.score_norm, s.compress_stride * s.score_norm
    starts = range(0, position + 2 - block, stride)
    coarse = [np.exp(keys[i : i + block].mean(0) @ query / np.sqrt(len(query))) for i in starts]
    scores = np.exp(means @ query / np.sqrt(len(query)))
    return scores / sum(coarse) if coarse else np.zeros(len(means))


def choose(score: Array, tile: int, s: AttentionSettings) -> list[int]:
    """The blocks of a tile, best first; forced blocks precede the others, in their order."""
    current = tile * s.select_tile // s.select_block
    candidates = list(range(current + 1))
    if s.combine == "union":
        candidates = candidates[: max(0, current - s.window // s.select_block)]

    def rank(block: int) -> tuple[float, int]:
        forced = block < s.init_blocks or block > current - s.local_blocks
        return (-np.inf if forced else -score[block], block)

    run = s.select_run
    if run is not None and current >= run:
        last = [block for block in candidates if block // run == current // run]
        before = [block for block in candidates if block // run < current // run]
        candidates = [*sorted(before, key=rank)[: run // 2], *sorted(last, key=rank)[: run // 2]]
    return sorted(candidates, key=rank)[: s.select_count]


def draw(
    seed: int, *, queries: int, length: int, heads: int = 6, groups: int = 2, batch: int = 1
) -> tuple[Array, Array, Array, Array]:
    """Random q, k, v and gates; scores spread widely enough to make the selection matter."""
    random = np.random.default_rng(seed)
    q = random.normal(size=(batch, heads, queries, 8)) * 2
    k = random.normal(size=(batch, groups, length, 8))
    v = random.normal(size=(batch, groups, length, 8))
    return q, k, v, random.uniform(size=(batch, heads, queries, 3))


def check(arrays: tuple[Array, Array, Array, Array], settings: AttentionSettings) -> Expected:
    """Assert that the reference returns the second implementation's results."""
    q, k, v, gates = (torch.from_numpy(x) for x in arrays)
    gated = settings.combine == "gated"
    out, blocks, mass = nsa_reference(q, k, v, settings, gates=gates if gated else None)
    expected = by_the_paper(*arrays[:3], settings, arrays[3])
    assert out.dtype == torch.float64
    np.testing.assert_allclose(out.numpy(), expected.out, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mass.numpy(), expected.mass, rtol=0, atol=1e-12)
    without_padding = [
        [[[j for j in tile if j >= 0] for tile in group] for group in item]
        for item in blocks.tolist()
    ]
    assert without_padding == expected.blocks
    return expected


MODES = {
    "union": AttentionSettings(combine="union", select_count=3, window=64),
    "gated": AttentionSettings(combine="gated", select_count=4, window=40),
}
mode = pytest.mark.parametrize("settings", MODES.values(), ids=MODES.keys())


@mode
@pytest.mark.parametrize("length", [1, 31, 32, 63, 64, 65, 1000])
def test_lengths(settings: AttentionSettings, length: int, seed: int) -> None:
    heads, groups = (2, 1) if length == 1000 else (6, 2)
    check(draw(seed, queries=length, length=length, heads=heads, groups=groups), settings)


@mode
@pytest.mark.parametrize("per_group", [1, 3, 6, 7, 16])
def test_query_heads_per_group(settings: AttentionSettings, per_group: int, seed: int) -> None:
    """100 queries at the end of 400 positions."""
    check(draw(seed, queries=100, length=400, heads=2 * per_group), settings)


@mode
@pytest.mark.parametrize(("queries", "length"), [(1, 450), (5, 385), (33, 384), (130, 450)])
def test_queries_at_an_offset(
    settings: AttentionSettings, queries: int, length: int, seed: int
) -> None:
    check(draw(seed, queries=queries, length=length, batch=2), settings)


@mode
@pytest.mark.parametrize(("tile", "stride"), [(2, 1), (16, 1), (16, 4), (64, 1), (64, 16)])
@pytest.mark.parametrize(("queries", "length"), [(390, 390), (77, 401)])
def test_tiles(
    settings: AttentionSettings, tile: int, stride: int, queries: int, length: int, seed: int
) -> None:
    settings = replace(settings, select_tile=tile, score_stride=stride)
    check(draw(seed, queries=queries, length=length), settings)


@mode
@pytest.mark.parametrize(
    ("block", "stride", "select_block"), [(4, 4, 64), (16, 16, 16), (8, 2, 4), (64, 16, 32)]
)
def test_other_block_sizes(
    settings: AttentionSettings, block: int, stride: int, select_block: int, seed: int
) -> None:
    """Summaries shorter and longer than selection blocks, adjacent and overlapping."""
    settings = replace(
        settings, compress_block=block, compress_stride=stride, select_block=select_block, window=64
    )
    check(draw(seed, queries=60, length=300), settings)


@mode
@pytest.mark.parametrize(
    ("count", "init", "local"), [(1, 1, 2), (2, 2, 4), (5, 0, 0), (None, 1, 2), (99, 3, 1)]
)
def test_budgets_and_forced_blocks(
    settings: AttentionSettings, count: int | None, init: int, local: int, seed: int
) -> None:
    settings = replace(settings, select_count=count, init_blocks=init, local_blocks=local)
    check(draw(seed, queries=50, length=500), settings)


INFLLM = AttentionSettings(
    compress_block=8,
    compress_stride=4,
    select_block=16,
    select_count=3,
    window=16,
    local_blocks=0,
    score_pooling="max",
    score_norm=4,
)
RUNS = AttentionSettings(
    combine="gated",
    compress_block=8,
    compress_stride=8,
    select_block=8,
    select_count=4,
    select_run=4,
    init_blocks=0,
    local_blocks=1,
    window=20,
)


@pytest.mark.parametrize("length", [1, 8, 31, 32, 47, 64, 133, 200])
@pytest.mark.parametrize(
    "settings",
    [
        INFLLM,
        replace(INFLLM, score_norm=1),
        replace(INFLLM, score_pooling="sum", select_tile=8, score_stride=2),
        replace(INFLLM, select_tile=8, score_stride=2),
        RUNS,
        replace(RUNS, select_count=3),
        replace(RUNS, select_count=8, select_run=8, init_blocks=1, local_blocks=2),
        replace(RUNS, select_tile=4),
        replace(RUNS, window=0),
    ],
)
def test_published_scoring_and_ranking(settings: AttentionSettings, length: int, seed: int) -> None:
    check(draw(seed, queries=length, length=length), settings)
    check(draw(seed, queries=min(length, 5), length=length), settings)


@pytest.mark.parametrize("length", [127, 128])
def test_short_texts_use_dense_attention(length: int, seed: int) -> None:
    settings = replace(INFLLM, dense_below=128)
    arrays = draw(seed, queries=length, length=length)
    q, k, v, _ = (torch.from_numpy(x) for x in arrays)
    of = replace(INFLLM, select_count=None) if length < 128 else INFLLM
    torch.testing.assert_close(nsa_reference(q, k, v, settings), nsa_reference(q, k, v, of))


def test_queries_that_see_no_summary_get_zeros(seed: int) -> None:
    """The first query that sees one summary gets that summary's value."""
    arrays = draw(seed, queries=40, length=40)
    gates = np.zeros_like(arrays[3])
    gates[..., 0] = 1
    q, k, v, only_compression = (torch.from_numpy(x) for x in (*arrays[:3], gates))
    out, _, _ = nsa_reference(q, k, v, MODES["gated"], gates=only_compression)
    assert (out[:, :, :31] == 0).all()
    mean = v[:, :, :32].mean(dim=2).repeat_interleave(3, dim=1)
    torch.testing.assert_close(out[:, :, 31], mean)


@pytest.mark.parametrize("branch", [0, 1, 2])
def test_each_gate_opens_its_branch(branch: int, seed: int) -> None:
    arrays = draw(seed, queries=70, length=300)
    expected = by_the_paper(*arrays[:3], MODES["gated"], arrays[3])
    gates = np.zeros_like(arrays[3])
    gates[..., branch] = 1
    tensors = [torch.from_numpy(x) for x in (*arrays[:3], gates)]
    out, _, _ = nsa_reference(*tensors[:3], MODES["gated"], gates=tensors[3])
    np.testing.assert_allclose(out.numpy(), expected.branches[branch], rtol=0, atol=1e-12)


def test_gated_needs_gates(seed: int) -> None:
    q, k, v, _ = (torch.from_numpy(x) for x in draw(seed, queries=4, length=4))
    with pytest.raises(ValueError, match="gates is None"):
        nsa_reference(q, k, v, MODES["gated"])


def test_importance_weights_of_the_paper() -> None:
    """1, 2, 2, 2, 1 on summaries 4j - 1 to 4j + 3; the first block has no earlier summary."""
    weights = overlap(AttentionSettings(), 31, 8)
    expected = torch.zeros(31, 8, dtype=torch.float64)
    for j in range(8):
        for index, weight in zip(range(4 * j - 1, 4 * j + 4), (1, 2, 2, 2, 1), strict=True):
            if 0 <= index < 31:
                expected[index, j] = weight
    assert torch.equal(weights, expected)


def test_importance_is_summed_over_group_and_tile() -> None:
    """Whole numbers instead of probabilities make the sums visible."""
    settings = AttentionSettings(select_tile=2, compress_block=64, compress_stride=64)
    probs = torch.tensor([[[[1.0]], [[10.0]], [[100.0]], [[1000.0]]]]).expand(1, 4, 3, 1).clone()
    probs[:, :, 1] *= 2
    probs[:, :, 2] *= 3
    found = importance(probs, 2, torch.tensor([63, 64, 65]), settings)
    assert found[0, :, :, 0].tolist() == [[11.0, 55.0], [1100.0, 5500.0]]
    assert (found[..., 1] == 0).all()


def test_equal_importances_go_to_the_earlier_block() -> None:
    settings = AttentionSettings(combine="gated", select_count=6, local_blocks=2)
    scores = torch.tensor([0.0, 5.0, 7.0, 5.0, 7.0, 5.0, 5.0, 0.0, 0.0, 9.0])
    chosen = select(scores[None, None, None], torch.tensor([9 * 64 - 1]), settings)
    assert chosen.tolist() == [[[[0, 7, 8, 2, 4, 1]]]]


def test_a_block_that_has_not_begun_is_not_a_candidate() -> None:
    settings = AttentionSettings(combine="gated", select_count=4)
    scores = torch.tensor([[0.0, 1.0, 9.0, 9.0], [0.0, 1.0, 9.0, 9.0]])
    chosen = select(scores[None, None], torch.tensor([63, 64]), settings)
    assert chosen.tolist() == [[[[0, -1, -1, -1], [0, 1, -1, -1]]]]


def test_union_selects_outside_of_the_window() -> None:
    """The window's blocks do not count toward the budget."""
    settings = AttentionSettings(select_count=2, window=128, local_blocks=2, init_blocks=1)
    scores = torch.arange(7.0)
    chosen = select(scores[None, None, None], torch.tensor([6 * 64]), settings)
    assert chosen.tolist() == [[[[0, 3]]]]


def test_given_summaries_are_used(seed: int) -> None:
    """Other summaries select other blocks: here the block whose summary equals the queries."""
    settings = AttentionSettings(select_count=2, window=64, compress_block=64, compress_stride=64)
    random = torch.Generator().manual_seed(seed)
    k, v = torch.randn(2, 1, 1, 640, 8, generator=random, dtype=torch.float64).unbind(0)
    q = torch.ones(1, 2, 1, 8, dtype=torch.float64)
    summary_k = torch.zeros(1, 1, 10, 8, dtype=torch.float64)
    wanted = seed % 7 + 1
    summary_k[:, :, wanted] = 1.0
    _, blocks, mass = nsa_reference(q, k, v, settings, summary_k=summary_k)
    assert blocks.tolist() == [[[[0, wanted]]]]
    assert mass[0, :, 0].nonzero()[:, 1].unique().tolist() == sorted({0, wanted, 8, 9})


def test_given_summary_values_are_used(seed: int) -> None:
    arrays = draw(seed, queries=64, length=64)
    q, k, v, gates = (torch.from_numpy(x) for x in arrays)
    settings = MODES["gated"]
    plain, _, _ = nsa_reference(q, k, v, settings, gates=gates)
    summary_v = compress(v, settings) + 1.0
    moved, _, _ = nsa_reference(q, k, v, settings, gates=gates, summary_v=summary_v)
    difference = torch.zeros_like(plain)
    difference[:, :, 31:] = gates[:, :, 31:, :1]
    torch.testing.assert_close(moved - plain, difference)


def test_compress_makes_complete_blocks_only(seed: int) -> None:
    x = torch.from_numpy(draw(seed, queries=1, length=100)[1])
    settings = AttentionSettings()
    for length, count in ((0, 0), (31, 0), (32, 1), (47, 1), (48, 2), (100, 5)):
        made = compress(x[:, :, :length], settings)
        assert made.shape == (1, 2, count, 8)
        for i in range(count):
            expected = x[:, :, 16 * i : 16 * i + 32].mean(dim=2)
            torch.testing.assert_close(made[:, :, i], expected)


def test_mlp_phi_is_the_papers_mlp(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x, position, w_in, b_in, w_out, b_out = (
        torch.randn(*shape, generator=random, dtype=torch.float64)
        for shape in ((1, 1, 3, 2, 4), (2, 4), (5, 8), (5,), (4, 5), (4,))
    )
    made = mlp_phi(x, position, w_in, b_in, w_out, b_out)
    for i in range(3):
        row = torch.cat([x[0, 0, i, 0] + position[0], x[0, 0, i, 1] + position[1]])
        inner = w_in @ row + b_in
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        torch.testing.assert_close(made[0, 0, i], w_out @ inner + b_out)


TINY = AttentionSettings(
    compress_block=4, compress_stride=2, select_block=4, select_count=1, window=4, init_blocks=0
)


def tiny(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def test_gradients_of_union(seed: int) -> None:
    q, k, v = tiny(seed, (1, 2, 14, 2), (1, 1, 17, 2), (1, 1, 17, 2))
    assert torch.autograd.gradcheck(
        lambda *x: nsa_reference(*x, TINY)[0], (q, k, v), fast_mode=True
    )


def test_gradients_of_gated(seed: int) -> None:
    """With queries that see no summary, through the gates, and with tiles."""
    settings = replace(TINY, combine="gated", window=3, select_count=2, select_tile=2)
    q, k, v, gates = tiny(seed, (1, 2, 10, 2), (1, 1, 10, 2), (1, 1, 10, 2), (1, 2, 10, 3))
    assert torch.autograd.gradcheck(
        lambda q, k, v, gates: nsa_reference(q, k, v, settings, gates=gates.sigmoid())[0],
        (q, k, v, gates),
        fast_mode=True,
    )


def test_gradients_of_the_learned_compression(seed: int) -> None:
    settings = replace(TINY, combine="gated", window=3, select_count=2)
    shapes = ((1, 2, 10, 2), (1, 1, 10, 2), (1, 1, 10, 2), (1, 2, 10, 3))
    phi_shapes = ((4, 2), (3, 8), (3,), (2, 3), (2,))

    def run(q: Tensor, k: Tensor, v: Tensor, gates: Tensor, *phi: Tensor) -> Tensor:
        return nsa_reference(
            q,
            k,
            v,
            settings,
            gates=gates.sigmoid(),
            summary_k=compress(k, settings, lambda x: mlp_phi(x, *phi[:5])),
            summary_v=compress(v, settings, lambda x: mlp_phi(x, *phi[5:])),
        )[0]

    inputs = tiny(seed, *shapes, *phi_shapes, *phi_shapes)
    assert torch.autograd.gradcheck(run, tuple(inputs), fast_mode=True)
    reached = [False] * len(inputs)
    for draw in range(8):
        inputs = tiny(seed + draw, *shapes, *phi_shapes, *phi_shapes)
        grads = torch.autograd.grad(run(*inputs).square().sum(), inputs)
        reached = [one or bool((grad != 0).any()) for one, grad in zip(reached, grads, strict=True)]
    assert all(reached)


def test_it_runs_without_triton() -> None:
    """A new process in which triton cannot be imported."""
    program = """
import sys
sys.modules["triton"] = None
import torch
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings
x = torch.ones(1, 1, 70, 4)
out, _, _ = nsa_reference(x, x, x, AttentionSettings())
assert torch.allclose(out, x)
assert "nsa_kernels.blockwise" not in sys.modules
print("ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr


def test_the_optimized_code_shares_nothing_with_the_reference() -> None:
    from nsa_kernels import blockwise

    mine = {name for name, value in vars(reference).items() if callable(value)}
    theirs = {value for value in vars(blockwise).values() if callable(value)}
    own = {n for n in mine if getattr(vars(reference)[n], "__module__", "") == reference.__name__}
    assert "nsa_reference" in own
    assert not [name for name in own if vars(reference)[name] in theirs]
    assert reference not in vars(blockwise).values()
