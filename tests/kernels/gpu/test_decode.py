"""The decode step, token by token, against the fp64 reference over the whole prefix."""

from dataclasses import replace

import pytest
import torch

from nsa_kernels.blockwise import block_mass
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu import decode_cache
from nsa_kernels.gpu.decode import nsa_decode
from nsa_kernels.gpu.decode_cache import DecodeCache, DecodePlan, DecodeWorkspace
from nsa_kernels.gpu.decode_mass import selected_mass
from nsa_kernels.reference import compress, compression_attention, importance, nsa_reference
from nsa_kernels.settings import AttentionSettings

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"

SMALL = AttentionSettings(
    combine="gated",
    compress_block=8,
    compress_stride=4,
    select_block=16,
    select_count=4,
    window=24,
)
LARGE = AttentionSettings(combine="gated")


def gpu(test):
    """Mark a test that is too large for the interpreter."""
    return pytest.mark.gpu(pytest.mark.skipif(not CUDA, reason="no CUDA device")(test))


class Decode:
    """Sequences of different lengths, in fp64 and in a cache."""

    def __init__(
        self,
        settings,
        lengths,
        *,
        repeat=2,
        groups=2,
        dim=16,
        value_dim=None,
        dtype=torch.float32,
        steps=1,
        spare=5,
        programs=None,
        phi=None,
    ):
        self.settings, self.lengths, self.dtype, self.phi = settings, list(lengths), dtype, phi
        self.groups, self.value_dim = groups, value_dim or dim
        batch, heads, total = len(lengths), groups * repeat, max(lengths) + steps

        def rounded(*shape):
            return torch.randn(*shape, device=DEVICE).to(dtype).double()

        self.q = rounded(batch, heads, total, dim) * 2
        self.k = rounded(batch, groups, total, dim)
        self.v = rounded(batch, groups, total, self.value_dim)
        self.gates = None
        if settings.combine == "gated":
            self.gates = torch.rand(batch, heads, total, 3, device=DEVICE).to(dtype).double()
        sizes = {
            "batch": batch,
            "heads": heads,
            "groups": groups,
            "capacity": total + spare,
            "head_dim": dim,
            "value_dim": self.value_dim,
            "dtype": dtype,
            "device": DEVICE,
        }
        self.workspace = DecodeWorkspace.allocate(settings, programs=programs, **sizes)
        self.cache = DecodeCache.allocate(settings, workspace=self.workspace, **sizes)
        for owner in (self.workspace, self.cache):
            for x in vars(owner).values():
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    x.fill_(float("nan"))
        self.workspace.selected.fill_(-7)
        self.cache.lengths.copy_(torch.tensor(lengths))
        for b, length in enumerate(lengths):
            self.cache.k[b, :, :length] = self.k[b, :, :length].to(dtype)
            self.cache.v[b, :, :length] = self.v[b, :, :length].to(dtype)
            for stored, wanted in self.summaries(b):
                stored.copy_(wanted.to(dtype))

    def summaries(self, b):
        """The cache's summaries of a sequence and the expected ones: pairs of (G, C, D)."""
        pairs = [(self.cache.summary_k, self.k), (self.cache.summary_v, self.v)]
        for stored, x in pairs[: 1 if self.settings.combine == "union" else 2]:
            phi = (self.phi,) if self.phi else ()
            wanted = compress(x[b : b + 1, :, : self.lengths[b]], self.settings, *phi)[0]
            yield stored[b, :, : wanted.shape[1]], wanted

    def inputs(self):
        """The arguments of the next step."""
        rows = torch.arange(len(self.lengths), device=DEVICE)
        at = torch.tensor(self.lengths, device=DEVICE)
        gates = None if self.gates is None else self.gates[rows, :, at].to(self.dtype)
        return [x[rows, :, at].to(self.dtype) for x in (self.q, self.k, self.v)], gates

    def step(self):
        """Run one step: (B, H, Dv)."""
        new, gates = self.inputs()
        learned = {}
        if self.phi:
            learned["phi_k"] = self.phi
            if gates is not None:
                learned["phi_v"] = self.phi
        out = nsa_decode(*new, self.cache, gates=gates, **learned)
        self.advance()
        return out

    def advance(self):
        self.lengths = [length + 1 for length in self.lengths]

    def run(self, steps):
        for _ in range(steps):
            self.check(self.step())
        return self

    def reference(self, b, dtype=torch.float64):
        """The reference's output, blocks and importances for the last step of one sequence.

        It uses the cache's summaries, which are compared separately: a mean that rounds differently
        changes the scores by more than the tolerance.
        """
        part, length = slice(b, b + 1), self.lengths[b]
        q = self.q[part, :, length - 1 : length].to(dtype)
        k, v = (x[part, :, :length].to(dtype) for x in (self.k, self.v))
        stored = [pair[0][None].to(dtype) for pair in self.summaries(b)]
        summary_k, summary_v = stored[0], stored[-1]
        gates = None if self.gates is None else self.gates[part, :, length - 1 : length].to(dtype)
        summary_v = v[:, :, : summary_k.shape[2]] if gates is None else summary_v
        out, blocks, _ = nsa_reference(
            q, k, v, self.settings, summary_k=summary_k, summary_v=summary_v, gates=gates
        )
        _, probs = compression_attention(q, k, summary_k, summary_v, self.settings)
        position = torch.tensor([length - 1], device=DEVICE)
        scores = importance(probs, self.groups, position, self.settings)
        return out[0, :, 0], blocks[0, :, 0], scores[0, :, 0]

    def check(self, out):
        """Compare the last step's output, blocks and cache with the reference."""
        eps = torch.finfo(self.dtype).eps
        assert out.dtype == self.dtype
        assert self.cache.lengths.tolist() == self.lengths
        for b, length in enumerate(self.lengths):
            assert torch.equal(self.cache.k[b, :, :length].double(), self.k[b, :, :length])
            assert torch.equal(self.cache.v[b, :, :length].double(), self.v[b, :, :length])
            for stored, wanted in self.summaries(b):
                torch.testing.assert_close(stored.double(), wanted, rtol=eps, atol=1e-6)
            wanted, blocks, scores = self.reference(b)
            same = self.check_blocks(self.workspace.selected[b].long(), blocks, scores)
            error = (out[b].double() - wanted).abs().unflatten(0, (self.groups, -1))[same]
            # Each branch rounds its probabilities to the values' precision, and the sum is rounded;
            # sums over the keys are in fp32.
            fp32 = length**0.5 * torch.finfo(torch.float32).eps
            allowed = (2 * eps + 8 * fp32) * self.v[b, :, :length].abs().max()
            if self.dtype != torch.float32:
                eager = (self.reference(b, self.dtype)[0].double() - wanted).abs().max()
                allowed = torch.minimum(allowed, eager + 4 * eps * wanted.abs().max())
            assert (error <= allowed).all(), (b, length, error.max(), allowed)

    def check_blocks(self, got, blocks, scores):
        """Check that all groups select as the reference does, except at near ties."""
        count = blocks.shape[-1]
        assert (got[:, count:] == -1).all()
        got = got[:, :count]
        assert torch.equal(got < 0, blocks < 0), (got, blocks)
        gap = scores.gather(1, got.clamp(min=0)) - scores.gather(1, blocks.clamp(min=0))
        assert (gap.abs() <= 1e-5).logical_or(got == blocks).all(), (got, blocks, gap)
        got, blocks = got.sort().values, blocks.sort().values
        assert not ((got[:, 1:] == got[:, :-1]) & (got[:, 1:] >= 0)).any()
        return (got == blocks).all(dim=1)


