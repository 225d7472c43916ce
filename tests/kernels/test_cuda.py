"""The blockwise implementation on a CUDA device, against the fp64 reference."""

import pytest
import torch

from nsa_kernels.api import Impl, nsa_attention
from nsa_kernels.settings import AttentionSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("queries", [1, 37, 1000])
@pytest.mark.parametrize("repeat", [1, 6, 7])
@pytest.mark.parametrize(("block", "stride"), [(4, 4), (32, 16)])
@pytest.mark.parametrize("tile", [1, 64])
@pytest.mark.parametrize("count", [3, None])
def test_blockwise_equals_reference_on_cuda(queries, repeat, block, stride, tile, count):
    settings = AttentionSettings(
        compress_block=block,
        compress_stride=stride,
        select_count=count,
        select_tile=tile,
        window=64,
    )
    shapes = [(1, 2 * repeat, queries, 64), (1, 2, 1000, 64), (1, 2, 1000, 64)]
    exact = [torch.randn(shape, dtype=torch.float64, device="cuda") for shape in shapes]
    expected = nsa_attention(*exact, settings, impl=Impl.REFERENCE, return_mass=True)
    single = [x.float() for x in exact]
    got = nsa_attention(*single, settings, impl=Impl.BLOCKWISE, return_mass=True)
    torch.testing.assert_close(got.out.double(), expected.out, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got.mass.double(), expected.mass, rtol=1e-3, atol=1e-4)


def test_dense_attention_in_bf16_is_as_exact_as_eager():
    q, k, v = (
        torch.randn(1, 8, n, 64, device="cuda", dtype=torch.bfloat16) for n in (100, 900, 900)
    )
    settings = AttentionSettings(select_count=None)
    exact = nsa_attention(q.double(), k.double(), v.double(), settings, impl=Impl.REFERENCE).out
    eager = nsa_attention(q, k, v, settings, impl=Impl.REFERENCE).out
    got = nsa_attention(q, k, v, settings, impl=Impl.BLOCKWISE).out
    allowed = (eager.double() - exact).abs().max() + 2**-8 * exact.abs().max()
    assert (got.double() - exact).abs().max() <= allowed
