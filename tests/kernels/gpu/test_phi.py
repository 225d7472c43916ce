"""φ in Triton against the reference in fp64: on a CUDA device, or interpreted on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import triton
from torch import Tensor

from nsa_kernels import reference
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu import phi
from nsa_kernels.gpu.phi_blocks import summary_offsets
from nsa_kernels.settings import AttentionSettings

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = ["mean", "linear", "mlp"]
SHAPES = [(4, 4), (8, 8), (16, 16), (32, 16)]
HIDDEN = 24

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")


def sizes(block: int, stride: int) -> AttentionSettings:
    return AttentionSettings(compress_block=block, compress_stride=stride)


def parameters(kind: str, block: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    """The parameters of φ: none, weight and bias, or the five of the MLP."""
    wide = block * dim
    shapes: dict[str, list[tuple[int, ...]]] = {
        "mean": [],
        "linear": [(dim, wide), (dim,)],
        "mlp": [(block, dim), (HIDDEN, wide), (HIDDEN,), (dim, HIDDEN), (dim,)],
    }
    found = []
    for shape in shapes[kind]:
        x = torch.randn(shape, device=DEVICE) * (shape[1] ** -0.5 if len(shape) == 2 else 1.0)
        found.append(x.to(dtype).requires_grad_())
    return found


def tokens(shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
    """(B, G, S, D) in the layout of a projection: a slice of (B, S, G, 2 D)."""
    batch, groups, seq_len, dim = shape
    both = torch.randn(batch, seq_len, groups, 2 * dim, device=DEVICE).to(dtype)
    return both[..., dim:].transpose(1, 2).detach().requires_grad_()


def by_triton(kind: str, x: Tensor, extra: list[Tensor], s: AttentionSettings, **packed) -> Tensor:
    call: Callable[..., Tensor] = getattr(phi, f"{kind}_phi")
    return call(x, *extra, s, **packed)


def by_reference(kind: str, x: Tensor, extra: list[Tensor], s: AttentionSettings) -> Tensor:
    if x.shape[2] < s.compress_block:
        return x.new_zeros(*x.shape[:2], 0, x.shape[3])
    kinds: dict[str, reference.Phi] = {
        "mean": reference.mean_phi,
        "linear": lambda blocks: torch.nn.functional.linear(blocks.flatten(-2), *extra),
        "mlp": lambda blocks: reference.mlp_phi(blocks, *extra),
    }
    return reference.compress(x, s, kinds[kind])


def error(got: Tensor, expected: Tensor) -> float:
    got, expected = got.detach().double(), expected.detach()
    return float((got - expected).norm() / expected.norm().clamp(min=1e-9))


def check(
    kind: str,
    s: AttentionSettings,
    x: Tensor,
    extra: list[Tensor],
    lengths: list[int] | None,
    allowed: Callable[[Tensor, Tensor], float],
    **packed: Tensor,
) -> None:
    """Compare output and every gradient, for all sequences of a packed row or a batch.

    `allowed` returns the allowed relative error from the reference in x's dtype and in fp64.
    """

    def whole(x: Tensor, extra: list[Tensor]) -> Tensor:
        parts = [x] if lengths is None else x.split(lengths, dim=2)
        return torch.cat([by_reference(kind, part, extra, s) for part in parts], dim=2)

    out = by_triton(kind, x, extra, s, **packed)
    exact = [y.detach().double().requires_grad_() for y in (x, *extra)]
    expected = whole(exact[0], exact[1:])
    eager = whole(x, extra)
    assert out.shape == expected.shape
    assert out.dtype == x.dtype
    # Strided as after the attention's backward pass, and not dense in its last dimension.
    grad = torch.randn(*out.shape[:2], out.shape[3], out.shape[2], device=DEVICE).to(x.dtype)
    grad = grad.transpose(2, 3)

    def gradients(y: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        if not y.requires_grad:
            return tuple(torch.zeros_like(z) for z in inputs)
        return torch.autograd.grad(y, inputs, grad.to(y), allow_unused=True, materialize_grads=True)

    got = (out, *gradients(out, [x, *extra]))
    want = (expected, *gradients(expected, exact))
    plain = (eager, *gradients(eager, [x, *extra]))
    for name, a, b, c in zip(("out", "x", *map(str, range(5))), got, want, plain, strict=False):
        assert a.isfinite().all(), name
        assert error(a, b) <= allowed(c, b), name


def exactly(_: Tensor, __: Tensor) -> float:
    return 2e-6


def as_eager(plain: Tensor, expected: Tensor) -> float:
    """Twice the error of plain PyTorch, and the last bit of its dtype.

    In fp32 the order of a sum of l * D products, up to 6144, matters more than that bit.
    """
    return 2 * error(plain, expected) + max(1e-5, torch.finfo(plain.dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("block", "stride"), SHAPES)
@pytest.mark.parametrize("seq_len", [63, pytest.param(33, marks=pytest.mark.long)])
def test_equals_reference(kind: str, block: int, stride: int, seq_len: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = tokens((2, 2, seq_len, 16), torch.float32)
    extra = parameters(kind, block, 16, torch.float32)
    check(kind, sizes(block, stride), x, extra, None, exactly)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [64, 96, 128, 192])
def test_head_dims(kind: str, dim: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = tokens((1, 1, 21, dim), torch.float32)
    extra = parameters(kind, 8, dim, torch.float32)
    check(kind, sizes(8, 4), x, extra, None, exactly)


@pytest.mark.parametrize("kind", KINDS)
def test_more_tokens_than_one_program_processes(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    x = tokens((1, 1, 331, 16), torch.float32)
    extra = parameters(kind, 4, 16, torch.float32)
    check(kind, sizes(4, 2), x, extra, None, exactly)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_as_exact_as_eager(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    x = tokens((1, 2, 75, 32), torch.float16)
    extra = parameters(kind, 16, 32, torch.float16)
    check(kind, sizes(16, 8), x, extra, None, as_eager)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seq_len", [0, 1, 7])
def test_too_short_for_a_block(kind: str, seq_len: int) -> None:
    x = tokens((2, 3, seq_len, 16), torch.float32)
    extra = parameters(kind, 8, 16, torch.float32)
    out = by_triton(kind, x, extra, sizes(8, 8))
    assert out.shape == (2, 3, 0, 16)
    out.sum().backward()
    assert all(not y.grad.any() and y.grad.shape == y.shape for y in (x, *extra))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("block", "stride"), [(4, 4), (32, 16)])
def test_packed_sequences_do_not_mix(kind: str, block: int, stride: int, seed: int) -> None:
    torch.manual_seed(seed)
    lengths = [1, 50, 0, 3, 33, 32, 16]
    s = sizes(block, stride)
    cu_seqlens = torch.tensor([0, *lengths], device=DEVICE).cumsum(0).int()
    packed = {"cu_seqlens": cu_seqlens, "cu_summaries": summary_offsets(cu_seqlens, s)}
    x = tokens((1, 2, sum(lengths), 16), torch.float32)
    extra = parameters(kind, block, 16, torch.float32)
    check(kind, s, x, extra, lengths, exactly, **packed)


def test_a_packed_row_of_short_sequences_has_no_summaries() -> None:
    cu_seqlens = torch.tensor([0, 3, 3, 8], dtype=torch.int32, device=DEVICE)
    s = sizes(16, 16)
    x = tokens((1, 2, 8, 16), torch.float32)
    out = phi.mean_phi(
        x, s, cu_seqlens=cu_seqlens, cu_summaries=summary_offsets(cu_seqlens, s), total_summaries=0
    )
    assert out.shape == (1, 2, 0, 16)
    out.sum().backward()
    assert not x.grad.any()


def test_summary_offsets() -> None:
    cu_seqlens = torch.tensor([0, 31, 63, 63, 143], dtype=torch.int32)
    assert summary_offsets(cu_seqlens, sizes(32, 16)).tolist() == [0, 0, 1, 1, 5]


def test_gradients_of_some_inputs_only() -> None:
    x = tokens((1, 1, 9, 16), torch.float32)
    weight, bias = parameters("linear", 4, 16, torch.float32)
    phi.linear_phi(x.detach(), weight, None, sizes(4, 4)).sum().backward()
    assert weight.grad is not None
    phi.linear_phi(x, weight.detach(), bias, sizes(4, 4)).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(bias.grad, torch.full_like(bias, 2.0))


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    s = sizes(4, 4)
    x = torch.zeros(1, 2, 8, 16, device=DEVICE)
    cu = torch.tensor([0, 8], dtype=torch.int32, device=DEVICE)
    with pytest.raises(UnsupportedError, match="float64"):
        phi.mean_phi(x.double(), s)
    with pytest.raises(UnsupportedError, match="head dim 8"):
        phi.mean_phi(x[..., :8], s)
    with pytest.raises(UnsupportedError, match="strides"):
        phi.mean_phi(x.transpose(2, 3).contiguous().transpose(2, 3), s)
    with pytest.raises(ValueError, match=r"\(B, G, S, D\)"):
        phi.mean_phi(x[0], s)
    with pytest.raises(ValueError, match="go together"):
        phi.mean_phi(x, s, cu_seqlens=cu)
    with pytest.raises(ValueError, match=r"\(N \+ 1,\)"):
        phi.mean_phi(x, s, cu_seqlens=cu, cu_summaries=cu[:1])
    with pytest.raises(ValueError, match="packed sequences need"):
        phi.mean_phi(x.expand(2, -1, -1, -1), s, cu_seqlens=cu, cu_summaries=cu)
    with pytest.raises(ValueError, match=r"need \(E, 64\)"):
        phi.linear_phi(x, torch.zeros(3, 63, device=DEVICE), None, s)
    with pytest.raises(ValueError, match="the weight needs"):
        phi.linear_phi(x, torch.zeros(3, 64, device=DEVICE), torch.zeros(4, device=DEVICE), s)
    with pytest.raises(ValueError, match="must be the same"):
        phi.linear_phi(x.half(), torch.zeros(3, 64, device=DEVICE), None, s)
    extra = parameters("mlp", 4, 16, torch.float32)
    with pytest.raises(ValueError, match="position is"):
        phi.mlp_phi(x, extra[0][:3], *extra[1:], s)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(UnsupportedError, match="CUDA device"):
        phi.mean_phi(x.cpu(), s)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("block", "stride"), SHAPES)
@pytest.mark.parametrize("dim", [64, 96, 128, 192])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_on_cuda(
    kind: str, block: int, stride: int, dim: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    x = tokens((2, 3, 2049, dim), dtype)
    extra = parameters(kind, block, dim, dtype)
    check(kind, sizes(block, stride), x, extra, None, as_eager)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_on_cuda(kind: str, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    lengths = [1, 1500, 0, 3, 333, 32, 31, 2000]
    s = sizes(32, 16)
    cu_seqlens = torch.tensor([0, *lengths], device=DEVICE).cumsum(0).int()
    packed = {"cu_seqlens": cu_seqlens, "cu_summaries": summary_offsets(cu_seqlens, s)}
    x = tokens((1, 4, sum(lengths), 128), dtype)
    check(kind, s, x, parameters(kind, 32, 128, dtype), lengths, as_eager, **packed)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_deterministic_on_cuda(kind: str) -> None:
    x = tokens((1, 4, 8192, 128), torch.bfloat16)
    extra = parameters(kind, 32, 128, torch.bfloat16)
    runs = []
    for _ in range(3):
        out = by_triton(kind, x, extra, sizes(32, 16))
        runs.append((out, *torch.autograd.grad(out.float().square().sum(), [x, *extra])))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


@pytest.mark.gpu
@needs_gpu
def test_more_than_two_to_the_31_elements_on_cuda() -> None:
    x = torch.zeros(1, 2**20 + 1, 16, 128, dtype=torch.bfloat16, device=DEVICE).transpose(1, 2)
    x[:, 15, -64:] = 1.0
    x.requires_grad_()
    out = phi.mean_phi(x, sizes(32, 16))
    assert out[0, 15, -1].eq(1.0).all()
    out[0, 15, -1].sum().backward()
    assert x.grad[0, 15, -33:-1].eq(1 / 32).all()