@pytest.mark.parametrize("combine", ["gated", "union"])
@pytest.mark.parametrize("repeat", [1, pytest.param(32, marks=pytest.mark.long)])
def test_steps_from_nothing_equal_the_reference(combine, repeat, seed):
    torch.manual_seed(seed)
    settings = replace(SMALL, combine=combine, window=32)
    Decode(settings, [0], repeat=repeat, groups=1, steps=12, programs=8).run(12)


@pytest.mark.parametrize("combine", ["gated", "union"])
@pytest.mark.parametrize(
    ("block", "stride", "programs", "repeat"),
    [
        (4, 4, 30, 6),
        (16, 16, 1, 16),
        pytest.param(8, 4, 40, 3, marks=pytest.mark.long),
        (20, 4, 6, 1),
        pytest.param(8, 8, 6, 7, marks=pytest.mark.long),
        pytest.param(12, 4, 60, 2, marks=pytest.mark.long),
    ],
)
def test_mixed_lengths_equal_the_reference(combine, block, stride, programs, repeat, seed):
    torch.manual_seed(seed)
    settings = replace(
        SMALL, combine=combine, compress_block=block, compress_stride=stride, window=16
    )
    lengths = [0, 15, 3, 299, 127]
    Decode(settings, lengths, repeat=repeat, groups=1, steps=2, programs=programs).run(2)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_blocks": 0, "local_blocks": 0},
        {"combine": "union", "window": 32, "init_blocks": 0, "local_blocks": 5},
        {"select_count": 40, "window": 1},
        {"select_count": 1, "init_blocks": 2},
        {"select_block": 128, "compress_block": 32, "compress_stride": 16, "window": 300},
    ],
)
def test_other_budgets_equal_the_reference(changes, seed):
    torch.manual_seed(seed)
    Decode(replace(SMALL, **changes), [330, 64], steps=2, programs=20).run(2)


