"""The decode step with separate keys and values of its branches, against the fp64 reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from nsa_kernels.gpu.decode import nsa_decode
from nsa_kernels.gpu.decode_branches import BranchBuffers, BranchTokens
from nsa_kernels.gpu.decode_cache import DecodeCache
from nsa_kernels.gpu.decode_mass import selected_mass
from nsa_kernels.reference import compress, mean_phi, mlp_phi, nsa_reference
from nsa_kernels.settings import AttentionSettings

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"

SMALL = AttentionSettings(
    combine="gated",
    compress_block=8,
    compress_stride=4,
    select_block=16,
    select_count=6,
    init_blocks=1,
    local_blocks=5,
    window=21,
)
"""All selected blocks are always selected, so that rounding cannot change the selection."""

Phi = Callable[[Tensor], Tensor]


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that is too large for the interpreter."""
    skip = pytest.mark.skipif(not CUDA, reason="no CUDA device")
    marked: Callable[..., None] = pytest.mark.gpu(skip(test))
    return marked


def linear_phi(weight: Tensor, blocks: Tensor) -> Tensor:
    """One linear map of a block: (..., l, D) to (..., D)."""
    return blocks.flatten(-2) @ weight.to(blocks.dtype).T


def random_phi(kind: str, block: int, dim: int) -> Phi:
    """A φ with random weights in fp64, which it converts to the type of the block."""
    if kind == "mean":
        return mean_phi

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, device=DEVICE) / shape[-1] ** 0.5

    if kind == "linear":
        return partial(linear_phi, drawn(dim, block * dim))
    position, w_in, b_in = drawn(block, dim), drawn(24, block * dim), drawn(24)
    w_out, b_out = drawn(dim, 24), drawn(dim)

    def run(blocks: Tensor) -> Tensor:
        weights = (each.to(blocks.dtype) for each in (position, w_in, b_in, w_out, b_out))
        return mlp_phi(blocks, *weights)

    return run


