"""The dense decode step against plain PyTorch: output and the mass of every block."""

import pytest
import torch

from nsa_kernels.blockwise import block_mass
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.dense_decode import DenseWorkspace, dense_decode
from nsa_kernels.settings import AttentionSettings

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def step(length, tokens, *, size=16, repeat=3, groups=2, dim=16, value_dim=16, capacity=None,
         dtype=torch.float32, programs=12):  # fmt: skip
    """Run a step on random numbers: output and mass, and both in fp64."""
    seq_len, heads = length + tokens, groups * repeat
    capacity = capacity or seq_len
    q = torch.randn(1, tokens, heads, dim, device=DEVICE).to(dtype).transpose(1, 2)
    k = torch.full((1, groups, capacity, dim), float("nan"), dtype=dtype, device=DEVICE)
    v = torch.full((1, groups, capacity, value_dim), float("nan"), dtype=dtype, device=DEVICE)
    k[:, :, :seq_len] = torch.randn(1, groups, seq_len, dim, device=DEVICE)
    v[:, :, :seq_len] = torch.randn(1, groups, seq_len, value_dim, device=DEVICE)
    workspace = DenseWorkspace.allocate(
        size, tokens=tokens, batch=1, heads=heads, groups=groups, capacity=capacity,
        value_dim=value_dim, dtype=dtype, device=DEVICE, programs=programs,
    )  # fmt: skip
    mass = torch.full((1, heads, tokens, -(-capacity // size)), -7.0, device=DEVICE)
    at = torch.tensor([length], dtype=torch.int32, device=DEVICE)
    out = dense_decode(q, k, v, at, mass, workspace)
    wide = [x[:, :, :seq_len].double() for x in (k, v)]
    settings = AttentionSettings(select_block=size, select_count=None, window=size)
    expected = block_mass(q.double(), wide[0], None, settings)
    probs = q.double().unflatten(1, (groups, -1)) @ wide[0][:, :, None].mT * dim**-0.5
    hidden = torch.arange(seq_len, device=DEVICE) > torch.arange(
        length, seq_len, device=DEVICE
    ).unsqueeze(1)
    probs = probs.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    return out, mass, (probs @ wide[1][:, :, None]).flatten(1, 2), expected


def check(got, mass, expected, expected_mass, *, rtol=1e-5):
    blocks = expected_mass.shape[-1]
    torch.testing.assert_close(got.double(), expected, rtol=rtol, atol=rtol)
    torch.testing.assert_close(
        mass[..., :blocks].double(), expected_mass.double(), rtol=rtol, atol=rtol
    )
    assert (mass[..., blocks:] == -7.0).all()


@pytest.mark.parametrize("tokens", [1, 9, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "length",
    [
        0,
        15,
        130,
        pytest.param(16, marks=pytest.mark.long),
        pytest.param(333, marks=pytest.mark.long),
    ],
)
def test_output_and_mass_equal_dense_attention(length, tokens, seed):
    torch.manual_seed(seed)
    check(*step(length, tokens, capacity=400))


@pytest.mark.parametrize("programs", [1, 7, 200])
@pytest.mark.parametrize(("repeat", "groups", "tokens"), [(1, 1, 9), (7, 2, 9), (64, 1, 1)])
def test_groups_and_splits(repeat, groups, tokens, programs, seed):
    torch.manual_seed(seed)
    check(*step(200, tokens, repeat=repeat, groups=groups, programs=programs))


def test_odd_head_dims_and_a_full_cache(seed):
    torch.manual_seed(seed)
    check(*step(91, 2, dim=24, value_dim=40))


def test_far_lower_scores_have_no_mass(seed):
    """A block with much lower scores has a mass of 0, not NaN."""
    torch.manual_seed(seed)
    q = torch.ones(1, 1, 1, 16, device=DEVICE)
    k = torch.full((1, 1, 64, 16), -200.0, device=DEVICE)
    k[:, :, :16] = 200.0
    workspace = DenseWorkspace.allocate(
        16, tokens=1, batch=1, heads=1, groups=1, capacity=64, value_dim=16,
        dtype=torch.float32, device=DEVICE, programs=2,
    )  # fmt: skip
    mass = torch.zeros(1, 1, 1, 4, device=DEVICE)
    at = torch.tensor([63], dtype=torch.int32, device=DEVICE)
    dense_decode(q, k, k, at, mass, workspace)
    assert mass.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "changes", [{"size": 48}, {"size": 8}, {"dtype": torch.float64}, {"repeat": 33, "tokens": 2}]
)
def test_unsupported_arguments_are_refused(changes):
    with pytest.raises(UnsupportedError):
        step(20, **{"tokens": 1, **changes})


def test_mismatched_shapes_are_refused():
    workspace = DenseWorkspace.allocate(
        16, tokens=1, batch=1, heads=2, groups=1, capacity=32, value_dim=16,
        dtype=torch.float32, device=DEVICE,
    )  # fmt: skip
    q, k = torch.zeros(1, 2, 1, 16, device=DEVICE), torch.zeros(1, 1, 32, 16, device=DEVICE)
    at = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    with pytest.raises(ValueError, match="do not agree"):
        dense_decode(q, k, k, at, torch.zeros(1, 2, 1, 3, device=DEVICE), workspace)
    back = k.transpose(2, 3).contiguous().transpose(2, 3)
    with pytest.raises(ValueError, match="contiguous"):
        dense_decode(q, back, k, at, torch.zeros(1, 2, 1, 2, device=DEVICE), workspace)


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="no CUDA device")
@pytest.mark.parametrize("tokens", [1, 9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dims_and_dtypes_on_the_device(dtype, tokens, seed):
    torch.manual_seed(seed)
    for dim, repeat, length in ((64, 7, 5000), (128, 6, 40000), (128, 4, 63)):
        found = step(
            length, tokens, size=64, dim=dim, value_dim=dim, repeat=repeat, dtype=dtype,
            programs=None, capacity=length + 100,
        )  # fmt: skip
        check(*found, rtol=1e-5 if dtype == torch.float32 else 2e-2)