@pytest.mark.parametrize(("count", "ranked"), [(16, 128), (100, 256)])
def test_many_blocks_equal_the_reference(count, ranked, seed):
    torch.manual_seed(seed)
    decode = Decode(replace(SMALL, select_count=count), [7990, 900], groups=1, programs=24)
    assert decode.workspace.plan.ranked == ranked
    decode.run(1)


@pytest.mark.parametrize(
    ("count", "most", "levels"),
    [
        (4, 32, 2),
        pytest.param(4, 16, 3, marks=pytest.mark.long),
        pytest.param(8, 16, 5, marks=pytest.mark.long),
    ],
)
def test_lists_are_merged_until_few_are_left(count, most, levels, seed, monkeypatch):
    monkeypatch.setattr(decode_cache, "_MOST_RANKED", most)
    torch.manual_seed(seed)
    settings = replace(SMALL, select_count=count)
    # The last program of a level has few lists or an incomplete one.
    decode = Decode(settings, [7990, 4200, 300, 0], groups=1, steps=2, programs=24)
    assert len(decode.workspace.best) == levels
    decode.run(2)


def test_odd_head_dims_and_more_groups_equal_the_reference(seed):
    torch.manual_seed(seed)
    Decode(SMALL, [90, 17], repeat=3, groups=3, dim=24, value_dim=40, steps=2, programs=40).run(2)


@pytest.mark.parametrize("combine", ["gated", "union"])
def test_summaries_by_a_learned_phi(combine, seed):
    torch.manual_seed(seed)
    weight = torch.rand(8, 1, device=DEVICE)

    def phi(blocks):
        return (blocks * weight.to(blocks.dtype)).sum(dim=-2).tanh()

    settings = replace(SMALL, combine=combine, window=16)
    Decode(settings, [2, 130], steps=6, programs=20, phi=phi).run(6)


def test_equal_importances_go_to_the_earlier_block():
    decode = Decode(replace(SMALL, select_count=6), [319], groups=1, programs=24)
    decode.k[:] = decode.cache.k[:] = 1.0
    decode.cache.summary_k[:] = 1.0
    # Scores that are whole numbers are exact in any order of summation.
    decode.q.round_()
    decode.step()
    assert decode.workspace.selected.tolist() == [[[0, 18, 19, 1, 2, 3]]]


def test_a_full_cache_is_not_overrun(seed):
    torch.manual_seed(seed)
    decode = Decode(SMALL, [40, 40], steps=1, spare=0, programs=8).run(1)
    first = decode.cache.k[:, :, :-1].clone()
    new = [torch.randn_like(x[:, :, 0]).float() for x in (decode.q, decode.k, decode.v)]
    nsa_decode(*new, decode.cache, gates=torch.rand(2, 4, 3, device=DEVICE))
    assert decode.cache.lengths.tolist() == [41, 41]
    assert torch.equal(decode.cache.k[:, :, :-1], first)
    assert torch.equal(decode.cache.k[:, :, -1], new[1])