class Texts:
    """Texts of different lengths in fp64, whose first tokens are in a cache."""

    def __init__(
        self,
        lengths: list[int],
        steps: int,
        settings: AttentionSettings = SMALL,
        *,
        window: bool = True,
        phi: str = "mlp",
        repeat: int = 2,
        groups: int = 2,
        dim: int = 16,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings, self.lengths, self.dtype, self.window = settings, lengths, dtype, window
        batch, total = len(lengths), max(lengths) + steps
        block = settings.compress_block

        def rounded(heads: int, width: int = dim) -> Tensor:
            return torch.randn(batch, heads, total, width, device=DEVICE).to(dtype).double()

        self.q = rounded(groups * repeat) * 2
        self.gates = rounded(groups * repeat, 3).sigmoid().to(dtype).double()
        self.selection, self.compression, self.of_window = (
            (rounded(groups), rounded(groups)) for _ in range(3)
        )
        self.phis = (random_phi(phi, block, dim), random_phi(phi, block, dim))
        # The first tokens that any of the texts needs.
        least = min(lengths)
        firsts = [max(0, least - block + 1), max(0, least - settings.window + 1)]
        buffers = [
            [x[:, :, first:].to(dtype).contiguous() for x in pair]
            for first, pair in zip(firsts, (self.compression, self.of_window), strict=True)
        ]
        for x in (*buffers[0], *buffers[1]):
            first = total - x.shape[2]
            for b, length in enumerate(lengths):
                x[b, :, length - first :] = torch.nan
        self.branches = BranchBuffers(
            compress_k=buffers[0][0],
            compress_v=buffers[0][1],
            window_k=buffers[1][0] if window else None,
            window_v=buffers[1][1] if window else None,
            compress_first=firsts[0],
            window_first=firsts[1],
        )
        empty = DecodeCache.allocate(
            settings,
            batch=batch,
            heads=groups * repeat,
            groups=groups,
            capacity=total,
            head_dim=dim,
            dtype=dtype,
            device=DEVICE,
        )
        self.cache = replace(empty, branches=self.branches)
        self.cache.lengths.copy_(torch.tensor(lengths))
        for b, length in enumerate(lengths):
            for to, x in zip((self.cache.k, self.cache.v), self.selection, strict=True):
                to[b, :, :length] = x[b, :, :length].to(dtype)
            for to, x in zip(self.stored(), self.summaries(b), strict=True):
                to[b, :, : x.shape[2]] = x[0].to(dtype)

    def stored(self) -> tuple[Tensor, Tensor]:
        return self.cache.summary_k, self.cache.summary_v

    def summaries(self, b: int) -> list[Tensor]:
        """The summaries of one text in fp64: two (1, G, C, D)."""
        pairs = zip(self.compression, self.phis, strict=True)
        return [
            compress(x[b : b + 1, :, : self.lengths[b]], self.settings, phi) for x, phi in pairs
        ]

    def step(self, *, due: bool = True) -> tuple[Tensor, Tensor]:
        """Run a step: output (B, H, D) and mass (B, H, N)."""
        rows = torch.arange(len(self.lengths), device=DEVICE)
        at = torch.tensor(self.lengths, device=DEVICE)
        of_window = self.of_window if self.window else ()
        q, gates, k, v, *others = (
            x[rows, :, at].to(self.dtype)
            for x in (self.q, self.gates, *self.selection, *self.compression, *of_window)
        )
        phi_k, phi_v = self.phis if due else (None, None)
        out = nsa_decode(
            *(q, k, v, self.cache),
            gates=gates,
            phi_k=phi_k,
            phi_v=phi_v,
            branches=BranchTokens(*others),
        )
        blocks = -(-self.cache.k.shape[2] // self.settings.select_block)
        mass = torch.zeros(*q.shape[:2], blocks, device=DEVICE)
        selected_mass(q, self.cache, mass)
        self.lengths = [length + 1 for length in self.lengths]
        return out, mass

    def check(self, out: Tensor, mass: Tensor) -> None:
        """Compare the last step with the reference over the whole text."""
        eps = torch.finfo(self.dtype).eps
        assert self.cache.lengths.tolist() == self.lengths
        for b, length in enumerate(self.lengths):
            part, window = slice(b, b + 1), min(length, self.settings.window)
            for got, wanted in zip(self.stored(), self.summaries(b), strict=True):
                torch.testing.assert_close(
                    got[part, :, : wanted.shape[2]].double(), wanted, rtol=4 * eps, atol=16 * eps
                )
            k, v = (x[part, :, :length] for x in self.selection)
            of_window = self.of_window if self.window else self.selection
            window_k, window_v = (x[part, :, length - window : length] for x in of_window)
            # Those of the cache: a summary that rounds differently changes all scores.
            summary_k, summary_v = (x[part, :, : len_of(self, b)].double() for x in self.stored())
            wanted, blocks, by_block = nsa_reference(
                self.q[part, :, length - 1 : length], k, v, self.settings,
                summary_k=summary_k, summary_v=summary_v, window_k=window_k, window_v=window_v,
                gates=self.gates[part, :, length - 1 : length],
            )  # fmt: skip
            chosen = self.cache.workspace.selected[part].long()
            assert torch.equal(chosen.sort().values[..., -blocks.shape[-1] :], sorted_of(blocks))
            largest = max(float(x.abs().max()) for x in (v, window_v, *self.compression))
            error = (out[b].double() - wanted[0, :, 0]).abs().max()
            assert error <= (4 * eps + 8e-7 * length**0.5) * largest, (b, length, error)
            torch.testing.assert_close(
                mass[b, :, : by_block.shape[-1]].double(),
                by_block[0, :, 0],
                rtol=1e-4,
                atol=max(1e-5, eps),
            )
            assert not mass[b, :, by_block.shape[-1] :].any()


def len_of(texts: Texts, b: int) -> int:
    """Number of complete blocks of a text."""
    return texts.settings.complete_blocks(texts.lengths[b])


def sorted_of(blocks: Tensor) -> Tensor:
    """The reference's selected blocks (1, G, 1, n) in order: (1, G, n)."""
    return blocks[:, :, 0].sort().values


def run(texts: Texts, steps: int) -> None:
    for _ in range(steps):
        texts.check(*texts.step())


@pytest.mark.parametrize("repeat", [1, 4, 5, 7, 16])
def test_groups_of_heads_equal_the_reference(repeat: int, seed: int) -> None:
    """One text is empty, and the others have odd lengths."""
    torch.manual_seed(seed)
    run(Texts([0, 131, 6, 77], 2, repeat=repeat, groups=2 if repeat == 4 else 1), 2)


@pytest.mark.parametrize("phi", ["mean", "linear", "mlp"])
@pytest.mark.parametrize("window", [False, True], ids=["shared", "separate"])
def test_every_phi_and_window_equals_the_reference(phi: str, window: bool, seed: int) -> None:
    """Five steps complete a summary of each text."""
    torch.manual_seed(seed)
    run(Texts([6, 81], 5, phi=phi, window=window, groups=1), 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"compress_block": 12, "window": 1},
        {"compress_block": 4, "window": 100},
        {"select_block": 64, "compress_block": 32, "compress_stride": 16, "window": 33},
        {"select_count": 2, "local_blocks": 1},
    ],
)
def test_other_sizes_equal_the_reference(changes: dict[str, int], seed: int) -> None:
    torch.manual_seed(seed)
    run(Texts([90, 103], 2, replace(SMALL, **changes), dim=24, groups=1), 2)


