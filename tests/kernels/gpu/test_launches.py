"""Recorded launches: what is repeated, with which addresses, and what is never recorded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
from exactness import gpu
from torch import Tensor

from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.gpu import attention, launches
from nsa_kernels.gpu.launches import Replays, empty, keep, launch, refuse, zeros
from nsa_kernels.settings import AttentionSettings

SIGNATURE = {"x": "*fp32", "room": "*fp32", "out": "*fp32", "size": "i32", "BLOCK": "constexpr"}


class Kernel:
    """A kernel that adds up what its launches were given; each launch also computes `2 x`."""

    arg_names = tuple(SIGNATURE)

    def __init__(self) -> None:
        self.direct = 0
        self.repeated: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        """What computes on the host, and returns the compiled kernel."""

        def run(*arguments: Any, **_: Any) -> Any:
            x, _room, out, _size = arguments
            self.direct += 1
            out.copy_(2 * x)
            return SimpleNamespace(
                run=self.Launcher(self),
                function=7,
                packed_metadata=(4, 1, 0),
                metadata=SimpleNamespace(),
                src=SimpleNamespace(signature=SIGNATURE),
            )

        return run

    class Launcher:
        """The compiled launcher, without scratch memory."""

        global_scratch_size = profile_scratch_size = 0
        launch_cooperative_grid, launch_pdl = False, True

        def __init__(self, kernel: Kernel) -> None:
            self.launch = partial(record, kernel.repeated)


def record(kept: list[tuple[Any, ...]], *arguments: Any) -> None:
    """Keep the arguments of a repeated launch."""
    kept.append(arguments)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the launchers are known and that tensors of the host are a GPU's."""
    active = SimpleNamespace(
        get_current_stream=lambda _: 11, utils=SimpleNamespace(fill_tma_descriptor=None)
    )
    monkeypatch.setattr(launches, "_can_replay", lambda _: True)
    monkeypatch.setattr(launches, "driver", SimpleNamespace(active=active))


def call(
    replays: Replays, kernel: Kernel, x: Tensor, *, spoil: str = "", key: int = 0
) -> Sequence[Tensor | None]:
    """Two buffers and one launch."""

    def compute() -> Sequence[Tensor | None]:
        like = {"dtype": x.dtype, "device": x.device}
        room = zeros(3, **like)
        out = torch.empty(len(x)) if spoil == "buffer" else empty(len(x), **like)
        if spoil == "operation":
            refuse("a copy")
        launch(kernel, (5, 2), x, room, out, len(x), BLOCK=16, num_warps=4)
        return out[1:] if spoil == "result" else out, None, x

    return replays.call((key,), [x], compute)


def test_the_third_call_repeats_the_launch_with_new_addresses() -> None:
    kernel, replays = Kernel(), Replays()
    for count in (1, 2):
        out, none, same = call(replays, kernel, x := torch.randn(40))
        assert out is not None
        assert torch.equal(out, 2 * x)
        assert none is None
        assert same is x
        assert (kernel.direct, kernel.repeated) == (count, [])
    assert replays.recorded == 1
    x = torch.randn(40)
    out, none, same = call(replays, kernel, x)
    assert kernel.direct == 2
    assert none is None
    assert same is x
    assert out is not None
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    (given,) = kernel.repeated
    assert given[:14] == (5, 2, 1, 11, 7, False, True, None, None, (4, 1, 0), None, None, None,
                          x.data_ptr())  # fmt: skip
    assert given[14] not in (0, x.data_ptr(), out.data_ptr())
    assert given[15:] == (out.data_ptr(), 40, None)


def test_other_shapes_strides_types_and_keys_are_other_calls() -> None:
    kernel, replays = Kernel(), Replays()
    calls = [
        (torch.randn(40), 0),
        (torch.randn(41), 0),
        (torch.randn(40, dtype=torch.float64), 0),
        (torch.randn(80)[::2], 0),
        (torch.randn(40), 1),
    ]
    for x, key in [*calls, *calls]:
        call(replays, kernel, x, key=key)
    assert kernel.repeated == []
    assert replays.recorded == len(calls)
    replays.forget()
    assert replays.recorded == 0


