"""The bounds checks of interpreted kernels."""

from __future__ import annotations

import pytest
import torch
from exactness import CUDA

pytest.importorskip("triton")

import triton
import triton.language as tl

pytestmark = pytest.mark.skipif(CUDA, reason="a GPU does not interpret kernels")


@triton.jit
def _copy_kernel(from_ptr, to_ptr, count, read, SIZE: tl.constexpr):  # noqa: N803
    at = tl.arange(0, SIZE)
    x = tl.load(from_ptr + at, mask=at < read, other=0.0)
    tl.store(to_ptr + at, x, mask=at < count)


@pytest.mark.parametrize(("read", "written", "stray"), [(5, 5, False), (6, 5, True), (5, 6, True)])
def test_an_access_out_of_bounds_raises(read: int, written: int, stray: bool) -> None:
    of, to = torch.arange(5.0), torch.zeros(5)
    if stray:
        with pytest.raises(Exception, match="1 of 6 elements are out of bounds"):
            _copy_kernel[(1,)](of, to, written, read, SIZE=8)
        return
    _copy_kernel[(1,)](of, to, written, read, SIZE=8)
    assert torch.equal(of, to)