def test_buffers_need_only_the_last_tokens(seed: int) -> None:
    """Buffers of a long text begin late, and nothing before their first token is read."""
    torch.manual_seed(seed)
    texts = Texts([333], 5, groups=1)
    assert texts.branches.window_k is not None
    assert texts.branches.window_k.shape[2] == SMALL.window - 1 + 5
    assert texts.branches.compress_k.shape[2] == SMALL.compress_block - 1 + 5
    run(texts, 5)


def test_steps_without_phi_until_a_summary_is_due(seed: int) -> None:
    """The host leaves φ out of steps that complete no summary."""
    torch.manual_seed(seed)
    texts = Texts([142], 5, groups=1)
    for length in range(143, 148):
        texts.check(*texts.step(due=length % 4 == 0))


def test_a_token_past_the_buffer_is_dropped(seed: int) -> None:
    torch.manual_seed(seed)
    texts = Texts([30], 1)
    texts.step()
    before = [x.clone() for x in vars(texts.branches).values() if isinstance(x, Tensor)]
    texts.lengths = [30]
    texts.cache.lengths.fill_(400)
    texts.step(due=False)
    after = [x for x in vars(texts.branches).values() if isinstance(x, Tensor)]
    # The last position is that of the cache's last token, which the step overwrites.
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[:, :, :-1], new[:, :, :-1])


def test_mismatches_are_refused() -> None:
    texts = Texts([40], 1)
    q = torch.zeros(1, 4, 16, device=DEVICE)
    k = torch.zeros(1, 2, 16, device=DEVICE)
    gates = torch.ones(1, 4, 3, device=DEVICE)

    def step(cache: DecodeCache, branches: BranchTokens | None) -> None:
        nsa_decode(q, k, k, cache, gates=gates, branches=branches)

    with pytest.raises(ValueError, match="differ in whether branches"):
        step(texts.cache, None)
    with pytest.raises(ValueError, match="differ in whether branches"):
        step(replace(texts.cache, branches=None), BranchTokens(k, k))
    with pytest.raises(ValueError, match="differ in whether the window"):
        step(texts.cache, BranchTokens(k, k))
    with pytest.raises(ValueError, match="new tokens are"):
        step(texts.cache, BranchTokens(k, k[:, :1], k, k))
    with pytest.raises(ValueError, match="dtypes"):
        step(texts.cache, BranchTokens(k.half(), k.half(), k, k))
    with pytest.raises(ValueError, match="go together"):
        replace(texts.cache, branches=replace(texts.branches, window_v=None))
    wrong = texts.branches.compress_k[:, :1].contiguous()
    with pytest.raises(ValueError, match="the cache needs"):
        replace(texts.cache, branches=replace(texts.branches, compress_k=wrong))
    turned = texts.branches.compress_k.mT.contiguous().mT
    with pytest.raises(ValueError, match="contiguous"):
        replace(texts.cache, branches=replace(texts.branches, compress_k=turned))


@gpu
@pytest.mark.parametrize(("dtype", "dim"), [(torch.bfloat16, 64), (torch.float32, 128)])
@pytest.mark.parametrize("repeat", [5, 16])
@pytest.mark.parametrize("window", [False, True], ids=["shared", "separate"])
def test_long_texts_on_the_device(
    dtype: torch.dtype, dim: int, repeat: int, window: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    settings = AttentionSettings(combine="gated", select_count=6, init_blocks=1, local_blocks=5)
    lengths = [5003, 8191, 2047, 31]
    run(Texts(lengths, 3, settings, window=window, repeat=repeat, dim=dim, dtype=dtype), 3)