def test_constants_stay_where_they_are() -> None:
    kernel, replays = Kernel(), Replays()
    tables = [torch.randn(7), torch.randn(9)]

    def compute(x: Tensor) -> Sequence[Tensor | None]:
        first, second = (keep(table) for table in tables)
        out = empty(len(x), dtype=x.dtype, device=x.device)
        launch(kernel, (1,), x, first[3:], out, len(x), BLOCK=16)
        launch(kernel, (1,), x, second, out, len(x), BLOCK=16)
        return out, second

    for _ in range(3):
        x = torch.randn(40)
        out, second = replays.call((), [x], partial(compute, x))
        assert second is tables[1]
    assert out is not None
    assert kernel.direct == 4
    assert [given[13:16] for given in kernel.repeated] == [
        (x.data_ptr(), tables[0].data_ptr() + 12, out.data_ptr()),
        (x.data_ptr(), tables[1].data_ptr(), out.data_ptr()),
    ]


@pytest.mark.parametrize("spoil", ["buffer", "operation", "result"])
def test_what_cannot_be_repeated_is_computed_each_time(spoil: str) -> None:
    kernel, replays = Kernel(), Replays()
    for _ in range(4):
        x = torch.randn(40)
        out = call(replays, kernel, x, spoil=spoil)[0]
        assert out is not None
        assert torch.equal(out, (2 * x)[40 - len(out) :])
    assert (kernel.direct, replays.recorded) == (4, 0)


def test_old_recordings_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "_MOST_RECORDINGS", 2)
    kernel, replays = Kernel(), Replays()
    for size in (40, 40, 41, 41, 42, 42):
        call(replays, kernel, torch.randn(size))
    assert replays.recorded == 2


def test_hooks_of_launches_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launches._hooks()
    monkeypatch.setattr(triton.knobs.runtime, "launch_enter_hook", lambda _: None)
    assert launches._hooks()


@gpu
@pytest.mark.parametrize("combine", ["gated", "union"])
@pytest.mark.parametrize(
    ("heads", "groups", "dim", "queries"),
    [(14, 2, 64, 700), (64, 4, 128, 700), (14, 2, 64, 1), (8, 2, 96, 333)],
)
def test_repeated_calls_equal_computed_ones(
    combine: str, heads: int, groups: int, dim: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    attention._REPLAYS.forget()
    settings = AttentionSettings(combine=combine)
    for grads in (False, True):
        for _ in range(4):
            draw = [(heads, queries), (groups, 700), (groups, 700)]
            q, k, v = (
                torch.randn(1, n, h, dim, device="cuda", dtype=torch.bfloat16)
                .transpose(1, 2)
                .requires_grad_(grads)
                for h, n in draw
            )
            gates = torch.rand(1, heads, queries, 3, device="cuda", dtype=torch.bfloat16)
            kept = {"gates": gates} if combine == "gated" else {}
            found = []
            for known in (True, False):
                with pytest.MonkeyPatch.context() as patch:
                    if not known:
                        patch.setattr(launches, "_can_replay", lambda _: False)
                    result = nsa_attention(q, k, v, settings, impl=Impl.TRITON, **kept)
                    found.append([result.out, result.blocks])
                    if grads:
                        found[-1] += torch.autograd.grad(result.out.sum(), (q, k, v))
            for got, wanted in zip(*found, strict=True):
                assert torch.equal(got, wanted)
    assert attention._REPLAYS.recorded == (2 if launches._knows_launchers() else 0)


@gpu
def test_calls_with_kept_blocks_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    attention._REPLAYS.forget()
    blocks = (torch.arange(300, device="cuda") // 64)[None, None, :, None].repeat(1, 2, 1, 16)
    blocks = torch.where(torch.arange(16, device="cuda") > 0, -1, blocks).to(torch.int32)
    settings = AttentionSettings(combine="gated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "select_blocks", lambda *_: keep(blocks))
        for _ in range(4):
            q, k, v = (
                torch.randn(1, 300, heads, 64, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
                for heads in (14, 2, 2)
            )
            gates = torch.rand(1, 14, 300, 3, device="cuda", dtype=torch.bfloat16)
            got = nsa_attention(q, k, v, settings, gates=gates, impl=Impl.TRITON)
            with pytest.MonkeyPatch.context() as unknown:
                unknown.setattr(launches, "_can_replay", lambda _: False)
                wanted = nsa_attention(q, k, v, settings, gates=gates, impl=Impl.TRITON)
            assert torch.equal(got.out, wanted.out)
            assert torch.equal(got.blocks, blocks)
    assert attention._REPLAYS.recorded == (1 if launches._knows_launchers() else 0)