@pytest.mark.parametrize(
    ("length", "count", "window", "repeat"),
    [
        (0, 4, 32, 3),
        (15, 1, 64, 16),
        (40, 4, 32, 3),
        (299, 40, 16, 1),
        pytest.param(15, 40, 16, 1, marks=pytest.mark.long),
        pytest.param(40, 1, 64, 16, marks=pytest.mark.long),
        pytest.param(299, 4, 32, 3, marks=pytest.mark.long),
        pytest.param(299, 1, 64, 16, marks=pytest.mark.long),
    ],
)
def test_the_mass_of_a_step(length, count, window, repeat, seed):
    """The mass of complete blocks, of the incomplete block and of blocks past the end."""
    torch.manual_seed(seed)
    settings = replace(SMALL, combine="union", select_count=count, window=window)
    decode = Decode(settings, [length], repeat=repeat, groups=2, steps=2, programs=20)
    for _ in range(2):
        decode.step()
        total = decode.lengths[0]
        shape = (1, 2 * repeat, -(-decode.cache.k.shape[2] // 16))
        mass = torch.full(shape, -7.0, device=DEVICE)
        q = decode.q[:, :, total - 1].float()
        selected_mass(q, decode.cache, mass)
        blocks = decode.workspace.selected.long()[:, :, None]
        expected = block_mass(q[:, :, None], decode.cache.k[:, :, :total], blocks, settings)
        mass = mass.where(mass > -7, 0.0)[0]
        torch.testing.assert_close(mass[:, : expected.shape[-1]], expected[0, :, 0])
        torch.testing.assert_close(mass.sum(1), torch.ones_like(mass[:, 0]))


def test_mass_of_other_shapes_is_refused():
    union = Decode(replace(SMALL, combine="union", window=16), [3], programs=8)
    q, mass = torch.zeros(1, 4, 16, device=DEVICE), torch.zeros(1, 4, 1, device=DEVICE)
    with pytest.raises(ValueError, match="the cache needs"):
        selected_mass(q[:, :3], union.cache, mass)
    with pytest.raises(ValueError, match="contiguous"):
        selected_mass(q.mT.contiguous().mT, union.cache, mass)


@pytest.mark.parametrize("groups", [1, 4, 24, 64, 100, 512, 4096])
@pytest.mark.parametrize("capacity", [64, 4096, 65536, 1 << 20])
@pytest.mark.parametrize("count", [1, 16, 64])
@pytest.mark.parametrize("row_bytes", [512, 768])
def test_a_plan_covers_the_work(groups, capacity, count, row_bytes):
    plan = DecodePlan.of(
        replace(LARGE, select_count=count),
        groups=groups,
        capacity=capacity,
        row_bytes=row_bytes,
        programs=396,
        overlap=False,
    )
    assert plan.select_parts * plan.own >= count > (plan.select_parts - 1) * plan.own
    assert plan.parts <= 256
    for size in (plan.summary_tile, plan.token_tile, plan.ranked):
        assert size & (size - 1) == 0
    if groups < 100:
        assert plan.splits * groups <= 396


@pytest.mark.parametrize(
    "changes",
    [
        {"select_count": None},
        {"select_tile": 16},
        {"select_block": 48, "compress_block": 4, "compress_stride": 4},
        {"compress_block": 24},
    ],
)
def test_unsupported_settings_are_refused(changes):
    with pytest.raises(UnsupportedError):
        Decode(replace(SMALL, **changes), [3])


def test_mismatched_shapes_are_refused():
    decode = Decode(SMALL, [3, 4])
    (q, k, v), gates = decode.inputs()
    with pytest.raises(ValueError, match="gates"):
        nsa_decode(q, k, v, decode.cache)
    with pytest.raises(ValueError, match="the cache needs"):
        nsa_decode(q[:, :3], k, v, decode.cache, gates=gates)
    with pytest.raises(ValueError, match="dtypes"):
        nsa_decode(q.double(), k, v, decode.cache, gates=gates)
    with pytest.raises(ValueError, match="go together"):
        nsa_decode(q, k, v, decode.cache, gates=gates, phi_k=lambda x: x.mean(-2))
    with pytest.raises(ValueError, match="contiguous"):
        replace(decode.cache, k=decode.cache.k.transpose(0, 1).contiguous().transpose(0, 1))
    with pytest.raises(ValueError, match="do not agree"):
        replace(decode.cache, v=decode.cache.v[:, :, :-1].contiguous())


@gpu
@pytest.mark.parametrize("combine", ["gated", "union"])
@pytest.mark.parametrize(
    ("dtype", "dim", "value_dim"),
    [
        (torch.bfloat16, 64, 64),
        (torch.bfloat16, 96, 96),
        (torch.bfloat16, 128, 128),
        (torch.bfloat16, 192, 128),
        (torch.float16, 128, 128),
        (torch.float32, 96, 96),
        (torch.float32, 192, 128),
    ],
)
def test_dims_and_dtypes_on_the_device(combine, dtype, dim, value_dim, seed):
    torch.manual_seed(seed)
    decode = Decode(
        replace(LARGE, combine=combine),
        [0, 31, 700, 2047, 5003],
        repeat=16,
        dim=dim,
        value_dim=value_dim,
        dtype=dtype,
        steps=3,
    )
    decode.run(3)


@gpu
@pytest.mark.parametrize("combine", ["gated", "union"])
@pytest.mark.parametrize(
    ("repeat", "block", "stride", "batch"),
    [
        (1, 4, 4, 1),
        (3, 8, 8, 24),
        (6, 16, 16, 3),
        (7, 32, 16, 24),
        (16, 4, 4, 3),
        (16, 32, 16, 1),
        (32, 48, 16, 24),
    ],
)
def test_groups_and_summaries_on_the_device(combine, repeat, block, stride, batch, seed):
    torch.manual_seed(seed)
    settings = replace(LARGE, combine=combine, compress_block=block, compress_stride=stride)
    lengths = [3070 - 997 * (b % 3) - b for b in range(batch)]
    decode = Decode(settings, lengths, repeat=repeat, dim=64, dtype=torch.bfloat16, steps=2)
    decode.run(2)


@gpu
@pytest.mark.parametrize("combine", ["gated", "union"])
def test_a_graph_replays_over_several_tokens(combine, seed):
    torch.manual_seed(seed)
    settings = replace(LARGE, combine=combine)
    decode = Decode(
        settings, [0, 1000, 4090], repeat=16, dim=128, dtype=torch.bfloat16, steps=40
    ).run(2)
    new, gates = decode.inputs()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = nsa_decode(*new, decode.cache, gates=gates)
    for _ in range(38):
        fresh, fresh_gates = decode.inputs()
        for static, x in zip(new, fresh, strict=True):
            static.copy_(x)
        if gates is not None:
            gates.copy_(fresh_gates)
        graph.replay()
        decode.advance()
        decode.check(out)


@gpu
@pytest.mark.parametrize("count", [64, 128])
def test_a_million_tokens_on_the_device(count, seed):
    torch.manual_seed(seed)
    settings = replace(LARGE, combine="union", select_count=count)
    decode = Decode(
        settings, [2**20 - 3], groups=1, repeat=7, dim=64, dtype=torch.bfloat16, steps=2
    )
    assert len(decode.workspace.best) > 1
    decode.run(2)


@gpu
def test_a_step_is_deterministic(seed):
    torch.manual_seed(seed)
    decode = Decode(LARGE, [5000] * 8, repeat=16, dim=128, dtype=torch.bfloat16)
    new, gates = decode.inputs()
    before = {x: x.clone() for x in (decode.cache.summary_k, decode.cache.lengths)}
    results = []
    for _ in range(5):
        for x, was in before.items():
            x.copy_(was)
        out = nsa_decode(*new, decode.cache, gates=gates)
        results.append((out, decode.workspace.selected.clone()))
    for out, selected in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(selected, results[0][1])
